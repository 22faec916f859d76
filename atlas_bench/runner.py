"""One cell, block by block, in constant memory; a kill loses at most one checkpoint interval.

Contexts are read side by side as the streams of a batch, each once, however many samples in a row share it;
every sample is asked on a fork of its context's stream, at its end or on the way. Everything a cell has to show
is one frozen `Point`, replaced as a whole: a stop at any instruction finds it consistent, and it is what a
checkpoint holds.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from atlas_bench import losses, plan, registry, rows, streams
from atlas_bench.checkpoint import Checkpoint, Point
from atlas_bench.errors import UserError
from atlas_bench.gauges import now, peak, reset_peak, status_of, summed
from atlas_bench.plan import Cell
from atlas_bench.progress import Progress, title_of
from atlas_bench.results import store
from atlas_bench.results.record import Record, cell_key
from atlas_bench.types import Model, Rules, Sample, Status, Task


@dataclass(frozen=True)
class Settings:
    """How a cell is read; none of it changes a result.

    block, batch        tokens and contexts fed at once; block None: as many tokens as suit the model
    checkpoint_tokens   tokens of a stream between two checkpoints
    timeout             seconds a cell may take over all its sittings, None for any
    debug               print the traceback of a model's failure
    """

    block: int | None = None
    batch: int = 8
    checkpoint_tokens: int = 1_000_000
    timeout: float | None = None
    debug: bool = False


def settings_for(samples: int, *, batch: int | None = None, block: int | None = None, **others: Any) -> Settings:
    """Settings of a run of so many samples: at most 8 streams side by side."""
    return Settings(block=block, batch=min(batch or 8, samples), **others)


def suited(settings: Settings, model: Model) -> Settings:
    """The settings with a block that suits the model, where none was asked for: 4096 tokens over all streams, or
    `model.block`.

    Fewer tokens leave the second core idle, more leave the cache.
    """
    return replace(settings, block=settings.block or max(256, getattr(model, "block", 4096) // settings.batch))


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, after the checkpoint was saved; the message says where and how to go on."""


class _Timeout(Exception):
    pass


class _Unsupported(Exception):
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
        if record and record.status == "unsupported" and not unsupported(cell, task, model):
            record = None  # another limit, or more memory than then
        if record:
            where = title_of(cell.title, cell.length, cell.model)
            progress.note(f"{where}: already in '{folder}', not run again")
        records.append(record or run_cell(cell, task, model, folder, settings, progress))
    return records


def unsupported(cell: Cell, task: Task, model: Model) -> str | None:
    """Why the model cannot be asked that cell, by its length alone; None where it can."""
    rules = task.rules(cell.subset)
    if not rules.scorers and not hasattr(model, "logprobs"):
        return f"{task.name} measures losses, and this model tells no probabilities of tokens"
    return model.supports(plan.prompt_length(cell, rules, model) + rules.max_answer_tokens)


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
    sitting.close(status)
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
        self.settings, self.progress = suited(settings, model), progress
        self.rules: Rules = task.rules(cell.subset)
        self.before, _ = plan.around(self.rules, model)
        self.length = plan.prompt_length(cell, self.rules, model)
        self.title = title_of(cell.title, cell.length, cell.model)
        self.began, self.resumed, self.saved = time.perf_counter(), False, 0
        self.reached = False  # whether the model has said what it can read
        self.used = model.facts().get("usage")  # by earlier cells
        self.point = Point(started=now())
        reset_peak()

    def run(self) -> tuple[Status, str]:
        """(status, reason), with all that was reached in self.point."""
        try:
            if why := unsupported(self.cell, self.task, self.model):
                return "unsupported", why
            self.reached = True
            self._resume()
            self.total = self._to_read()
            self.progress.start(self.title, samples=self.cell.samples, tokens=self.total, read=self._read())
            self._read_all()
        except _Timeout:
            self._save()
            return "timeout", self._timeout_reason()
        except _Unsupported as error:
            return "unsupported", str(error)
        except KeyboardInterrupt:
            raise Interrupted(self._stopped()) from None
        except Exception as error:
            if isinstance(error, UserError) and not self.reached:  # an endpoint that is not started
                raise
            self.point = replace(self.point, state=None)  # free what filled the memory
            if self.settings.debug:
                traceback.print_exc(file=sys.stderr)
            return status_of(error)
        finally:
            self.progress.stop()
        return self._unanswered() or ("ok", "")

    def close(self, status: Status) -> None:
        """Leave a checkpoint where the same command has something to go on from: time ran out, samples not answered."""
        if self._unanswered():
            answered = tuple(row for row in self.point.rows if "failed" not in row)
            idle = {"state": None, "reading": (), "asking": 0, "position": 0, "sums": None, "first": 0}
            self.point = replace(self.point, rows=answered, **idle)
            self._save()
        elif status != "timeout":
            self.checkpoint.remove()

    def _unanswered(self) -> tuple[Status, str] | None:
        """The status of a finished cell with samples that could not be asked (an endpoint's errors)."""
        failed = [row["failed"] for row in self.point.rows if "failed" in row]
        if not failed:
            return None
        return "failed", (
            f"{len(failed)} of {self.cell.samples} samples were not answered; the same command asks them again. "
            f"The first: {failed[0]}"
        )

    def _to_read(self) -> int:
        """Tokens of the cell, judged by its first context: each context once, and every question."""
        shared = self.rules.questions_per_context
        first = list(islice(plan.samples(self.cell, self.task, self.model), shared))

        whole, rest = divmod(self.cell.samples, shared)
        return whole * streams.to_read(first) + streams.to_read(first[:rest])

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
        size = self._side_by_side() * self.rules.questions_per_context
        samples = islice(plan.samples(self.cell, self.task, self.model), self.point.first, None)
        while group := list(islice(samples, self.point.asking or size)):
            if reading := self._begin(group):
                self._read_group(reading)
            self.point = replace(
                self.point, sources=rows.sources_of(group[-1]), first=self.point.first + len(group), asking=0
            )
            if reading:
                self._save()
        if len(self.point.rows) < self.cell.samples:
            raise RuntimeError(f"the task made {len(self.point.rows)} of {self.cell.samples} samples")

    def _side_by_side(self) -> int:
        """Streams to read at once: as many as were asked for and fit, more where a model is good for more."""
        wanted = max(self.settings.batch, getattr(self.model, "concurrency", 1))
        fitting = getattr(self.model, "streams", None)
        return wanted if fitting is None else max(1, min(wanted, fitting(self.length + self.rules.max_answer_tokens)))

    def _begin(self, group: Sequence[Sample]) -> list[list[Sample]]:
        """The streams of a group with something left to ask; the checkpoint's, where it was in the middle of them."""
        answered = {row["index"] for row in self.point.rows}
        resumed = self.point.state is not None
        longest = max(sample.length for sample in group)  # published contexts are as long as they are
        if longest > self.length and (why := self.model.supports(longest + self.rules.max_answer_tokens)):
            raise _Unsupported(f"a sample has {longest:,} tokens: {why}")
        reading = [
            sharing
            for sharing in streams.of(group)
            if (sharing[0].index in self.point.reading if resumed else any(s.index not in answered for s in sharing))
        ]
        if reading and hasattr(self.model, "peek"):  # controls only: see models/oracle.py
            self.model.peek([sample for sharing in reading for sample in sharing])
        if reading and not resumed:
            self.saved = 0
            self.point = replace(
                self.point,
                state=self.model.start(len(reading)),
                asking=len(group),
                reading=tuple(sharing[0].index for sharing in reading),
                position=0,
                sums=None if self.rules.scorers else losses.empty(len(reading), self.cell.length).tolist(),
            )
        return reading

    def _read_group(self, reading: Sequence[Sequence[Sample]]) -> None:
        """Read the streams side by side, asking where they are to be asked; then they are done."""
        if self.rules.scorers:
            for stop, following in pairwise([*streams.stops(reading), sys.maxsize]):
                if stop >= self.point.position:
                    self._read_to(reading, stop)
                    self._ask(reading, stop, following)
        else:
            self._read_to(reading, reading[0][0].context.length - 1, ahead=1)
            answered = {row["index"] for row in self.point.rows}
            for (sample, *_), sums in zip(reading, np.array(self.point.sums), strict=True):
                if sample.index not in answered:
                    self._keep(sample, rows.row_of(sample, "", {}) | {"losses": losses.of_row(sums)})
        ends = sum(max(sample.reads for sample in sharing) for sharing in reading)
        self.point = replace(self.point, state=None, sums=None, reading=(), position=0, tokens=self.point.tokens + ends)
        self._tick()

    def _read_to(self, reading: Sequence[Sequence[Sample]], stop: int, *, ahead: int = 0) -> None:
        """Feed the streams up to a common position; from a new state on at every multiple of `restart`."""
        contexts = [sharing[0].context for sharing in reading]
        size = min(self.settings.block, self.settings.checkpoint_tokens)
        restart = self.rules.restart or sys.maxsize
        while self.point.position < stop:
            text = max(0, self.point.position - len(self.before))  # tokens of the text that are read
            if text and not text % restart:
                self.point = replace(self.point, state=self._begun(len(reading)))
            until = min(stop, max(self.point.position, len(self.before)) + restart - text % restart)
            for tokens in streams.blocks(contexts, self.point.position, until, size, ahead=ahead):
                fed = tokens.shape[1] - ahead
                if self.point.position + fed - self.saved > self.settings.checkpoint_tokens:
                    self._save()
                state, sums = self._feed(self.point.state, tokens, self.point.position)
                self.point = replace(self.point, state=state, sums=sums, position=self.point.position + fed)
                self._tick()

    def _begun(self, n: int) -> Any:
        """A state of n streams that have read what the model puts before a text."""
        state = self.model.start(n)
        return self.model.feed(state, np.tile(np.array(self.before, np.int32), (n, 1))) if self.before else state

    def _ask(self, reading: Sequence[Sequence[Sample]], stop: int, following: int) -> None:
        """Ask what comes behind this stop and before the following one, each sample on a fork of its stream."""
        limit, ends = self.rules.max_answer_tokens, self.rules.stop
        forks = self._forks(reading, stop, following)
        if hasattr(self.model, "answer_all"):
            forks = list(forks)
            asked = [(state, sample.asked) for sample, _, state in forks]
            self.model.answer_all(asked, limit, ends, lambda i, answer: self._answered(*forks[i], answer))
        else:
            for sample, first, state in forks:  # answer() leaves the state as it is
                self._answered(sample, first, state, self.model.answer(state, sample.asked, limit, ends))

    def _answered(self, sample: Sample, first: int, state: Any, answer: str | Exception) -> None:
        """Judge and keep the answer to a sample of the stream whose first sample's index is given."""
        row = rows.row_of(sample, answer, self.rules.scorers)
        weight = max(self.point.state_bytes or 0, self.model.state_bytes(state))
        self.point = replace(self.point, state_bytes=weight)
        self._keep(sample, row | {"context": first} if self.rules.questions_per_context > 1 else row)

    def _keep(self, sample: Sample, row: Mapping[str, Any]) -> None:
        """A sample is done."""
        told = {**row, "plan": str(sample.meta.get("plan_hash", ""))}
        if sample.asked_at is None and sample.length != self.length:
            told["length"] = sample.length  # a published context is as long as it is
        read = self.point.tokens + sample.length - sample.reads
        self.point = replace(self.point, rows=(*self.point.rows, told), tokens=read)

    def _forks(
        self, reading: Sequence[Sequence[Sample]], stop: int, following: int
    ) -> Iterator[tuple[Sample, int, Any]]:
        """(sample, its stream's first index, state after its own last tokens) of what is not answered yet."""
        answered = {row["index"] for row in self.point.rows}
        for i, sharing in enumerate(reading):
            state, position = None, self.point.position
            for sample in sorted(sharing, key=lambda sample: sample.reads):
                if not stop <= sample.reads < following or sample.index in answered:
                    continue
                state = self.model.row(self.point.state, i) if state is None else state
                for tokens in streams.blocks([sample.context], position, sample.reads, self.settings.block):
                    state, _ = self._feed(state, tokens, position)
                    position += tokens.shape[1]
                yield sample, sharing[0].index, state

    def _feed(self, state: Any, tokens: np.ndarray, position: int) -> tuple[Any, list | None]:
        """(state, sums of losses) after the tokens from `position` on; FloatingPointError where not finite."""
        sums = self.point.sums
        if sums is None:
            new = self.model.feed(state, tokens)
        else:
            new, nats, greedy = self.model.logprobs(state, tokens)
            first = position + 1 - len(self.before)  # of the text: what stands before it is no text to be told
            nats, greedy = nats[:, max(0, -first) :], greedy[:, max(0, -first) :]
            sums = losses.add(np.array(sums), self.cell.length, max(first, 0), nats, greedy).tolist()
        finite = getattr(self.model, "finite", None)
        if finite is None or finite(new):
            return new, sums
        good, bad = 0, tokens.shape[1]  # tokens of the block after which it still is, and no longer is
        while bad - good > 1:
            middle = (good + bad) // 2
            good, bad = (middle, bad) if finite(self.model.feed(state, tokens[:, :middle])) else (good, middle)
        raise FloatingPointError(
            f"the state is not finite after token {position + bad:,} (block {position // self.settings.block + 1}); "
            "the memory diverged, and an answer from it would mean nothing"
        )

    def _tick(self) -> None:
        done = self.point.rows
        correct = sum(next(iter(row["correct"].values()), 0) for row in done)
        waiting = max(0, self.point.asking - len(done) + self.point.first)
        self.progress.show(read=self._read(), answered=len(done), correct=correct, streams=waiting)
        limit = self.settings.timeout
        if limit is not None and self._timed().seconds > limit and len(done) < self.cell.samples:
            raise _Timeout

    def _save(self) -> None:
        try:
            self.checkpoint.save(self._timed(), self.model)
            self.saved = self.point.position
        except OSError as error:
            self.progress.warn(f"no checkpoint at '{self.checkpoint.path}': {error}; going on without.")

    def _timed(self) -> Point:
        """The point with the time, memory and usage of this sitting added."""
        seconds = self.point.seconds + time.perf_counter() - self.began
        usage = summed(self.point.usage, self.model.facts().get("usage"), self.used)
        return replace(self.point, seconds=seconds, peak=max(self.point.peak, peak()), usage=usage)

    def _read(self) -> int:
        return self.point.tokens + len(self.point.reading) * self.point.position

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
        found = rows.told(point.rows, self.rules.scorers)
        ran = status != "unsupported"
        facts = self.model.facts()  # again: on a GPU which kernels ran is known only now
        return replace(
            blank,
            kernel=facts.get("kernel"),
            kernel_why=facts.get("kernel_why"),
            status=status,
            reason=reason,
            **found,
            metrics=losses.metrics(found["answers"]),
            curve=losses.curve(found["answers"], self.cell.length),
            usage=point.usage,
            endpoint=facts.get("endpoint"),
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
            ended=now(),
        )
