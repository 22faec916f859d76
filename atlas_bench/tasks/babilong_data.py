"""Where BABILong's questions come from: simulated, from a folder of bAbI files, or the published contexts.

    source("generated")(sampler).samples(100, seed=0)      every sample a new story
    source("hub")(sampler).samples(100, seed=0)            the hub's 100 contexts of a length; "hub-1k" has about 1000

On the hub the contexts are given, so there `length` picks the configuration (16K -> "16k", 0 -> "0k") and a sample
is as long as its text, which differs from tokenizer to tokenizer; rows come in the hub's order, whatever the seed.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import islice
from typing import Any

from atlas_bench.errors import UserError
from atlas_bench.files import hub, text_files
from atlas_bench.tasks import babi
from atlas_bench.tasks.babilong_sampler import Case, Sampler
from atlas_bench.tasks.scorers import LABELS
from atlas_bench.tasks.texts import Tokens, parts
from atlas_bench.types import Sample
from atlas_bench.units import format_length, parse_length

_SHORT = ("1k", "2k", "4k", "8k", "16k", "32k", "64k", "128k")
HUBS = {  # data -> repository, configurations besides "0k", and how many bAbI tasks they have
    "hub": ("RMT-team/babilong", (*_SHORT, "256k", "512k", "1M", "2M", "10M"), 10),
    "hub-1k": ("RMT-team/babilong-1k-samples", _SHORT, 5),
}
DRAWS = 5000  # stories simulated in search of one that fits
PROBES, FITTING = 400, 5  # a length will do where 5 of 400 stories fit: 5000 draws then hardly ever fail


class Generated:
    """A new story for every sample."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler
        self.data_key = _simulator(sampler.subset)

    def least(self) -> int:
        """The length that a few stories in a hundred fit in, or any lower bound that the cell exceeds."""
        rng = random.Random(f"babilong probe {self.sampler.subset}")
        needs: list[int] = []
        while len(needs) < PROBES and sum(need <= self.sampler.length for need in needs) < FITTING:
            needs.append(self.sampler.needs(self._draw(rng)))
        return sorted(needs)[FITTING - 1]

    def samples(self, n: int, seed: int) -> Iterator[Sample]:
        for i in range(n):
            rng = random.Random(f"babilong {self.sampler.subset} {seed} {i}")
            yield self.sampler.sample(i, self._fitting(rng), rng, self.data_key)

    def _draw(self, rng: random.Random) -> Case:
        story = babi.simulate(self.sampler.subset, rng)
        return _case(story, story.questions[int(rng.random() * len(story.questions))])

    def _fitting(self, rng: random.Random) -> Case:
        for _ in range(DRAWS):
            case = self._draw(rng)
            if self.sampler.holds(case):
                return case
        raise UserError(
            f"none of {DRAWS} simulated {self.sampler.subset} stories fits in {self.sampler.length} tokens;"
            f" {self.least()} would do."
        )


class Folder:
    """The questions of bAbI files, each once, shuffled by the seed; those that do not fit are left out."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler
        path = sampler.options.data
        stories = _stories(path, sampler.options.encoding, text_files.version(path)).get(sampler.subset)
        if not stories:
            raise UserError(
                f"data '{path}' has no bAbI file of {sampler.subset}. Give 'generated', 'hub', or a folder with"
                f" files like {sampler.subset}_*.txt."
            )
        self.cases = [_case(story, question) for story in stories for question in story.questions]
        self.data_key = f"folder {_sha(self.cases)}"

    def least(self) -> int:
        return min(map(self.sampler.needs, self.cases))

    def samples(self, n: int, seed: int) -> Iterator[Sample]:
        subset, length = self.sampler.subset, self.sampler.length
        rng = random.Random(f"babilong {subset} {seed}")
        order = sorted(self.cases, key=lambda _: rng.random())  # not shuffle(): it may change with Python
        fitting = [case for case in order if self.sampler.holds(case)]
        if n > len(fitting):
            raise UserError(
                f"n = {n} samples of {subset} are more than the {len(fitting)} questions in"
                f" '{self.sampler.options.data}' that fit in {length} tokens."
                f" Use --samples {len(fitting)}, or --data generated."
            )
        for i, case in enumerate(fitting[:n]):
            yield self.sampler.sample(i, case, random.Random(f"babilong {subset} {seed} {i}"), self.data_key)


class Hub:
    """The contexts published with the paper, streamed; see the module's docstring on their length."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler
        self.repository, names, tasks = HUBS[sampler.options.data]
        configs = {0: "0k"} | {parse_length(name): name for name in names}
        if sampler.length not in configs:
            raise UserError(
                f"BABILong on the hub ({self.repository}) has no contexts of length {format_length(sampler.length)}."
                f" It has {', '.join(configs.values())}; --data generated has every length."
            )
        if sampler.length and int(sampler.subset.removeprefix("qa")) > tasks:
            raise UserError(
                f"BABILong on the hub ({self.repository}) has {sampler.subset} at length 0 alone, longer ones for"
                f" qa1 to qa{tasks}. Use --len 0, or --data generated, which has every length."
            )
        self.config = configs[sampler.length]

    def least(self) -> int:
        return 0

    def samples(self, n: int, seed: int) -> Iterator[Sample]:
        i = -1
        advice = "Use --data generated, or a folder of bAbI files."
        rows = hub.rows(self.repository, self.config, split=self.sampler.subset, advice=advice)
        for i, row in enumerate(islice(rows, n)):
            yield self._sample(i, row)
        if i + 1 < n:
            raise UserError(
                f"n = {n} samples are more than the {i + 1} of {self.sampler.subset} {self.config} on the hub."
                f" Use --samples {i + 1}, or --data generated."
            )

    def _sample(self, index: int, row: Mapping[str, str]) -> Sample:
        encode, prompt = self.sampler.encode.tokenizer.encode, self.sampler.prompt
        text, question = prompt.separator + row["input"].strip(), row["question"].strip()  # "Where is Mary? " there
        context = Tokens([self.sampler.before, *map(encode, parts(text))])
        return Sample(
            index,
            context,
            self.sampler.encode(prompt.after(question)),
            (row["target"],),
            {
                "question": question,
                "labels": LABELS[self.sampler.subset],
                "plan_hash": context.digest(),
                "corpus_key": f"{self.repository} {self.config}",
                "data_key": f"{self.repository} {self.config}, stripped",  # earlier versions kept a question's blank
                "prompt_hash": prompt.hash,
            },
        )


def source(data: str) -> Callable[[Any], Any]:
    """The class of a data option: takes a Sampler, has least() and samples(n, seed)."""
    return Generated if data == "generated" else Hub if data in HUBS else Folder


@cache
def _stories(folder: str, encoding: str | None, version: Any) -> dict[str, list[babi.Story]]:
    return babi.load_folder(folder, encoding)


@cache
def _simulator(subset: str) -> str:
    # Some of its stories name the simulator: no version number that somebody must remember to raise.
    return f"simulator {_sha([babi.simulate(subset, random.Random(i)) for i in range(20)])}"


def _sha(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


def _case(story: babi.Story, question: babi.Question) -> Case:
    facts = tuple(story.facts[: question.after])
    return Case(facts, question.text, question.answer, tuple(question.supporting))
