"""`atlas-bench run --dry-run`: what every cell would read, take and weigh, and how sure its score can be.

    estimated = estimate(cells, models, Path("runs"), Settings())
    print("\\n".join(estimate_table.lines(estimated)))

    babilong:qa1: 8 samples; 95 % interval at 50 %: 22-78, at 90 %: 56-98
     length model                   tokens    time    memory     state
        16K atlas-nano              128.0K   2.0 s  589.1MiB  225.0KiB
        10M atlas-nano               80.0M  16 min  589.1MiB  225.0KiB
        10M transformer-nano                                            unsupported

Time and memory come from a calibration, see calibration.py. What it does not know: how busy the machine will be, and
background that must still be tokenised. Endpoints are not called: their tokens
are counted, for they cost money.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import psutil

from atlas_bench.results import store
from atlas_bench.results.naming import task_name
from atlas_bench.results.record import Record, cell_key
from atlas_bench.running import answers, calibration, recording, streams
from atlas_bench.running.checkpoint import Checkpoint, Point
from atlas_bench.running.evaluation import Cell, Evaluation
from atlas_bench.running.progress import Progress, title_of
from atlas_bench.running.runner import evaluations_of
from atlas_bench.running.settings import Settings
from atlas_bench.stats.intervals import wilson, worth_of
from atlas_bench.types import Model, Sample
from atlas_bench.units import format_bytes

PERCENT = (50, 90)  # scores whose interval is shown: the widest one, and that of a good model
TO_RUN = ("run", "resume")  # what is still to be read of a cell: all, the rest
ENDED = ("done", "unsupported")

Row = dict[str, Any]


def estimate(
    cells: Iterable[Cell], models: Mapping[str, Model], folder: Path, settings: Settings, *,
    progress: Progress | None = None,
) -> dict[str, Any]:  # fmt: skip
    """What running the cells would take, as plain data: docs/method.md explains the fields.

    cells     that plan.check() has passed
    folder    of the records, which say what is done and what goes on from a checkpoint; nothing is written there
    settings  of the run; a calibration reads with the same

    Raises KeyboardInterrupt on Ctrl-C, after removing the temporary folder.
    """
    return of(evaluations_of(cells, models), folder, settings, progress=progress)


def of(
    evaluations: Iterable[Evaluation], folder: Path, settings: Settings, *, progress: Progress | None = None
) -> dict[str, Any]:
    """The same of cells with their models, of which several may have one name."""
    progress = progress or Progress(quiet=True)
    try:
        done = store.done(folder, warn=progress.warn)
        planned = [(evaluation, _row(evaluation, folder, done)) for evaluation in evaluations]
        waiting = [(evaluation, row) for evaluation, row in planned if row["action"] in TO_RUN and not row["endpoint"]]
        calibrations = list(calibration.calibrate(waiting, settings, progress))
    except KeyboardInterrupt:
        raise KeyboardInterrupt("stopped while estimating: nothing was run, and nothing written.") from None
    rows = [row for _, row in planned]
    notes = [*_notes(rows, settings), *_sent(planned)]
    return {"cells": rows, "calibration": calibrations, "total": _total(rows), "notes": notes}


def _row(evaluation: Evaluation, folder: Path, done: Mapping[str, Record]) -> Row:
    """What is known about a cell without running anything; for a finished cell, what was measured."""
    cell, model, blank = evaluation.cell, evaluation.model, recording.blank(evaluation)
    row: Row = {name: getattr(cell, name) for name in ("task", "subset", "length", "model", "seed")}
    row["samples"], row["contexts"] = len(cell.asked), evaluation.contexts
    worth = worth_of(row["samples"], row["contexts"])
    for percent in PERCENT:
        row[f"interval_at_{percent}"] = list(wilson(percent / 100 * worth, worth)) if evaluation.rules.scorers else None
    row |= {"action": "run", "reason": "", "endpoint": model.is_remote}
    row |= dict.fromkeys(("tokens", "tokens_left", "seconds", "memory_bytes", "state_bytes", "record_bytes"))
    record = done.get(cell_key(blank))
    if record and record.status == "ok":
        cost = {"tokens": record.tokens_read, "seconds": record.seconds, "memory_bytes": record.peak_rss_bytes}
        return row | cost | {"action": "done", "tokens_left": 0, "state_bytes": record.state_bytes}
    if not _would_ask(model) and (why := evaluation.unsupported()):
        return row | {"action": "unsupported", "reason": why}
    row |= _work(evaluation, blank)
    return row | _to_do(row["tokens"], Checkpoint(folder, cell_key(blank)), model, cell)


def _work(evaluation: Evaluation, blank: Record) -> dict[str, int]:
    """Tokens to be read and bytes of the record, judged by the cell's first context."""
    cell, rules = evaluation.cell, evaluation.rules
    count = len(cell.asked)
    first = list(islice(evaluation.samples(), min(rules.questions_per_context, count)))
    right = {"correct": dict.fromkeys(rules.scorers, True)}
    rows = [answers.row_of(sample, next(iter(sample.targets), ""), {}) | right for sample in first]
    size = _sent_whole if evaluation.model.is_remote else streams.to_read
    return {
        "tokens": streams.to_read_in_all(first, count, size),
        "record_bytes": len(blank.to_json()) + count * len(json.dumps(rows)) // len(rows),
    }


def _sent_whole(sharing: Sequence[Sample]) -> int:
    """Tokens of questions for an endpoint, which is sent all of the context with each."""
    return sum(sample.length for sample in sharing)


def _to_do(tokens: int, checkpoint: Checkpoint, model: Model, cell: Cell) -> Row:
    """What is left of a cell after its checkpoint."""
    try:
        point = checkpoint.load(model, cell.asked)
    except Exception as error:  # as the runner has it: whatever is wrong with the file
        why = f"checkpoint '{checkpoint.path}' cannot be used ({error}); the cell begins again"
        return {"tokens_left": tokens, "reason": why}
    begin = Point(first=cell.asked.start)
    point = checkpoint.with_answers(point or begin, cell.asked, lambda message: None)
    return {"tokens_left": max(0, tokens - point.read), "action": "run" if point is begin else "resume"}


def _would_ask(model: Model) -> bool:
    """Whether supports() sends a request: ours to an endpoint does, unless its context is written with its name."""
    return model.is_remote and _option(model, "context", 0) is None


def _option(model: Model, name: str, otherwise: Any = None) -> Any:
    """An option of one of our endpoints; a user's own model of a server has none."""
    return getattr(getattr(model, "options", None), name, otherwise)


def _notes(rows: Sequence[Row], settings: Settings) -> Iterator[str]:
    """Warnings: what will stop a cell, and what an interval does not show."""
    machine = psutil.virtual_memory().total
    for row in rows:
        if row["action"] in TO_RUN and (row["memory_bytes"] or 0) > machine:
            need, has = format_bytes(row["memory_bytes"]), format_bytes(machine)
            yield f"{where(row)}: needs {need}, and this machine has {has}; a smaller --batch needs less."
        if row["action"] in TO_RUN and settings.timeout and (row["seconds"] or 0) > settings.timeout:
            yield f"{where(row)}: takes longer than --timeout {settings.timeout:g}."
    if any(row["contexts"] < row["samples"] for row in rows):
        yield "Questions share a context: intervals are over contexts that differ no more than chance would have them."


def _sent(planned: Sequence[tuple[Evaluation, Row]]) -> Iterator[str]:
    """What each endpoint would be sent, and what that costs."""
    waiting = [row for _, row in planned if row["endpoint"] and row["action"] in TO_RUN]
    models = {evaluation.cell.model: evaluation.model for evaluation, _ in planned}
    for name in dict.fromkeys(row["model"] for row in waiting):
        tokens = sum(row["tokens_left"] for row in waiting if row["model"] == name)
        price = _option(models[name], "usd_per_million_in")
        cost = f", which cost ${price * tokens / 1e6:,.2f} (answers come on top)" if price else ""
        unknown = ", and whether it reads such lengths is not known" if _would_ask(models[name]) else ""
        yield f"{name}: not called, so its time is not known{unknown}. It would be sent {tokens:,} tokens{cost}."


def _total(rows: Sequence[Row]) -> Row:
    """Facts about the cells to run, except their counts."""
    waiting = [row for row in rows if row["action"] in TO_RUN]
    actions, seconds = [row["action"] for row in rows], sum(row["seconds"] or 0.0 for row in waiting)
    return {
        "cells": len(rows),
        "to_run": len(waiting),
        **{ended: actions.count(ended) for ended in ENDED},
        "without_time": sum(row["seconds"] is None for row in waiting),
        "tokens": sum(row["tokens_left"] for row in waiting if not row["endpoint"]),
        "tokens_sent": sum(row["tokens_left"] for row in waiting if row["endpoint"]),
        "seconds": seconds,
        "hours": seconds / 3600,
        "record_bytes": sum(row["record_bytes"] for row in waiting),
    }


def where(row: Row) -> str:
    """'babilong:qa1 10M atlas-nano'"""
    return title_of(task_name(row), row["length"], row["model"])
