"""qa17 and qa19: shapes and places beside each other on a grid. A story of each, in the form of the files:

1 The triangle is above the pink rectangle.            1 The office is east of the hallway.
2 The blue square is to the left of the triangle.      2 The kitchen is north of the office.
3 Is the pink rectangle to the right of                3 The garden is west of the bedroom.
  the blue square?   yes   1 2                         4 The office is west of the garden.
4 Is the blue square below the pink rectangle?         5 The bathroom is north of the garden.
  no   2 1                                             6 How do you go from the kitchen
  ... and 6 more questions                               to the garden?   s,e   2 4

Both have two ends on different sides of a middle. In qa19 three more places each go to a random free side of a random
one of these three; two can come to the same spot. A fact is about a random one and a random neighbour of it, each pair
once: in qa19 where the first is, in qa17 where the second is.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from atlas_bench.tasks.babi.stories import Question, Story, pick
from atlas_bench.tasks.babi.worlds import OPPOSITE, PLACES

T = TypeVar("T")

_SHAPES = ("blue square", "pink rectangle", "red sphere", "red square", "triangle", "yellow square")
_STEPS = {"above": 1j, "below": -1j, "to the left of": -1, "to the right of": 1}
_ACROSS = {"above": "below", "below": "above", "to the left of": "to the right of", "to the right of": "to the left of"}
_SHAPE_QUESTIONS = 8

_Beside = dict[tuple[str, str], str]  # (a, b) -> on which side of b a is; of two neighbours always both ways


def _shuffled(items: Iterable[T], rng: random.Random) -> list[T]:
    return sorted(items, key=lambda _: rng.random())


def _put(beside: _Beside, name: str, side: str, of: str, across: Mapping[str, str]) -> None:
    beside[name, of] = side
    beside[of, name] = across[side]


def _two_and_middle(names: Sequence[str], across: Mapping[str, str], rng: random.Random) -> _Beside:
    middle, *ends = names
    beside: _Beside = {}
    for end, side in zip(ends, _shuffled(across, rng)[:2], strict=True):
        _put(beside, end, side, middle, across)
    return beside


def _neighbours(beside: _Beside, rng: random.Random) -> list[tuple[str, str]]:
    """A random name and a random neighbour of it, until each pair of neighbours has come once."""
    near: dict[str, list[str]] = {}
    for name, other in beside:
        near.setdefault(name, []).append(other)
    found: list[tuple[str, str]] = []
    while 2 * len(found) < len(beside):
        name = pick(rng, tuple(near))
        other = pick(rng, near[name])
        if (name, other) not in found and (other, name) not in found:
            found.append((name, other))
    return found


def _is_side(rng: random.Random) -> Story:
    middle, one, other, *_ = _shuffled(_SHAPES, rng)
    beside = _two_and_middle((middle, one, other), _ACROSS, rng)
    told = _neighbours(beside, rng)
    facts = tuple(f"The {other} is {beside[other, name]} the {name}." for name, other in told)
    fact_of = {end: i for i, pair in enumerate(told) for end in pair}
    at = {end: _STEPS[beside[end, middle]] for end in (one, other)}
    questions = []
    for _ in range(_SHAPE_QUESTIONS):
        a, b = pick(rng, ((one, other), (other, one)))
        # The answer comes first, then a side for which it is right: of shapes in a line, "no" is right for three.
        answer = pick(rng, ("no", "yes"))
        towards = (at[a] - at[b]).conjugate()
        right = [side for side, step in _STEPS.items() if ((towards * step).real > 0) == (answer == "yes")]
        text = f"Is the {a} {pick(rng, right)} the {b}?"
        questions.append(Question(text, answer, (fact_of[a], fact_of[b]), after=len(facts)))
    return Story(facts, tuple(questions))


def _path(rng: random.Random) -> Story:
    start, middle, end, *others = _shuffled(PLACES, rng)
    path = (start, middle, end)
    beside = _two_and_middle((middle, start, end), OPPOSITE, rng)
    taken = {(of, side) for (_, of), side in beside.items()}
    free = [(place, side) for place in path for side in OPPOSITE if (place, side) not in taken]
    for other, (place, side) in zip(others, _shuffled(free, rng)[: len(others)], strict=True):
        _put(beside, other, side, place, OPPOSITE)
    told = _neighbours(beside, rng)
    facts = tuple(f"The {name} is {beside[name, other]} of the {other}." for name, other in told)
    steps = ((middle, start), (end, middle))
    supporting = tuple(told.index(step if step in told else step[::-1]) for step in steps)
    answer = ",".join(beside[step][0] for step in steps)
    text = f"How do you go from the {start} to the {end}?"
    return Story(facts, (Question(text, answer, supporting, after=len(facts)),))


SIMULATORS = {"qa17": _is_side, "qa19": _path}
NAMES = {"qa17": tuple(sorted({word for shape in _SHAPES for word in shape.split()})), "qa19": PLACES}
