"""One cell, block by block, in constant memory; a kill loses at most one checkpoint interval.

Contexts are read side by side as the streams of a batch, each once, however many samples in a row share it;
every sample is asked on a fork of its context's stream. Everything a cell has to show is one frozen
`Point`, replaced as a whole: a stop at any instruction finds it consistent, and it is what a checkpoint holds.
"""

from __future__ import annotations

import hashlib
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np

from atlas_bench import plan, registry
from atlas_bench.checkpoint import Checkpoint, Point
from atlas_bench.plan import Cell
from atlas_bench.progress import Progress, title_of
from atlas_bench.results import store
from atlas_bench.results.record import Record, answer_row, cell_key
from atlas_bench.types import Model, Sample, Status, Task


@dataclass(frozen=True)
class Settings:
    """How a cell is read; none of it changes a result.

    block, batch        tokens and contexts fed at once
    checkpoint_tokens   tokens of a stream between two checkpoints
    timeout             seconds a cell may take over all its sittings, None for any
    debug               print the traceback of a model's failure
    """

    block: int = 4096
    batch: int = 8
    checkpoint_tokens: int = 1_000_000
    timeout: float | None = None
    debug: bool = False


def settings_for(samples: int, *, batch: int | None = None, block: int | None = None, **others: Any) -> Settings:
    """Settings of a run of so many samples: at most 8 streams side by side, and 4096 tokens over all of them.

    Fewer tokens leave the second core idle, more leave the cache.
    """
    streams = min(batch or 8, samples)
    return Settings(block=block or max(256, 4096 // streams), batch=streams, **others)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, after the checkpoint was saved; the message says where and how to go on."""


class _Timeout(Exception):
    pass


def run(
    cells: Iterable[Cell], models: Mapping[str, Model], folder: Path, settings: Settings, progress: Progress
) -> list[Record]:
    """Run what `folder` has no record of yet, appending to folder/<task>.jsonl; records of all the cells.

    Raises Interrupted on Ctrl-C and UserError where a record cannot be written.
    """
    done = store.done(folder, warn=progress.warn)
    records = []
    for cell in cells:
        task, model = registry.task(cell.task), models[cell.model]
        record = done.get(cell_key(plan.blank(cell, task, model)))
        if record:
            where = title_of(cell.title, cell.length, cell.model)
            progress.note(f"{where}: already in '{folder}', not run again")
        records.append(record or run_cell(cell, task, model, folder, settings, progress))
    return records


def run_cell(cell: Cell, task: Task, model: Model, folder: Path, settings: Settings, progress: Progress) -> Record:
    """Run one cell from its last checkpoint on, append its record and return it.

    Whatever goes wrong inside a task or model becomes the record's status and reason. Raises Interrupted
    on Ctrl-C and UserError where the record cannot be written.
    """
    blank = plan.blank(cell, task, model)
    sitting = _Sitting(cell, task, model, Checkpoint(folder, cell_key(blank)), settings, progress)
    status, reason = sitting.run()
    record = sitting.record(blank, status, reason)
    store.append(folder / f"{cell.task}.jsonl", record)
    if status != "timeout":  # a longer --timeout goes on from it
        sitting.checkpoint.remove()
    progress.note(f"{sitting.title}: {status}{f', {reason}' if reason else ''}")
    return record


class _Sitting:
    """One process's work on one cell."""

    def __init__(
        self,
        cell: Cell,
        task: Task,
        model: Model,
        checkpoint: Checkpoint,
        settings: Settings,
        progress: Progress,
    ) -> None:
        self.cell, self.task, self.model, self.checkpoint = cell, task, model, checkpoint
        self.settings, self.progress = settings, progress
        self.title = title_of(cell.title, cell.length, cell.model)
        self.shared = _questions_per_context(task, cell.subset)
        self.began, self.resumed, self.saved = time.perf_counter(), False, 0
        self.point = Point(started=_now())
        _reset_peak()

    def run(self) -> tuple[Status, str]:
        """(status, reason), with all that was reached in self.point."""
        try:
            if why := self.model.supports(self.cell.length):
                return "unsupported", why
            self._resume()
            self.total = self._to_read()
            self.progress.start(self.title, samples=self.cell.samples, tokens=self.total, read=self._read())
            self._read_all()
        except _Timeout:
            self._save()
            return "timeout", self._timeout_reason()
        except KeyboardInterrupt:
            raise Interrupted(self._stopped()) from None
        except Exception as error:
            self.point = replace(self.point, state=None)  # free what filled the memory
            if self.settings.debug:
                traceback.print_exc(file=sys.stderr)
            return _status(error)
        finally:
            self.progress.stop()
        return "ok", ""

    def _to_read(self) -> int:
        """Tokens of the cell: each context once, and every question."""
        contexts = -(-self.cell.samples // self.shared)
        if contexts == self.cell.samples:
            return contexts * self.cell.length
        question = next(plan.samples(self.cell, self.task, self.model)).question
        return contexts * self.cell.length + (self.cell.samples - contexts) * len(question)

    def _resume(self) -> None:
        try:
            point = self.checkpoint.load(self.model)
        except Exception as error:  # whatever is wrong with the file, the cell can begin again
            self.progress.warn(f"checkpoint '{self.checkpoint.path}' is left out ({error}); the cell begins again.")
            point = None
        if point:
            self.point, self.resumed, self.saved = point, True, point.position
            self.progress.note(f"{self.title}: goes on at token {self._read():,} from {self.checkpoint.path}")

    def _read_all(self) -> None:
        cell = self.cell
        samples = islice(plan.samples(cell, self.task, self.model), len(self.point.rows), None)
        while group := list(islice(samples, self.point.asking or self.settings.batch * self.shared)):
            if hasattr(self.model, "peek"):  # controls only: see models/oracle.py
                self.model.peek(group)
            # by identity, which is safe while the group holds them all
            contexts = [list(sharing) for _, sharing in groupby(group, key=lambda sample: id(sample.context))]
            self._read_group([sharing[0] for sharing in contexts], len(group))
            self._ask(contexts)
            self._save()
        if len(self.point.rows) < cell.samples:
            raise RuntimeError(f"the task made {len(self.point.rows)} of {cell.samples} samples")

    def _read_group(self, group: Sequence[Sample], asking: int) -> None:
        """Feed what the streams have in common in length; one sample of each context."""
        if self.point.state is None:
            self.saved = 0
            state = self.model.start(len(group))
            self.point = replace(self.point, state=state, streams=len(group), asking=asking, position=0)
        common = min(sample.context.length for sample in group)
        size = min(self.settings.block, self.settings.checkpoint_tokens)
        for tokens in _blocks(group, self.point.position, common, size):
            if self.point.position + tokens.shape[1] - self.saved > self.settings.checkpoint_tokens:
                self._save()
            state = self._feed(self.point.state, tokens, self.point.position)
            self.point = replace(self.point, state=state, position=self.point.position + tokens.shape[1])
            self._tick()

    def _ask(self, contexts: Sequence[Sequence[Sample]]) -> None:
        """Each stream's own last tokens on a fork, and its questions, one by one; then the group is done."""
        rows, heaviest, tokens_read = [], self.point.state_bytes or 0, self.point.tokens
        for i, sharing in enumerate(contexts):
            state, length = self.model.row(self.point.state, i), sharing[0].context.length
            position = self.point.position
            for tokens in _blocks(sharing[:1], position, length, self.settings.block):
                state = self._feed(state, tokens, position)
                position += tokens.shape[1]
            heaviest = max(heaviest, self.model.state_bytes(state))
            tokens_read += length + sum(len(sample.question) for sample in sharing)
            for sample in sharing:  # answer() leaves the state as it is
                answer = self.model.answer(state, sample.question, self.task.max_answer_tokens)
                row = _row(sample, answer, self.task)
                rows.append(row | {"context": sharing[0].index} if self.shared > 1 else row)
        group = [sample for sharing in contexts for sample in sharing]
        self.point = replace(
            self.point,
            rows=(*self.point.rows, *rows),
            plans=(*self.point.plans, *(str(sample.meta.get("plan_hash", "")) for sample in group)),
            sources=_sources(group[-1]),
            state_bytes=heaviest,
            state=None,
            streams=0,
            asking=0,
            position=0,
            tokens=tokens_read,
        )
        self._tick()

    def _feed(self, state: Any, tokens: np.ndarray, position: int) -> Any:
        """The state after the tokens that begin at `position`; FloatingPointError where it is not finite."""
        new = self.model.feed(state, tokens)
        finite = getattr(self.model, "finite", None)
        if finite is None or finite(new):
            return new
        good, bad = 0, tokens.shape[1]  # tokens of the block after which it still is, and no longer is
        while bad - good > 1:
            middle = (good + bad) // 2
            good, bad = (middle, bad) if finite(self.model.feed(state, tokens[:, :middle])) else (good, middle)
        raise FloatingPointError(
            f"the state is not finite after token {position + bad:,} (block {position // self.settings.block + 1}); "
            "the memory diverged, and an answer from it would mean nothing"
        )

    def _tick(self) -> None:
        rows = self.point.rows
        correct = sum(next(iter(row["correct"].values()), False) for row in rows)
        self.progress.show(read=self._read(), answered=len(rows), correct=correct, streams=self.point.asking)
        limit = self.settings.timeout
        if limit is not None and self._timed().seconds > limit and len(rows) < self.cell.samples:
            raise _Timeout

    def _save(self) -> None:
        try:
            self.checkpoint.save(self._timed(), self.model)
            self.saved = self.point.position
        except OSError as error:
            self.progress.warn(f"no checkpoint at '{self.checkpoint.path}': {error}; going on without.")

    def _timed(self) -> Point:
        """The point with the time and memory of this sitting added."""
        seconds = self.point.seconds + time.perf_counter() - self.began
        return replace(self.point, seconds=seconds, peak=max(self.point.peak, _peak()))

    def _read(self) -> int:
        return self.point.tokens + self.point.streams * self.point.position

    def _timeout_reason(self) -> str:
        return (
            f"more than {self.settings.timeout:g} s, at token {self._read():,} of {self.total:,}; "
            "the same command with a longer --timeout goes on from there"
        )

    def _stopped(self) -> str:
        if not self._read():  # an earlier sitting's checkpoint, if any, stays as it is
            return f"stopped before {self.title}. The same command goes on from there."
        self._save()
        return (
            f"stopped {self.title} at token {self._read():,}; saved in {self.checkpoint.path}. "
            "The same command goes on from there."
        )

    def record(self, blank: Record, status: Status, reason: str) -> Record:
        """The cell's record as far as it has come."""
        point, read = self._timed(), self._read()
        rows = list(point.rows)
        scores = {
            name: {"correct": sum(row["correct"][name] for row in rows), "n": len(rows)}
            for name in (self.task.scorers if rows else ())
        }
        ran = status != "unsupported"
        facts = self.model.facts()  # again: on a GPU which kernels ran is known only now
        return replace(
            blank,
            kernel=facts.get("kernel"),
            kernel_why=facts.get("kernel_why"),
            status=status,
            reason=reason,
            scores=scores,
            answers=rows,
            plan_hash=hashlib.sha256("\n".join(point.plans).encode()).hexdigest()[:16] if rows else None,
            **point.sources,
            state_bytes=point.state_bytes,
            tokens_read=read if ran else None,
            seconds=round(point.seconds, 3) if ran else None,
            tokens_per_second=round(read / point.seconds, 1) if ran and read else None,
            block=self.settings.block,
            batch=self.settings.batch,
            peak_rss_bytes=point.peak if ran else None,
            resumed=self.resumed,
            started=point.started,
            ended=_now(),
        )


def _blocks(group: Sequence[Sample], start: int, stop: int, size: int) -> Iterator[np.ndarray]:
    """Tokens [B, T] of all contexts; the next block is made while the model reads this one."""

    def read(at: int) -> np.ndarray:
        return np.stack([sample.context.read(at, min(at + size, stop)) for sample in group])

    with ThreadPoolExecutor(1) as pool:  # generated background is written and tokenised on demand
        ahead = pool.submit(read, start) if start < stop else None
        for at in range(start, stop, size):
            tokens = ahead.result()
            ahead = pool.submit(read, at + size) if at + size < stop else None
            yield tokens


def _questions_per_context(task: Task, subset: str) -> int:
    """Samples in a row that share a context: one, unless the task says otherwise."""
    return task.questions_per_context(subset) if hasattr(task, "questions_per_context") else 1


def _row(sample: Sample, answer: str, task: Task) -> dict[str, Any]:
    return answer_row(
        sample.index,
        question=str(sample.meta.get("question", "")),
        targets=sample.targets,
        answer=answer,
        correct={name: scorer(answer, sample) for name, scorer in task.scorers.items()},
        needle_positions=sample.meta.get("needle_positions", ()),
    )


def _sources(sample: Sample) -> dict[str, str]:
    """A record's hashes of the data, from the keys a task gives its samples."""
    names = {"corpus_key": "corpus_key", "data_hash": "data_key", "prompt_hash": "prompt_hash"}
    return {name: str(sample.meta[key]) for name, key in names.items() if sample.meta.get(key) is not None}


def _status(error: Exception) -> tuple[Status, str]:
    """An exception as status and one line; torch's out-of-memory goes by name: no import."""
    said = " ".join(str(error).split())
    phrases = ("out of memory", "not enough memory", "can't allocate memory", "unable to allocate")
    full = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if full or (isinstance(error, RuntimeError) and any(phrase in said.lower() for phrase in phrases)):
        return "oom", f"{said or 'out of memory'}; a smaller --batch or --block needs less"
    return "failed", f"{type(error).__name__}: {said}" if said else type(error).__name__


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _reset_peak() -> None:
    """Forget earlier cells' peak where the kernel can (Linux); elsewhere a peak is the process's."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    """Most bytes resident so far, in the middle of a block too."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows keeps it for psutil
        import psutil

        return psutil.Process().memory_info().peak_wset
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
