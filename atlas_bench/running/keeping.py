"""What survives a kill: regular checkpoints, and every answer that cost money as soon as it is there."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from atlas_bench.errors import reason
from atlas_bench.running.checkpoint import Answered, Checkpoint, Point
from atlas_bench.running.progress import Progress
from atlas_bench.running.resources import peak, summed
from atlas_bench.types import Model, Sample


class Keeper:
    """Writes how far one attempt has come; where that fails, the attempt goes on and the user is warned once.

    checkpoint  the cell's files
    interval    tokens of a stream between two checkpoints
    failure     why the last write failed, "" where it did not
    """

    def __init__(self, checkpoint: Checkpoint, interval: int, model: Model, progress: Progress) -> None:
        self.checkpoint, self.interval, self.failure = checkpoint, interval, ""
        self._model, self._progress = model, progress
        self._began, self._used = time.perf_counter(), model.facts().get("usage")  # by earlier cells
        self._saved = 0  # position of the last checkpoint, or of the last try to save one

    def start_clock(self) -> None:
        """Count the attempt's seconds from here: what came before was no reading."""
        self._began = time.perf_counter()

    def timed(self, point: Point) -> Point:
        """The point with the time, memory and usage of this attempt added."""
        seconds = point.seconds + time.perf_counter() - self._began
        usage = summed(point.usage, self._model.facts().get("usage"), self._used)
        return replace(point, seconds=seconds, peak=max(point.peak, peak()), usage=usage)

    def goes_on(self, position: int) -> None:
        """Count the interval to the next checkpoint from here."""
        self._saved = position

    def is_due(self, position: int) -> bool:
        """Whether a stream would be more than the interval after the last checkpoint at that position."""
        return position - self._saved > self.interval

    def save(self, point: Point, *, quiet: bool = False) -> None:
        """Save a checkpoint; where that fails the older one stays, and the cell goes on."""
        self._saved = point.position  # of a try that fails, too: the next is an interval away
        try:
            self.checkpoint.save(self.timed(point), self._model)
            self.failure = ""
        except Exception as error:  # of safetensors, the system or the model: none of them is worth a cell
            self._failed(self.checkpoint.path, error, quiet=quiet)

    def save_answer(self, point: Point, sample: Sample, stream: Sequence[Sample]) -> None:
        """Add the point's last answer, which cost money, to the file of answers.

        sample, stream  the answered sample, and all samples on its context
        """
        answered = {row["index"] for row in point.rows if "failed" not in row}
        context = max(other.reads for other in stream) if all(other.index in answered for other in stream) else 0
        now = self.timed(point)
        line = Answered(
            row=now.rows[-1], asked=sample.length - sample.reads, context=context, state_bytes=now.state_bytes,
            usage=now.usage, seconds=now.seconds, peak=now.peak, started=now.started,
        )  # fmt: skip
        try:
            self.checkpoint.keep(line)
        except OSError as error:
            self._failed(self.checkpoint.answers, error)

    def _failed(self, path: Path, error: Exception, *, quiet: bool = False) -> None:
        """Warn once why nothing can be kept on disk."""
        if (why := reason(error)) != self.failure and not quiet:
            self._progress.warn(f"'{path}' cannot be written: {why}. The run goes on without.")
        self.failure = why
