"""Ordinal recall: a long text holds many entries of one log, and the n-th of them is asked for.

    [...] A new entry in the log of the northern lighthouse: papaya. [...] A new entry in the diary of the northern
    lighthouse: banjo. [...] A new entry in the log of the northern lighthouse: magnet. [...]
    What is the 2nd entry in the log of the northern lighthouse? [...]                                   -> magnet

The protocol's shape is that of MRCR, multi-round co-reference resolution (Vodrahalli et al. 2024, arXiv 2409.12640;
data by OpenAI, 2025): 2, 4 or 8 requests that are the same to the letter ("write a poem about tapirs") stand in a
conversation among others that differ in the form or in the topic, and the model must return the answer that the
n-th of them got. A memory that maps a key to a value keeps the last value of such a key, or a mean of them; here it
has to keep the order. What differs from MRCR:

answer    One code word of a hundred, judged by rule, where MRCR asks for a whole text after a random prefix and
          takes difflib's similarity. So chance is known, and an answer of the right length earns nothing.
needles   Also 16 and 32. Every ordinal is asked, each on a fork of the state after one reading: n questions.
others    As many entries of the same place in another book as there are needles, and as many of the same book in
          another place: MRCR's two kinds of distractor. All entries of a context are different words.
text      Prose around the entries, where MRCR's context is nothing but such conversations.
"""

from __future__ import annotations

import random

from atlas_bench.tasks import codewords
from atlas_bench.tasks.codewords import PLACES, WORDS, pick
from atlas_bench.tasks.haystack_task import HaystackTask, Hidden, Question
from atlas_bench.types import Rules

NEEDLES = (2, 4, 8, 16, 32)
BOOKS = ("log", "diary", "ledger", "register", "inventory", "calendar", "roll", "chronicle")


class Ordinal(HaystackTask):
    """The task; implements types.Task."""

    name = "ordinal"
    subsets = tuple(map(str, NEEDLES))
    persistent_answer = True  # later entries leave the n-th what it is

    def rules(self, subset: str) -> Rules:
        """How the subset's questions are answered and judged."""
        return codewords.rules("ordinal", int(subset))

    def hide(self, subset: str, rng: random.Random, length: int) -> Hidden:
        """The entries of one log among those of other books and places; each of the log's is asked for."""
        needles = int(subset)
        place, *places = pick(rng, PLACES, 1 + needles)
        book, *books = pick(rng, BOOKS, len(BOOKS))
        others = [(other, place) for other in pick(rng, books * needles, needles)] + [(book, other) for other in places]
        order = pick(rng, [(book, place)] * needles + others, 3 * needles)
        words = pick(rng, WORDS, 3 * needles)
        facts = tuple(f" A new entry in the {b} of the {p}: {word}." for (b, p), word in zip(order, words, strict=True))
        mine = [i for i, entry in enumerate(order) if entry == (book, place)]
        return Hidden(facts, tuple(_question(n, book, place, words[i], i) for n, i in enumerate(mine, start=1)))

    def describe(self) -> str:
        """What is measured, on what, by which scorers, with the pitfalls and an example."""
        return DESCRIPTION.format(subsets=", ".join(self.subsets), words=len(WORDS))


def _question(n: int, book: str, place: str, word: str, fact: int) -> Question:
    """The question whose answer is the n-th entry, fact number `fact`."""
    entry = f"the {n}{ending(n)} entry in the {book} of the {place}"
    prefill = f" {entry[0].upper()}{entry[1:]} is"
    return Question(f" What is {entry}?", (word,), (fact,), prefill=prefill, meta={"labels": WORDS})


def ending(n: int) -> str:
    """The letters of an English ordinal: st for 1, nd for 22, th for 13."""
    return "th" if 10 <= n % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")


DESCRIPTION = """\
Ordinal recall: entries of one log stand in a long text, alike except for the word, and the n-th is asked for (the form
of MRCR, Vodrahalli et al. 2024).

subsets   {subsets}
          (entries of the log; each is asked for, after one reading)
source    {words} code words, in generated prose, PG-19 or a folder of .txt files
scorers   ordinal/word (version 1)      the answer's first sentence names the word, and no other of the {words}
          ordinal/contains (version 1)  the target stands somewhere in the answer
chance    1/{words} (any one word, always)
pitfalls  A model that recalls the log's words but not their order is right once in as many times as there are
          entries: 1/2 in subset 2, 1/32 in subset 32. One that keeps the last entry alone is right as often.
          Use --samples in multiples of the subset's number, or the ordinals are not asked equally often. The
          questions of one context are not independent.
          MRCR's scores are similarities of long texts: no number of it compares with one of these.

[...] A new entry in the log of the northern lighthouse: papaya. [...] A new entry in the log of the northern
lighthouse: magnet. [...] What is the 2nd entry in the log of the northern lighthouse? The 2nd entry in the log of
the northern lighthouse is -> magnet"""


ORDINAL = Ordinal()
