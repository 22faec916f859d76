"""qa15 and qa16: what is true of an animal because of its kind. A story of each, in the form of the files:

1 Mice are afraid of wolves.                  1 Lily is a frog.
2 Gertrude is a mouse.                        2 Bernhard is a frog.
3 Cats are afraid of sheep.                   3 Bernhard is green.
4 Winona is a mouse.                          4 Brian is a lion.
5 Sheep are afraid of wolves.                 5 Brian is white.
6 Wolves are afraid of cats.                  6 Julius is a swan.
7 Emily is a mouse.                           7 Julius is green.
8 Jessica is a wolf.                          8 Lily is green.
9 What is gertrude afraid of?   wolf   2 1    9 Greg is a swan.
                                              10 What color is Greg?   green   9 6 7

In qa15, with four questions, a random kind or animal comes up, an animal with a random kind. A new one becomes a fact;
an animal only after the fact about what its kind fears.

In qa16 each animal is introduced and later gets the color that its kind then has. That color is drawn again whenever
one of the kind is introduced. So a kind can have several colors, and the answer is that of the one introduced last. The
question takes the place of the tenth fact.
"""

from __future__ import annotations

import random

from atlas_bench.tasks.babi.stories import Question, Story, pick

_PLURAL = {"cat": "cats", "mouse": "mice", "sheep": "sheep", "wolf": "wolves"}
_FEARFUL = ("Emily", "Gertrude", "Jessica", "Winona")
_FEARS_ASKED = 4

_KINDS = ("frog", "lion", "rhino", "swan")
_COLORS = ("gray", "green", "white", "yellow")
_COLORFUL = ("Bernhard", "Brian", "Greg", "Julius", "Lily")
_NO_QUESTION = (1, 3)  # of the asked animal's kind; nothing follows from 1, but why the files lack 3 is unknown


def _deduce(rng: random.Random) -> Story:
    facts: list[str] = []
    feared: dict[str, str] = {}  # by kind
    kind_of: dict[str, str] = {}
    at: dict[str, int] = {}  # the fact about a kind or an animal
    subjects = (*_PLURAL, *_FEARFUL)
    while len(facts) < len(subjects):
        subject = pick(rng, subjects)
        if subject in at:
            continue
        if subject in _PLURAL:
            feared[subject] = pick(rng, [kind for kind in _PLURAL if kind != subject])
            fact = f"{_PLURAL[subject].capitalize()} are afraid of {_PLURAL[feared[subject]]}."
        else:
            kind = pick(rng, tuple(_PLURAL))
            if kind not in feared:
                continue
            kind_of[subject] = kind
            fact = f"{subject} is a {kind}."
        at[subject] = len(facts)
        facts.append(fact)
    asked = [pick(rng, _FEARFUL) for _ in range(_FEARS_ASKED)]
    kinds = [kind_of[who] for who in asked]
    questions = [
        Question(f"What is {who.lower()} afraid of?", feared[kind], (at[who], at[kind]), after=len(facts))
        for who, kind in zip(asked, kinds, strict=True)
    ]
    return Story(tuple(facts), tuple(questions))


def _induce(rng: random.Random) -> Story:
    while (story := _induction(rng)) is None:
        pass
    return story


def _induction(rng: random.Random) -> Story | None:
    facts: list[str] = []
    kind_of: dict[str, str] = {}  # in the order of introduction
    color_of: dict[str, str] = {}
    color_now: dict[str, str] = {}  # by kind
    at: dict[tuple[str, str], int] = {}  # the fact about an animal's kind or color
    while len(facts) < 2 * len(_COLORFUL) - 1:
        who = pick(rng, [who for who in _COLORFUL if who not in color_of])
        if who not in kind_of:
            kind = kind_of[who] = pick(rng, _KINDS)
            color_now[kind] = pick(rng, _COLORS)
            fact = f"{who} is a {kind}."
        else:
            color_of[who] = color_now[kind_of[who]]
            fact = f"{who} is {color_of[who]}."
        at[who, "color" if who in color_of else "kind"] = len(facts)
        facts.append(fact)
    (asked,) = kind_of.keys() - color_of.keys()
    alike = [who for who, kind in kind_of.items() if kind == kind_of[asked]]
    if len(alike) in _NO_QUESTION:
        return None
    like = [who for who in alike if who != asked][-1]
    supporting = (at[asked, "kind"], at[like, "kind"], at[like, "color"])
    question = Question(f"What color is {asked}?", color_of[like], supporting, after=len(facts))
    return Story(tuple(facts), (question,))


SIMULATORS = {"qa15": _deduce, "qa16": _induce}
NAMES = {
    "qa15": (*_FEARFUL, *sorted({*_PLURAL, *_PLURAL.values()})),
    "qa16": (*_COLORFUL, *_KINDS, *_COLORS),
}
