"""What a name means; torch is needed for sizes, memories' options and models.

data = describe("babilong:qa1")         # plain data: description, scorers, chance, one real sample
print("\\n".join(lines(data)))
"""

from __future__ import annotations

import inspect
import json
import shlex
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from atlas_bench import registry
from atlas_bench.cli import describe_task
from atlas_bench.cli.fold import COMMAND, folded, plain, wrapped
from atlas_bench.errors import unknown
from atlas_bench.files.home import expanded
from atlas_bench.running.listing import docs, models
from atlas_bench.units import format_bytes


def listed(listings: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Listings by kind as lines of 80 columns, with headings if there are several.

    There are tabs after a name, so that `cut -f1` gives the names alone.
    """
    for kind, entries in listings.items():
        if len(listings) > 1:
            yield from [""] * (kind != next(iter(listings))) + [f"{kind}:"]
        column = max(map(len, entries)) // 8 * 8 + 8
        for name, about in entries.items():
            tabs = "\t" * (column // 8 - len(name) // 8)
            yield f"{name}{tabs}{textwrap.shorten(about, 79 - column, placeholder=' ..')}"


def describe(name: str) -> dict[str, Any]:
    """Plain data on a task, TASK:SUBSET, model, memory with its options, size, model folder or file (is executed).

    Raises UserError for an unknown name.
    """
    base, after = registry.parted(name)
    is_task = registry.is_file(base) and registry.is_task_file(base)
    if base in registry.TASKS or is_task or name.startswith("lm-eval:"):
        return describe_task.describe(name, one=after is not None)  # raises for lm-eval's: they can only be run
    if name in registry.MODELS:
        return {"kind": "model", "name": name, "about": docs(registry.MODELS[name])[-1]}
    if name in registry.MEMORIES:
        about = docs(registry.MEMORIES[name])[0]
        return {"kind": "memory", "name": name, "about": about, "options": _options(name)}
    if base in registry.MEMORIES or registry.is_file(base):
        memory, options = registry.typed_memory(name)
        return {"kind": "memory", "name": name, "about": _about(memory), "options": options}
    from atlas_bench.models import loading, sizes, specs

    if name in sizes.SIZES:
        measured = {memory: sizes.measure(sizes.config(name, memory)) for memory in registry.MEMORIES}
        return {"kind": "size", "name": name, **sizes.SIZES[name], "memories": measured}
    if loading.is_elsewhere(name):
        return {"kind": "model", "name": name, "facts": loading.load(name).facts()}
    if name in specs.names() or expanded(name).is_dir():
        card = loading.card(name)
        return {"kind": "model", "name": name, "measured": _measured(card), "card": card}
    raise unknown("task, model, memory or size", name, [*registry.TASKS, *models(), *registry.MEMORIES, *sizes.SIZES])


def lines(data: dict[str, Any]) -> Iterator[str]:
    """The result of describe(), formatted for a terminal."""
    if data["kind"] == "task":
        yield from describe_task.lines(data)
    elif data["kind"] == "size":
        from atlas_bench.models import sizes

        yield from sizes.table(data["name"]).splitlines()
    elif "about" in data:
        yield from folded(data["about"])
        if options := data.get("options"):
            written = ", ".join(f"{option}={default!r}" for option, default in options.items())
            yield from ["", *folded(f"options   {written}")]
    elif "card" in data:
        yield from _card_lines(data)
    else:
        yield from json.dumps(data["facts"], indent=2).splitlines()


def _about(memory: str) -> str:
    """What a memory says of itself: of a user's file, its module's docstring or its class's."""
    if memory in registry.MEMORIES:
        return docs(registry.MEMORIES[memory])[0]
    variant = registry.memory(memory)
    return inspect.getdoc(sys.modules[variant.__module__]) or inspect.getdoc(variant) or memory


def _options(name: str) -> dict[str, Any] | None:
    """A memory's options and their defaults; None without torch."""
    try:
        return registry.memory_options(name)
    except ImportError:
        return None


def _measured(card: Mapping[str, Any]) -> dict[str, Any] | None:
    """Parameters of a card's model and bytes of one stream's state (None if it grows); None without torch."""
    with suppress(Exception):  # a card in a folder states what it likes, a user's memory among that
        from atlas_bench.models import sizes
        from atlas_bench.models.config import Config

        config = Config(**card["config"])
        measured = sizes.measure(config)
        return {
            "parameters": measured["parameters"],
            "state_bytes": None if config.full_attention else measured["state_bytes"],
        }
    return None


def _card_lines(data: dict[str, Any]) -> Iterator[str]:
    """A card in words; a card that `train` did not write is shown unchanged."""
    try:
        rows = _card_rows(data["card"], data["measured"])
    except (AttributeError, KeyError, TypeError, ValueError):
        yield from json.dumps(data["card"], indent=2).splitlines()
        return
    for label, text in rows.items():
        if text:
            yield from wrapped(f"{label:<12}{plain(text)}", 12)
    yield from ["", f"{COMMAND}describe {plain(shlex.quote(data['name']))} --json    prints the whole card"]


def _card_rows(card: Mapping[str, Any], measured: Mapping[str, Any] | None) -> dict[str, str]:
    """Label -> what a card says of it, '' for nothing."""
    from atlas_bench.stats.intervals import wilson

    config, recipe, origin, texts, final = (
        card.get(part) or {} for part in ("config", "recipe", "initialised_from", "data", "final")
    )
    options = ", ".join(f"{option}={value!r}" for option, value in (config.get("memory_options") or {}).items())
    tasks = recipe.get("tasks") or [f"babilong:{subset}" for subset in recipe.get("subsets", ())]
    held_out = f", without {', '.join(texts['held_out'])}" if texts.get("held_out") else ""
    size = state = ""
    if measured:
        size, state = f", {measured['parameters']:,} parameters", "grows with the text"
        if measured["state_bytes"] is not None:
            state = f"{format_bytes(measured['state_bytes'])} per stream, at any length"
    opened, right = final.get("background_open"), []
    for at, tally in final.items():
        _, is_accuracy, length = at.rpartition("accuracy at ")  # after the task's name since recipe 2
        if is_accuracy:
            low, high = wilson(tally["correct"], tally["n"])
            interval = f"{100 * low:.0f}-{100 * high:.0f} %"
            right.append(f"{tally['correct']} of {tally['n']} right ({interval}) at {length} tokens")
    return {
        "model": f"{config['n_layers']} blocks of width {config['d_model']}, {config['n_heads']} heads{size}",
        "attention": f"over {config.get('attention_window') or 'all'} tokens",
        "memory": f"{config['memory']}{f' ({options})' if options else ''}",
        "state": state,
        "trained on": f"{', '.join(tasks)}: {card['training_tokens']:,} tokens" if tasks else "",
        "texts": f"{', '.join(texts.get('corpora', ()))}{held_out}",
        "from": f"{origin['memory']}, trained on {origin['training_tokens']:,} tokens" if origin else "",
        "examined": "; ".join(right),
        "background": f"{max(opened[1:]):.3%} of clean text opens a layer's write gates" if opened else "",
    }
