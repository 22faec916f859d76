"""qa18: what is bigger, over one step between. A story in the form of the files:

1 The box of chocolates fits inside the chest.
2 The box is bigger than the chest.
3 The box is bigger than the suitcase.
4 The suitcase fits inside the box.
5 The container is bigger than the box of chocolates.
6 Does the box fit in the box of chocolates?          no    1 2
7 Is the box of chocolates bigger than the box?       no    1 2
  ... and 3 more questions

The boxes are of random sizes, bigger than the box of chocolates, which is bigger than the chocolate. Five facts say of
two random things that one is bigger, or that the other fits inside; then five questions are tried. A try takes a random
fact and from one of its things goes on to the other, and from there by the first other fact that names it; if both
steps lead up, or both down, it has found a question. If too many tries fail, five more facts follow.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from atlas_bench.tasks.babi.stories import QUESTIONS_PER_STORY, Question, Story, pick

_BOXES = ("box", "chest", "container", "suitcase")
_SMALL = ("box of chocolates", "chocolate")
_ROUND = 5  # facts, and questions tried after them
# Both fitted to the files: 6 questions of rounds in which one could be found are missing, and a fact told twice
# begins a support 5 times as often in its last telling as in its first where either would do.
_TRIES = 40
_LAST_TELLING = 2 / 3  # how often a try takes the last telling for an earlier one

_Pair = tuple[str, str]  # the bigger, the smaller


def _fact(bigger: str, smaller: str, rng: random.Random) -> str:
    return pick(rng, (f"The {bigger} is bigger than the {smaller}.", f"The {smaller} fits inside the {bigger}."))


def _try(pairs: Sequence[_Pair], rng: random.Random) -> tuple[_Pair, str, tuple[int, int]] | None:
    """The two things of a question, whether the first is bigger, and the facts that tell it."""
    i = int(rng.random() * len(pairs))
    if pairs[i] in pairs[i + 1 :] and rng.random() < _LAST_TELLING:
        i = max(j for j, pair in enumerate(pairs) if pair == pairs[i])
    start = pick(rng, (0, 1))  # 0: from the bigger thing down
    between = pairs[i][1 - start]
    j = next((j for j, pair in enumerate(pairs) if j != i and between in pair), i)
    if pairs[j][start] != between:  # also where no other fact names it
        return None
    return (pairs[i][start], pairs[j][1 - start]), ("yes", "no")[start], (i, j)


def _question(pairs: Sequence[_Pair], rng: random.Random) -> Question | None:
    found = next((found for _ in range(_TRIES) if (found := _try(pairs, rng))), None)
    if found is None:
        return None
    (one, other), answer, supporting = found
    text = pick(rng, (f"Is the {one} bigger than the {other}?", f"Does the {other} fit in the {one}?"))
    return Question(text, answer, supporting, after=len(pairs))


def _simulate(rng: random.Random) -> Story:
    things = (*sorted(_BOXES, key=lambda _: rng.random()), *_SMALL)  # the biggest first
    pairs: list[_Pair] = []
    facts: list[str] = []
    questions: list[Question] = []
    while len(questions) < QUESTIONS_PER_STORY:
        for _ in range(_ROUND):
            one = pick(rng, things)
            other = pick(rng, [thing for thing in things if thing != one])
            bigger, smaller = sorted((one, other), key=things.index)
            pairs.append((bigger, smaller))
            facts.append(_fact(bigger, smaller, rng))
        questions += [found for _ in range(_ROUND) if (found := _question(pairs, rng))]
    return Story(tuple(facts), tuple(questions))


SIMULATORS = {"qa18": _simulate}
NAMES = {"qa18": (*_BOXES, "chocolate", "chocolates")}
