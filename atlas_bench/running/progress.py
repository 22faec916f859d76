"""One live line on a terminal, a plain line every ten seconds elsewhere; always on stderr."""

from __future__ import annotations

import time

import psutil
from rich.console import Console
from rich.live import Live
from rich.text import Text

from atlas_bench.errors import printable
from atlas_bench.stats.intervals import wilson
from atlas_bench.units import counted, format_bytes, format_length

EVERY = 10.0  # seconds between plain lines
REFRESH = 0.25  # seconds between redraws of the live line
ROWS = 30.0  # seconds between two scores that a cell shows on its way


class Progress:
    """Shows how far a cell has come: sample, tokens, tokens/s, memory, accuracy so far, time left."""

    def __init__(self, *, quiet: bool = False, console: Console | None = None, every: float = EVERY) -> None:
        self.console = console or Console(stderr=True)
        self.quiet = quiet
        self._every = REFRESH if self.console.is_terminal else every
        self._live: Live | None = None
        self._title, self._samples, self._told = "", 0, 0.0
        self._process = psutil.Process()

    def start(self, title: str, *, samples: int, tokens: int, read: int = 0) -> None:
        """A cell begins: `tokens` to read in all, `read` of them in an earlier attempt."""
        self._title, self._samples, self._tokens, self._already = title, samples, tokens, read
        self._began = self._shown = self._told = time.monotonic()
        self.note(f"{title}: {counted(samples, 'sample')}, {_short(tokens)} tokens to read")
        if self.console.is_terminal and not self.quiet:
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()

    def show(self, *, read: int, answered: int, correct: float, streams: int) -> None:
        """Show that `read` tokens are read and `answered` samples answered, if it is time to redraw."""
        now = time.monotonic()
        if self.quiet or now - self._shown < self._every:
            return
        self._shown = now
        line = self._line(read, answered, correct, streams, now - self._began)
        if self._live:
            self._live.update(Text(line, no_wrap=True, overflow="ellipsis"), refresh=True)
        else:
            self._print(line)

    def so_far(self, *, answered: int, correct: float) -> None:
        """The score of a cell that goes on, on a line that stays: what a reader of hours can see after minutes."""
        now = time.monotonic()
        if answered and answered < self._samples and now - self._told > ROWS:
            self._told = now
            self.note(f"{self._title}: {_score(correct, answered)} of the first {answered} of {self._samples}")

    def stop(self) -> None:
        """The cell has ended; the live line goes."""
        if self._live:
            self._live.stop()
            self._live = None

    def note(self, text: str) -> None:
        """A line that stays, above the live one."""
        if not self.quiet:
            self._print(text)

    def warn(self, text: str) -> None:
        """A line that stays and is shown in quiet runs too."""
        self._print(f"warning: {text}")

    def _print(self, text: str) -> None:
        text = printable(text, ascii_only=False)  # a folder's name may hold escape codes
        self.console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)

    def _line(self, read: int, answered: int, correct: float, streams: int, seconds: float) -> str:
        speed = (read - self._already) / seconds if seconds > 0 else 0.0
        last = min(answered + max(streams, 1), self._samples)
        which = f"{answered + 1}-{last}" if last > answered + 1 else f"{last}"
        parts = [
            f"sample {which}/{self._samples}",
            f"{_short(read)}/{_short(self._tokens)} tokens",
            f"{_short(speed)}/s",
            format_bytes(self._process.memory_info().rss),
        ]
        if answered:
            parts.append(_score(correct, answered))
        if speed > 0:
            parts.append(f"{_clock((self._tokens - read) / speed)} left")
        return "  ".join(parts)  # 80 columns hold it


def title_of(task: str, length: int, model: str) -> str:
    """'babilong:qa1 10M atlas-nano'."""
    return f"{task} {format_length(length)} {model}"


def _score(correct: float, answered: int) -> str:
    low, high = wilson(correct, answered)
    return f"{100 * correct / answered:.0f} % ({100 * low:.0f}-{100 * high:.0f})"


def _short(count: float) -> str:
    for unit, factor in (("G", 1e9), ("M", 1e6), ("K", 1e3)):
        if count >= factor:
            return f"{count / factor:.{1 if count < 100 * factor else 0}f}{unit}"  # at most four figures
    return f"{count:.0f}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
