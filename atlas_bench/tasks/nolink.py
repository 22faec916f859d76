"""Needles that share no word with the question: only a definition elsewhere in the text links the two.

    [...] Those who live near the northern lighthouse call it dofumik. [...] Every door inside dofumik bears a single
    sign, papaya. [...] Which word belongs to the northern lighthouse? [...]                             -> papaya

The protocol's shape is that of NoLiMa (Modarressi et al. 2025, arXiv 2502.05167): question and needle have no content
word in common, so that who looks for the question's words does not find the needle. An associative memory is tested
in the same way: the key that is asked for is not the key under which the answer was written. Subsets:

shared    The needle names the place itself: the control, in which words do match.
linked    The needle has another name, which has been defined before.
reversed  The name is defined after the needle: what was written has to be found by what is learnt later.
chain     The name is defined by another name, defined before it: two links, as NoLiMa's two hops.

Sample i has the same places, names, words and background in every subset, and the needle at the same depth in all
but "reversed", where it changes places with its definition: differences between subsets are paired. What differs:

link      Defined in the text by coined names, where NoLiMa's is world knowledge ("the Semper Opera House" is in
          Dresden). So it can be measured and trained in any model, and is no test of knowledge.
needles   Eight in a text, each asked for, on a fork of the state after one reading; NoLiMa has one. So the one
          sentence of its kind is no answer: a guess among them is right one time in eight.
text      Generated prose, PG-19 or your own; NoLiMa filters books for what might answer by chance.
"""

from __future__ import annotations

import random

from atlas_bench.tasks import codewords
from atlas_bench.tasks.codewords import WORDS
from atlas_bench.tasks.haystack_task import HaystackTask, Hidden, Question
from atlas_bench.tasks.ruler.words import coined
from atlas_bench.types import Rules

NEEDLES = 8
COINED = 70**3  # names of three syllables

Fact = tuple[float, int, str]  # depth, number of the needle, text


class Nolink(HaystackTask):
    """The task; implements types.Task."""

    name = "nolink"
    subsets = ("shared", "linked", "reversed", "chain")
    persistent_answer = True

    def rules(self, subset: str) -> Rules:
        """How the subset's questions are answered and judged."""
        return codewords.rules("nolink", NEEDLES)

    def draw(self, subset: str, seed: str, number: int, length: int) -> tuple[Hidden, str]:
        """As the base does, but under a label that does not know the subset."""
        label = f"{type(self).name} {seed} {number}"
        return self.hide(subset, random.Random(label), length), label

    def hide(self, subset: str, rng: random.Random, length: int) -> Hidden:
        """The definitions and the needles; each needle's word is asked for by the name of the place."""
        facts: list[Fact] = []
        pairs, begin = codewords.pairs(rng, NEEDLES), int(rng.random() * (COINED - 2 * NEEDLES))
        names = coined(begin, begin + 2 * NEEDLES)  # neighbours do not look alike
        for i, (place, word) in enumerate(pairs):
            first, second, third = sorted(rng.random() for _ in range(3))
            name, other = names[2 * i : 2 * i + 2]
            known_as = {"shared": f"the {place}", "chain": other}.get(subset, name)
            definition = (first, i, f" Those who live near the {place} call it {name}.")
            needle = (third, i, f" Every door inside {known_as} bears a single sign, {word}.")
            if subset == "reversed":
                definition, needle = (third, *definition[1:]), (first, *needle[1:])
            facts += [definition, needle]
            if subset == "chain":
                facts.append((second, i, f" On older maps {name} appears as {other}."))
        facts.sort()
        return Hidden(
            tuple(text for _, _, text in facts),
            tuple(_question(place, word, _supporting(subset, facts, i)) for i, (place, word) in enumerate(pairs)),
            tuple(depth for depth, _, _ in facts),
        )

    def describe(self) -> str:
        """What is measured, on what, by which scorers, with the pitfalls and an example."""
        return DESCRIPTION.format(needles=NEEDLES, words=len(WORDS))


def _supporting(subset: str, facts: list[Fact], needle: int) -> tuple[int, ...]:
    """Numbers of the facts that answer the needle's question: without a link, the needle alone."""
    own = [number for number, (_, i, _) in enumerate(facts) if i == needle]
    return (own[-1],) if subset == "shared" else tuple(own)


def _question(place: str, word: str, supporting: tuple[int, ...]) -> Question:
    prefill = f" The word that belongs to the {place} is"
    return Question(f" Which word belongs to the {place}?", (word,), supporting, prefill, meta={"labels": WORDS})


DESCRIPTION = """\
Needles without shared words: the question names a place, the needle has another name of it, and a definition in the
text links the two (the form of NoLiMa, Modarressi et al. 2025).

subsets   shared    the needle names the place itself: the control
          linked    the name is defined before the needle
          reversed  the name is defined after the needle
          chain     two definitions in a row, then the needle
source    {words} code words of {needles} places and coined names, in generated prose, PG-19 or a folder of .txt files
scorers   nolink/word (version 1)      the answer's first sentence names the word, and no other of the {words}
          nolink/contains (version 1)  the target stands somewhere in the answer
chance    1/{words} (any one word, always)
pitfalls  Compare the subsets pairwise: sample i is the same in all of them except the link. "shared" alone is a
          needle test. Who knows the words but not the links is right once in {needles} times.
          Use --samples in multiples of {needles}; the questions of one context are not independent.
          The links are in the text and are no world knowledge: no number of NoLiMa compares with one of these.

[...] Those who live near the northern lighthouse call it dofumik. [...] Every door inside dofumik bears a single
sign, papaya. [...] Which word belongs to the northern lighthouse? The word that belongs to the northern lighthouse
is -> papaya"""


NOLINK = Nolink()
