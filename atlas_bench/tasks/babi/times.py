"""qa14: where somebody was before, with the facts in a shuffled order. The start of a story, in the form of the files:

1 Bill went back to the cinema yesterday.
2 Julie went to the school this morning.
3 Fred went to the park yesterday.
4 Yesterday Julie went to the office.
5 Where was Julie before the school?   office   2 4

What happens is in order: a random person goes to a random other place, first yesterday, then this morning and so
on. Only the telling is not: the facts between two questions are permuted in one cycle, so that two are always
swapped and none stays where it was.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from atlas_bench.tasks.babi.stories import Asked, Story, narrate, pick
from atlas_bench.tasks.babi.worlds import VERBS, latest
from atlas_bench.tasks.babi.yes_no import QA10_PEOPLE, QA10_PLACES

_TIMES = ("yesterday", "this morning", "this afternoon", "this evening")


class _Visit(NamedTuple):
    who: str
    place: str


def _tell(visit: _Visit, time: str, rng: random.Random) -> str:
    who, place = visit
    went = f"{who} {pick(rng, VERBS['go'])} the {place}"
    return f"{time.capitalize()} {went}." if rng.random() < 0.5 else f"{went} {time}."


def _ask(visits: Sequence[_Visit], i: int) -> Asked:
    who, place = visits[i]
    # "before the school" means the last time in the school.
    then = latest(visits, len(visits), who=who, place=place)
    before = latest(visits, then, who=who)
    return None if before < 0 else (f"Where was {who} before the {place}?", visits[before].place, (then, before))


def _cycle(first: int, stop: int, rng: random.Random) -> list[int]:
    """The numbers first .. stop - 1 in the order of a random permutation that is one cycle (Sattolo's)."""
    order = list(range(first, stop))
    for i in range(len(order) - 1, 0, -1):
        j = int(rng.random() * i)  # never i itself
        order[i], order[j] = order[j], order[i]
    return order


def _muddle(story: Story, rng: random.Random) -> Story:
    order: list[int] = []
    for question in story.questions:
        order += _cycle(len(order), question.after, rng)
    at = {event: told for told, event in enumerate(order)}
    questions = (replace(q, supporting=tuple(at[i] for i in q.supporting)) for q in story.questions)
    return Story(tuple(story.facts[event] for event in order), tuple(questions))


def _simulate(rng: random.Random) -> Story:
    day: dict[str, list[str]] = {who: [] for who in QA10_PEOPLE}  # where each has been, time after time

    def turn(_: Sequence[_Visit]) -> tuple[list[_Visit], list[str]]:
        while True:
            visit = who, place = _Visit(pick(rng, QA10_PEOPLE), pick(rng, QA10_PLACES))
            been = day[who]
            if len(been) < len(_TIMES) and place not in been[-1:]:
                been.append(place)
                return [visit], [_tell(visit, _TIMES[len(been) - 1], rng)]

    return _muddle(narrate(turn, _ask, rng), rng)


SIMULATORS = {"qa14": _simulate}
NAMES = {"qa14": (*QA10_PEOPLE, *QA10_PLACES)}
