"""MQAR in zoology's own form and published configurations: pairs first, each key asked where it occurs again.

    stone river  apple cloud  [... noise ... apple ... noise ... stone ...]
                                         ^ -> cloud         ^ -> river

The protocol (Arora et al. 2023; zoology, data/multiquery_ar.py): P pairs k1 v1 .. kP vP without replacement, then (L -
2P) / 2 slots of two tokens. Key j is in slot g_j, drawn without replacement from p(g) ~ a (g + 1)^(a - 1), a = 0.01, in
the order of the pairs. At each key the model is judged on its value, which is not shown. All other tokens are random
(random_non_queries), or one and the same. A subset is a published pair of L and P:

iclr24-P   (64, 4) (128, 8) (256, 16) (512, 64), blanks      Zoology, ICLR 2024, figure 2
based-P    (64, 4) (64, 8) (64, 16) (128, 32) (256, 64)
           (512, 128) (1024, 256), random tokens             Based, 2024, figure 2

At the published length this is zoology's example; a longer cell has more slots. What differs, and why:

asking    On a fork of the state at the key's slot: the same reading, since zoology's inputs never show the answer.
          All P keys stand in their slots, but of one context 4 keys, or 20 where there are as many, are asked,
          chosen at random: samples come in the stream's order, so a cell that ended amid the keys of a context
          would have asked the nearest ones only. The expected accuracy is that over all P keys.
words     512 keys and 512 values, single tokens of the model's own tokenizer, instead of 4095 and 4096 integers.
noise     Words that are neither keys nor values. zoology's random tokens are any of its 8192, so that now and then
          one of the example's keys is followed by a wrong value; over a million tokens every key would be.
          Its blank, the token 0, is one of these words.
"""

from __future__ import annotations

import hashlib
import random
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from atlas_bench.tasks.corpora import Corpus
from atlas_bench.tasks.mqar import exact
from atlas_bench.tasks.mqar_lessons import MqarLessons
from atlas_bench.tasks.pairs import POOL, Pairs, Vocabulary, bits, seed_of
from atlas_bench.tasks.word_task import WordTask
from atlas_bench.types import Rules, Sample, Scorer, TaskOptions, Tokenizer

POWER = 0.01  # a; 1 would spread the keys evenly


@dataclass(frozen=True)
class Configuration:
    """A published one: tokens, pairs, and whether the tokens between the keys are random or all the same."""

    length: int
    pairs: int
    random: bool


CONFIGURATIONS = {
    **{f"iclr24-{p}": Configuration(n, p, False) for n, p in ((64, 4), (128, 8), (256, 16), (512, 64))},
    **{
        f"based-{p}": Configuration(n, p, True)
        for n, p in ((64, 4), (64, 8), (64, 16), (128, 32), (256, 64), (512, 128), (1024, 256))
    },
}
SCORERS = {"zoology/exact": Scorer(exact)}


class Example(Pairs):
    """A Context of pairs in front and each key once more in its slot.

    slots   position of each pair's key after the pairs [P]
    random  whether the tokens between are random words or one and the same
    """

    def __init__(self, vocabulary: Vocabulary, length: int, *, pairs: int, random: bool, label: str) -> None:
        keys = bits(f"{label} keys", POOL).argsort(kind="stable")[:pairs].astype(np.int16)
        values = bits(f"{label} values", POOL).argsort(kind="stable")[:pairs].astype(np.int16)
        super().__init__(vocabulary, length, keys[:, None], values, 2 * np.arange(pairs), seed_of(f"{label} noise"))
        self.slots = 2 * (pairs + np.array(power_law(f"{label} slots", pairs, length // 2 - pairs)))
        self.random = random

    def read(self, start: int, stop: int) -> np.ndarray:
        """Tokens [start, stop) as int32, cut at the ends of the context."""
        out = super().read(start, stop)
        at = self.slots - max(start, 0)
        inside = (at >= 0) & (at < len(out))
        out[at[inside]] = self.vocabulary.keys.tokens[self.keys[inside, 0]]
        return out

    def digest(self) -> str:
        """sha256 of the plan: equal digests mean equal tokens."""
        slots = self.slots.astype("<i8").tobytes()
        return hashlib.sha256(f"{super().digest()} {self.random};".encode() + slots).hexdigest()

    def _noise(self, start: int, stop: int) -> np.ndarray:
        if self.random:
            return super()._noise(start, stop)
        return np.full(stop - start, self.vocabulary.noise.tokens[0], dtype=np.int32)


def power_law(label: str, count: int, size: int) -> list[int]:
    """`count` different numbers below `size` as drawn one after the other, g with a chance ~ (g + 1)^(POWER - 1).

    Rejection sampling: draw an octave [2^k, 2^(k + 1)) by an upper bound of its weight, a number in it evenly, and keep
    it by its share of the bound. This is exact and needs no array of `size`.
    """
    rng = random.Random(label)
    octaves = [(1 << k, min(1 << k, size + 1 - (1 << k))) for k in range(size.bit_length())]  # first, how many
    totals = list(accumulate(many * first ** (POWER - 1) for first, many in octaves))
    drawn: dict[int, None] = {}
    while len(drawn) < count:
        first, many = octaves[bisect_right(totals, rng.random() * totals[-1])]
        number = first + int(rng.random() * many)
        if rng.random() < (first / number) ** (1 - POWER):
            drawn[number - 1] = None
    return list(drawn)


class Zoology(WordTask):
    """The task; implements types.Task."""

    name = "zoology"
    subsets = tuple(CONFIGURATIONS)
    version = "1"
    exact_lengths = False  # a question is asked at its slot, and the context is as long as the cell

    def rules(self, subset: str) -> Rules:
        """A value is one token; chance is that of any one value."""
        asked = 20 if CONFIGURATIONS[subset].pairs >= 20 else 4
        return Rules(SCORERS, chance=1 / POOL, max_answer_tokens=1, questions_per_context=asked)

    def least(self, subset: str, tokenizer: Tokenizer) -> tuple[int, str]:
        """The published length."""
        return CONFIGURATIONS[subset].length, "zoology's own length is"

    def samples(
        self, subset: str, length: int, n: int, seed: int, tokenizer: Tokenizer, options: TaskOptions
    ) -> Iterator[Sample]:
        """The first n samples of a cell; those of one context follow each other and share the object."""
        self.check(subset, length, tokenizer, options)
        words, asked = self.words(tokenizer), self.rules(subset).questions_per_context
        kind = CONFIGURATIONS[subset]
        for first in range(0, n, asked):
            label = f"zoology {subset} {seed} {first // asked}"
            context = Example(words, length, pairs=kind.pairs, random=kind.random, label=label)
            chosen = bits(f"{label} asked", kind.pairs).argsort(kind="stable")[:asked].tolist()
            in_order = sorted(chosen, key=context.slots.__getitem__)[: n - first]
            yield from _questions(context, in_order, first)

    def lessons(
        self, subsets: Sequence[str], tokenizer: Tokenizer, seed: int, corpora: Sequence[Corpus] = ()
    ) -> ZoologyLessons:
        """Training contexts of some subsets; no corpus is read."""
        return ZoologyLessons(subsets, self.words(tokenizer), seed)

    def describe(self) -> str:
        """What is measured, on what, by which scorer, with the pitfalls and an example."""
        return DESCRIPTION.format(
            subsets=", ".join(f"{name} (length {kind.length})" for name, kind in CONFIGURATIONS.items()),
            scorers=", ".join(f"{name} (version {scorer.version})" for name, scorer in SCORERS.items()),
            pool=POOL,
            chance=f"{1 / POOL:.2%}",
        )


def _questions(context: Example, pairs: Sequence[int], first: int) -> Iterator[Sample]:
    """Some keys asked at their slots."""
    words, digest = context.vocabulary, context.digest()
    for index, i in enumerate(pairs, start=first):
        place, slot = int(context.places[i]), int(context.slots[i])
        yield Sample(
            index,
            context,
            context.question(i),
            (words.values.words[context.values[i]],),
            {
                "question": words.keys.words[context.keys[i, 0]],
                "labels": words.values.words,
                "facts": len(context.places),
                "needle_positions": (place,),
                "supporting": (place,),
                "distance": slot - place - context.width,
                "plan_hash": digest,
                "corpus_key": "words 1",
                "data_key": f"words {words.key}",
            },
            asked_at=slot,
        )


class ZoologyLessons(MqarLessons):
    """Training contexts in zoology's form, with any number of pairs up to the subset's; implements Lessons."""

    def examinations(self) -> list[MqarLessons]:
        """Lessons that training never draws."""
        return [ZoologyLessons(self.subsets, self.vocabulary, 0, purpose="examination")]

    def _context(self, length: int) -> Example:
        kind = CONFIGURATIONS[self.rng.choice(self.subsets)]
        pairs = self.rng.randint(1, min(kind.pairs, length // 4))
        label = f"zoology {self.purpose} {self.rng.getrandbits(128)}"
        return Example(self.vocabulary, length, pairs=pairs, random=kind.random, label=label)


DESCRIPTION = """\
MQAR in zoology's own form (Arora et al. 2023): key-value pairs of words in front, and after them every key once
more, at distances that follow a power law; at its key the model is asked for the value, on a fork of its state.

subsets   {subsets}
          (the published configuration and its number of pairs; blanks between the keys in iclr24, random words
          in based; --len may be longer, which adds distance and noise)
source    {pool} keys, {pool} values and {pool} words of noise, all single tokens of the model's own tokenizer
scorers   {scorers}
chance    {chance} (any one value, always)
pitfalls  zoology has 4095 keys and 4096 values; here they are {pool} and {pool}. Its noise is made of any tokens,
          here of words that are neither key nor value.
          zoology's figures are those of models trained from scratch on its own examples, a model each.
          Of a context's keys 4 or 20 are asked; they are not independent. Ask for a multiple of 20 samples:
          the questions of a context come in its order, so that the last context's nearest come first.

stone river apple cloud [...] apple -> cloud [...] stone -> river [...]"""


ZOOLOGY = Zoology()
