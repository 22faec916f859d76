"""`atlas-bench show`: one question of a record with its surroundings, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from atlas_bench.cli.fold import folded, plain, wrapped
from atlas_bench.units import format_length

LABEL = 11  # columns before a text


def lines(shown: dict[str, Any]) -> Iterator[str]:
    """The result of remake(): where it was asked, the excerpt, question, targets, answer and verdicts."""
    name = f"{shown['task']}:{shown['subset']}" if shown["subset"] else shown["task"]
    about = (
        f"{name} at {format_length(shown['length'])} tokens, {shown['model']}, seed {shown['seed']}: question "
        f"{shown['index']} of {shown['samples']}, a prompt of {shown['tokens']:,} tokens"
    )
    yield from folded(about)
    yield ""
    for line in shown["context"].splitlines():
        yield from wrapped(f"    {plain(line)}", 4)
    yield ""
    facts = "; ".join(f"'{' '.join(fact['text'].split())}' at token {fact['position']:,}" for fact in shown["facts"])
    told = {
        "facts": facts,
        "question": shown["question"],
        "prefill": shown["prefill"],
        "right": " | ".join(shown["targets"]),
        "answer": _answer(shown),
        "verdict": _verdict(shown),
    }
    for label, text in told.items():
        if text:
            yield from wrapped(f"{label:<{LABEL}}{plain(' '.join(text.split()))}", LABEL)


def _answer(shown: dict[str, Any]) -> str:
    if shown["failed"]:
        return f"none: {shown['failed']}"
    if shown["answer"] is None:
        return f"none: the record is {shown['status']}" + (f", {shown['reason']}" if shown["reason"] else "")
    return shown["answer"] or "(empty)"


def _verdict(shown: dict[str, Any]) -> str:
    """'right by babilong/official, wrong by babilong/word'; the scorer that reports show comes first."""
    ordered = sorted(shown["correct"].items(), key=lambda item: item[0] != shown["headline"])
    return ", ".join(f"{_word(verdict)} by {scorer}" for scorer, verdict in ordered)


def _word(verdict: bool | float) -> str:
    if verdict in (True, False):  # 1.0 and 0.0 too
        return "right" if verdict else "wrong"
    return f"{100 * verdict:.0f} % right"
