"""Records of parts of cells, put together into the records that one run would have written.

    merged = merge(["shard1", "shard2"], Path("runs"), warn=print)
    merged["missing"]                       # ["babilong:qa1 16K atlas-nano: samples 10-19 of 20"]

Answers, scores and hashes are those of one run. Times are sums over the parts, `parts` says what each took and where.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

from atlas_bench.errors import UserError, clip
from atlas_bench.files import locks, output_folder
from atlas_bench.results import store
from atlas_bench.results.naming import task_name
from atlas_bench.results.record import Record, Warn, cell_key, timeless
from atlas_bench.results.score import outcome
from atlas_bench.running import answers, losses, resources
from atlas_bench.running.progress import title_of
from atlas_bench.types import Status

_OF_ANSWERS = {  # what follows from the answers, and so differs between parts; every other field must not
    "status", "reason", "scores", "metrics", "curve", "answers", "plan_hash", "corpus_key", "data_hash", "prompt_hash",
    "state_bytes", "tokens_read", "part",
}  # fmt: skip
_JOINED = ("status", "seconds", "batch", "resumed", "hardware", "started", "ended", "command")


def merge(folders: Iterable[str | Path], out: Path, *, warn: Warn, command: str | None = None) -> dict[str, Any]:
    """Append to `out` what it does not have yet of the folders' cells; what was written and what is missing.

    folders  of records: shards', and of whole cells, which are copied as they are
    command  that records name; None: what was typed

    Returns "written" and "already" (one text for each cell) and "missing" (what keeps a cell from being put together).
    Raises UserError for a folder that is not there or has no record, and where `out` cannot be written.
    """
    folders = list(folders)
    found = store.latest(store.scan(folders, warn))
    if not found:
        raise UserError(f"no records in {', '.join(map(str, folders))}. Give the folders that `run --shard` wrote.")
    output_folder.check(out)
    there = store.Followed(out, warn=warn)
    told: dict[str, list[str]] = {"written": [], "already": [], "missing": []}
    for parts in _cells(found):
        title = _title(parts[0])
        if fault := _fault(parts):
            told["missing"].append(f"{title}: {fault}")
            continue
        record = joined(parts, command) if parts[0].part else parts[0]
        if _append(record, there, title, warn):
            told["written"].append(f"{title}: {outcome(record)}")
        else:
            told["already"].append(title)
    told["missing"] += _absent(found)
    return told


def _append(record: Record, there: store.Followed, title: str, warn: Warn) -> bool:
    """Append the record unless the folder has it; another process may run the cell, or merge it, at the same time."""
    key, name = cell_key(record), f"{record.task}.jsonl"
    with locks.held(there.folder / ".checkpoints" / f"{key}.lock", title, wait=True, say=warn):
        kept = there.record(key, name, unfinished=True)
        if kept and (kept.status in store.FINAL or timeless(kept) == timeless(record)):
            return False
        store.append(there.folder / name, record)
    return True


def lines(told: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """What merge() did, a line for each cell."""
    yield from told["written"]
    yield from (f"{title}: there already" for title in told["already"])
    yield from (f"missing: {text}." for text in told["missing"])
    if told["missing"]:
        yield "Run those shards again with the same command: they go on where they stopped. Then merge again."


def joined(parts: Sequence[Record], command: str | None = None) -> Record:
    """Join the parts of one cell into its record; the parts are in order and hold every sample once."""
    first, last = parts[0], parts[-1]
    plans = [plan for part in parts for plan in _of(part).get("plans", ())]
    rows = [row for part in parts for row in part.answers]
    answered = answers.summary(
        [{**row, "plan": plan} for row, plan in zip(rows, plans, strict=True)], first.scorer_version
    )
    status, reason = _ended(parts, rows)
    read = [part.tokens_read for part in parts if part.tokens_read is not None]
    seconds = [part.seconds for part in parts if part.seconds is not None]
    return replace(
        first,
        status=status,
        reason=reason,
        part=None,
        **answered,
        metrics={**losses.metrics(rows)},
        curve=losses.curve(rows, first.length),  # type: ignore[arg-type]  # a TypedDict there
        corpus_key=last.corpus_key,
        data_hash=last.data_hash,
        prompt_hash=last.prompt_hash,
        usage=reduce(_added, (part.usage for part in parts)),
        state_bytes=_most(part.state_bytes for part in parts),
        tokens_read=sum(read) if read else None,
        seconds=round(sum(seconds), 3) if seconds else None,
        tokens_per_second=round(sum(read) / sum(seconds), 1) if read and seconds and sum(seconds) else None,
        block=_most(part.block for part in parts),
        batch=_most(part.batch for part in parts),
        peak_rss_bytes=_most(part.peak_rss_bytes for part in parts),
        resumed=any(part.resumed for part in parts),
        command=command or resources.command_line(),
        parts=[_facts(part) for part in parts],
        started=min((part.started for part in parts if part.started), default=None),
        ended=max((part.ended for part in parts if part.ended), default=None),
    )


def _ended(parts: Sequence[Record], rows: Sequence[Mapping[str, Any]]) -> tuple[Status, str]:
    """Status and reason of the whole cell: those of the first part that came to no end, else as all answers are."""
    for part in parts:
        first, stop = _range(part)
        if part.status != "ok" and len(part.answers) < stop - first:
            return part.status, part.reason
    return answers.unanswered(rows, parts[0].samples) or ("ok", "")


def _facts(part: Record) -> Any:
    first, stop = _range(part)
    return {"first": first, "stop": stop} | {name: getattr(part, name) for name in _JOINED}


def _added(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """An endpoint's counts of two parts; a count that nobody keeps stays None."""
    if one is None or other is None:
        return None
    return resources.summed(one, other, None)


def _most(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)


def _range(part: Record) -> tuple[int, int]:
    return (part.part["first"], part.part["stop"]) if part.part else (0, part.samples)


def _cells(found: Sequence[Record]) -> list[list[Record]]:
    """The records of each cell, parts in order of their samples; cells in the order of their plan."""
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in found:
        groups[cell_key(replace(record, part=None))].append(record)
    plans = list(dict.fromkeys(_plan(record) for record in found))

    def place(parts: Sequence[Record]) -> tuple[int, int]:
        first = min(parts, key=lambda part: plans.index(_plan(part)))
        return plans.index(_plan(first)), _of(first).get("cell", 0)

    whole = [[record for record in parts if not record.part][:1] or parts for parts in groups.values()]
    return [sorted(parts, key=_range) for parts in sorted(whole, key=place)]


def _plan(record: Record) -> tuple[Any, ...]:
    """Which split of which plan a record is of."""
    return tuple(_of(record).get(name) for name in ("plan", "shards", "cells"))


def _fault(parts: Sequence[Record]) -> str:
    """Why the parts are no whole cell, '' where they are."""
    behind, before = 0, parts[0]
    if any(part.part and len(part.part.get("plans", ())) != len(part.answers) for part in parts):
        return "a part has not one plan for each of its answers: it is not as it was written. Run that shard again"
    for part in parts:
        first, stop = _range(part)
        if first < behind:
            shards = " and ".join(_shard(each) for each in (before, part))
            return f"{_span(first, min(stop, behind))} twice, in {shards}; give the shards of one split alone"
        if first > behind:
            return f"{_span(behind, first)} of {part.samples}"
        behind, before = stop, part
    if behind < parts[0].samples:
        return f"{_span(behind, parts[0].samples)} of {parts[0].samples}"
    return next(filter(None, (difference(parts[0], part) for part in parts[1:])), "")


def difference(one: Record, other: Record) -> str:
    """What records of one cell, or parts of it, differ in that one run would have alike; '' where nothing is."""
    rows = [{name: value for name, value in timeless(part).items() if name not in _OF_ANSWERS} for part in (one, other)]
    for name in sorted({**rows[0], **rows[1]}):
        values = [json.dumps(row.get(name)) for row in rows]
        if values[0] != values[1]:
            shown = " and ".join(clip(value, 80) for value in values)
            return f"its parts differ in {name}: {shown}. Run them again in one environment"
    return ""


def _absent(found: Iterable[Record]) -> Iterator[str]:
    """Shards of which there is no record, and cells of which no shard has one."""
    splits: dict[tuple[Any, ...], list[Any]] = defaultdict(list)
    for record in found:
        if record.part and "shards" in record.part:
            splits[_plan(record)].append(record.part)
    for (_, shards, cells), parts in splits.items():
        lost = [f"{i}/{shards}" for i in range(1, shards + 1) if i not in {part["shard"] for part in parts}]
        if lost:
            yield f"no record of shard {', '.join(lost)}"
        if unseen := cells - len({part["cell"] for part in parts}):
            yield f"no record of {unseen} of the plan's {cells} cells"


def _of(record: Record) -> Mapping[str, Any]:
    return record.part or {}


def _shard(part: Record) -> str:
    facts = _of(part)
    return f"shard {facts['shard']}/{facts['shards']}" if "shards" in facts else "a worker"


def _span(first: int, stop: int) -> str:
    return f"samples {first}-{stop - 1}" if stop > first + 1 else f"sample {first}"


def _title(record: Record) -> str:
    return title_of(task_name(record), record.length, record.model)
