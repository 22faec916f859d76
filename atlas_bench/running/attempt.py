"""One attempt at a cell, from its last checkpoint on, block by block, in constant memory.

Contexts are read side by side as the streams of a batch, each once, however many samples in a row share it; every
sample is asked on a fork of its context's stream, at its end or on the way. A cell's progress is one frozen `Point`,
replaced as a whole: a stop at any instruction finds it consistent. A checkpoint holds it.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice, pairwise
from typing import Any

import numpy as np

from atlas_bench.errors import MachineError, NoAnswer, Unsupported, UserError
from atlas_bench.running import answers, consistency, losses, reading, streams
from atlas_bench.running.checkpoint import Checkpoint, Point
from atlas_bench.running.evaluation import Evaluation
from atlas_bench.running.keeping import Keeper
from atlas_bench.running.progress import Progress
from atlas_bench.running.resources import now, reset_peak, status_of
from atlas_bench.running.settings import Settings
from atlas_bench.types import Context, Sample, Status

Streams = Sequence[Sequence[Sample]]  # read side by side, each the samples on one context


class _Timeout(Exception):
    pass


class _Failed(Exception):
    pass


class Attempt:
    """One process's work on one cell.

    point    how far it has come
    batch    streams side by side, as asked for
    block    tokens of a stream that are fed at once
    resumed  whether it went on from a checkpoint
    """

    def __init__(self, evaluation: Evaluation, checkpoint: Checkpoint, settings: Settings, progress: Progress) -> None:
        cell, model = evaluation.cell, evaluation.model
        self._evaluation, self._cell, self._model, self._rules = evaluation, cell, model, evaluation.rules
        self._settings, self._progress = settings, progress
        self._keeper = Keeper(checkpoint, settings.checkpoint_tokens, model, progress)
        self.batch = settings.streams(evaluation.contexts, cell.length, model)
        self.block = settings.tokens(self.batch, model)
        self.resumed = False
        self._reached = False  # whether the model has said what it can read
        self._total = 0  # tokens to read
        self.point = Point(started=now(), first=cell.asked.start)
        reset_peak()
        model.begin_cell()

    def run(self) -> tuple[Status, str]:
        """(status, reason), with all that was reached in self.point; KeyboardInterrupt as it comes: see stopped()."""
        try:
            self._read_all()
        except _Timeout:
            self._keeper.save(self.point)
            return "timeout", (
                f"more than {self._settings.timeout:g} s, at token {self.point.read:,} of {self._total:,}; "
                "the same command with a longer --timeout goes on from there"
            )
        except Unsupported as error:
            return "unsupported", str(error)
        except _Failed as error:
            return "failed", str(error)
        except Exception as error:
            if isinstance(error, MachineError):  # not the cell's fault: it goes on when the machine is mended
                self._keeper.save(self.point)
                raise
            if isinstance(error, UserError) and not self._reached:  # an endpoint that is not started
                raise
            self.point = replace(self.point, state=None)  # free what filled the memory
            if self._settings.debug:
                traceback.print_exc(file=sys.stderr)
            return status_of(error)
        finally:
            self._progress.stop()
        return self._unanswered() or ("ok", "")

    def timed(self) -> Point:
        """The point with the time, memory and usage of this attempt added."""
        return self._keeper.timed(self.point)

    def close(self, status: Status) -> None:
        """Delete the checkpoint of a cell that will not be run again; any other goes on from it."""
        if self._unanswered():
            answered = tuple(row for row in self.point.rows if "failed" not in row)
            self.point = replace(self.point.without_state(), rows=answered, first=self._cell.asked.start)
            self._keeper.save(self.point)
        elif status == "ok":
            self._keeper.checkpoint.remove()

    def stopped(self) -> str:
        """Save a checkpoint after Ctrl-C; where, and how to go on."""
        title, checkpoint = self._evaluation.title, self._keeper.checkpoint
        if not self.point.read:  # an earlier attempt's checkpoint, if any, stays as it is
            return f"stopped before {title}. The same command goes on from there."
        self._keeper.save(self.point, quiet=True)
        where = f"stopped {title} at token {self.point.read:,}"
        if not self._keeper.failure:
            return f"{where}; saved in {checkpoint.path}. The same command goes on from there."
        older = "goes on from the checkpoint before" if checkpoint.path.exists() else "begins it again"
        return f"{where}; no checkpoint could be saved ({self._keeper.failure}). The same command {older}."

    def _unanswered(self) -> tuple[Status, str] | None:
        """The status of a finished cell with samples that could not be asked (an endpoint's errors)."""
        return answers.unanswered(self.point.rows, len(self._cell.asked))

    # Reading: resume at the checkpoint, then one group of streams after another --------------------------------------

    def _read_all(self) -> None:
        if why := self._evaluation.unsupported():
            raise Unsupported(why)
        self._reached = True
        self._resume()
        if not self.resumed:
            self._check_consistency()
        self._keeper.start_clock()
        shared, count = self._rules.questions_per_context, len(self._cell.asked)
        self._total = streams.to_read_in_all(list(islice(self._evaluation.samples(), shared)), count)
        self._progress.start(self._evaluation.title, samples=count, tokens=self._total, read=self.point.read)
        size = self._side_by_side() * shared
        samples = islice(self._evaluation.samples(), self.point.first, None)
        while not self.suffices() and (group := list(islice(samples, self.point.asking or size))):
            self._read_group(group)
        if len(self.point.rows) < count and not self.suffices():
            raise RuntimeError(f"the task made {len(self.point.rows)} of {count} samples")

    def _check_consistency(self) -> None:
        """Fail the cell of a user's task that makes other samples again, and of a user's model that reads otherwise in
        other blocks; warn where that is likely.
        """
        if differs := self._evaluation.made_otherwise():
            raise _Failed(
                f"the task makes another sample from the same seed: {differs}. Draw from nothing but the rng that "
                "hide() is given, or the seed that samples() is given"
            )
        fault = consistency.fault(self._evaluation, self.batch)
        if fault and fault.certain:
            raise _Failed(fault.why)
        if fault:
            self._progress.warn(f"{self._evaluation.title}: {fault.why}. If that is more than rounding, correct it.")

    def suffices(self) -> bool:
        """Whether the cell's rule for stopping is met; asked between groups of whole contexts."""
        rows, scorer, stop = self.point.rows, next(iter(self._rules.scorers), ""), self._cell.stop
        return bool(stop and rows and not self.point.asking and stop.reached(rows, scorer))

    def _resume(self) -> None:
        """Go on from the checkpoint and the kept answers, where there are any."""
        begin, checkpoint = self.point, self._keeper.checkpoint
        try:
            point = checkpoint.load(self._model, self._cell.asked) or begin
        except Exception as error:  # whatever is wrong with the file, the cell can begin again
            point = begin
            self._put_aside(error)
        asked = self._settings.batch
        if asked and len(point.reading) > max(asked, self._model.concurrency):
            # a smaller --batch is asked for, perhaps because so many streams do not fit: what they have read is lost
            point = replace(point.without_state(), tokens=point.read)
        point = checkpoint.with_answers(point, self._cell.asked, self._progress.warn)
        if point is not begin:
            self.point, self.resumed = point, True
            self._keeper.goes_on(point.position)
            self._progress.note(f"{self._evaluation.title}: goes on at token {point.read:,} from {checkpoint.path}")

    def _put_aside(self, error: Exception) -> None:
        checkpoint = self._keeper.checkpoint
        kept = ""
        try:
            if checkpoint.path.exists():  # it may be a copy that could not be fetched
                kept = f" It is now '{checkpoint.put_aside()}'."
        except OSError as again:
            kept = f" It cannot be renamed: {again.strerror}."
        self._progress.warn(f"checkpoint '{checkpoint.path}' cannot be used: {error}.{kept} The cell begins again.")

    def _side_by_side(self) -> int:
        """Streams to read at once: as many as were asked for and fit, more where a model is good for more."""
        wanted = max(self.batch, self._model.concurrency)
        return max(1, min(wanted, self._model.streams(self._evaluation.prompt_tokens + self._rules.max_answer_tokens)))

    def _read_group(self, group: Sequence[Sample]) -> None:
        """Read and ask the unanswered samples of a group."""
        if side_by_side := self._begin(group):
            if self._rules.scorers:
                self._read_and_ask(side_by_side)
            else:
                self._read_for_losses(side_by_side)
            ends = sum(max(sample.reads for sample in stream) for stream in side_by_side)
            self.point = replace(
                self.point, state=None, sums=None, reading=(), position=0, tokens=self.point.tokens + ends
            )
            self._tick()
        self.point = replace(
            self.point, sources=answers.sources_of(group[-1]), first=self.point.first + len(group), asking=0
        )
        if side_by_side:
            self._keeper.save(self.point)
            self._progress.so_far(answered=len(self.point.rows), correct=answers.correct(self.point.rows))

    def _begin(self, group: Sequence[Sample]) -> list[list[Sample]]:
        """The streams of a group with open questions; those of the checkpoint if it was in the middle of them."""
        answered = {row["index"] for row in self.point.rows}
        resumed = self.point.state is not None
        longest = max(sample.length for sample in group)  # published contexts are as long as they are
        if longest > self._evaluation.prompt_tokens and (
            why := self._model.supports(longest + self._rules.max_answer_tokens)
        ):
            raise Unsupported(f"a sample has {longest:,} tokens: {why}")
        side_by_side = [
            stream
            for stream in streams.of(group)
            if (stream[0].index in self.point.reading if resumed else any(s.index not in answered for s in stream))
        ]
        if side_by_side:
            self._model.peek([sample for stream in side_by_side for sample in stream])
        if side_by_side and not resumed:
            count = len(side_by_side)
            self._keeper.goes_on(0)
            self.point = replace(
                self.point,
                state=self._model.start(count),
                asking=len(group),
                reading=tuple(stream[0].index for stream in side_by_side),
                position=0,
                sums=None if self._rules.scorers else losses.empty(count, self._cell.length).tolist(),
            )
        return side_by_side

    # Reading ---------------------------------------------------------------------------------------------------

    def _read_and_ask(self, side_by_side: Streams) -> None:
        """Read the streams, and ask where they are to be asked."""
        for stop, following in pairwise([*streams.stops(side_by_side), sys.maxsize]):
            if stop >= self.point.position:
                self._read_to(side_by_side, stop)
                self._ask(side_by_side, stop, following)

    def _read_for_losses(self, side_by_side: Streams) -> None:
        """Read the streams to their ends; their losses are their answers."""
        self._read_to(side_by_side, side_by_side[0][0].context.length - 1, ahead=1)
        answered = {row["index"] for row in self.point.rows}
        for (sample, *_), sums in zip(side_by_side, np.array(self.point.sums), strict=True):
            if sample.index not in answered:
                self._keep(sample, answers.row_of(sample, "", {}) | {"losses": losses.of_row(sums)})

    def _read_to(self, side_by_side: Streams, stop: int, *, ahead: int = 0) -> None:
        """Feed the streams up to a common position; from a new state on at every multiple of `restart`."""
        contexts = [stream[0].context for stream in side_by_side]
        size, before = min(self.block, self._settings.checkpoint_tokens), len(self._evaluation.around[0])
        restart = self._rules.restart or sys.maxsize
        while self.point.position < stop:
            text = max(0, self.point.position - before)  # tokens of the text that are read
            if text and not text % restart:
                self.point = replace(self.point, state=reading.begin(self._evaluation, len(side_by_side)))
            until = min(stop, max(self.point.position, before) + restart - text % restart)
            for tokens, found in self._blocks(contexts, until, size, ahead):
                position = self.point.position + tokens.shape[1] - ahead
                if self._keeper.is_due(position):
                    self._keeper.save(self.point)
                state, sums = reading.feed(
                    self._evaluation, self.point.state, self.point.sums, tokens, self.point.position, self.block,
                    found,
                )  # fmt: skip
                self.point = replace(self.point, state=state, sums=sums, position=position)
                self._tick()

    def _blocks(
        self, contexts: Sequence[Context], until: int, size: int, ahead: int
    ) -> Iterator[tuple[np.ndarray, Any]]:
        """Tokens up to a position, and what was found where they are searched ahead."""
        start, readers = self.point.position, self._settings.readers
        if ahead or not self._settings.search_ahead(self._model):
            made = streams.blocks(contexts, start, until, size, ahead=ahead, readers=readers)
            return ((tokens, None) for tokens in made)
        return streams.searched(contexts, start, until, size, model=self._model, readers=readers)

    # Asking ----------------------------------------------------------------------------------------------------

    def _ask(self, side_by_side: Streams, stop: int, following: int) -> None:
        """Ask the questions between this stop and the next one, each on a fork of its stream."""
        forks = reading.forks(self._evaluation, self.point, side_by_side, stop, following, self.block)
        if self._model.answers_together:
            self._ask_together(side_by_side, list(forks))
            return
        limit, ends = self._rules.max_answer_tokens, self._rules.stop
        for sample, first, state in forks:  # answer() leaves the state as it is
            try:
                answer: str | Exception = self._model.answer(state, sample.asked, limit, ends)
            except NoAnswer as error:
                answer = error
            self._answered(sample, first, state, answer)

    def _ask_together(self, side_by_side: Streams, forks: Sequence[tuple[Sample, int, Any]]) -> None:
        """Ask all forks at once; each answer is on disk as soon as it comes."""
        stream_of = {sample.index: stream for stream in side_by_side for sample in stream}

        def keep(i: int, answer: str | Exception) -> None:
            sample = forks[i][0]
            if any(row["index"] == sample.index for row in self.point.rows):
                raise ValueError(f"answer_all() gave keep() two answers to question {i}")
            self._answered(*forks[i], answer)
            if not isinstance(answer, Exception):
                self._keeper.save_answer(self.point, sample, stream_of[sample.index])

        asked = [(state, sample.asked) for sample, _, state in forks]
        self._model.answer_all(asked, self._rules.max_answer_tokens, self._rules.stop, keep)
        kept = {row["index"] for row in self.point.rows}
        if missing := [sample.index for sample, *_ in forks if sample.index not in kept]:
            raise ValueError(
                f"answer_all() gave keep() no answer to {len(missing)} of {len(forks)} questions, the first of them "
                f"that of sample {missing[0]}: call keep(i, answer) for each"
            )

    def _answered(self, sample: Sample, first: int, state: Any, answer: str | Exception) -> None:
        """Judge and keep the answer to a sample of the stream whose first sample's index is given."""
        row = answers.row_of(sample, answer, self._rules.scorers)
        weight = max(self.point.state_bytes or 0, self._model.state_bytes(state))
        self.point = replace(self.point, state_bytes=weight)
        self._keep(sample, row | {"context": first} if self._rules.questions_per_context > 1 else row)

    def _keep(self, sample: Sample, row: Mapping[str, Any]) -> None:
        """A sample is done."""
        row = {**row, "plan": str(sample.meta.get("plan_hash", ""))}
        if sample.asked_at is None and sample.length != self._evaluation.prompt_tokens:
            row["length"] = sample.length  # a published context is as long as it is
        read = self.point.tokens + sample.length - sample.reads
        self.point = replace(self.point, rows=(*self.point.rows, row), tokens=read)

    def _tick(self) -> None:
        """Show how far it has come; time may be over."""
        rows = self.point.rows
        waiting = max(0, self.point.asking - len(rows) + self.point.first - self._cell.asked.start)
        self._progress.show(read=self.point.read, answered=len(rows), correct=answers.correct(rows), streams=waiting)
        limit = self._settings.timeout
        if limit is not None and self.timed().seconds > limit and len(rows) < len(self._cell.asked):
            raise _Timeout
