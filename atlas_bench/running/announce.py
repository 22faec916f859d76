"""The first lines of a run: what it will read, about how long that takes here, and what interval its questions buy.

    for line in lines(cells, models, runner.Settings()):
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

from atlas_bench import registry
from atlas_bench.results.labels import natural
from atlas_bench.results.stats import wilson, worth_of
from atlas_bench.running import plan, runner
from atlas_bench.running.plan import Cell
from atlas_bench.types import Model, Rules, Sample
from atlas_bench.units import format_count, format_length, format_seconds

SECONDS = 1.0  # that a model is tried for
COLUMNS = 79
NAMED = 3  # models whose names are told


@dataclass(frozen=True)
class Pace:
    """How fast a model reads and answers: tokens/s over all streams, seconds for one question."""

    tokens_per_second: float
    question_seconds: float


def lines(cells: Sequence[Cell], models: Mapping[str, Model], settings: runner.Settings) -> list[str]:
    """What running the cells means, in lines of 79 columns; nothing for no cells."""
    cells = [cell for cell in cells if not _is_known_unsupported(cell, models[cell.model])]
    if not cells:
        return []
    tokens = sum(_tokens(cell, models[cell.model]) for cell in cells)
    said = f"{len(cells)} cell{'s' * (len(cells) > 1)} ({_what(cells)}): {format_count(tokens)} tokens to read"
    said += f"{_how_long(cells, models, settings)}. {' '.join(_intervals(cells))}".rstrip()
    return textwrap.wrap(said, COLUMNS, break_on_hyphens=False, break_long_words=False)


def _is_known_unsupported(cell: Cell, model: Model) -> bool:
    """Whether the model says, without asking a server, that it cannot read the cell."""
    return not _is_remote(model) and runner.unsupported(cell, registry.task(cell.task), model) is not None


def _is_remote(model: Model) -> bool:
    return model.facts().get("device") == "server"


def _tokens(cell: Cell, model: Model) -> int:
    """Tokens of the cell's contexts; an endpoint is sent a context with every question of it."""
    return cell.length * (cell.samples if _is_remote(model) else contexts(cell))


def contexts(cell: Cell) -> int:
    """Contexts of a cell, each of which is read once."""
    return -(-cell.samples // plan.rules(cell, registry.task(cell.task)).questions_per_context)


def _what(cells: Sequence[Cell]) -> str:
    """'babilong:qa1,qa2 at 1K,16K, 2 models'."""
    subsets: dict[str, dict[str, None]] = {}
    for cell in sorted(cells, key=lambda cell: natural(cell.subset)):
        subsets.setdefault(cell.task, {})[cell.subset] = None
    tasks = (f"{task}:{','.join(names)}".rstrip(":") for task, names in subsets.items())
    lengths = dict.fromkeys(format_length(cell.length) for cell in cells)
    models = list(dict.fromkeys(cell.model for cell in cells))
    named = ", ".join(models) if len(models) <= NAMED else f"{len(models)} models"
    return f"{'; '.join(tasks)} at {','.join(lengths)}, {named}"


def _how_long(cells: Sequence[Cell], models: Mapping[str, Model], settings: runner.Settings) -> str:
    """', about 9 min at 180K/s', or why that is not told."""
    seconds, rates, untold = 0.0, [], []
    for name in dict.fromkeys(cell.model for cell in cells):
        own = [cell for cell in cells if cell.model == name]
        pace = _pace(max(own, key=lambda cell: cell.length), models[name], settings)
        if pace is None:
            untold.append(name)
            continue
        rates.append(pace.tokens_per_second)
        seconds += sum(
            _tokens(cell, models[name]) / pace.tokens_per_second + cell.samples * pace.question_seconds for cell in own
        )
    if not rates:
        return ""
    speed = f" at {format_count(rates[0])}/s" if len(rates) == 1 else ""
    return f", about {format_seconds(max(1.0, seconds))}{speed}" + (f" and {', '.join(untold)}" if untold else "")


def _pace(cell: Cell, model: Model, settings: runner.Settings) -> Pace | None:
    """The model's pace on the cell's first context; None for controls, endpoints, and what cannot be told so soon.

    A state that grows with what is read slows reading down, so a few blocks tell nothing of it.
    """
    task = registry.task(cell.task)
    rules = plan.rules(cell, task)
    if model.is_control or _is_remote(model) or not rules.scorers:
        return None
    try:
        return _tried(next(plan.samples(cell, task, model)), contexts(cell), rules, model, settings)
    except Exception:  # whatever it is, the run itself says so in a record
        return None


def _tried(sample: Sample, asked_of: int, rules: Rules, model: Model, settings: runner.Settings) -> Pace | None:
    streams = settings.streams(asked_of, sample.length, model)
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


def _intervals(cells: Sequence[Cell]) -> Iterator[str]:
    """What the numbers of questions buy, a sentence for each."""
    scored = {(c.samples, contexts(c)) for c in cells if registry.task(c.task).rules(c.subset).scorers}
    for n, k in sorted(scored, reverse=True):
        worth = worth_of(n, k)
        half, whole = (wilson(share * worth, worth) for share in (0.5, 1.0))
        on = f" on {k} context{'s' * (k > 1)}" if k < n else ""
        questions = "1 question" if n == 1 else f"{n} questions"
        yield f"With {questions}{on} a score of 50 % is known to {_span(half)}, one of 100 % to {_span(whole)}."


def _span(interval: tuple[float, float]) -> str:
    return f"{100 * interval[0]:.0f}-{100 * interval[1]:.0f} %"
