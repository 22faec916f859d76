"""What a task asks: its description, scorers and chance, and one real sample, shortened."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from atlas_bench import registry
from atlas_bench.cli.fold import folded, plain, wrapped
from atlas_bench.errors import UserError
from atlas_bench.files import user_file
from atlas_bench.running.excerpt import excerpt
from atlas_bench.types import Task, TaskOptions

LENGTHS = (512, 2048, 8192, 32_768, 131_072)  # tokens of the sample: the first that holds what is hidden
SMALL = 20_000  # tokens of a document of the sample's background: made in an instant, where a run's take seconds


def describe(typed: str, *, one: bool) -> dict[str, Any]:
    """Plain data on a task or subset: description, scorers, chance, one real sample.

    one  whether a subset was typed
    """
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
    about = {"kind": "task", "name": name, "version": task.version, "about": task.describe(), "subsets": subsets}
    return about | {"subset": pairs[0][1] if one and len(pairs) == 1 else None, **_sample(task, pairs[0][1])}


def lines(data: dict[str, Any]) -> Iterator[str]:
    """The result of describe(), formatted for a terminal."""
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
    """One real sample, shortened, or the reason why none can be made."""
    name, why = f"{task.name}:{subset}" if subset else task.name, ""
    for length in LENGTHS:
        try:
            return {"sample": {"of": name, **_first(task, subset, length)}, "why": None}
        except UserError as error:
            why = str(error)
        except Exception as error:
            if not registry.is_file(task.name):
                raise
            cause = user_file.describe_error(error, inspect.getfile(type(task)))
            raise UserError(f"task '{name}' makes no sample of {length} tokens: {cause}.") from None
    return {"sample": None, "why": why}


def _first(task: Task, subset: str, length: int) -> dict[str, Any]:
    """The first sample of seed 0 in the embedded models' tokens; UserError if none has that length."""
    from atlas_bench.models.tokenizer import embedded

    task, tokenizer = type(task)(), embedded()  # a new one: a task keeps its background open
    options = TaskOptions(document_tokens=SMALL)
    task.check(subset, length, tokenizer, options)
    sample = next(iter(task.samples(subset, length, 1, 0, tokenizer, options)))
    return {
        "length": sample.length,
        "reads": sample.reads,
        "stream": length if sample.asked_at is not None else None,  # tokens, where it is asked on the way
        "context": excerpt(sample, tokenizer),
        "question": tokenizer.decode(sample.question).strip(),
        "prefill": tokenizer.decode(sample.prefill).strip(),
        "right": [target for target in sample.targets if target],
    }
