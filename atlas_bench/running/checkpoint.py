"""How far one cell has come, and the files that it goes on from: its checkpoint, and every answer that cost money.

.checkpoints/KEY.safetensors   a Point with the packed state: checkpoint_file.py
.checkpoints/KEY.answers       answers in the order they came, one a line, each on disk before the next is awaited
.checkpoints/KEY.parts         records of parts of the cell that a cluster has asked: cluster.py
.checkpoints/KEY.damaged       a checkpoint that could not be used
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, TypeAdapter, ValidationError

from atlas_bench import __version__
from atlas_bench.files import checkpoint_file
from atlas_bench.files.atomic import discard_draft
from atlas_bench.files.checkpoint_file import Damaged
from atlas_bench.running import copies
from atlas_bench.types import Model

_Share = bool | Annotated[float, Field(ge=0, le=1)]


class _Row(BaseModel):
    """The fields of every row of a checkpoint; see record.answer_row for the others."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)

    index: NonNegativeInt
    plan: str
    question: str
    targets: list[str]
    answer: str
    correct: dict[str, _Share]
    needle_positions: list[NonNegativeInt]
    context: NonNegativeInt | None = None
    length: NonNegativeInt | None = None
    asked_at: NonNegativeInt | None = None


@dataclass(frozen=True)
class Point:
    """How far a cell has come: answered samples, and the streams being read with their state.

    rows      of the samples answered, with the hash of each one's plan; those of `asking` may be among them
    tokens    read, except what the streams hold: len(reading) * position
    first     index of the first sample of the group being read, or of the next one
    asking    samples of that group
    reading   index of the first sample on each stream of the state
    position  tokens that each of those streams has read
    sums      losses so far, [streams, ranges, 3], where a loss is measured
    """

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")

    rows: tuple[dict[str, Any], ...] = ()
    sources: dict[str, str] = field(default_factory=dict)
    tokens: NonNegativeInt = 0
    first: NonNegativeInt = 0
    asking: NonNegativeInt = 0
    reading: tuple[NonNegativeInt, ...] = ()
    position: NonNegativeInt = 0
    sums: list[list[list[float]]] | None = None
    state_bytes: NonNegativeInt | None = None
    usage: dict[str, float | int | None] | None = None
    seconds: NonNegativeFloat = 0.0
    peak: NonNegativeInt = 0
    started: str = ""
    code: str = __version__
    state: Any = None

    @property
    def read(self) -> int:
        """Tokens read, those of the streams being read too."""
        return self.tokens + len(self.reading) * self.position

    def without_state(self) -> Point:
        """The same answers without streams: the current group starts again."""
        return replace(self, state=None, reading=(), asking=0, position=0, sums=None)


@dataclass(frozen=True)
class Answered:
    """One line of the file of answers: a row, what it took to get it, and how the cell stood then.

    asked    tokens of the question
    context  tokens of the stream, where this was its last answer; else 0

    The others are Point's.
    """

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")

    row: dict[str, Any]
    asked: NonNegativeInt
    context: NonNegativeInt
    state_bytes: NonNegativeInt | None
    usage: dict[str, float | int | None] | None
    seconds: NonNegativeFloat
    peak: NonNegativeInt
    started: str
    code: str = __version__


_POINT, _ANSWERED, _ROWS = TypeAdapter(Point), TypeAdapter(Answered), TypeAdapter(tuple[_Row, ...])


class Checkpoint:
    """The files that one cell goes on from.

    url  where copies of them are kept, and taken from where this machine has none; None: nowhere
    """

    def __init__(self, folder: Path, key: str, url: str | None = None) -> None:
        self.key = key
        self._copies = copies.at(url) if url else None
        self.path = folder / ".checkpoints" / f"{key}.safetensors"
        self.answers = self.path.with_suffix(".answers")
        self.parts = self.path.with_suffix(".parts")

    def save(self, point: Point, model: Model) -> None:
        """Replace the checkpoint by this point, whole or not at all; raises whatever keeps it from being written."""
        packed = {} if point.state is None else model.pack(point.state)
        values = {name: value for name, value in vars(point).items() if name != "state"}
        checkpoint_file.save(self.path, packed, {"cell": self.key, "point": values})
        if self._copies:
            self._copies.put(self.path)

    def keep(self, answered: Answered) -> None:
        """Add an answer to the file of answers; it is on disk when this returns. Raises OSError."""
        text = json.dumps(asdict(answered))
        line = f"{_digest(text)} {text}\n".encode()
        self.answers.parent.mkdir(parents=True, exist_ok=True)
        with open(self.answers, "ab") as file:
            # a kill may have torn the last line: an empty line does no harm
            file.write(b"\n" * (file.tell() > 0) + line)
            file.flush()
            os.fsync(file.fileno())
        if self._copies:
            self._copies.put(self.answers)

    def load(self, model: Model, asked: range) -> Point | None:
        """The saved point with its state; None if there is none.

        asked  indices of the samples that are asked

        Raises Damaged if the file cannot be used; nothing is changed on disk.
        """
        try:
            if self._copies:
                self._copies.get(self.path)
            arrays, text = checkpoint_file.load(self.path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Damaged(f"it cannot be read: {error.strerror or error}") from None
        values = json.loads(text)
        if values.get("cell") != self.key:
            raise Damaged("it belongs to another cell")
        if (code := values["point"].get("code")) != __version__:
            raise Damaged(f"it is of atlas-bench {code}, and this is {__version__}")
        try:
            point = _POINT.validate_json(json.dumps(values["point"]))
        except ValidationError as error:
            raise Damaged(_first_fault(error)) from None
        _check(point, asked)
        try:
            return replace(point, state=model.unpack(arrays) if point.reading else None)
        except Exception as error:
            raise Damaged(f"its state is none of this model ({type(error).__name__}: {error})") from None

    def with_answers(self, point: Point, asked: range, warn: Callable[[str], Any]) -> Point:
        """The point with the later answers; damaged lines are skipped."""
        try:
            if self._copies:
                self._copies.get(self.answers)
            lines = self.answers.read_bytes().splitlines()
        except OSError:
            return point
        rows = {row["index"]: row for row in point.rows}
        tokens, last, damaged = 0, None, 0
        for line in filter(None, lines):
            answered = _answered(line)
            if answered is None:
                damaged += 1
            elif answered.code == __version__ and answered.row["index"] in asked:
                if answered.row["index"] in rows:
                    continue
                rows[answered.row["index"]] = answered.row
                tokens += answered.asked + (0 if point.reading else answered.context)
                last = answered
        if damaged:
            warn(f"'{self.answers}': {damaged} answer{'s' * (damaged > 1)} torn or changed; asked again.")
        if last is None:
            return point
        cost = {"usage": last.usage, "seconds": last.seconds} if last.seconds >= point.seconds else {}
        return replace(
            point, rows=tuple(rows.values()), tokens=point.tokens + tokens, started=point.started or last.started,
            state_bytes=max(point.state_bytes or 0, last.state_bytes or 0), peak=max(point.peak, last.peak), **cost,
        )  # fmt: skip

    def put_aside(self) -> Path:
        """Rename a checkpoint that cannot be used; its new path."""
        if self._copies:
            self._copies.remove(self.path)
        return checkpoint_file.put_aside(self.path)

    def remove(self) -> None:
        """Delete the files, and their folder with the last one; files that were set aside stay."""
        for leftover in (self.path, self.answers, self.parts):
            leftover.unlink(missing_ok=True)
            if self._copies:
                self._copies.remove(leftover)
        discard_draft(self.path)
        with suppress(OSError):
            self.path.parent.rmdir()


def _check(point: Point, asked: range) -> None:
    """Raise Damaged where the fields of a point contradict each other or the cell."""
    try:
        rows = _ROWS.validate_python(point.rows)
    except ValidationError as error:
        raise Damaged(f"rows: {_first_fault(error)}") from None
    indices = [row.index for row in rows]
    group = range(point.first, point.first + point.asking)
    faults = {
        "a sample is answered twice": len(set(indices)) < len(indices),
        f"it answers sample {max(indices, default=0)} of {asked.stop}": not set(indices) <= set(asked),
        f"its group ends at sample {group.stop} of {asked.stop}": group.stop > asked.stop or group.start < asked.start,
        "its streams are none of its group": not set(point.reading) <= set(group),
        "a stream is read twice": len(set(point.reading)) < len(point.reading),
        "it has read tokens of no stream": bool(point.position) and not point.reading,
        "its losses are none of its streams": point.sums is not None and len(point.sums) != len(point.reading),
    }
    if fault := next((fault for fault, there in faults.items() if there), None):
        raise Damaged(fault)


def _answered(line: bytes) -> Answered | None:
    """The answer on a line; None if the line is damaged."""
    try:
        digest, _, text = line.decode().partition(" ")
        if digest != _digest(text):
            return None
        answered = _ANSWERED.validate_json(text)
        _ROWS.validate_python((answered.row,))
    except ValueError:  # pydantic's, and of what is no text
        return None
    return answered


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _first_fault(error: ValidationError) -> str:
    """The first of pydantic's complaints: 'position: Input should be a valid integer'."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
