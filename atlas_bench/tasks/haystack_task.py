"""A task that hides facts in running text and asks about them: all of it but the facts and the questions.

    class Capitals(HaystackTask):
        name, subsets = "capitals", ("one",)

        def rules(self, subset):
            return Rules({"capitals/contains": Scorer(contains)}, chance=0, max_answer_tokens=8)

        def hide(self, subset, rng, length):
            code = str(int(rng.random() * 10**6))
            ask = Question(" What is the code of Norland?", (code,), supporting=(0,), prefill=" The code of Norland is")
            return Hidden(facts=(f" The code of Norland is {code}.",), questions=(ask,))

A sample has exactly the cell's length whatever its question takes: the background fills what the rest leaves.
Questions of one context that differ in tokens are asked a little earlier or later, the longest first, after a
few tokens of background that follow everything hidden. Facts go between sentences; the last one alone is cut.
"""

from __future__ import annotations

import hashlib
import random
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, islice
from typing import Any

from atlas_bench.errors import UserError, did_you_mean
from atlas_bench.tasks import corpora
from atlas_bench.tasks.haystack import Pieces, Span, background, intersperse, place
from atlas_bench.tasks.haystack_lessons import HaystackLessons
from atlas_bench.tasks.hidden import Hidden, Question
from atlas_bench.types import Rules, Sample, TaskOptions, Tokenizer

PROBES = 20  # contexts drawn to learn how many tokens a subset takes; who takes more is drawn again
DRAWS = 1000


class HaystackTask:
    """Base of such tasks; implements types.Task except rules, hide and describe.

    takes              which of TaskOptions the task understands; any other that is given is refused
    persistent_answer  whether an answer stays right whatever facts follow: training then asks on the way, not only
                       at the end
    """

    name: str
    subsets: tuple[str, ...]
    version = "1"
    reads_text = True
    takes: tuple[str, ...] = ("background",)
    persistent_answer = False

    def __init__(self) -> None:
        self._corpora = corpora.CorpusCache()
        self._data_keys: dict[tuple[str, int], str] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        """Take `lasting`, the last version's name of persistent_answer, for one version more."""
        super().__init_subclass__(**options)
        if "lasting" in vars(cls):
            warnings.warn(f"{cls.__name__}: `lasting` is called `persistent_answer` now", stacklevel=2)
            cls.persistent_answer = vars(cls)["lasting"]

    def rules(self, subset: str) -> Rules:
        """How the subset's questions are answered and judged."""
        raise NotImplementedError

    def hide(self, subset: str, rng: random.Random, length: int) -> Hidden:
        """One context's facts and rules(subset).questions_per_context questions, by rng.random() alone."""
        raise NotImplementedError

    def describe(self) -> str:
        """What is measured, on what, by which scorers, with the pitfalls and an example."""
        raise UserError(f"task '{self.name}' has no describe(). Let it return the text that `describe` is to show.")

    def lessons(
        self, subsets: Sequence[str], tokenizer: Tokenizer, seed: int, corpora: Sequence[corpora.Corpus]
    ) -> HaystackLessons:
        """Training contexts of some subsets over some corpora."""
        return HaystackLessons(self, subsets, corpora, tokenizer, seed)

    def draw(self, subset: str, seed: str, number: int, length: int) -> tuple[Hidden, str]:
        """What context `number` of a cell hides, and a label: equal labels choose equal background."""
        label = f"{type(self).name} {subset} {seed} {number}"  # self.name has a version where it is a user's file
        return self.hide(subset, random.Random(label), length), label

    def corpus(self, subset: str, tokenizer: Tokenizer, options: TaskOptions) -> corpora.Corpus:
        """The background, opened once per tokenizer."""
        return self._corpora.open(options, tokenizer)

    def background(self, subset: str, corpus: corpora.Corpus, tokens: int, rng: random.Random) -> list[Span]:
        """The text around the facts, as spans of the corpus that are exactly that many tokens."""
        return background(corpus, tokens, rng)

    def check(self, subset: str, length: int, tokenizer: Tokenizer, options: TaskOptions) -> None:
        """Raise UserError if no sample of that length can be made, saying what length would do."""
        if subset not in self.subsets:
            raise UserError(
                f"{self.name} has no subset '{subset}'.{did_you_mean(subset, self.subsets)}"
                f" Known: {', '.join(self.subsets)}."
            )
        for option in ("data", "background", "prompt"):
            given = getattr(options, option)
            if option not in self.takes and given != getattr(TaskOptions(), option):
                raise UserError(f"{self.name} has no --{option} '{given}'. Leave --{option} out.")
        least = _Sampler(self, subset, length, tokenizer, options).least()
        if length < least:
            raise UserError(
                f"length {length} is too short for {self.name}:{subset}: what it hides and asks calls for {least}"
                f" tokens. Use --len {least} or more."
            )

    def samples(
        self, subset: str, length: int, n: int, seed: int, tokenizer: Tokenizer, options: TaskOptions
    ) -> Iterator[Sample]:
        """The first n samples of a cell; those of one context follow each other and share the object."""
        shared = self.rules(subset).questions_per_context
        sampler = _Sampler(self, subset, length, tokenizer, options)
        for first in range(0, n, shared):
            yield from islice(sampler.samples(seed, first // shared, first), n - first)


def contains(answer: str, sample: Sample) -> bool:
    """True if the first target stands in the answer as whole words, ignoring case."""
    words = re.escape(" ".join(sample.targets[0].split()))
    return re.search(rf"(?<!\w){words}(?!\w)", " ".join(answer.split()), re.IGNORECASE) is not None


Ids = tuple[int, ...]


@dataclass(frozen=True)
class _Encoded:
    """What a context hides, in tokens: text before it, facts, and (text, prefill) of every question."""

    hidden: Hidden
    before: Ids
    facts: Sequence[Ids]
    asks: Sequence[tuple[Ids, Ids]]

    @property
    def size(self) -> int:
        """Tokens of the context that are no background."""
        return len(self.before) + sum(map(len, self.facts))

    @property
    def after(self) -> list[int]:
        """Tokens of each question that is asked at the end."""
        asked = zip(self.hidden.questions, self.asks, strict=True)
        return [len(text) + len(more) for q, (text, more) in asked if q.asked_at is None and q.distance is None]


@dataclass(frozen=True)
class _Sampler:
    """All that the samples of a cell have in common."""

    task: HaystackTask
    subset: str
    length: int
    tokenizer: Tokenizer
    options: TaskOptions

    @cached_property
    def corpus(self) -> corpora.Corpus:
        return self.task.corpus(self.subset, self.tokenizer, self.options)

    @cached_property
    def spare(self) -> int:
        """Tokens of the length that the answer takes."""
        rules = self.task.rules(self.subset)
        return rules.max_answer_tokens * rules.counts_answer

    @cached_property
    def data_key(self) -> str:
        """Says which facts and questions there may be: no version number that somebody must remember to raise."""
        known, where = self.task._data_keys, (self.subset, self.length)
        if where not in known:  # drawing the probes takes longer than a sample, and each seed's cell asks for them
            drawn = hashlib.sha256(repr(list(self.probes(self.length))).encode()).hexdigest()
            known[where] = f"{self.task.name} {drawn[:16]}"
        return known[where]

    def probes(self, length: int) -> Iterator[Hidden]:
        return (self.task.draw(self.subset, "probe", number, length)[0] for number in range(PROBES))

    def encode(self, hidden: Hidden) -> _Encoded:
        shared = self.task.rules(self.subset).questions_per_context
        if not isinstance(hidden, Hidden) or len(hidden.questions) != shared:
            made = f"{len(hidden.questions)} questions" if isinstance(hidden, Hidden) else type(hidden).__name__
            raise UserError(
                f"{self.task.name}:{self.subset}: hide() gave {made}, and rules() says {shared} on each context. Return"
                f" Hidden(facts, questions) with {shared}, or change questions_per_context."
            )
        asked = [text for question in hidden.questions for text in (question.text, question.prefill)]
        ids = [tuple(made) for made in self.tokenizer.encode_batch([hidden.before, *hidden.facts, *asked])]
        rest = ids[1 + len(hidden.facts) :]
        return _Encoded(hidden, ids[0], ids[1 : 1 + len(hidden.facts)], list(zip(rest[::2], rest[1::2], strict=True)))

    def needs(self, encoded: _Encoded) -> int:
        """Tokens of the shortest sample that hides it."""
        return encoded.size + encoded.hidden.room + max(encoded.after) + self.spare

    def least(self) -> int:
        """The cell's length, or the next one at which every probe fits: what is hidden may grow with the length."""
        length, limit = self.length, 0
        while (need := max(self.needs(self.encode(hidden)) for hidden in self.probes(length))) > length:
            limit = limit or 20 * need
            if need > limit:
                raise UserError(
                    f"{self.task.name}:{self.subset} hides more than fits at every length up to {length} tokens."
                    f" Let hide() write fewer or shorter facts."
                )
            length = need
        return length

    def fitting(self, seed: int, number: int) -> tuple[_Encoded, str]:
        """Context `number` and its label, drawn again while it needs more than the length."""
        for again in range(DRAWS):
            hidden, label = self.task.draw(self.subset, f"{seed}.{again}" if again else f"{seed}", number, self.length)
            encoded = self.encode(hidden)
            if self.needs(encoded) <= self.length:
                return encoded, label
        raise UserError(
            f"none of {DRAWS} contexts of {self.task.name}:{self.subset} fits in {self.length} tokens;"
            f" {self.needs(encoded)} would do for the last. Use a longer --len."
        )

    def samples(self, seed: int, number: int, first: int) -> Iterator[Sample]:
        """The questions of one context in the order in which they are asked."""
        encoded, label = self.fitting(seed, number)
        laid, questions = self.lay_out(encoded, label), encoded.hidden.questions
        reads = [self.reads(*pair, laid) for pair in zip(questions, encoded.asks, strict=True)]
        common = {
            "facts": len(laid.positions),
            "plan_hash": laid.context.digest(),
            "corpus_key": self.corpus.key,
            "data_key": self.data_key,
        }
        for index, i in enumerate(sorted(range(len(reads)), key=reads.__getitem__), start=first):
            meta = common | laid.about(questions[i], reads[i], shared=len(questions) > 1) | dict(questions[i].meta)
            text, prefill = encoded.asks[i]
            asked_at = None if reads[i] == laid.context.length else reads[i]
            yield Sample(index, laid.context, text, questions[i].targets, meta, prefill, asked_at)

    def lay_out(self, encoded: _Encoded, label: str) -> _Laid:
        """The context: what is hidden, in the background that the label chooses."""
        rng, after, depths = random.Random(f"{label} background"), encoded.after, encoded.hidden.depths
        hiding = self.length - self.spare - encoded.size - max(after)
        spans = self.task.background(self.subset, self.corpus, hiding, rng)
        if depths is None:
            pieces, positions = intersperse(encoded.facts, spans, self.corpus, rng, prefix=encoded.before)
        else:
            pieces, positions = place(encoded.facts, depths, spans, self.corpus, prefix=encoded.before)
        tail = background(self.corpus, max(after) - min(after), rng)  # after it only the shorter questions come
        context = Pieces(self.corpus, [*pieces.items, *tail]) if tail else pieces
        ends = [position + len(fact) for position, fact in zip(positions, encoded.facts, strict=True)]
        others = accumulate(map(len, encoded.facts), initial=len(encoded.before))  # before fact i, but no background
        reached = [(at - other) / max(hiding, 1) for at, other in zip(positions, others, strict=False)]
        return _Laid(context, positions, ends, reached)

    def reads(self, question: Question, ids: tuple[Ids, Ids], laid: _Laid) -> int:
        """Tokens of the context before the question; the context may end before a short question's own end."""
        at_the_end = self.length - self.spare - sum(map(len, ids))
        if question.asked_at is not None:
            return question.asked_at
        if question.distance is not None:
            wanted = max(laid.ends[fact] for fact in question.supporting) + question.distance
            return min(wanted, at_the_end, laid.context.length)
        return at_the_end


@dataclass(frozen=True)
class _Laid:
    """A context with each fact's position, the position after it and its depth."""

    context: Pieces
    positions: Sequence[int]
    ends: Sequence[int]
    depths: Sequence[float]

    def about(self, question: Question, read: int, *, shared: bool) -> dict[str, Any]:
        """What Sample.meta says of a question asked after `read` tokens."""
        supporting = question.supporting
        if read > self.context.length or any(self.ends[fact] > read for fact in supporting):
            raise ValueError(f"'{question.text}' asked after {read} tokens is before its facts, or after the context")
        where = tuple(self.positions[fact] for fact in supporting)
        meta = {
            "question": question.text.strip(),
            "asked_at": read,
            "needle_positions": where if shared else tuple(self.positions),
            "supporting": where,
        }
        if len(supporting) == 1:
            meta |= {"needle_depth": self.depths[supporting[0]], "distance": read - self.ends[supporting[0]]}
        return meta
