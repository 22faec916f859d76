"""What stands behind a name; torch is needed for sizes, memories' options and models.

data = describe("babilong:qa1")         # plain data: description, scorers, chance, one real sample
print("\\n".join(lines(data)))
"""

from __future__ import annotations

import inspect
import json
import re
import shlex
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from atlas_bench import registry
from atlas_bench.cli.fold import COMMAND, folded, plain, wrapped
from atlas_bench.errors import UserError, unknown
from atlas_bench.files import user_file
from atlas_bench.running.excerpt import excerpt
from atlas_bench.running.listing import docs, models
from atlas_bench.types import Task, TaskOptions
from atlas_bench.units import format_bytes

LENGTHS = (512, 2048, 8192, 32_768, 131_072)  # tokens of the sample: the first that holds what is hidden
SMALL = 20_000  # tokens of a document of the sample's background: made in an instant, where a run's take seconds


def listed(listings: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Listings by kind as lines of 80 columns, with heads where they are several.

    There are tabs behind a name, so that `cut -f1` gives the names alone.
    """
    for kind, found in listings.items():
        if len(listings) > 1:
            yield from [""] * (kind != next(iter(listings))) + [f"{kind}:"]
        column = max(map(len, found)) // 8 * 8 + 8
        for name, about in found.items():
            tabs = "\t" * (column // 8 - len(name) // 8)
            yield f"{name}{tabs}{textwrap.shorten(about, 79 - column, placeholder=' ..')}"


def describe(name: str) -> dict[str, Any]:
    """Plain data on a task, TASK:SUBSET, task file (which is executed), model, memory, size or model folder.

    Raises UserError for a name that nothing has.
    """
    base, colon = re.match(r"(.*?\.py(?:@[0-9a-f]+)?|[^:]*)(:?)", name, re.DOTALL).groups()
    if base in registry.TASKS or registry.is_file(base) or name.startswith("lm-eval:"):
        return _task(name, bool(colon))  # tells of lm-eval's that they can be run alone
    if name in registry.MODELS:
        return {"kind": "model", "name": name, "about": docs(registry.MODELS[name])[-1]}
    if name in registry.MEMORIES:
        about = docs(registry.MEMORIES[name])[0]
        return {"kind": "memory", "name": name, "about": about, "options": _options(name)}
    from atlas_bench.models import loading, sizes, specs

    if name in sizes.SIZES:
        measured = {each: sizes.measure(sizes.config(name, each)) for each in registry.MEMORIES}
        return {"kind": "size", "name": name, **sizes.SIZES[name], "memories": measured}
    if loading.is_elsewhere(name):
        return {"kind": "model", "name": name, "facts": loading.load(name).facts()}
    if name in specs.names() or Path(name).expanduser().is_dir():
        card = loading.card(name)
        return {"kind": "model", "name": name, "measured": _measured(card), "card": card}
    raise unknown("task, model, memory or size", name, [*registry.TASKS, *models(), *registry.MEMORIES, *sizes.SIZES])


def lines(data: dict[str, Any]) -> Iterator[str]:
    """What describe() found, for a terminal."""
    if data["kind"] == "task":
        yield from _task_lines(data)
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


# Tasks -----------------------------------------------------------------------------------------------------------


def _task(typed: str, one: bool) -> dict[str, Any]:
    from atlas_bench.running import plan

    pairs = plan.parse_task(typed if one or typed.startswith(plan.LM_EVAL) else f"{typed}:{plan.ALL}")
    name, task = pairs[0][0], registry.task(pairs[0][0])
    subsets = {}
    for _, subset in pairs:
        rules = task.rules(subset)
        subsets[subset] = {
            "chance": rules.chance if rules.scorers else None,
            "scorers": {scorer: rule.version for scorer, rule in rules.scorers.items()},
            "answer_tokens": rules.max_answer_tokens,
            "questions_per_context": rules.questions_per_context,
        }
    found = {"kind": "task", "name": name, "version": task.version, "about": task.describe(), "subsets": subsets}
    return found | {"subset": pairs[0][1] if one and len(pairs) == 1 else None, **_sample(task, pairs[0][1])}


def _task_lines(data: dict[str, Any]) -> Iterator[str]:
    yield from folded(data["about"])
    yield ""
    if data["subset"]:
        (rules,) = data["subsets"].values()
        scorers = ", ".join(f"{name} (version {version})" for name, version in rules["scorers"].items()) or "none"
        chance = "" if rules["chance"] is None else f"; chance {100 * rules['chance']:.1f} %"
        asked = f"; {rules['questions_per_context']} questions on each context" * (rules["questions_per_context"] > 1)
        yield from folded(f"{data['subset']}: scorers {scorers}{chance}{asked}")
    if data["sample"] is None:
        yield from folded(f"No sample: {data['why']}")
        return
    sample = data["sample"]
    size = f"asked after {sample['reads']} of {sample['stream']}" if sample["stream"] else f"{sample['length']}"
    yield from folded(f"A sample of {sample['of']}, {size} tokens, seed 0:")
    yield ""
    for line in sample["context"].splitlines():
        yield from wrapped(f"    {plain(line)}", 4)
    yield ""
    asked = {"question": sample["question"], "prefill": sample["prefill"], "right": " | ".join(sample["right"])}
    for label, text in asked.items():
        if text:
            yield from wrapped(f"{label:<10}{plain(' '.join(text.split()))}", 10)


def _sample(task: Task, subset: str) -> dict[str, Any]:
    """One real sample, shortened, or why there is none."""
    name, why = f"{task.name}:{subset}" if subset else task.name, ""
    with _small_documents():
        for length in LENGTHS:
            try:
                return {"sample": {"of": name, **_first(task, subset, length)}, "why": None}
            except UserError as error:
                why = str(error)
            except Exception as error:
                if not registry.is_file(task.name):
                    raise
                told = user_file.told(error, inspect.getfile(type(task)))
                raise UserError(f"task '{name}' makes no sample of {length} tokens: {told}.") from None
    return {"sample": None, "why": why}


def _first(task: Task, subset: str, length: int) -> dict[str, Any]:
    """The first sample of seed 0 in the embedded models' tokens; UserError where none has that length."""
    from atlas_bench.models.tokenizer import embedded

    task, tokenizer = type(task)(), embedded()  # a task keeps its background, and is to keep no small one
    task.check(subset, length, tokenizer, TaskOptions())
    sample = next(iter(task.samples(subset, length, 1, 0, tokenizer, TaskOptions())))
    return {
        "length": sample.length,
        "reads": sample.reads,
        "stream": length if sample.asked_at is not None else None,  # tokens, where it is asked on the way
        "context": excerpt(sample, tokenizer),
        "question": tokenizer.decode(sample.question).strip(),
        "prefill": tokenizer.decode(sample.prefill).strip(),
        "right": [target for target in sample.targets if target],
    }


@contextmanager
def _small_documents() -> Iterator[None]:
    """Corpora without end are made of small documents meanwhile; tasks open them as they always do."""
    from atlas_bench.tasks import corpora

    made = corpora.endless
    corpora.endless = lambda *args, **options: made(*args, **options | {"shard_tokens": SMALL})
    try:
        yield
    finally:
        corpora.endless = made


# Models, memories ------------------------------------------------------------------------------------------------


def _options(name: str) -> dict[str, Any] | None:
    """A memory's options and their defaults; None where torch is not there."""
    try:
        return registry.memory_options(name)
    except ImportError:
        return None


def _measured(card: Mapping[str, Any]) -> dict[str, Any] | None:
    """Parameters of a card's model and bytes of one stream's state, None where it grows; None without torch."""
    with suppress(Exception):  # a card in a folder states what it likes, a user's memory among that
        from atlas_bench.models import sizes
        from atlas_bench.models.decoder import Config

        config = Config(**card["config"])
        found = sizes.measure(config)
        return {
            "parameters": found["parameters"],
            "state_bytes": None if config.full_attention else found["state_bytes"],
        }
    return None


def _card_lines(data: dict[str, Any]) -> Iterator[str]:
    """A card in words; one that is not as `train` writes them, as it is."""
    try:
        told = _told(data["card"], data["measured"])
    except (AttributeError, KeyError, TypeError, ValueError):
        yield from json.dumps(data["card"], indent=2).splitlines()
        return
    for label, text in told.items():
        if text:
            yield from wrapped(f"{label:<12}{plain(text)}", 12)
    yield from ["", f"{COMMAND}describe {plain(shlex.quote(data['name']))} --json    prints the whole card"]


def _told(card: Mapping[str, Any], measured: Mapping[str, Any] | None) -> dict[str, str]:
    """Label -> what a card says of it, '' for nothing."""
    from atlas_bench.results.stats import wilson

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
    for at, found in final.items():
        _, is_accuracy, length = at.rpartition("accuracy at ")  # behind the task's name since recipe 2
        if is_accuracy:
            low, high = wilson(found["correct"], found["n"])
            interval = f"{100 * low:.0f}-{100 * high:.0f} %"
            right.append(f"{found['correct']} of {found['n']} right ({interval}) at {length} tokens")
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
