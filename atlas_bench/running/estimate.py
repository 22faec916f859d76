"""`atlas-bench run --dry-run`: what every cell would read, take and weigh, and how sure its score can be.

    told = estimate(cells, models, Path("runs"), runner.Settings())
    print("\\n".join(estimate_table.lines(told)))

    babilong:qa1: 8 samples; 95 % interval at 50 %: 22-78, at 90 %: 56-98
     length model                   tokens    time    memory     state
        16K atlas-nano              128.0K   2.0 s  589.1MiB  225.0KiB
        10M atlas-nano               80.0M  16 min  589.1MiB  225.0KiB
        10M transformer-nano                                            unsupported

Time and memory come from a calibration: one group of streams of a model and a kind of question goes through the runner
itself, in a temporary folder, at lengths that double while that takes seconds. Fitted to these readings is

    seconds = a * questions + b * tokens + c * tokens * tokens of one context        c only where the state grows

What it does not know: how busy the machine will be, subsets other than the calibrated one, background that must still
be tokenised. Endpoints are not called: their tokens are counted, for they cost money.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count, islice, takewhile
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from atlas_bench import registry
from atlas_bench.errors import UserError
from atlas_bench.results import store
from atlas_bench.results.labels import task_name
from atlas_bench.results.record import Record, cell_key
from atlas_bench.results.stats import wilson, worth_of
from atlas_bench.running import answers, plan, runner, streams
from atlas_bench.running.checkpoint import Checkpoint, Point
from atlas_bench.running.plan import Cell
from atlas_bench.running.progress import Progress, title_of
from atlas_bench.types import Model, Rules, Sample
from atlas_bench.units import format_bytes, format_length

FIRST = 1000  # tokens of a calibration's first reading; each further one is about twice as long
NEXT = 4.0  # seconds that the next reading may be expected to take
LIMIT = 10.0  # seconds after which it is stopped
PERCENT = (50, 90)  # scores whose interval is told: the widest there is, and that of a model that does well
TO_RUN = ("run", "resume")  # what is still to be read of a cell: all, the rest
ENDED = ("done", "unsupported")

Row = dict[str, Any]


def estimate(
    cells: Iterable[Cell], models: Mapping[str, Model], folder: Path, settings: runner.Settings, *,
    progress: Progress | None = None,
) -> dict[str, Any]:  # fmt: skip
    """What running the cells would take, as plain data: docs/method.md explains the fields.

    cells     that plan.check() has passed
    folder    of the records: tells what is done and what goes on from a checkpoint; nothing is written there
    settings  of the run; a calibration reads with the same

    Raises KeyboardInterrupt on Ctrl-C, when the temporary folder is gone.
    """
    progress = progress or Progress(quiet=True)
    try:
        done = store.done(folder, warn=progress.warn)
        planned = [(cell, _row(cell, models[cell.model], folder, done)) for cell in cells]
        calibration = list(_calibrate_all(planned, models, settings, progress))
    except KeyboardInterrupt:
        raise KeyboardInterrupt("stopped while estimating: nothing was run, and nothing written.") from None
    told = [row for _, row in planned]
    notes = [*_notes(told, settings), *_sent(told, models)]
    return {"cells": told, "calibration": calibration, "total": _total(told), "notes": notes}


def _row(cell: Cell, model: Model, folder: Path, done: Mapping[str, Record]) -> Row:
    """All that is known of a cell without running anything; of one that is done, what was measured."""
    task = registry.task(cell.task)
    rules, blank = plan.rules(cell, task), plan.blank(cell, task, model)
    row: Row = {name: getattr(cell, name) for name in ("task", "subset", "length", "model", "seed", "samples")}
    row["contexts"] = -(-cell.samples // rules.questions_per_context)
    worth = worth_of(cell.samples, row["contexts"])
    for percent in PERCENT:
        row[f"interval_at_{percent}"] = list(wilson(percent / 100 * worth, worth)) if rules.scorers else None
    row |= {"action": "run", "reason": "", "endpoint": _is_endpoint(model)}
    row |= dict.fromkeys(("tokens", "tokens_left", "seconds", "memory_bytes", "state_bytes", "record_bytes"))
    record = done.get(cell_key(blank))
    if record and record.status == "ok":
        cost = {"tokens": record.tokens_read, "seconds": record.seconds, "memory_bytes": record.peak_rss_bytes}
        return row | cost | {"action": "done", "tokens_left": 0, "state_bytes": record.state_bytes}
    if not _would_ask(model) and (why := runner.unsupported(cell, task, model)):
        return row | {"action": "unsupported", "reason": why}
    row |= _work(cell, rules, model, blank)
    return row | _to_do(row["tokens"], Checkpoint(folder, cell_key(blank)), model, cell.samples)


def _work(cell: Cell, rules: Rules, model: Model, blank: Record) -> dict[str, int]:
    """Tokens to be read and bytes of the record, judged by the cell's first context."""
    made = plan.samples(cell, registry.task(cell.task), model)
    first = list(islice(made, min(rules.questions_per_context, cell.samples)))
    whole, rest = divmod(cell.samples, len(first))
    size = _sent_whole if _is_endpoint(model) else streams.to_read
    right = {"correct": dict.fromkeys(rules.scorers, True)}
    rows = [answers.row_of(sample, next(iter(sample.targets), ""), {}) | right for sample in first]
    return {
        "tokens": whole * size(first) + size(first[:rest]),
        "record_bytes": len(blank.to_json()) + cell.samples * len(json.dumps(rows)) // len(rows),
    }


def _sent_whole(sharing: Sequence[Sample]) -> int:
    """Tokens of questions for an endpoint, which is sent all of the context with each."""
    return sum(sample.length for sample in sharing)


def _to_do(tokens: int, checkpoint: Checkpoint, model: Model, samples: int) -> Row:
    """What is left of a cell after its checkpoint."""
    try:
        point = checkpoint.load(model, samples)
    except Exception as error:  # as the runner has it: whatever is wrong with the file
        why = f"checkpoint '{checkpoint.path}' cannot be used ({error}); the cell begins again"
        return {"tokens_left": tokens, "reason": why}
    begin = Point()
    point = checkpoint.with_answers(point or begin, samples, lambda message: None)
    read = point.tokens + len(point.reading) * point.position
    return {"tokens_left": max(0, tokens - read), "action": "run" if point is begin else "resume"}


def _is_endpoint(model: Model) -> bool:
    return model.facts().get("device") == "server"


def _would_ask(model: Model) -> bool:
    """Whether supports() sends a request: an endpoint's does, unless its context is written with its name."""
    return _is_endpoint(model) and model.options.context is None


def _calibrate_all(
    planned: Iterable[tuple[Cell, Row]], models: Mapping[str, Model], settings: runner.Settings, progress: Progress
) -> Iterator[Row]:
    """What each calibration found; fills in time, memory and state of the cells that it stands for."""
    kinds: dict[tuple, list[tuple[Cell, Row]]] = defaultdict(list)
    for cell, row in planned:
        if row["action"] in TO_RUN and not row["endpoint"]:
            rules = plan.rules(cell, registry.task(cell.task))
            kind = rules.questions_per_context, rules.max_answer_tokens, rules.restart, not rules.scorers
            side_by_side = settings.streams(row["contexts"], cell.length, models[cell.model])
            kinds[cell.model, cell.task, side_by_side, cell.options, kind].append((cell, row))
    for (*_, side_by_side, _, _), group in kinds.items():
        first, model = group[0][0], models[group[0][0].model]
        progress.note(f"calibrating {first.model} on {first.title}")
        readings, note = _calibrate(
            first, sorted({cell.length for cell, _ in group}), model, replace(settings, batch=side_by_side)
        )
        states = [reading["state_bytes"] for reading in readings if reading["state_bytes"] is not None]
        grows = len(states) > 1 and states[-1] > states[-2]
        costs = _fit(readings, grows) if readings else {}
        for cell, row in group if readings else ():
            row |= _expected(row, readings, costs, grows, min(side_by_side, model.streams(cell.length)))
        subsets = list(dict.fromkeys(cell.subset for cell, _ in group))
        about = {"model": first.model, "task": first.task, "subset": first.subset, "subsets": subsets}
        yield about | {"readings": readings, "state_grows": grows, "seconds_per": costs, "note": note}


def _calibrate(cell: Cell, lengths: Sequence[int], model: Model, settings: runner.Settings) -> tuple[list[Row], str]:
    """(readings of one group of the cell's streams at rising lengths, why there are no more where that matters).

    lengths  of the cells to be estimated, rising: none is longer than the last
    """
    shared = plan.rules(cell, registry.task(cell.task)).questions_per_context
    cell = replace(cell, samples=min(cell.samples, settings.batch * shared))
    doubling = takewhile(lambda length: length < lengths[-1], (FIRST << i for i in count()))
    readings: list[Row] = []
    for length in sorted({*doubling, *lengths}):
        short = replace(cell, length=length)
        if readings and length < 2 * readings[-1]["length"]:
            continue
        try:
            plan.check([short], {cell.model: model})
        except UserError:
            continue  # some tasks have a shortest length, some but a few
        reading = _measure(short, model, settings)
        if not readings and reading["seconds"] < NEXT:
            reading = _measure(short, model, settings)  # the very first one warms up what is lazy
        if reading["status"] not in ("ok", "timeout"):
            return readings, f"at {format_length(length)} it ended as {reading['status']}, {reading['reason']}"
        readings.append(reading)
        if reading["status"] == "timeout":
            return readings, "stopped there; a state that grows may take longer than this"
        if len(readings) > 1 and reading["seconds"] ** 2 / readings[-2]["seconds"] > NEXT:
            break
    return readings, ""


def _measure(cell: Cell, model: Model, settings: runner.Settings) -> Row:
    """What the cell took, really run, for LIMIT seconds at most."""
    task = registry.task(cell.task)
    rules = plan.rules(cell, task)
    with tempfile.TemporaryDirectory(prefix="atlas-bench-estimate-") as scratch:
        limited = replace(settings, timeout=LIMIT)
        record = runner.run_cell(cell, task, model, Path(scratch), limited, Progress(quiet=True))
    state = record.state_bytes  # a stream is weighed where it is asked
    if record.status == "ok" and not rules.scorers and not rules.restart:
        state = _weigh(cell, model, settings)
    told = {name: getattr(record, name) for name in ("length", "status", "reason", "tokens_read", "peak_rss_bytes")}
    contexts = -(-cell.samples // rules.questions_per_context)
    seconds = max(record.seconds or 0.0, 1e-3)  # a record has whole milliseconds
    return told | {"seconds": seconds, "state_bytes": state, "contexts": contexts, "questions": len(record.answers)}


def _weigh(cell: Cell, model: Model, settings: runner.Settings) -> int:
    """Bytes of one stream's state at its end."""
    context, state = next(plan.samples(cell, registry.task(cell.task), model)).context, model.start(1)
    for tokens in streams.blocks([context], 0, context.length, settings.tokens(1, model)):
        state = model.feed(state, tokens)
    return model.state_bytes(state)


def _fit(readings: Sequence[Row], grows: bool) -> dict[str, float]:
    """Seconds per question, per token, and per token and token of its context: least squares, none negative.

    The longer a reading, the more often other work interrupts it: its variance is taken to grow with its time. One
    reading gives a rate alone, and two of a growing state nothing for the questions.
    """
    from scipy.optimize import nnls

    parts = np.array([[r["questions"], r["tokens_read"], r["tokens_read"] ** 2 / r["contexts"]] for r in readings])
    used = slice(int(len(readings) < 2 + grows), 2 + grows)
    seconds = np.array([reading["seconds"] for reading in readings])
    weights, scale = 1 / np.sqrt(seconds), parts[:, used].max(0)
    costs = np.zeros(3)
    costs[used] = nnls(parts[:, used] / scale * weights[:, None], seconds * weights)[0] / scale
    return dict(zip(("question", "token", "token_and_context_token"), costs.tolist(), strict=True))


def _expected(row: Row, readings: Sequence[Row], costs: Mapping[str, float], grows: bool, side_by_side: int) -> Row:
    """Time of what is left of a cell, peak memory of the process, bytes of one stream's state at its end."""
    context = row["tokens"] / row["contexts"]
    parts = row["samples"], row["tokens"], row["tokens"] * context
    seconds = sum(each * part for each, part in zip(costs.values(), parts, strict=True))
    memory = [(reading["tokens_read"], reading["peak_rss_bytes"]) for reading in readings]  # of streams side by side
    states = [(r["tokens_read"] / r["contexts"], r["state_bytes"]) for r in readings if r["state_bytes"] is not None]
    return {
        "seconds": seconds * row["tokens_left"] / max(row["tokens"], 1),
        "memory_bytes": _beyond(memory, side_by_side * context) if grows else max(each for _, each in memory),
        "state_bytes": _beyond(states, context) if states else None,
    }


def _beyond(points: Sequence[tuple[float, float]], at: float) -> int:
    """Between rising points on straight lines, behind them on the one through the last two; flat where that falls."""
    xs, ys = zip(*points, strict=True)
    slope = (ys[-1] - ys[-2]) / (xs[-1] - xs[-2]) if len(points) > 1 else 0.0
    return round(float(np.interp(at, xs, ys)) + max(0.0, slope) * max(0.0, at - xs[-1]))


def _notes(told: Sequence[Row], settings: runner.Settings) -> Iterator[str]:
    """What will stop a cell on its way, and what an interval here does not say."""
    machine = psutil.virtual_memory().total
    for row in told:
        if row["action"] in TO_RUN and (row["memory_bytes"] or 0) > machine:
            need, has = format_bytes(row["memory_bytes"]), format_bytes(machine)
            yield f"{where(row)}: needs {need}, and this machine has {has}; a smaller --batch needs less."
        if row["action"] in TO_RUN and settings.timeout and (row["seconds"] or 0) > settings.timeout:
            yield f"{where(row)}: takes longer than --timeout {settings.timeout:g}."
    if any(row["contexts"] < row["samples"] for row in told):
        yield "Questions share a context: intervals are over contexts that differ no more than chance would have them."


def _sent(told: Sequence[Row], models: Mapping[str, Model]) -> Iterator[str]:
    """What each endpoint would be sent, and what that costs."""
    waiting = [row for row in told if row["endpoint"] and row["action"] in TO_RUN]
    for name in dict.fromkeys(row["model"] for row in waiting):
        tokens = sum(row["tokens_left"] for row in waiting if row["model"] == name)
        price = models[name].options.usd_per_million_in
        cost = f", which cost ${price * tokens / 1e6:,.2f} (answers come on top)" if price else ""
        unknown = ", and whether it reads such lengths is not known" if _would_ask(models[name]) else ""
        yield f"{name}: not called, so no time is told{unknown}. It would be sent {tokens:,} tokens{cost}."


def _total(told: Sequence[Row]) -> Row:
    """Of the cells to run, but for their counts."""
    waiting = [row for row in told if row["action"] in TO_RUN]
    actions, seconds = [row["action"] for row in told], sum(row["seconds"] or 0.0 for row in waiting)
    return {
        "cells": len(told),
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
