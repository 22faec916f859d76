"""RULER's variable tracking: a value handed from variable to variable, and which of them have it.

    VAR QWERT = 51732 [...] VAR ZUIOP = VAR QWERT [...] VAR ASDFG = VAR ZUIOP [...]
    Question: Find all variables that are assigned the value 51732 in the text above. Answer: According to the
    chain(s) of variable assignment in the text above, 5 variables are assigned the value 51732, they are:
                                                                 -> QWERT, ZUIOP, ASDFG, YXCVB, HJKLM

One chain of four hops among lines of noise, in its order, after one example with names of three letters. What
differs from RULER: the example has ten lines of noise for every tokenizer, where RULER takes as many as keep it
within 500 of the model's tokens; and two assignments may follow each other without noise between them.
"""

from __future__ import annotations

import random
from itertools import pairwise

from atlas_bench.tasks import corpora
from atlas_bench.tasks.haystack_task import HaystackTask, Hidden, Question
from atlas_bench.tasks.ruler import words
from atlas_bench.tasks.ruler.needles import NOISE, noise
from atlas_bench.tasks.ruler.scorers import ALL
from atlas_bench.types import Rules, TaskOptions, Tokenizer

VARIABLES = 5  # of a chain: four hops
EXAMPLE_LINES = 10

BEFORE = "Memorize and track the chain(s) of variable assignment hidden in the following text.\n"
QUESTION = "\nQuestion: Find all variables that are assigned the value {value} in the text above."
ANSWER = (
    " Answer: According to the chain(s) of variable assignment in the text above, {count} variables are assigned"
    " the value {value}, they are: "
)


class Variables(HaystackTask):
    """The vt subset; implements types.Task."""

    name = "ruler"
    subsets = ("vt",)
    takes = ("data", "background")  # for the subsets beside it: a run may ask for all 13

    def rules(self, subset: str) -> Rules:
        """RULER's metric and number of tokens to generate."""
        return Rules(ALL, chance=0.0, max_answer_tokens=30, stop=(), counts_answer=True)

    def corpus(self, subset: str, tokenizer: Tokenizer, options: TaskOptions) -> corpora.Corpus:
        """Lines of noise."""
        return noise(tokenizer)

    def hide(self, subset: str, rng: random.Random, length: int) -> Hidden:
        """One sample's chain and its question, after the example."""
        names, value, lines = _chain(rng, 5)
        question = Question(
            QUESTION.format(value=value),
            (", ".join(names),),
            tuple(range(VARIABLES)),
            prefill=ANSWER.format(count=VARIABLES, value=value),
            meta={"references": tuple(names)},
        )
        return Hidden(tuple(f"\n{line}" for line in lines), (question,), before=_example(rng) + BEFORE)


def _chain(rng: random.Random, length: int) -> tuple[list[str], int, list[str]]:
    """Names of variables, the value they all have, and the assignments; RULER ends those of the hops in a space."""
    names, value = words.letters(rng, VARIABLES, length), 10_000 + int(rng.random() * 89_999)
    hops = [f"VAR {to} = VAR {of} " for of, to in pairwise(names)]
    return names, value, [f"VAR {names[0]} = {value}", *hops]


def _example(rng: random.Random) -> str:
    """A whole small task with its answer."""
    names, value, assignments = _chain(rng, 3)
    lines = [NOISE] * EXAMPLE_LINES
    gaps = sorted(sorted(range(EXAMPLE_LINES), key=lambda _: rng.random())[:VARIABLES])
    for placed, (gap, line) in enumerate(zip(gaps, assignments, strict=True)):
        lines.insert(gap + placed, line)
    answer = ANSWER.format(count=VARIABLES, value=value)
    return "\n".join([BEFORE, *lines]) + QUESTION.format(value=value) + f"{answer} {' '.join(names)}\n\n"
