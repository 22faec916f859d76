"""An estimate as text of 80 columns: cells by task, the total, the calibration, what to mind.

    babilong:qa1: 8 samples; 95 % interval at 50 %: 22-78, at 90 %: 56-98
     length model                   tokens    time    memory     state
        16K atlas-nano              128.0K   2.0 s  589.1MiB  225.0KiB
        10M transformer-nano                                            unsupported

Names and reasons come from records, models and files, and steer no terminal.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from atlas_bench.errors import printable
from atlas_bench.results.formats.text import wrapped
from atlas_bench.results.naming import task_name
from atlas_bench.results.record import clip
from atlas_bench.running.estimate import ENDED, PERCENT, TO_RUN, Row, where
from atlas_bench.units import counted, format_bytes, format_count, format_length, format_seconds

_COLUMNS = "{:>7} {:<21} {:>8} {:>7} {:>9} {:>9}  {}"
_CALIBRATED = """Calibrated on this machine as it is now, with one group of streams; memory is the process's, without
a GPU's. Beyond the last length of a line time and memory are extrapolated:"""


def lines(estimate: Mapping[str, Any]) -> list[str]:
    """The estimate as text of 80 columns: cells by task, the total, the calibration, what to mind."""
    blocks: dict[tuple, list[Row]] = defaultdict(list)
    reasons: dict[tuple, list[str]] = defaultdict(list)
    for row in estimate["cells"]:
        blocks[task_name(row), row["seed"], row["samples"]].append(row)
        reasons[row["action"], row["reason"]].append(where(row))
    seeds = {seed for _, seed, _ in blocks}
    out: list[str] = []
    for (title, seed, _), group in blocks.items():
        out += _lines_of(title + (f", seed {seed}" if len(seeds) > 1 else "") + f": {_sureness(group[0])}")
        out.append(_COLUMNS.format("length", "model", "tokens", "time", "memory", "state", "").rstrip())
        out += [line for row in group for line in _cell_lines(row)] + [""]
    out += _lines_of(_sum(estimate["total"]))
    if estimate["calibration"]:
        out += [
            "",
            *_lines_of(_CALIBRATED),
            *(line for calibration in estimate["calibration"] for line in _fitted(calibration)),
        ]
    unusual = [f"{what}: {reason}: {', '.join(cells)}" for (what, reason), cells in reasons.items() if reason]
    notes = [line for note in [*unusual, *estimate["notes"]] for line in _lines_of(note, "    ")]
    return [*out, "", *notes] if out and notes else out + notes


def _sureness(row: Row) -> str:
    """'100 samples on 4 contexts; 95 % interval at 50 %: 40-60, at 90 %: 83-94'."""
    n, contexts = row["samples"], row["contexts"]
    text = counted(n, "sample") + (f" on {counted(contexts, 'context')}" if contexts < n else "")
    bounds = {percent: row[f"interval_at_{percent}"] for percent in PERCENT if row[f"interval_at_{percent}"]}
    at = (f"at {percent} %: {100 * low:.0f}-{100 * high:.0f}" for percent, (low, high) in bounds.items())
    return f"{text}; 95 % interval {', '.join(at)}" if bounds else text


def _cell_lines(row: Row) -> list[str]:
    """One line, and one before it for a long name."""
    name, length, action = printable(row["model"], True), format_length(row["length"]), row["action"]
    if action in TO_RUN:
        action = f"from {_tokens(row['tokens'] - row['tokens_left'])}" if action == "resume" else ""
    cost = (
        _tokens(row["tokens"]),
        "" if row["seconds"] is None else format_seconds(row["seconds"]),
        _size(row["memory_bytes"]),
        _size(row["state_bytes"]),
    )
    long = _lines_of(name) if len(name) > 21 else []
    return [*long, _COLUMNS.format(length, "" if long else name, *cost, action).rstrip()]


def _sum(total: Row) -> str:
    if not total["to_run"]:  # no cell at all: lm-eval's tasks alone, which the notes name
        parts = [f"{total[name]} of {counted(total['cells'], 'cell')} {name}" for name in ENDED if total[name]]
        return f"Nothing to run: {', '.join(parts)}." if parts else ""
    parts = [f"{total['to_run']} of {counted(total['cells'], 'cell')} to run"]
    parts += [f"{total[name]} {name}" for name in ENDED if total[name]]
    parts += [f"{_tokens(total['tokens'])} tokens to read"]
    parts += [f"about {format_seconds(total['seconds'])}"] if total["seconds"] else []
    parts += [f"{_tokens(total['tokens_sent'])} tokens to send"] if total["tokens_sent"] else []
    parts += [f"{total['without_time']} of unknown time"] if total["without_time"] else []
    return f"Total: {', '.join(parts)}; records of {_size(total['record_bytes'])}."


def _fitted(fit: Row) -> list[str]:
    """'atlas-nano, babilong:qa1: 1K 490 ms, 2K 610 ms, ..; 56 ms a question + 12 us a token'."""
    title = f"{fit['model']}, {task_name(fit)}"
    ran = ", ".join(map(_read, fit["readings"]))
    costs = (f"{format_seconds(cost)} a {part.replace('_', ' ')}" for part, cost in fit["seconds_per"].items() if cost)
    return _lines_of(f"{title}: {'; '.join(filter(None, (ran, ' + '.join(costs), fit['note'])))}", "    ")


def _read(reading: Row) -> str:
    """'1K 490 ms', '10M stopped after 1.3 s'."""
    stopped = "stopped after " if reading["status"] == "timeout" else ""
    return f"{format_length(reading['length'])} {stopped}{format_seconds(reading['seconds'])}"


def _size(count: int | None) -> str:
    return "" if count is None else format_bytes(count).replace(" ", "")


def _lines_of(text: str, later: str = "") -> list[str]:
    return wrapped(clip(" ".join(text.split()), 1000), later)


def _tokens(count: int | None) -> str:
    return "" if count is None else format_count(count)
