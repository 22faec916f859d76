"""The retention curve: what a model still knows of one stream, at every distance and every age, in a single pass.

    10M tokens, "end":    asked at the end about facts 100, 316, 1K, 3.2K, 10K, .. 3.2M and 10M tokens back
    10M tokens, "along":  asked on the way, about 100 tokens, 1K, 10K, .. as far back as there is
        after   100   about the first fact, 100 tokens back
        after    1K   about the first fact, 1K back, and one 100 back
        after   10K   about the first fact, 10K back, and others 100 and 1K back
        ...
        after   10M   about the first fact, and others 100, 1K, 10K, 100K and 1M back

Facts are code words of places (codewords.py) between the sentences of running text; every question goes to a
fork of the state, so that none leaves a trace in it. Read "along" in two directions: at one age, over distances,
it is a forgetting curve; at one distance, over ages, it shows whether a memory fills up, so that what it reads at
the millionth token is no longer kept as well as what it read at the thousandth. The first fact is asked for at
every age: that curve is one and the same fact, forgotten.

Distances are spaced evenly by their logarithm from 100 tokens to the whole stream, as many at every length, so a
cell has the same questions whatever its length: 11 for "end", 21 for "along". On the way a question comes exactly
its distance after its fact, and its age is off by a few facts and half a sentence; at the end the age is exact,
the cell's length, and the distance is as near as the gaps between sentences allow. The record has both.
"""

from __future__ import annotations

import random

from atlas_bench.tasks import codewords
from atlas_bench.tasks.haystack_task import HaystackTask, Hidden, Question
from atlas_bench.types import Rules

NEAREST = 100  # tokens
POINTS = {"end": 11, "along": 6}  # of the logarithmic scale: half decades and decades at 10M


def scale(points: int, length: int) -> list[int]:
    """Distances from NEAREST to `length` tokens, evenly spaced by their logarithm: scale(3, 10_000) = 100, 1K, 10K."""
    ratio = max(length / NEAREST, 1.0)
    return [round(NEAREST * ratio ** (i / (points - 1))) for i in range(points)]


class Retention(HaystackTask):
    """The task; implements types.Task."""

    name = "retention"
    subsets = tuple(POINTS)
    persistent_answer = True

    def rules(self, subset: str) -> Rules:
        """How the subset's questions are answered and judged."""
        return codewords.rules("retention", len(_asked(subset)))

    def hide(self, subset: str, rng: random.Random, length: int) -> Hidden:
        """Facts along the stream; the first is asked for at every age, each of the others once."""
        steps, asked = scale(POINTS[subset], length), _asked(subset)
        # (start, age, back) of each fact; all that is as far back as the stream goes is the first fact
        whence = {
            (age, back): (steps[age] - steps[back], age, back) if back < age else (0, 0, 0) for age, back in asked
        }
        facts = sorted(set(whence.values()))
        pairs = codewords.pairs(rng, len(facts))

        def question(age: int, back: int) -> Question:
            fact = facts.index(whence[age, back])
            return codewords.question(*pairs[fact], fact, distance=steps[back] if age < len(steps) - 1 else None)

        return Hidden(
            tuple(codewords.statement(place, code) for place, code in pairs),
            tuple(question(age, back) for age, back in asked),
            tuple(start / length for start, _, _ in facts),
        )

    def describe(self) -> str:
        """What is measured, on what, by which scorers, with the pitfalls and an example."""
        end, along = (len(_asked(subset)) for subset in ("end", "along"))
        words, places = len(codewords.WORDS), len(codewords.PLACES)
        return DESCRIPTION.format(end=end, along=along, nearest=NEAREST, words=words, places=places)


def _asked(subset: str) -> list[tuple[int, int]]:
    """(age, back) of every question as steps of the scale: asked after `age` tokens, about a fact `back` tokens ago."""
    points = POINTS[subset]
    ages = range(points) if subset == "along" else [points - 1]
    return [(age, back) for age in ages for back in range(age + 1)]


DESCRIPTION = """\
Retention: what a model still knows of one stream at every distance and every age, measured in a single pass.

subsets   end    {end} questions after the whole stream, about facts {nearest} tokens back .. at its beginning
          along  {along} questions on the way, after {nearest} tokens .. after the whole stream: each time about
                 every distance of that scale that there is, the last being that of the first fact
source    {words} code words of {places} places, in generated prose, PG-19 or a folder of .txt files
scorers   retention/word (version 1)      the answer's first sentence names the word, and no other of the {words}
          retention/contains (version 1)  the target stands somewhere in the answer
chance    1/{words} (any one word, always)
pitfalls  Use --samples in multiples of {end} ("end") and {along} ("along"): a stream's last questions come last.
          Questions on one stream are not independent: {along} samples of "along" are one stream.
          The scale goes with the length: half decades ("end") and decades ("along") from {nearest} tokens at 10M
          only. The exact distance of every question, and after how many tokens it is asked, are in its sample.
          A cell's score is the mean over all distances, the near ones included: read the curve.

"along" at 10M: [the first fact] .. after 100 tokens: the first? .. after 1K: the first? and one 100 back? ..
after 10M: the first? and those 100, 1K, 10K, 100K, 1M back?
What is the code word of the royal archive? The code word of the royal archive is -> papaya"""


RETENTION = Retention()
