"""What a task asks: its description, scorers and chance, and one real sample, shortened."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

from atlas_bench import registry
from atlas_bench.cli.fold import folded, plain, wrapped
from atlas_bench.errors import UserError
from atlas_bench.files import user_file
from atlas_bench.types import Sample, Task, TaskOptions, Tokenizer

LENGTHS = (512, 2048, 8192, 32_768, 131_072)  # tokens of the sample: the first that holds what is hidden
SMALL = 20_000  # tokens of a document of the sample's background: made in an instant, where a run's take seconds
AROUND = 12  # tokens shown around what is hidden, and at both ends
HIDDEN = 6  # facts shown
LONGEST = 80  # tokens of a fact shown whole


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
    """What describe() found, for a terminal."""
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
    """The first sample of seed 0 in the embedded models' tokens; UserError where none has that length."""
    from atlas_bench.models.tokenizer import embedded

    task, tokenizer = type(task)(), embedded()  # a new one: a task keeps its background open
    options = TaskOptions(document_tokens=SMALL)
    task.check(subset, length, tokenizer, options)
    sample = next(iter(task.samples(subset, length, 1, 0, tokenizer, options)))
    return {
        "length": sample.length,
        "reads": sample.reads,
        "stream": length if sample.asked_at is not None else None,  # tokens, where it is asked on the way
        "context": _shortened(sample, tokenizer),
        "question": tokenizer.decode(sample.question).strip(),
        "prefill": tokenizer.decode(sample.prefill).strip(),
        "right": [target for target in sample.targets if target],
    }


def _shortened(sample: Sample, tokenizer: Tokenizer) -> str:
    """The context with '[.. 412 tokens ..]' in place of what is neither hidden nor near it nor at an end."""
    tokens = [int(token) for token in sample.context.read(0, sample.reads)]
    size = len(tokens)
    near = [(0, min(AROUND, size)), (max(0, size - AROUND), size)]
    for start, stop in _hidden(sample):
        half = min(stop - start, LONGEST) // 2  # of a long one its beginning and its end
        for a, b in ((start, start + half), (stop - half, stop)) if stop - start > LONGEST else ((start, stop),):
            near.append((max(0, a - AROUND), min(size, b + AROUND)))
    parts, at = [], 0
    for start, stop in sorted(near):
        start, stop = (_word(tokens, max(edge, at), tokenizer) for edge in (start, stop))
        if start - at <= AROUND // 2:  # hardly more than what would stand in its place
            start = at
        if start < stop:
            parts += [f" [.. {start - at} tokens ..]"] * (start > at) + [tokenizer.decode(tokens[start:stop])]
            at = stop
    parts += [f" [.. {size - at} tokens ..]"] * (at < size)
    return "".join(parts).strip()


def _hidden(sample: Sample) -> list[tuple[int, int]]:
    """(start, stop) of the facts to show: those that answer first, then the others, in their places."""
    context = sample.context
    if hasattr(context, "facts"):
        spans = [(at, at + len(ids)) for at, ids in context.facts()]
    else:
        spans, at = [], 0
        for item in getattr(context, "items", ()):  # a plan of literal tokens and spans of a corpus
            size = len(item) if isinstance(item, tuple) else item.stop - item.start
            spans += [(at, at + size)] * isinstance(item, tuple)
            at += size
    wanted = set(sample.meta.get("supporting", ()))
    return sorted(spans, key=lambda span: span[0] not in wanted)[:HIDDEN]


def _word(tokens: Sequence[int], at: int, tokenizer: Tokenizer) -> int:
    """The next token that begins a word, or the end."""
    while 0 < at < len(tokens) and not tokenizer.decode(tokens[at : at + 1])[:1].isspace():
        at += 1
    return at
