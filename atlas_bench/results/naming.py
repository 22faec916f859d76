"""Names of tasks, reasons and metrics in every table, and the facts that tell two cells apart.

task_name({"task": "babilong", "subset": "qa1"})        # 'babilong:qa1'
printable("a\x1b[31m", ascii_only=True)                 # 'a\\x1b[31m'
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from atlas_bench.results.record import Record, clip

NAME_CHARS, REASON_CHARS = 120, 400  # of foreign text, after which it is clipped


def printable(text: str, ascii_only: bool, keep: str = "") -> str:
    """The text with invisible characters (control, bidi, lone surrogates) as escapes.

    A name may hold codes that would steer the terminal, or turn the direction of what is around it.

    keep  characters that stay as they are
    """
    if not text.isprintable():
        text = "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)
    return text.encode("ascii", "backslashreplace").decode() if ascii_only else text


def natural(subset: str) -> list[tuple[int, str]]:
    """A sort key that puts 'qa2' before 'qa10', and '8' before '32'."""
    parts = re.split(r"(\d+)", subset)
    return [(len(part) if part.isdecimal() else 0, part) for part in parts]  # of two numbers the longer is greater


def task_name(of: Mapping[str, Any] | Record) -> str:
    """'babilong:qa1', or 'loss' for a task without subsets."""
    task, subset = (of.task, of.subset) if isinstance(of, Record) else (of["task"], of["subset"])
    return f"{task}:{subset}" if subset else task


def tags(rows: Sequence[Mapping[str, Any]], key: Sequence[str], names: Sequence[str]) -> list[dict[str, str]]:
    """For each row the facts in which it differs from rows of the same key: {'seed': '1', 'prompt': 'official'}.

    key    fields that rows agree in
    names  fields that may differ, beside the data choices in each row's "options"
    """
    values = [{name: row[name] for name in names} | row["options"] for row in rows]
    facts = [{name: _listed(value) for name, value in own.items()} for own in values]
    groups = [tuple(row[name] for name in key) for row in rows]
    known = dict.fromkeys(name for own in facts for name in own)
    seen: dict[tuple[Any, ...], set[str | None]] = defaultdict(set)
    for group, own in zip(groups, facts, strict=True):
        for name in known:
            seen[group, name].add(own.get(name))
    return [
        {name: own[name] for name in known if name in own and len(seen[group, name]) > 1}
        for group, own in zip(groups, facts, strict=True)
    ]


def _listed(value: Any) -> str:
    """'1, 2' of a list."""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def tag_text(tag: Mapping[str, str], between: str = " ", behind: str = ", ") -> str:
    """'seed 1, prompt official'"""
    return behind.join(f"{name}{between}{value}" for name, value in tag.items())


def reason(of: Mapping[str, Any] | Record) -> str:
    """Why there is no score, in one short line."""
    text = of.reason if isinstance(of, Record) else of["reason"]
    return clip(" ".join(text.split()) or "no reason recorded", REASON_CHARS)


def metrics_text(metrics: Mapping[str, float | None]) -> str:
    """'nats_per_token 3.412, next_token_accuracy 0.3'."""
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items() if value is not None)


def chances(of: Iterable[tuple[str, float | None]]) -> str:
    """'Chance: 16.7 % (babilong:qa1, babilong:qa2); 50.0 % (track:s2).', or '' where none is known.

    of  pairs of a task and its chance, in order
    """
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for task, chance in of:
        if chance is not None:
            found[f"{100 * chance:.1f} %"][task] = None
    texts = "; ".join(f"{level} ({', '.join(tasks)})" for level, tasks in found.items())
    return f"Chance: {texts}." if texts else ""
