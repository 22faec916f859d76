"""The nouns of the harness; of ours it imports the errors alone.

The way of the data:

    Task ──samples──> Sample(context, question, targets)
    Model.feed(state, block) ──> state ──...──> Model.answer(state, question) ──> str
    Scorer(answer, sample) ──> 0..1 ──> Record

A context is a *plan* (a few hundred bytes) that turns into tokens one block at a time;
a model's memory of it is a *state* of constant size.
"""

from __future__ import annotations

import numbers
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np  # 0.1 s, of which `import atlas_bench` and --help need nothing

Status = Literal["ok", "oom", "timeout", "unsupported", "failed"]
PromptName = Literal["bare", "official"]  # of tasks/prompts.py, which has their words


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

    @property
    def length(self) -> int: ...

    def read(self, start: int, stop: int) -> np.ndarray:
        """Tokens [start, stop) as int32; independent of how the range is split."""
        ...


@dataclass(frozen=True)
class Sample:
    """One question on one context.

    index      position in its cell; (seed, task, subset, length, index) makes the sample again
    context    prompt up to the question, lazily; samples in a row may share the object, and it is then read once
    question   token ids that follow the context and end where the model's turn begins
    targets    right answers as text (one, unless the task defines alternatives)
    meta       what a scorer or a reader needs: question text, fact positions, labels, plan hash
    prefill    token ids with which the answer is made to begin (RULER's answer prefix)
    asked_at   tokens of the context that are read before the question, None for all: one stream, many questions
    """

    index: int
    context: Context
    question: tuple[int, ...]
    targets: tuple[str, ...]
    meta: Mapping[str, Any] = field(default_factory=dict)
    prefill: tuple[int, ...] = ()
    asked_at: int | None = None

    @property
    def reads(self) -> int:
        """Tokens of the context that are read before the question."""
        return self.context.length if self.asked_at is None else self.asked_at

    @property
    def asked(self) -> tuple[int, ...]:
        """The text after the context: the question, and the answer's beginning."""
        return (*self.question, *self.prefill)

    @property
    def length(self) -> int:
        """Tokens of the whole prompt."""
        return self.reads + len(self.question) + len(self.prefill)


@dataclass(frozen=True)
class Scorer:
    """A named rule of judgement; its version is raised when a verdict may change.

    rule  (answer, sample) -> whether, or what share of it, is right: a bool or a number in 0..1
    """

    rule: Callable[[str, Sample], bool | float]
    version: str = "1"

    def __call__(self, answer: str, sample: Sample) -> bool | float:
        """The verdict as a bool, or a float in 0..1; ValueError for anything else."""
        import numpy as np

        verdict = self.rule(answer, sample)
        if isinstance(verdict, (bool, np.bool_)) or (isinstance(verdict, int) and verdict in (0, 1)):
            return bool(verdict)
        if isinstance(verdict, (numbers.Real, np.number)) and 0 <= verdict <= 1:
            return float(verdict)
        raise ValueError(
            f"the scorer {getattr(self.rule, '__name__', 'rule')} gave {verdict!r} for the answer {answer[:60]!r}; "
            "a scorer gives True, False or a number from 0 to 1"
        )


@dataclass(frozen=True)
class Rules:
    """How the questions of a subset are answered and judged.

    scorers                name -> Scorer, e.g. "babilong/official"; the first is the headline. None at all: nothing is
                           asked, and the loss on the context itself is measured
    chance                 mean score of the best answer that does not read the context
    max_answer_tokens      tokens a model may answer with
    stop                   texts that end an answer; the model's own end of text always does
    counts_answer          whether a cell's length counts max_answer_tokens too, as RULER's does
    questions_per_context  samples in a row that share one context
    restart                tokens after which a model that is measured by its loss starts again
    """

    scorers: Mapping[str, Scorer]
    chance: float
    max_answer_tokens: int
    stop: tuple[str, ...] = ("\n",)
    counts_answer: bool = False
    questions_per_context: int = 1
    restart: int | None = None

    def __post_init__(self) -> None:
        wrong = [name for name, scorer in self.scorers.items() if not isinstance(scorer, Scorer)]
        if wrong:
            raise TypeError(f"scorer '{wrong[0]}' is no Scorer: write {{'{wrong[0]}': Scorer(function, version='1')}}")
        if not 0 <= self.chance < 1 or isinstance(self.stop, str) or self.questions_per_context < 1:
            raise ValueError(
                f"rules need 0 <= chance < 1, a tuple of stop texts and one question or more on a context, not "
                f"{self.chance}, {self.stop!r} and {self.questions_per_context}"
            )


@dataclass(frozen=True)
class TaskOptions:
    """What a user may choose about a task's data.

    data             "generated", "hub", or the path of a local folder of bAbI files
    background       "generated", "pg19" (hub), or the path of a folder of .txt files
    prompt           "bare" or "official"
    encoding         of the files in those folders; None for UTF-8
    document_tokens  of each document of made text, at least; None for the tasks' own million. Fewer are made
                     sooner, and are other text
    """

    data: str = "generated"
    background: str = "generated"
    prompt: str = "bare"
    encoding: str | None = None
    document_tokens: int | None = None

    def given(self) -> dict[str, Any]:
        """The options as a record has them: those that are None are left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}


class Task(Protocol):
    """A family of questions on long contexts.

    A task may also have

    lessons(subsets, tokenizer, seed, corpora)    where models can be trained on it, see tasks/lessons.py
    reads_text = False                            where it takes no data, background or prompt
    rules_for(subset, options) -> Rules           where the options decide the rules; rules(subset) are the default's
    usual = ("qa1", ..)                           subsets that its bare name stands for, where that is not all of them
    """

    name: str
    subsets: tuple[str, ...]
    version: str

    def rules(self, subset: str) -> Rules: ...

    def check(self, subset: str, length: int, tokenizer: Tokenizer, options: TaskOptions) -> None:
        """Raise UserError if no sample of that length can be made."""
        ...

    def samples(
        self, subset: str, length: int, n: int, seed: int, tokenizer: Tokenizer, options: TaskOptions
    ) -> Iterator[Sample]:
        """The first n samples of a cell; sample i does not depend on n, and none is longer than `length`."""
        ...

    def describe(self) -> str: ...


class Model(ABC):
    """Reads a stream block by block into a state of which any row can be forked and asked.

    A subclass needs `name`, `tokenizer`, start(), feed() and answer(); everything else has a default. row(),
    state_bytes(), pack() and unpack() expect a state that is a dict of numpy arrays [B, ...]: a model with another
    kind of state defines these four as well. The runner never looks into a state: start() makes it, feed() returns
    a new one, and nobody changes one in place.

    name         what records call the model
    tokenizer    text to token ids and back; lengths are counted in its tokens
    spec         what was loaded, where the user gave it another name to be shown
    block        tokens that are best fed at once, over all streams
    concurrency  questions that are best asked at once, where there is an answer_all()
    wrap         token ids before every prompt, and between question and answer: a chat template's, a first token;
                 they come on top of a cell's length
    opening      token ids before a text that is no prompt: a first token
    sees_before  tokens before a block that search() wants to see
    """

    name: str
    tokenizer: Tokenizer
    spec: str | None = None
    block: int = 4096
    concurrency: int = 1
    wrap: tuple[Sequence[int], Sequence[int]] = ((), ())
    opening: Sequence[int] = ()
    sees_before: int = 0

    @abstractmethod
    def start(self, batch: int) -> Any:
        """The state of `batch` streams that have read nothing."""

    @abstractmethod
    def feed(self, state: Any, tokens: np.ndarray) -> Any:
        """The state after the next tokens, int32 [B, T]; the split into blocks never changes a result."""

    @abstractmethod
    def answer(self, state: Any, question: Sequence[int], max_tokens: int, stop: Sequence[str] = ("\n",)) -> str:
        """Greedy text after the question, up to a stop text, the end of text or max_tokens; state is unchanged.

        A stop text ends what comes after the first character that is no blank: a model may begin with a line break.
        Raises errors.NoAnswer if there is none: the sample is `failed`, and the others are asked.
        """

    def supports(self, length: int) -> str | None:
        """None, or why a prompt of that length cannot be read and what it would take."""
        return None

    def streams(self, length: int) -> int:
        """How many streams of that length fit side by side, one or more."""
        return sys.maxsize

    def row(self, state: Any, index: int) -> Any:
        """A fork of one stream's state, batch 1; IndexError if the state is of fewer streams."""
        arrays = self._arrays(state)
        short = next((name for name, array in arrays.items() if len(array) <= index), None)
        if short is not None:
            raise IndexError(
                f"the state of {type(self).__name__} has '{short}' of shape {arrays[short].shape}, and stream {index} "
                "of the batch is asked: start() and feed() keep one row for each stream"
            )
        return {name: array[index : index + 1].copy() for name, array in arrays.items()}

    def state_bytes(self, state: Any) -> int:
        """Bytes of one stream's state."""
        return sum(array[:1].nbytes for array in self._arrays(state).values())

    def pack(self, state: Any) -> dict[str, np.ndarray]:
        """The state as named arrays for a checkpoint; unpack() restores it bit for bit."""
        return dict(self._arrays(state))

    def unpack(self, arrays: Mapping[str, np.ndarray]) -> Any:
        """The state that pack() made the arrays of."""
        return dict(arrays)

    def finite(self, state: Any) -> bool:
        """False once the state has numbers that are not finite: the cell then fails, with the token at which that
        happened."""
        return True

    def facts(self) -> dict[str, Any]:
        """What a record says of the model: parameters, memory, kernel, device, weights_hash, ..

        Without a weights_hash two models of one name are one model to the records.
        """
        return {}

    def begin_cell(self) -> None:
        """A cell begins: from here on facts() describes what this cell ran."""
        return None

    def logprobs(self, state: Any, tokens: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray]:
        """(the state after all tokens [B, T + 1] except the last, nats, greedy), for losses and likelihoods.

        nats    log-probabilities of tokens[:, 1:], float32 [B, T]
        greedy  whether each was the likeliest token, bool [B, T]
        """
        raise NotImplementedError(f"{type(self).__name__} has no logprobs()")

    def answer_all(
        self,
        asked: Sequence[tuple[Any, Sequence[int]]],
        max_tokens: int,
        stop: Sequence[str] = ("\n",),
        keep: Callable[[int, str | Exception], Any] = lambda i, answer: None,
    ) -> Any:
        """Answer many (state, question) at once; a model that does not define it is asked one by one.

        keep  is to be given (i, answer) as soon as it is there, or the exception that stands for it: the runner then
              puts it on disk, since such answers cost money
        """
        raise NotImplementedError(f"{type(self).__name__} has no answer_all()")

    def peek(self, samples: Sequence[Sample]) -> None:
        """Controls alone are shown the samples that they are asked next: see models/oracle.py."""
        return None

    def search(self, before: np.ndarray, tokens: np.ndarray) -> Any:
        """Find what replay() needs of tokens [B, T] that follow `before` [B, <= sees_before]; None: use feed().

        It takes no state, so that `run --readers N` lets N threads search N blocks at once.
        """
        raise NotImplementedError(f"{type(self).__name__} has no search()")

    def replay(self, state: Any, found: Any) -> Any:
        """The state after the block in which search() found that: the very one that feed() gives."""
        raise NotImplementedError(f"{type(self).__name__} has no replay()")

    @property
    def searches(self) -> bool:
        """Whether search() and replay() are defined."""
        return self._defines("search") and self._defines("replay")

    @property
    def has_logprobs(self) -> bool:
        """Whether logprobs() is defined."""
        return self._defines("logprobs")

    @property
    def answers_together(self) -> bool:
        """Whether answer_all() is defined."""
        return self._defines("answer_all")

    @property
    def is_control(self) -> bool:
        """Whether the model sees the samples: its scores are bounds, and say nothing about a memory."""
        return self._defines("peek")

    @property
    def is_remote(self) -> bool:
        """Whether a server reads and answers: every question sends its whole context."""
        return bool(self.facts().get("device") == "server")

    def _defines(self, method: str) -> bool:
        return getattr(getattr(self, method), "__func__", None) is not getattr(Model, method)

    def _arrays(self, state: Any) -> Mapping[str, np.ndarray]:
        if isinstance(state, Mapping) and all(hasattr(array, "nbytes") for array in state.values()):
            return state
        raise TypeError(
            f"the state of {type(self).__name__} is a {type(state).__name__}, not a dict of numpy arrays: define "
            "row(), state_bytes(), pack() and unpack() for it"
        )
