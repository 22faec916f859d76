"""BABILong: the facts of a bAbI story scattered through a long text, and one question about them.

    The doctor had written to John about the kitchen and travel, though the dim book shone nine miles from
    Saint Audrey. Mary moved to the bathroom. That market-day, he and Mr. Harcourt apparently prayed through
    the poet's lighthouse. [...] John went to the hallway. [...] The door of the kitchen was cheap, and beyond
    it the badger dined under the furrow. Where is Mary?                                       -> bathroom

The facts keep their order, each in a random gap between two sentences of the background. A sample is a plan:
`length` tokens, question included, that are made when they are read.

Data is simulated ("generated": every sample a new story), a folder of bAbI files, or the published contexts
("hub"). On the hub the contexts are given, so there `length` picks the configuration (16K -> "16k") and a
sample is as long as its text, which differs from tokenizer to tokenizer; rows come in the hub's order,
whatever the seed.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import chain, islice
from typing import Any

import numpy as np

from atlas_bench.errors import UserError, did_you_mean
from atlas_bench.tasks import babi, corpora, prompts, prose
from atlas_bench.tasks.babilong_lessons import BabilongLessons
from atlas_bench.tasks.haystack import background, intersperse
from atlas_bench.tasks.scorers import LABELS, SCORER_VERSIONS, SCORERS
from atlas_bench.types import Sample, TaskOptions, Tokenizer
from atlas_bench.units import format_length, parse_length

HUB = "RMT-team/babilong"
HUB_CONFIGS = {
    parse_length(config): config
    for config in ("1k", "2k", "4k", "8k", "16k", "32k", "64k", "128k", "256k", "512k", "1M", "2M", "10M")
}
DRAWS = 5000  # stories simulated in search of one that fits
PROBES, FITTING = 400, 5  # a length will do where 5 of 400 stories fit: 5000 draws then hardly ever fail

# One of the commonest answers and its share of the simulator's questions: places are equally likely, and so
# are people; qa5 asks for a thing in a third of its questions.
COMMONEST = {
    **dict.fromkeys(("qa1", "qa2", "qa3", "qa4"), ("kitchen", 1 / 6)),
    "qa5": ("Mary", 0.169),
}


@dataclass(frozen=True)
class Case:
    """One question with the facts before it; earlier questions are dropped, as in BABILong."""

    facts: tuple[str, ...]
    question: str
    answer: str
    supporting: tuple[int, ...]  # numbers of facts


class Babilong:
    """The task; implements types.Task."""

    name = "babilong"
    subsets = tuple(babi.SUBSETS)
    scorers = SCORERS
    scorer_versions = SCORER_VERSIONS
    version = "1"
    max_answer_tokens = 20  # the official protocol's
    reads_text = True

    def __init__(self) -> None:
        self._corpora: dict[tuple[str, str], corpora.Corpus] = {}
        self._encoders: dict[str, Encoder] = {}

    def check(self, subset: str, length: int, tokenizer: Tokenizer, options: TaskOptions) -> None:
        """Raise UserError where no sample of that length can be made, saying what length would do."""
        cell = self._cell(subset, length, tokenizer, options)
        least = SOURCES.get(options.data, _Folder)(cell).least()
        if length < least:
            raise UserError(
                f"length {length} is too short for babilong:{subset}: with the '{cell.prompt.name}' prompt,"
                f" the shortest stories and their question take {least} tokens. Use --len {least} or more."
            )

    def samples(
        self, subset: str, length: int, n: int, seed: int, tokenizer: Tokenizer, options: TaskOptions
    ) -> Iterator[Sample]:
        """The first n samples of a cell; sample i does not depend on n.  UserError where there are fewer."""
        cell = self._cell(subset, length, tokenizer, options)
        yield from SOURCES.get(options.data, _Folder)(cell).samples(n, seed)

    def chance(self, subset: str) -> float:
        """The share of the commonest answer: what one constant answer scores."""
        return COMMONEST[subset][1]

    def lessons(
        self, subsets: Sequence[str], tokenizer: Tokenizer, seed: int, corpora: Sequence[corpora.Corpus]
    ) -> BabilongLessons:
        """Training contexts of some subsets over some corpora."""
        return BabilongLessons(subsets, corpora, tokenizer, seed)

    def describe(self) -> str:
        """What is measured, on what, by which scorers, with the pitfalls and an example."""
        chances = ", ".join(f"{subset} {self.chance(subset):.1%}" for subset in self.subsets)
        return DESCRIPTION.format(
            subsets=", ".join(self.subsets),
            scorers=", ".join(f"{name} (version {SCORER_VERSIONS[name]})" for name in self.scorers),
            chances=chances,
            example=_example(),
        )

    def _cell(self, subset: str, length: int, tokenizer: Tokenizer, options: TaskOptions) -> Cell:
        if subset not in self.subsets:
            raise UserError(
                f"babilong has no subset '{subset}'.{did_you_mean(subset, self.subsets)}"
                f" Known: {', '.join(self.subsets)}."
            )
        encode = self._encoders.setdefault(tokenizer.key, Encoder(tokenizer))
        prompt = prompts.load(options.prompt, subset)
        return Cell(subset, length, encode, prompt, options, self._corpora)


class Encoder:
    """Token ids of a text, remembered: stories are made of a few hundred sentences."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._known: dict[str, tuple[int, ...]] = {}

    def __call__(self, text: str) -> tuple[int, ...]:
        ids = self._known.get(text)
        if ids is None:
            ids = self._known[text] = tuple(self.tokenizer.encode(text))
        return ids


@dataclass(frozen=True)
class Cell:
    """All that the samples of a cell have in common."""

    subset: str
    length: int
    encode: Encoder
    prompt: prompts.Prompt
    options: TaskOptions
    corpora: dict[tuple[str, str], corpora.Corpus]

    @cached_property
    def corpus(self) -> corpora.Corpus:
        """The background, opened once per tokenizer."""
        key = (self.options.background, self.encode.tokenizer.key)
        if key not in self.corpora:
            self.corpora[key] = corpora.open_corpus(self.options.background, self.encode.tokenizer)
        return self.corpora[key]

    @cached_property
    def before(self) -> tuple[int, ...]:
        return self.encode(self.prompt.before)

    def needs(self, case: Case) -> int:
        """Tokens of everything but the background."""
        after = self.encode(self.prompt.after(case.question))
        return len(self.before) + len(after) + sum(len(self.encode(f" {fact}")) for fact in case.facts)

    def sample(self, index: int, case: Case, rng: random.Random, data_key: str) -> Sample:
        """The case hidden in as much background as fills the cell's length."""
        facts = [self.encode(f" {fact}") for fact in case.facts]
        spans = background(self.corpus, self.length - self.needs(case), rng)
        context, positions = intersperse(facts, spans, self.corpus, rng, prefix=self.before)
        return Sample(
            index,
            context,
            self.encode(self.prompt.after(case.question)),
            (case.answer,),
            {
                "question": case.question,
                "labels": LABELS[self.subset],
                "facts": len(facts),
                "needle_positions": tuple(positions),
                "supporting": tuple(positions[i] for i in case.supporting),
                "plan_hash": context.digest(),
                "corpus_key": self.corpus.key,
                "data_key": data_key,
                "prompt_hash": self.prompt.hash,
            },
        )


class _Generated:
    """A new story for every sample."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.data_key = _simulator(cell.subset)

    def least(self) -> int:
        """The length that a few stories in a hundred fit in, or any lower bound that the cell exceeds."""
        rng = random.Random(f"babilong probe {self.cell.subset}")
        needs: list[int] = []
        while len(needs) < PROBES and sum(need <= self.cell.length for need in needs) < FITTING:
            needs.append(self.cell.needs(self._draw(rng)))
        return sorted(needs)[FITTING - 1]

    def samples(self, n: int, seed: int) -> Iterator[Sample]:
        for i in range(n):
            rng = random.Random(f"babilong {self.cell.subset} {seed} {i}")
            yield self.cell.sample(i, self._fitting(rng), rng, self.data_key)

    def _draw(self, rng: random.Random) -> Case:
        story = babi.simulate(self.cell.subset, rng)
        return _case(story, story.questions[int(rng.random() * len(story.questions))])

    def _fitting(self, rng: random.Random) -> Case:
        for _ in range(DRAWS):
            case = self._draw(rng)
            if self.cell.needs(case) <= self.cell.length:
                return case
        raise UserError(
            f"none of {DRAWS} simulated {self.cell.subset} stories fits in {self.cell.length} tokens;"
            f" {self.least()} would do."
        )


class _Folder:
    """The questions of bAbI files, each once, shuffled by the seed; those that do not fit are left out."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        path = cell.options.data
        stories = _stories(path).get(cell.subset)
        if not stories:
            raise UserError(
                f"data '{path}' has no bAbI file of {cell.subset}. Give 'generated', 'hub', or a folder with"
                f" files like {cell.subset}_*.txt."
            )
        self.cases = [_case(story, question) for story in stories for question in story.questions]
        self.data_key = f"folder {_sha(self.cases)}"

    def least(self) -> int:
        return min(map(self.cell.needs, self.cases))

    def samples(self, n: int, seed: int) -> Iterator[Sample]:
        subset, length = self.cell.subset, self.cell.length
        rng = random.Random(f"babilong {subset} {seed}")
        order = sorted(self.cases, key=lambda _: rng.random())  # not shuffle(): it may change with Python
        fitting = [case for case in order if self.cell.needs(case) <= length]
        if n > len(fitting):
            raise UserError(
                f"n = {n} samples of {subset} are more than the {len(fitting)} questions in"
                f" '{self.cell.options.data}' that fit in {length} tokens."
                f" Use --samples {len(fitting)}, or --data generated."
            )
        for i, case in enumerate(fitting[:n]):
            yield self.cell.sample(i, case, random.Random(f"babilong {subset} {seed} {i}"), self.data_key)


class _Hub:
    """The contexts published with the paper, streamed; see the module's docstring on their length."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        if cell.length not in HUB_CONFIGS:
            raise UserError(
                f"BABILong on the hub has no contexts of length {format_length(cell.length)}."
                f" It has {', '.join(HUB_CONFIGS.values())}; --data generated has every length."
            )
        self.config = HUB_CONFIGS[cell.length]

    def least(self) -> int:
        return 0

    def samples(self, n: int, seed: int) -> Iterator[Sample]:
        i = -1
        for i, row in enumerate(islice(_hub_rows(self.config, self.cell.subset), n)):
            yield self._sample(i, row)
        if i + 1 < n:
            raise UserError(
                f"n = {n} samples are more than the {i + 1} of {self.cell.subset} {self.config} on the hub."
                f" Use --samples {i + 1}, or --data generated."
            )

    def _sample(self, index: int, row: Mapping[str, str]) -> Sample:
        encode = self.cell.encode.tokenizer.encode
        context = Tokens([self.cell.before, *(encode(part) for part in _parts(" " + row["input"].strip()))])
        return Sample(
            index,
            context,
            self.cell.encode(self.cell.prompt.after(row["question"])),
            (row["target"],),
            {
                "question": row["question"],
                "labels": LABELS[self.cell.subset],
                "plan_hash": context.digest(),
                "corpus_key": f"{HUB} {self.config}",
                "data_key": f"{HUB} {self.config}",
                "prompt_hash": self.cell.prompt.hash,
            },
        )


SOURCES: dict[str, Callable[[Cell], Any]] = {"generated": _Generated, "hub": _Hub}  # else a folder


class Tokens:
    """A Context that is given whole."""

    def __init__(self, parts: Sequence[Sequence[int]]) -> None:
        self._ids = np.concatenate([np.array(part, dtype=np.int32) for part in parts])
        self.length = len(self._ids)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Tokens [start, stop) as int32, cut at the ends of the context."""
        return self._ids[max(start, 0) : max(stop, 0)].copy()

    def digest(self) -> str:
        """sha256 of the tokens."""
        return hashlib.sha256(self._ids.tobytes()).hexdigest()


@cache
def _stories(folder: str) -> dict[str, list[babi.Story]]:
    return babi.load_folder(folder)


@cache
def _simulator(subset: str) -> str:
    # Some of its stories name the simulator: no version number that somebody must remember to raise.
    return f"simulator {_sha([babi.simulate(subset, random.Random(i)) for i in range(20)])}"


def _sha(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


def _case(story: babi.Story, question: babi.Question) -> Case:
    facts = tuple(story.facts[: question.after])
    return Case(facts, question.text, question.answer, tuple(question.supporting))


def _parts(text: str, size: int = 1 << 16) -> Iterator[str]:
    """The text in parts that begin at a space: one encode() of 10M tokens would take gigabytes."""
    start = 0
    while start < len(text):
        stop = text.find(" ", start + size)
        stop = len(text) if stop < 0 else stop
        yield text[start:stop]
        start = stop


def _hub_rows(config: str, subset: str) -> Iterator[Mapping[str, str]]:
    advice = "Use --data generated, or a folder of bAbI files."
    try:
        import datasets
    except ImportError as error:
        raise UserError(f"--data hub needs the datasets library (pip install datasets). {advice}") from error
    try:
        yield from datasets.load_dataset(HUB, config, split=subset, streaming=True)
    except Exception as error:  # the hub's client raises many kinds
        raise UserError(
            f"BABILong could not be read from the hub ({HUB} {config} {subset}):"
            f" {type(error).__name__}: {error}. {advice}"
        ) from error


DESCRIPTION = """\
BABILong (Kuratov et al. 2024): bAbI facts scattered through a long text, and a question about them.

subsets   {subsets}
source    simulated stories in generated prose; or bAbI files and .txt books; or the published contexts (hub)
scorers   {scorers}
chance    {chances} (the commonest answer, always)
pitfalls  The official scorer looks for labels as substrings; babilong/word reads whole words.
          Whoever reads the question alone beats chance where it rules answers out (qa3, qa4, qa5).
          Length counts the question and the prompt; BABILong's own lengths leave them out.
          At short lengths only short stories fit, so qa2, qa3 and qa5 are easier there.
          On the hub --len picks the configuration; the exact length is in the record.

{example}"""


def _example() -> str:
    story = babi.simulate("qa1", random.Random("babilong example"))
    question = story.questions[0]
    facts = story.facts[: question.after]
    shown = chain.from_iterable(zip(prose.sentences(0), facts, strict=False))
    return f"{' '.join(shown)} [...] {question.text} -> {question.answer}"


BABILONG = Babilong()
