"""The first lines of a run: what it will read, about how long that takes here, and what interval its questions buy.

    for line in lines(cells, models, Settings()):
        print(line)

    10 cells (babilong:qa1,qa2,qa3,qa4,qa5 at 1K,16K): 1.7M tokens to read, about 30 s at 90K/s. With 20 questions
    a score of 50 % is known to 30-70 %, one of 100 % to 84-100 %.

The time is that of a few blocks of the longest cell and of one answer, really read and asked for a second: enough to
tell a minute from an hour. `--dry-run` calibrates with care.
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from atlas_bench.results.naming import natural
from atlas_bench.running.evaluation import Cell, Evaluation
from atlas_bench.running.runner import evaluations_of
from atlas_bench.running.settings import Settings
from atlas_bench.stats.intervals import wilson, worth_of
from atlas_bench.types import Model, Rules, Sample
from atlas_bench.units import counted, format_count, format_length, format_seconds

SECONDS = 1.0  # that a model is tried for
COLUMNS = 79
NAMED = 3  # models that are named, at most


@dataclass(frozen=True)
class Pace:
    """How fast a model reads and answers: tokens/s over all streams, seconds for one question."""

    tokens_per_second: float
    question_seconds: float


def lines(cells: Sequence[Cell], models: Mapping[str, Model], settings: Settings) -> list[str]:
    """What running the cells means, in lines of 79 columns; nothing for no cells."""
    waiting = [evaluation for evaluation in evaluations_of(cells, models) if not _is_known_unsupported(evaluation)]
    if not waiting:
        return []
    tokens = sum(map(_tokens, waiting))
    text = f"{counted(len(waiting), 'cell')} ({_what(waiting)}): {format_count(tokens)} tokens to read"
    text += f"{_how_long(waiting, settings)}. {' '.join(_intervals(waiting))}".rstrip()
    return textwrap.wrap(text, COLUMNS, break_on_hyphens=False, break_long_words=False)


def _is_known_unsupported(evaluation: Evaluation) -> bool:
    """Whether the model says, without asking a server, that it cannot read the cell."""
    return not _is_remote(evaluation.model) and evaluation.unsupported() is not None


def _is_remote(model: Model) -> bool:
    return model.facts().get("device") == "server"


def _tokens(evaluation: Evaluation) -> int:
    """Tokens of the cell's contexts; an endpoint is sent a context with every question of it."""
    cell = evaluation.cell
    return cell.length * (len(cell.asked) if _is_remote(evaluation.model) else evaluation.contexts)


def _what(waiting: Sequence[Evaluation]) -> str:
    """'babilong:qa1,qa2 at 1K,16K, 2 models'."""
    cells = [evaluation.cell for evaluation in waiting]
    subsets: dict[str, dict[str, None]] = {}
    for cell in sorted(cells, key=lambda cell: natural(cell.subset)):
        subsets.setdefault(cell.task, {})[cell.subset] = None
    tasks = (f"{task}:{','.join(names)}".rstrip(":") for task, names in subsets.items())
    lengths = dict.fromkeys(format_length(cell.length) for cell in cells)
    models = list(dict.fromkeys(cell.model for cell in cells))
    named = ", ".join(models) if len(models) <= NAMED else f"{len(models)} models"
    return f"{'; '.join(tasks)} at {','.join(lengths)}, {named}"


def _how_long(waiting: Sequence[Evaluation], settings: Settings) -> str:
    """', about 9 min at 180K/s', or '' where that cannot be known so soon."""
    seconds, rates, unknown = 0.0, [], []
    for name in dict.fromkeys(evaluation.cell.model for evaluation in waiting):
        own = [evaluation for evaluation in waiting if evaluation.cell.model == name]
        pace = _pace(max(own, key=lambda evaluation: evaluation.cell.length), settings)
        if pace is None:
            unknown.append(name)
            continue
        rates.append(pace.tokens_per_second)
        seconds += sum(
            _tokens(evaluation) / pace.tokens_per_second + len(evaluation.cell.asked) * pace.question_seconds
            for evaluation in own
        )
    if not rates:
        return ""
    speed = f" at {format_count(rates[0])}/s" if len(rates) == 1 else ""
    return f", about {format_seconds(max(1.0, seconds))}{speed}" + (f" and {', '.join(unknown)}" if unknown else "")


def _pace(evaluation: Evaluation, settings: Settings) -> Pace | None:
    """The model's pace on the cell's first context; None for controls, endpoints, and what cannot be known so soon.

    A growing state slows reading down, so a few blocks do not show the speed.
    """
    model, rules = evaluation.model, evaluation.rules
    if model.is_control or _is_remote(model) or not rules.scorers:
        return None
    try:
        return _measured(next(evaluation.samples()), evaluation.contexts, rules, model, settings)
    except Exception:  # whatever it is, the run itself says so in a record
        return None


def _measured(sample: Sample, contexts: int, rules: Rules, model: Model, settings: Settings) -> Pace | None:
    streams = settings.streams(contexts, sample.length, model)
    size = max(1, min(settings.tokens(streams, model), sample.reads))
    first = np.tile(sample.context.read(0, size), (streams, 1))
    model.feed(model.start(streams), first)  # warms up what is lazy
    state, read, weights, began = model.start(streams), 0, [], time.perf_counter()
    for at in range(0, max(1, sample.reads - size + 1), size):
        state = model.feed(state, np.tile(sample.context.read(at, at + size), (streams, 1)))
        read += streams * size
        weights.append(model.state_bytes(model.row(state, 0)))
        if len(weights) > 1 and time.perf_counter() - began > SECONDS:
            break
    rate = read / (time.perf_counter() - began)
    if len(weights) > 1 and weights[-1] > weights[-2]:
        return None
    began = time.perf_counter()
    model.answer(model.row(state, 0), sample.asked, rules.max_answer_tokens, rules.stop)
    return Pace(rate, time.perf_counter() - began)


def _intervals(waiting: Sequence[Evaluation]) -> Iterator[str]:
    """The interval that each number of questions gives, a sentence for each."""
    scored = {(len(evaluation.cell.asked), evaluation.contexts) for evaluation in waiting if evaluation.rules.scorers}
    for n, k in sorted(scored, reverse=True):
        worth = worth_of(n, k)
        half, whole = (wilson(share * worth, worth) for share in (0.5, 1.0))
        on = f" on {counted(k, 'context')}" if k < n else ""
        known = f"a score of 50 % is known to {_span(half)}, one of 100 % to {_span(whole)}"
        yield f"With {counted(n, 'question')}{on} {known}."


def _span(interval: tuple[float, float]) -> str:
    return f"{100 * interval[0]:.0f}-{100 * interval[1]:.0f} %"
