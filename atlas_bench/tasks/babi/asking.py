"""Everything that the facts of a qa1 to qa5 story answer, not only what the simulator happens to ask.

    queries("qa2", ("Mary got the milk.", "Mary went to the garden."))
    # Query("qa2 held", "Where is the milk?", "garden"), Query("person", "Where is Mary?", "garden"), ..

Read from the text of the facts alone, so it serves simulated and real stories. An evaluation asks KINDS; the others are
auxiliary: easy questions whose answers the hard ones need.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from atlas_bench.tasks.babi.worlds import OPPOSITE, VERBS

KINDS = {  # subset -> kinds of what an evaluation asks
    "qa1": ("qa1",),
    "qa2": ("qa2 held", "qa2 dropped"),
    "qa3": ("qa3 held", "qa3 dropped"),
    "qa4": ("qa4",),
    "qa5": ("qa5",),
}
_VERBS = {verb: kind for kind, verbs in VERBS.items() for verb in verbs}
_EVENT = re.compile(rf"(\w+) ({'|'.join(_VERBS)}) the (\w+)(?: to (\w+)| there)?\.")
_RELATION = re.compile(r"The (\w+) is (\w+) of the (\w+)\.")


class Query(NamedTuple):
    """A question and its answer, of one kind of difficulty."""

    kind: str
    text: str
    answer: str


class _World:
    """What a sequence of facts says: the paths of people, and who had each object when."""

    def __init__(self, facts: Sequence[str]) -> None:
        self.path: dict[str, list[str]] = {}  # person -> places in order
        self.holder: dict[str, str] = {}  # object -> who had it last
        self.held: dict[str, bool] = {}
        self.since: dict[str, int] = {}  # object -> places of its holder's path when it was last picked up
        self.until: dict[str, int] = {}  # and when it was put down
        self.gift: dict[str, tuple[str, str]] = {}  # object -> giver and taker of its last gift
        self.gifts: list[tuple[str, str, str]] = []
        for fact in facts:
            who, verb, what, whom = _EVENT.fullmatch(fact).groups()
            self._happen(_VERBS[verb], who, what, whom)

    def _happen(self, kind: str, who: str, what: str, whom: str | None) -> None:
        if kind == "go":
            self.path.setdefault(who, []).append(what)
            return
        if kind == "give":
            self.gift[what] = who, whom
            self.gifts.append((who, whom, what))
        self.held[what] = kind != "drop"
        if kind == "drop":
            self.until[what] = len(self.path.get(who, ()))
        else:
            self.since[what] = len(self.path.get(whom or who, ()))
        self.holder[what] = whom or who

    def carried(self, thing: str) -> list[str]:
        """The places to which its last holder took the object."""
        path = self.path.get(self.holder[thing], [])
        return path[self.since.get(thing, 0) : None if self.held[thing] else self.until[thing]]

    def place(self, thing: str) -> str | None:
        """Where the object is, if a fact says so."""
        path = self.path.get(self.holder[thing], [])
        path = path if self.held[thing] else path[: self.until[thing]]
        return path[-1] if path else None


def queries(subset: str, facts: Sequence[str]) -> list[Query]:
    """All questions that the facts answer; none for a subset but qa1 to qa5."""
    return list(_ASK[subset](facts)) if subset in _ASK and facts else []


def _people(world: _World, kind: str) -> Iterator[Query]:
    for who, path in world.path.items():
        yield Query(kind, f"Where is {who}?", path[-1])


def _paths(world: _World) -> Iterator[Query]:
    """Where each person was before a place, the last time that they went there."""
    for who, path in world.path.items():
        for before, place in {b: a for a, b in pairwise(path)}.items():
            yield Query("path", f"Where was {who} before the {before}?", place)


def _holders(world: _World) -> Iterator[Query]:
    for thing, who in world.holder.items():
        yield Query("holder", f"Who had the {thing}?", who)


def _places(world: _World, *, held: str = "object", dropped: str = "object") -> Iterator[Query]:
    """Where each object is; no evaluation asks about an object held at the place where it was picked up."""
    for thing, is_held in world.held.items():
        if place := world.place(thing):
            kind = dropped if not is_held else held if world.carried(thing) else "object"
            yield Query(kind, f"Where is the {thing}?", place)


def _qa1(facts: Sequence[str]) -> Iterator[Query]:
    yield from _people(_World(facts), "qa1")


def _qa2(facts: Sequence[str]) -> Iterator[Query]:
    world = _World(facts)
    yield from _places(world, held="qa2 held", dropped="qa2 dropped")
    yield from _people(world, "person")
    yield from _holders(world)


def _qa3(facts: Sequence[str]) -> Iterator[Query]:
    world = _World(facts)
    for thing, held in world.held.items():
        path = world.carried(thing)
        for before, place in {b: a for a, b in pairwise(path)}.items():
            yield Query(f"qa3 {'held' if held else 'dropped'}", f"Where was the {thing} before the {before}?", place)
    yield from _places(world)
    yield from _people(world, "person")
    yield from _holders(world)
    yield from _paths(world)


def _qa4(facts: Sequence[str]) -> Iterator[Query]:
    for fact in facts:
        a, way, b = _RELATION.fullmatch(fact).groups()
        yield Query("qa4", f"What is {way} of the {b}?", a)
        yield Query("qa4", f"What is the {b} {OPPOSITE[way]} of?", a)
        yield Query("relation", f"What is {OPPOSITE[way]} of the {a}?", b)
        yield Query("relation", f"What is the {a} {way} of?", b)


def _qa5(facts: Sequence[str]) -> Iterator[Query]:
    world = _World(facts)
    between = {(giver, taker): thing for giver, taker, thing in world.gifts}
    for thing, (giver, taker) in world.gift.items():
        yield Query("qa5", f"Who gave the {thing}?", giver)
        yield Query("qa5", f"Who gave the {thing} to {taker}?", giver)
        yield Query("qa5", f"Who received the {thing}?", taker)
        yield Query("qa5", f"Who did {giver} give the {thing} to?", taker)
        if between[giver, taker] == thing:
            yield Query("qa5", f"What did {giver} give to {taker}?", thing)
    yield from _people(world, "person")
    yield from _holders(world)


_ASK: dict[str, Callable[[Sequence[str]], Iterator[Query]]] = {
    "qa1": _qa1,
    "qa2": _qa2,
    "qa3": _qa3,
    "qa4": _qa4,
    "qa5": _qa5,
}
