"""A plan in N parts that can be run anywhere: `run --shard i/N`.

    mine = of(cells, *units.parse_shard("2/4"))         # the second quarter of each cell

The split depends on the plan alone. Contexts are dealt out like cards, over the cells in their order, so every shard
has the same mix of tasks, lengths and models, and no shard has more than one context more of a cell than another.
Questions that share a context stay together. Within a cell a shard's samples stand in a row.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace

from atlas_bench import registry
from atlas_bench.errors import UserError
from atlas_bench.running.evaluation import Cell, Part, Shard, rules_of


def of(cells: Sequence[Cell], shard: int, shards: int) -> list[Cell]:
    """The shard's parts of the cells, in their order; a cell of which it has no context is left out.

    Raises UserError where there are more shards than contexts: each must have work, or nobody could tell an empty shard
    from a lost one.
    """
    mine, dealt, plan = [], 0, _hash(cells)
    for number, cell in enumerate(cells):
        together = rules_of(cell, registry.task(cell.task)).questions_per_context
        contexts = -(-cell.samples // together)
        counts = [len(range((i - dealt) % shards, contexts, shards)) for i in range(shard)]
        dealt += contexts
        first, count = sum(counts[:-1]), counts[-1]
        if count:
            stop = min((first + count) * together, cell.samples)
            part = Part(first * together, stop, Shard(shard, shards, plan, number, len(cells)))
            mine.append(replace(cell, part=part))
    if dealt < shards:
        all_there = f"{dealt} context{'s' * (dealt != 1)}"
        raise UserError(f"shard {shard}/{shards}: the plan has {all_there}. Split it into {dealt} or fewer.")
    return mine


def _hash(cells: Sequence[Cell]) -> str:
    """First 16 hex digits of a sha256 of what the cells ask of whom."""
    asked = [[c.task, c.subset, c.length, c.model, c.seed, c.samples, c.options.given()] for c in cells]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]
