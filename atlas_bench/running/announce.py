"""The first lines of a run: what it will read, about how long that takes here, and what interval its questions buy.

    for line in lines(runner.evaluations_of(cells, models), Settings()):
        print(line)

    10 cells (babilong:qa1,qa2,qa3,qa4,qa5 at 1K,16K): 1.7M tokens to read, about 30 s at 90K/s. With 20 questions
    a score of 50 % is known to 30-70 %, one of 100 % to 84-100 %.

The time is that of a brief calibration, a second for each model and task: enough to tell a minute from an hour.
`--dry-run` calibrates with care.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence

from atlas_bench.results.naming import natural
from atlas_bench.running import calibration
from atlas_bench.running.evaluation import Evaluation
from atlas_bench.running.progress import Progress
from atlas_bench.running.settings import Settings
from atlas_bench.stats.intervals import wilson, worth_of
from atlas_bench.units import counted, format_count, format_length, format_seconds

COLUMNS = 79
NAMED = 3  # models that are named, at most,
WRITTEN = 6  # and subsets of a task


def lines(evaluations: Iterable[Evaluation], settings: Settings) -> list[str]:
    """What running the cells means, in lines of 79 columns; nothing for no cells."""
    waiting = _asked(evaluations)
    if not waiting:
        return []
    text = f"{reading(waiting)}{_how_long(waiting, settings)}. {' '.join(_intervals(waiting))}".rstrip()
    return wrapped(text)


def reading(evaluations: Iterable[Evaluation]) -> str:
    """'2 cells (babilong:qa1 at 1K,16K, atlas-nano): 340.0K tokens to read'."""
    waiting = _asked(evaluations)
    tokens = format_count(sum(map(_tokens, waiting)))
    return f"{counted(len(waiting), 'cell')} ({_what(waiting)}): {tokens} tokens to read"


def wrapped(text: str) -> list[str]:
    """The text in lines of 79 columns."""
    return textwrap.wrap(text, COLUMNS, break_on_hyphens=False, break_long_words=False)


def _asked(evaluations: Iterable[Evaluation]) -> list[Evaluation]:
    """Those without the ones that the model is known not to support."""
    return [evaluation for evaluation in evaluations if not _is_known_unsupported(evaluation)]


def _is_known_unsupported(evaluation: Evaluation) -> bool:
    """Whether the model says, without asking a server, that it cannot read the cell."""
    return not evaluation.model.is_remote and evaluation.unsupported() is not None


def _tokens(evaluation: Evaluation) -> int:
    """Tokens of the cell's contexts; an endpoint is sent a context with every question of it."""
    cell = evaluation.cell
    return cell.length * (len(cell.asked) if evaluation.model.is_remote else evaluation.contexts)


def _what(waiting: Sequence[Evaluation]) -> str:
    """'babilong:qa1,qa2 at 1K,16K, 2 models'."""
    cells = [evaluation.cell for evaluation in waiting]
    subsets: dict[str, dict[str, None]] = {}
    for cell in sorted(cells, key=lambda cell: natural(cell.subset)):
        subsets.setdefault(cell.task, {})[cell.subset] = None
    tasks = (
        f"{task}:{','.join(names)}".rstrip(":") if len(names) <= WRITTEN else f"{len(names)} subsets of {task}"
        for task, names in subsets.items()
    )
    lengths = dict.fromkeys(format_length(cell.length) for cell in cells)
    models = list(dict.fromkeys(cell.model for cell in cells))
    named = ", ".join(models) if len(models) <= NAMED else f"{len(models)} models"
    return f"{'; '.join(tasks)} at {','.join(lengths)}, {named}"


def _how_long(waiting: Sequence[Evaluation], settings: Settings) -> str:
    """', about 9 min at 180K/s and transformer-nano', or '' where that cannot be known so soon.

    Controls and endpoints are not timed. A growing state slows reading down, so short readings do not show the speed.
    """
    seconds, tokens, unknown, times = 0.0, 0, [], 0
    for name, own in _by_model(waiting).items():
        rows = [_row(evaluation) for evaluation in own]
        if own[0].model.is_control or own[0].model.is_remote or not _calibrated(own, rows, settings):
            unknown.append(name)
            continue
        times += 1
        tokens += sum(row["tokens"] for row in rows)
        seconds += sum(row["seconds"] for row in rows)
    if not times:
        return ""
    speed = f" at {format_count(tokens / seconds)}/s" if times == 1 else ""
    return f", about {format_seconds(max(1.0, seconds))}{speed}" + (f" and {', '.join(unknown)}" if unknown else "")


def _by_model(waiting: Iterable[Evaluation]) -> dict[str, list[Evaluation]]:
    found: dict[str, list[Evaluation]] = {}
    for evaluation in waiting:
        found.setdefault(evaluation.cell.model, []).append(evaluation)
    return found


def _row(evaluation: Evaluation) -> calibration.Row:
    """What a calibration is told of a cell."""
    tokens = _tokens(evaluation)
    return {
        "samples": len(evaluation.cell.asked), "contexts": evaluation.contexts, "tokens": tokens, "tokens_left": tokens,
    }  # fmt: skip


def _calibrated(own: Sequence[Evaluation], rows: Sequence[calibration.Row], settings: Settings) -> bool:
    """Set the time of all rows of a model's cells; False where that cannot be known so soon."""
    try:
        made = list(calibration.calibrate(zip(own, rows, strict=True), settings, Progress(quiet=True), brief=True))
    except KeyboardInterrupt:
        raise KeyboardInterrupt("stopped before the first cell: nothing was run.") from None
    except Exception:  # whatever it is, the run itself says so in a record
        return False
    return not any(each["state_grows"] for each in made) and all("seconds" in row for row in rows)


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
