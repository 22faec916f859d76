"""How fast a model reads and answers here: short readings of each subset, and their fit.

One group of streams of a model and a subset goes through the runner itself, in a temporary folder: with care at lengths
that double while that takes seconds, briefly at the shortest and the longest of the cells. To these readings we fit

    seconds = a * questions + b * tokens + c * tokens * tokens of one context        c only where the state grows
"""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import numpy as np

from atlas_bench.errors import UserError
from atlas_bench.running import plan, runner, streams
from atlas_bench.running.evaluation import Evaluation
from atlas_bench.running.progress import Progress
from atlas_bench.running.settings import Settings
from atlas_bench.units import format_length

FIRST = 1000  # tokens of a calibration's first reading; each further one is about twice as long
NEXT = 4.0  # seconds that the next reading may be expected to take,
LIMIT = 10.0  # and after which it is stopped; the subsets of a task share both
BRIEF = 1.0  # seconds of all brief readings of a model on a task
LEAST = 0.5  # seconds after which a careful reading of one of many subsets is stopped, at the least
SLOWER = 1.5  # times the reading before, per token: something else may have kept the processor busy

READ = ("ok", "timeout")  # statuses of a reading that tells something

Row = dict[str, Any]


def calibrate(
    waiting: Iterable[tuple[Evaluation, Row]], settings: Settings, progress: Progress, *, brief: bool = False
) -> Iterator[Row]:
    """Calibrate each model on each subset; sets time, memory and state of the cells that it represents.

    waiting  what is to be run, with its row of the estimate: samples, contexts, tokens and tokens_left
    brief    take BRIEF seconds for a model and a task, not NEXT and more
    """
    kinds: dict[tuple, list[tuple[Evaluation, Row]]] = defaultdict(list)
    for evaluation, row in waiting:
        cell = evaluation.cell
        side_by_side = settings.streams(row["contexts"], cell.length, evaluation.model)
        kinds[cell.model, id(evaluation.model), cell.task, cell.subset, side_by_side, cell.options].append(
            (evaluation, row)
        )
    sharing = Counter((model, task) for _, model, task, *_ in kinds)
    for (_, model_id, task, _, side_by_side, _), group in kinds.items():
        first, model = group[0][0], group[0][0].model
        if not brief:
            progress.note(f"calibrating {first.cell.model} on {first.cell.title}")
        lengths, shared = sorted({evaluation.cell.length for evaluation, _ in group}), sharing[model_id, task]
        read = _read_briefly if brief else _read_with_care
        readings, note = read(first, lengths, replace(settings, batch=side_by_side), shared)
        states = [reading["state_bytes"] for reading in readings if reading["state_bytes"] is not None]
        if brief and len(states) < 2 and readings:
            states = _two_states(first, settings)
        grows = len(states) > 1 and states[-1] > states[-2]
        costs = fit(readings, grows) if readings else {}
        for evaluation, row in group if readings else ():
            fitting = min(side_by_side, model.streams(evaluation.cell.length))
            row |= _expected(row, readings, costs, grows, fitting)
        about = {"model": first.cell.model, "task": first.cell.task, "subset": first.cell.subset}
        yield about | {"readings": readings, "state_grows": grows, "seconds_per": costs, "note": note}


def _read_briefly(
    evaluation: Evaluation, lengths: Sequence[int], settings: Settings, shared: int
) -> tuple[list[Row], str]:
    """Readings of one group of the cell's streams at the shortest and the longest length, as far as time allows."""
    ends = sorted({lengths[0], lengths[-1]})
    readings = [_measure(_group(evaluation, length, settings), settings, BRIEF / shared / len(ends)) for length in ends]
    return [reading for reading in readings if reading["status"] in READ], ""


def _read_with_care(
    evaluation: Evaluation, lengths: Sequence[int], settings: Settings, shared: int
) -> tuple[list[Row], str]:
    """(readings of one group of the cell's streams at rising lengths, the reason why there are no more, if it matters).

    lengths  of the cells to be estimated, rising: none is longer than the last
    shared   how many subsets of the task are read
    """
    following, limit = NEXT / shared, max(LIMIT / shared, min(LEAST, LIMIT))
    doubling = takewhile(lambda length: length < lengths[-1], (FIRST << i for i in count()))
    readings: list[Row] = []
    for length in sorted({*doubling, *lengths}):
        if readings and length < 2 * readings[-1]["length"]:
            continue
        short = _group(evaluation, length, settings)
        try:
            plan.check([short.cell], {short.cell.model: short.model})
        except UserError:
            continue  # some tasks have a shortest length, some but a few
        reading = _measure(short, settings, limit)
        if reading["seconds"] < following and (not readings or _is_slow(reading, readings[-1])):
            again = _measure(short, settings, limit)  # the very first one warms up what is lazy
            reading = min(reading, again, key=lambda each: each["seconds"])
        if reading["status"] not in READ:
            return readings, f"at {format_length(length)} it ended as {reading['status']}, {reading['reason']}"
        readings.append(reading)
        if reading["status"] == "timeout":
            return readings, "stopped there; a state that grows may take longer than this"
        seconds = reading["seconds"]  # twice the length takes four times as long at most, where a state grows
        if len(readings) > 1 and min(seconds / readings[-2]["seconds"], 4) * seconds > following:
            break
    if readings and 2 * readings[-1]["length"] <= lengths[-1]:  # facts may be dense in short contexts alone
        last = _measure(_group(evaluation, lengths[-1], settings), settings, following)
        readings += [last] * (last["status"] in READ)
    return readings, ""


def _is_slow(reading: Row, before: Row) -> bool:
    """Whether a reading took suspiciously longer per token than the one before."""
    return reading["seconds"] * before["tokens_read"] > SLOWER * before["seconds"] * reading["tokens_read"]


def _group(evaluation: Evaluation, length: int, settings: Settings) -> Evaluation:
    """One group of the cell's streams, at another length."""
    samples = settings.batch * evaluation.rules.questions_per_context
    cell = replace(evaluation.cell, samples=min(len(evaluation.cell.asked), samples), part=None, length=length)
    return replace(evaluation, cell=cell)


def _measure(evaluation: Evaluation, settings: Settings, limit: float) -> Row:
    """What the cell took when it really ran, for about `limit` seconds at most."""
    rules = evaluation.rules
    with tempfile.TemporaryDirectory(prefix="atlas-bench-estimate-") as scratch:
        limited = replace(settings, timeout=limit, checkpoints=None)
        record = runner.run_cell(evaluation, Path(scratch), limited, Progress(quiet=True))
    state = record.state_bytes  # a stream is weighed where it is asked
    if record.status == "ok" and not rules.scorers and not rules.restart:
        state = _weigh(evaluation, settings)
    measured = {name: getattr(record, name) for name in ("length", "status", "reason", "tokens_read", "peak_rss_bytes")}
    return measured | {
        "seconds": max(record.seconds or 0.0, 1e-3),  # a record has whole milliseconds
        "state_bytes": state,
        "contexts": evaluation.contexts,
        "questions": len(record.answers),
    }


def _weigh(evaluation: Evaluation, settings: Settings) -> int:
    """Bytes of one stream's state at its end."""
    model = evaluation.model
    context, state = next(evaluation.samples()).context, model.start(1)
    for tokens in streams.blocks([context], 0, context.length, settings.tokens(1, model)):
        state = model.feed(state, tokens)
    return model.state_bytes(state)


def _two_states(evaluation: Evaluation, settings: Settings) -> list[int]:
    """Bytes of one stream's state after a block, and after the next one."""
    model, context = evaluation.model, next(evaluation.samples()).context
    size, state, weights = min(settings.tokens(1, model), context.length // 2), model.start(1), []
    for tokens in streams.blocks([context], 0, 2 * size, size):
        state = model.feed(state, tokens)
        weights.append(model.state_bytes(state))
    return weights


def fit(readings: Sequence[Row], grows: bool) -> dict[str, float]:
    """Seconds per question, per token, and per token and token of its context: least squares, none negative.

    The longer a reading, the more often other work interrupts it: its variance is taken to grow with its time. One
    reading gives a rate alone, and two of a growing state nothing for the questions.
    """
    from scipy.optimize import nnls

    parts = np.array([[r["questions"], r["tokens_read"], r["tokens_read"] ** 2 / r["contexts"]] for r in readings])
    used = slice(int(len(readings) < 2 + grows), 2 + grows)
    seconds = np.array([reading["seconds"] for reading in readings])
    weights, scale = 1 / np.sqrt(seconds), np.maximum(parts[:, used].max(0), 1)  # of a stopped reading nothing is asked
    costs = np.zeros(3)
    costs[used] = nnls(parts[:, used] / scale * weights[:, None], seconds * weights)[0] / scale
    return dict(zip(("question", "token", "token_and_context_token"), costs.tolist(), strict=True))


def _expected(row: Row, readings: Sequence[Row], costs: Mapping[str, float], grows: bool, side_by_side: int) -> Row:
    """Time of the rest of a cell, peak memory of the process, bytes of one stream's state at its end."""
    context = row["tokens"] / row["contexts"]
    parts = row["samples"], row["tokens"], row["tokens"] * context
    seconds = sum(cost * part for cost, part in zip(costs.values(), parts, strict=True))
    memory = [(reading["tokens_read"], reading["peak_rss_bytes"]) for reading in readings]  # of streams side by side
    states = [(r["tokens_read"] / r["contexts"], r["state_bytes"]) for r in readings if r["state_bytes"] is not None]
    return {
        "seconds": seconds * row["tokens_left"] / max(row["tokens"], 1),
        "memory_bytes": _beyond(memory, side_by_side * context) if grows else max(peak for _, peak in memory),
        "state_bytes": _beyond(states, context) if states else None,
    }


def _beyond(points: Sequence[tuple[float, float]], at: float) -> int:
    """Between points on straight lines, after them on the one through the last two; flat where that falls."""
    xs, ys = zip(*sorted(dict(points).items()), strict=True)  # a stopped reading may have read less than another
    slope = (ys[-1] - ys[-2]) / (xs[-1] - xs[-2]) if len(xs) > 1 else 0.0
    return round(float(np.interp(at, xs, ys)) + max(0.0, slope) * max(0.0, at - xs[-1]))
