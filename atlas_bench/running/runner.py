"""One cell, block by block, in constant memory; a kill loses at most one checkpoint interval, and no paid answer.

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

from atlas_bench import registry
from atlas_bench.errors import MachineError, NoAnswer, UserError, reason
from atlas_bench.files import locks
from atlas_bench.results import score, store
from atlas_bench.results.record import Record, cell_key
from atlas_bench.running import answers, losses, plan, streams
from atlas_bench.running.checkpoint import Answered, Checkpoint, Point
from atlas_bench.running.plan import Cell
from atlas_bench.running.progress import Progress, title_of
from atlas_bench.running.resources import now, peak, reset_peak, status_of, summed
from atlas_bench.types import Model, Rules, Sample, Status, Task, as_model

BATCH = 8  # contexts fed side by side
TOGETHER = 16_000_000  # tokens of contexts read side by side on a CPU: an answer comes at least that often


@dataclass(frozen=True)
class Settings:
    """How a cell is read; none of it changes a result.

    batch               contexts fed side by side, at most; None: BATCH, on a CPU no more than TOGETHER tokens
    block               tokens of each that are fed at once; None: as many over all of them as suit the model
    checkpoint_tokens   tokens of a stream between two checkpoints
    timeout             seconds a cell may take over all its sittings, None for any
    debug               print the traceback of a model's failure
    command             that records name as theirs; None: what was typed
    """

    batch: int | None = None
    block: int | None = None
    checkpoint_tokens: int = 1_000_000
    timeout: float | None = None
    debug: bool = False
    command: str | None = None

    def streams(self, contexts: int, length: int, model: Model) -> int:
        """Contexts of that length for the model to read side by side, of so many that there are."""
        on_gpu = model.facts().get("device") == "cuda"  # there a stream more costs little time
        usual = BATCH if on_gpu else min(BATCH, max(1, TOGETHER // max(1, length)))
        return min(self.batch or usual, contexts)

    def tokens(self, streams: int, model: Model) -> int:
        """Tokens to feed each of the streams at once: `model.block` over all of them.

        Fewer tokens leave the second core idle, more leave the cache.
        """
        return self.block or max(256, model.block // streams)


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

    Several processes may run the same cells in one folder: they share the work. A cell that another one is at is
    left until all others are done, and its record is then the other's.

    Raises Interrupted on Ctrl-C and UserError where a record cannot be written, or an object is no model.
    """
    cells, models = list(cells), {name: as_model(model, name=name) for name, model in models.items()}
    kept = store.Followed(folder, warn=progress.warn)
    records: dict[Cell, Record] = {}
    for wait in (False, True):
        for cell in cells:
            if cell not in records and (record := _settle(cell, models[cell.model], kept, wait, settings, progress)):
                records[cell] = record
    return [records[cell] for cell in cells]


def _settle(
    cell: Cell, model: Model, kept: store.Followed, wait: bool, settings: Settings, progress: Progress
) -> Record | None:
    """The cell's record, the folder's own or a new one; None where another process is at it and `wait` is False."""
    task, title = registry.task(cell.task), title_of(cell.title, cell.length, cell.model)
    blank = plan.blank(cell, task, model)
    key = cell_key(blank)

    def already() -> Record | None:
        record = _final(cell, model, kept.record(key, f"{cell.task}.jsonl"))
        if record and _may_have_changed(model):
            progress.warn(
                f"{title}: taken from '{kept.folder}', not run again. This model's facts() have no weights_hash, so a "
                "record of another model of its name looks the same: give it one, another name or another folder."
            )
        elif record:
            progress.note(f"{title}: already in '{kept.folder}', not run again")
        return record

    if record := already():
        if record.status == "ok":
            Checkpoint(kept.folder, key).remove()  # a kill came between the record and this
        return record
    lock = Checkpoint(kept.folder, key).path.with_suffix(".lock")
    with locks.held(lock, title, wait=wait, say=progress.warn) as mine:
        if not mine:
            progress.note(f"{title}: another process is at work on it; left for later")
            return None
        return already() or run_cell(cell, task, model, kept.folder, settings, progress, blank=blank)


def _may_have_changed(model: Model) -> bool:
    """Whether nothing tells two models of this name apart: a user's own object without a hash of its weights."""
    facts = model.facts()
    return not (facts.get("weights_hash") or facts.get("device") == "server" or model.is_control)


def missing(cells: Iterable[Cell], models: Mapping[str, Model], folder: Path) -> list[Cell]:
    """The cells that run() would run: those of which the folder has no final record."""
    done = store.done(folder)

    def kept(cell: Cell) -> Record | None:
        model = models[cell.model]
        return _final(cell, model, done.get(cell_key(plan.blank(cell, registry.task(cell.task), model))))

    return [cell for cell in cells if kept(cell) is None]


def _final(cell: Cell, model: Model, record: Record | None) -> Record | None:
    """The record, where its cell need not be run again; one may be supported by now, with another limit or memory."""
    if record and record.status == "unsupported" and not unsupported(cell, registry.task(cell.task), model):
        return None
    return record


def unsupported(cell: Cell, task: Task, model: Model) -> str | None:
    """Why the model cannot be asked that cell, by its length alone; None where it can."""
    rules = plan.rules(cell, task)
    if not rules.scorers and not model.has_logprobs:
        return f"{task.name} measures losses, and this model tells no probabilities of tokens"
    return model.supports(plan.prompt_length(cell, rules, model) + rules.max_answer_tokens)


def run_cell(
    cell: Cell,
    task: Task,
    model: Model,
    folder: Path,
    settings: Settings,
    progress: Progress,
    *,
    blank: Record | None = None,
) -> Record:
    """Run one cell from its last checkpoint on, append its record and return it.

    blank  plan.blank() of the cell, where the caller has it

    Whatever goes wrong inside a task or model becomes the record's status and reason. Raises Interrupted
    on Ctrl-C and UserError where the record cannot be written or the machine stands in the way.
    """
    blank = blank or plan.blank(cell, task, model)
    sitting = _Sitting(cell, task, model, Checkpoint(folder, cell_key(blank)), settings, progress)
    status, why = sitting.run()
    record = sitting.record(blank, status, why)
    store.append(folder / f"{cell.task}.jsonl", record)
    sitting.close(status)
    progress.note(f"{sitting.title}: {score.outcome(record)}")
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
        self.rules: Rules = plan.rules(cell, task)
        self.before, _ = plan.around(self.rules, model)
        self.length = plan.prompt_length(cell, self.rules, model)
        self.batch = settings.streams(cell.samples, cell.length, model)
        self.block = settings.tokens(self.batch, model)
        self.title = title_of(cell.title, cell.length, cell.model)
        self.began, self.resumed = time.perf_counter(), False
        self.saved = 0  # position of the last checkpoint, or of the last try to save one
        self.unsaved = ""  # why the last checkpoint could not be saved
        self.reached = False  # whether the model has said what it can read
        self.used = model.facts().get("usage")  # by earlier cells
        self.point = Point(started=now())
        reset_peak()
        model.begin_cell()

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
            if isinstance(error, MachineError):  # not the cell's fault: it goes on when the machine is mended
                self._save()
                raise
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
        """Delete the checkpoint of a cell that will not be run again; any other goes on from it."""
        if self._unanswered():
            answered = tuple(row for row in self.point.rows if "failed" not in row)
            self.point = replace(self.point.without_state(), rows=answered, first=0)
            self._save()
        elif status == "ok":
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
        """Go on from the checkpoint and the kept answers, where there are any."""
        begin = self.point
        try:
            point = self.checkpoint.load(self.model, self.cell.samples) or begin
        except Exception as error:  # whatever is wrong with the file, the cell can begin again
            point = begin
            self._put_aside(error)
        asked = self.settings.batch
        if asked and len(point.reading) > max(asked, self.model.concurrency):
            # a smaller --batch is asked for, perhaps because so many streams do not fit: what they have read is lost
            point = replace(point.without_state(), tokens=point.tokens + len(point.reading) * point.position)
        point = self.checkpoint.with_answers(point, self.cell.samples, self.progress.warn)
        if point is not begin:
            self.point, self.resumed, self.saved = point, True, point.position
            self.progress.note(f"{self.title}: goes on at token {self._read():,} from {self.checkpoint.path}")

    def _put_aside(self, error: Exception) -> None:
        path = self.checkpoint.path
        try:
            kept = f"It is now '{self.checkpoint.put_aside()}'."
        except OSError as again:
            kept = f"It cannot be renamed: {again.strerror}."
        self.progress.warn(f"checkpoint '{path}' cannot be used: {error}. {kept} The cell begins again.")

    def _read_all(self) -> None:
        size = self._side_by_side() * self.rules.questions_per_context
        samples = islice(plan.samples(self.cell, self.task, self.model), self.point.first, None)
        while not self._suffices() and (group := list(islice(samples, self.point.asking or size))):
            if reading := self._begin(group):
                self._read_group(reading)
            self.point = replace(
                self.point, sources=answers.sources_of(group[-1]), first=self.point.first + len(group), asking=0
            )
            if reading:
                self._save()
                self.progress.so_far(answered=len(self.point.rows), correct=self._correct())
        if len(self.point.rows) < self.cell.samples and not self._suffices():
            raise RuntimeError(f"the task made {len(self.point.rows)} of {self.cell.samples} samples")

    def _suffices(self) -> bool:
        """Whether the cell's rule for stopping is met; asked between groups of whole contexts."""
        rows, scorer = self.point.rows, next(iter(self.rules.scorers), "")
        return bool(self.cell.stop and rows and not self.point.asking and self.cell.stop.reached(rows, scorer))

    def _side_by_side(self) -> int:
        """Streams to read at once: as many as were asked for and fit, more where a model is good for more."""
        wanted = max(self.batch, self.model.concurrency)
        return max(1, min(wanted, self.model.streams(self.length + self.rules.max_answer_tokens)))

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
        if reading:
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
                    self._keep(sample, answers.row_of(sample, "", {}) | {"losses": losses.of_row(sums)})
        ends = sum(max(sample.reads for sample in sharing) for sharing in reading)
        self.point = replace(self.point, state=None, sums=None, reading=(), position=0, tokens=self.point.tokens + ends)
        self._tick()

    def _read_to(self, reading: Sequence[Sequence[Sample]], stop: int, *, ahead: int = 0) -> None:
        """Feed the streams up to a common position; from a new state on at every multiple of `restart`."""
        contexts = [sharing[0].context for sharing in reading]
        size = min(self.block, self.settings.checkpoint_tokens)
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
        if self.model.answers_together:
            forks = list(forks)
            asked = [(state, sample.asked) for sample, _, state in forks]
            sharing = {sample.index: each for each in reading for sample in each}

            def keep(i: int, answer: str | Exception) -> None:
                self._answered(*forks[i], answer)
                if not isinstance(answer, Exception):
                    self._keep_on_disk(forks[i][0], sharing[forks[i][0].index])

            self.model.answer_all(asked, limit, ends, keep)
        else:
            for sample, first, state in forks:  # answer() leaves the state as it is
                try:
                    answer = self.model.answer(state, sample.asked, limit, ends)
                except NoAnswer as error:
                    answer = error
                self._answered(sample, first, state, answer)

    def _answered(self, sample: Sample, first: int, state: Any, answer: str | Exception) -> None:
        """Judge and keep the answer to a sample of the stream whose first sample's index is given."""
        row = answers.row_of(sample, answer, self.rules.scorers)
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

    def _keep_on_disk(self, sample: Sample, sharing: Sequence[Sample]) -> None:
        """Add the answer that was kept last, which cost money, to the file of answers; `sharing` is its stream."""
        answered = {row["index"] for row in self.point.rows if "failed" not in row}
        context = max(each.reads for each in sharing) if all(each.index in answered for each in sharing) else 0
        now = self._timed()
        told = Answered(
            row=now.rows[-1], asked=sample.length - sample.reads, context=context, state_bytes=now.state_bytes,
            usage=now.usage, seconds=now.seconds, peak=now.peak, started=now.started,
        )  # fmt: skip
        try:
            self.checkpoint.keep(told)
        except OSError as error:
            self._not_saved(self.checkpoint.answers, error)

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
                for tokens in streams.blocks([sample.context], position, sample.reads, self.block):
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
        if self.model.finite(new):
            return new, sums
        good, bad = 0, tokens.shape[1]  # tokens of the block after which it still is, and no longer is
        while bad - good > 1:
            middle = (good + bad) // 2
            still = self.model.finite(self.model.feed(state, tokens[:, :middle]))
            good, bad = (middle, bad) if still else (good, middle)
        raise FloatingPointError(
            f"the state is not finite after token {position + bad:,} (block {position // self.block + 1}); "
            "the memory diverged, and an answer from it would mean nothing"
        )

    def _tick(self) -> None:
        done = self.point.rows
        waiting = max(0, self.point.asking - len(done) + self.point.first)
        self.progress.show(read=self._read(), answered=len(done), correct=self._correct(), streams=waiting)
        limit = self.settings.timeout
        if limit is not None and self._timed().seconds > limit and len(done) < self.cell.samples:
            raise _Timeout

    def _correct(self) -> float:
        """Right answers so far, by the headline's scorer."""
        return sum(next(iter(row["correct"].values()), 0) for row in self.point.rows)

    def _save(self, *, quiet: bool = False) -> None:
        """Save a checkpoint; where that fails the older one stays, and the cell goes on."""
        self.saved = self.point.position  # of a try that fails, too: the next is an interval away
        try:
            self.checkpoint.save(self._timed(), self.model)
            self.unsaved = ""
        except Exception as error:  # of safetensors, the system or the model: none of them is worth a cell
            self._not_saved(self.checkpoint.path, error, quiet=quiet)

    def _not_saved(self, path: Path, error: Exception, *, quiet: bool = False) -> None:
        """Say once why nothing can be kept on disk."""
        if (why := reason(error)) != self.unsaved and not quiet:
            self.progress.warn(f"'{path}' cannot be written: {why}. The run goes on without.")
        self.unsaved = why

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
        self._save(quiet=True)
        where = f"stopped {self.title} at token {self._read():,}"
        if not self.unsaved:
            return f"{where}; saved in {self.checkpoint.path}. The same command goes on from there."
        older = "goes on from the checkpoint before" if self.checkpoint.path.exists() else "begins it again"
        return f"{where}; no checkpoint could be saved ({self.unsaved}). The same command {older}."

    def _note(self, blank: Record) -> str | None:
        """What the record notes already, and that its answers decided when to stop."""
        asked, most, stop = len(self.point.rows), self.cell.samples, self.cell.stop
        if stop is None or not (asked == most or self._suffices()):
            return blank.note
        why = stop.reached_note if self._suffices() else stop.open_note
        said = f"asked {asked:,} of {most:,} questions: {why}; its interval, a confidence sequence, holds at any stop"
        return f"{blank.note}; {said}" if blank.note else said

    def record(self, blank: Record, status: Status, reason: str) -> Record:
        """The cell's record as far as it has come."""
        point, read = self._timed(), self._read()
        found = answers.told(point.rows, self.rules.scorers)
        ran = status != "unsupported"
        facts = self.model.facts()  # again: on a GPU which kernels ran is known only now
        return replace(
            blank,
            command=self.settings.command or blank.command,
            kernel=facts.get("kernel"),
            kernel_why=facts.get("kernel_why"),
            status=status,
            reason=reason,
            **found,
            note=self._note(blank),
            metrics=losses.metrics(found["answers"]),
            curve=losses.curve(found["answers"], self.cell.length),
            usage=point.usage,
            endpoint=facts.get("endpoint"),
            **point.sources,
            state_bytes=point.state_bytes,
            tokens_read=read if ran else None,
            seconds=round(point.seconds, 3) if ran else None,
            tokens_per_second=round(read / point.seconds, 1) if ran and read else None,
            block=self.block,
            batch=self.batch,
            peak_rss_bytes=point.peak if ran else None,
            resumed=self.resumed,
            started=point.started,
            ended=now(),
        )
