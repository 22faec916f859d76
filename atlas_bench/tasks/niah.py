"""Needle in a haystack: one fact at each depth of a grid in a long text, and a question about it.

    [...] Saint Audrey stood over the quay. The code word of the northern lighthouse is papaya. Mr. Quill rose
    at five [...] What is the code word of the northern lighthouse? The code word of the northern lighthouse is
                                                                                                    -> papaya

The protocol is Kamradt's (2023): a context length, a depth, one needle between two sentences, a question after
the text; over a grid of lengths (--len 1K,10K,100K,1M,10M) and depths it makes the well-known heat map. What differs:

judge     By rule. Kamradt has GPT-3.5 give 1 to 10, which costs money, drifts, and needs a network.
needle    A code word out of a hundred: its place and value are drawn for each haystack, so that nobody knows
          it by heart and chance is known. "kamradt" has the published needle, and says what that is worth.
lengths   Exact in the model's tokens, the question counted; Kamradt keeps 200 tokens free for it.
depths    0, 0.1, .. 1 of the background, moved to the nearest gap between sentences, where Kamradt moves back
          to the last full stop; the record has the exact place. Columns share needle and haystack.
text      Made, PG-19, or a folder of .txt files (his 49 essays, if you have them), tokenised once for all cells.
"multi"   A needle at every depth of one context, which is read once and forked for all the questions.
"""

from __future__ import annotations

import random
import re
from dataclasses import replace

from atlas_bench.tasks import codewords
from atlas_bench.tasks.haystack_task import HaystackTask, Hidden, Question, contains
from atlas_bench.types import Rules, Sample, Scorer

DEPTHS = tuple(i / 10 for i in range(11))

KAMRADT_NEEDLE = "The best thing to do in San Francisco is eat a sandwich and sit in Dolores Park on a sunny day."
KAMRADT_QUESTION = "What is the best thing to do in San Francisco?"
KAMRADT_ANSWER = "eat a sandwich and sit in Dolores Park on a sunny day"
KAMRADT_WORDS = ("sandwich", "Dolores Park", "sunny day")


def keywords(answer: str, sample: Sample) -> float:
    """The share of meta["keywords"] that stand in the answer as whole words, ignoring case."""
    words, said = sample.meta["keywords"], " ".join(answer.split())
    return sum(bool(re.search(rf"\b{re.escape(word)}\b", said, re.IGNORECASE)) for word in words) / len(words)


class Niah(HaystackTask):
    """The task; implements types.Task."""

    name = "niah"
    subsets = ("single", "multi", "kamradt")
    persistent_answer = True

    def rules(self, subset: str) -> Rules:
        """How the subset's questions are answered and judged."""
        if subset == "kamradt":
            scorers = {"niah/keywords": Scorer(keywords), "niah/contains": Scorer(contains)}
            return Rules(scorers, chance=0.0, max_answer_tokens=64, stop=())
        return codewords.rules("niah", len(DEPTHS) if subset == "multi" else 1)

    def draw(self, subset: str, seed: str, number: int, length: int) -> tuple[Hidden, str]:
        """A separate context for each sample of "multi"; else one needle and haystack with the needle at every depth in
        turn."""
        if subset == "multi":
            return super().draw(subset, seed, number, length)
        row, column = divmod(number, len(DEPTHS))
        hidden, label = super().draw(subset, seed, row, length)
        return replace(hidden, depths=(DEPTHS[column],)), label

    def hide(self, subset: str, rng: random.Random, length: int) -> Hidden:
        """The needles, each with its question; draw() places a single one."""
        if subset == "kamradt":
            meta = {"keywords": KAMRADT_WORDS}
            return Hidden(
                (f" {KAMRADT_NEEDLE}",), (Question(f" {KAMRADT_QUESTION}", (KAMRADT_ANSWER,), (0,), meta=meta),)
            )
        pairs = codewords.pairs(rng, len(DEPTHS) if subset == "multi" else 1)
        return Hidden(
            tuple(codewords.statement(place, code) for place, code in pairs),
            tuple(codewords.question(place, code, i) for i, (place, code) in enumerate(pairs)),
            DEPTHS if subset == "multi" else None,
        )

    def describe(self) -> str:
        """What is measured, on what, by which scorers, with the pitfalls and an example."""
        return DESCRIPTION.format(
            depths=f"{DEPTHS[0]:g}, {DEPTHS[1]:g}, .. {DEPTHS[-1]:g}",
            n=len(DEPTHS),
            words=len(codewords.WORDS),
            places=len(codewords.PLACES),
            keywords=", ".join(KAMRADT_WORDS),
        )


DESCRIPTION = """\
NIAH, needle in a haystack (Kamradt 2023), judged by rule: does a model find one fact, wherever it stands?

subsets   single   one needle; {n} samples share it and its haystack, with the needle at depth {depths}
          multi    a needle with a place of its own at each of the {n} depths, read once, asked {n} times
          kamradt  the published needle about San Francisco, at the depths of "single"
source    generated prose, PG-19 or a folder of .txt files; {words} code words of {places} places
scorers   niah/word (version 1)      single, multi: the answer's first sentence names the word, and no other of
                                     the {words}, as whole words in any case
          niah/contains (version 1)  the target stands somewhere in the answer
          niah/keywords (version 1)  kamradt: the share of {keywords} in the answer
chance    1/{words} (any one word, always); kamradt 0
pitfalls  Use --samples in multiples of {n}, or the depths have unequal numbers of samples.
          The samples of one haystack are not independent: {n} of them are one text.
          kamradt's needle never changes and has been published often: who knows it by heart is right without
          reading, so its chance of 0 holds for models that have never seen it. Kamradt's own scores of 1 to 10,
          given by a GPT, are another measure. Use "single" to compare.
          In 1000 tokens the next gap between sentences may be 3 % away from a depth; needle_depth is exact.

[...] Saint Audrey stood over the quay. The code word of the northern lighthouse is papaya. [...] What is the
code word of the northern lighthouse? The code word of the northern lighthouse is -> papaya"""


NIAH = Niah()
