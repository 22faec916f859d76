"""The facts that tell two cells of one table apart.

tags(rows, ("task", "length"), ("seed",))       # [{"seed": "0"}, {"seed": "1"}] where only the seeds differ
tag_text({"seed": "1", "prompt": "official"})   # 'seed 1, prompt official'
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any


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
