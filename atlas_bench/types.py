"""The nouns of the harness; imports nothing of ours.

The way of the data:

    Task ──samples──> Sample(context, question, targets)
    Model.feed(state, block) ──> state ──...──> Model.answer(state, question) ──> str
    Scorer(answer, sample) ──> bool ──> Record

A context is a *plan* (a few hundred bytes) that turns into tokens one block at a time;
a model's memory of it is a *state* of constant size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

Status = Literal["ok", "oom", "timeout", "unsupported", "failed"]


@runtime_checkable
class Tokenizer(Protocol):
    """Text to token ids and back; `key` is a hash of everything that decides the ids."""

    key: str
    vocab_size: int

    def encode(self, text: str) -> list[int]: ...

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]: ...

    def decode(self, ids: Sequence[int]) -> str: ...


class Context(Protocol):
    """A lazily made token sequence: any range of it can be read at O(range) memory."""

    length: int

    def read(self, start: int, stop: int) -> np.ndarray:
        """Tokens [start, stop) as int32; independent of how the range is split."""
        ...


@dataclass(frozen=True)
class Sample:
    """One question on one context.

    index      position in its cell; (seed, task, subset, length, index) makes the sample again
    context    prompt up to the question, lazily; its length + len(question) is the cell's length
    question   token ids that follow the context and end where the answer starts
    targets    right answers as text (one, unless the task defines alternatives)
    meta       what a scorer or a reader needs: question text, fact positions, labels, plan hash
    """

    index: int
    context: Context
    question: tuple[int, ...]
    targets: tuple[str, ...]
    meta: Mapping[str, Any] = field(default_factory=dict)


Scorer = Callable[[str, Sample], bool]


@dataclass(frozen=True)
class TaskOptions:
    """What a user may choose about a task's data.

    data        "generated", "hub", or the path of a local folder of bAbI files
    background  "generated", "pg19" (hub), or the path of a folder of .txt files
    prompt      "bare" or "official"
    """

    data: str = "generated"
    background: str = "generated"
    prompt: str = "bare"


class Task(Protocol):
    """A family of questions on long contexts.

    A task may also have

    questions_per_context(subset) -> int    samples in a row that share one context (the same object): it is read once
    lessons(subsets, tokenizer, seed, corpora)    where models can be trained on it, see tasks/lessons.py
    reads_text = False                      where it takes no data, background or prompt
    """

    name: str
    subsets: tuple[str, ...]
    scorers: Mapping[str, Scorer]  # "babilong/official" -> scorer; the first is the headline
    version: str
    max_answer_tokens: int

    def check(self, subset: str, length: int, tokenizer: Tokenizer, options: TaskOptions) -> None:
        """Raise UserError where no sample of that length can be made."""
        ...

    def samples(
        self, subset: str, length: int, n: int, seed: int, tokenizer: Tokenizer, options: TaskOptions
    ) -> Iterator[Sample]:
        """The first n samples of a cell; sample i does not depend on n."""
        ...

    def chance(self, subset: str) -> float:
        """The score of the best answer that does not read the context."""
        ...

    def describe(self) -> str: ...


class Model(Protocol):
    """Reads a stream block by block into a state of which any row can be forked and asked.

    State is opaque to the runner: made by start(), changed only by feed(), never in place.
    """

    name: str
    tokenizer: Tokenizer

    def supports(self, length: int) -> str | None:
        """None, or why a prompt of that length cannot be read and what it would take."""
        ...

    def start(self, batch: int) -> Any: ...

    def feed(self, state: Any, tokens: np.ndarray) -> Any:
        """State after the next tokens [B, T]; the split into blocks never changes a result."""
        ...

    def row(self, state: Any, index: int) -> Any:
        """A fork of one stream's state, batch 1."""
        ...

    def answer(self, state: Any, question: Sequence[int], max_tokens: int) -> str:
        """Greedy text after the question, up to a newline or max_tokens; state is unchanged."""
        ...

    def state_bytes(self, state: Any) -> int:
        """Bytes of one stream's state."""
        ...

    def pack(self, state: Any) -> dict[str, np.ndarray]:
        """State as named arrays for a checkpoint; unpack() restores it bit for bit."""
        ...

    def unpack(self, arrays: Mapping[str, np.ndarray]) -> Any: ...

    def facts(self) -> dict[str, Any]:
        """What a record says of the model: parameters, memory, kernel, device, weights hash..."""
        ...
