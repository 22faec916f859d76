"""The worlds of qa1..qa3, qa5..qa8, in which random people do random things, and qa4's map of three places.

Everybody starts somewhere; a random person tries a random action until one is possible. `stories.narrate` asks
about it. Story lengths, answers and distances all follow from that; none of them is set.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from atlas_bench.tasks.babi.stories import Asked, Question, Story, narrate, pick

PLACES = ("bathroom", "bedroom", "garden", "hallway", "kitchen", "office")
OBJECTS = ("apple", "football", "milk")
PEOPLE = ("Daniel", "John", "Mary", "Sandra")
GIVERS = ("Bill", "Fred", "Jeff", "Mary")

VERBS = {
    "go": ("journeyed to", "moved to", "travelled to", "went back to", "went to"),
    "get": ("got", "grabbed", "picked up", "took"),
    "drop": ("discarded", "dropped", "left", "put down"),
    "give": ("gave", "handed", "passed"),
}
OPPOSITE = {"north": "south", "south": "north", "east": "west", "west": "east"}

THERE = 0.2  # how often a sentence ends in "there" where it may


class Event(NamedTuple):
    """`who` goes to the place `what`, gets or drops the object `what`, or gives it to `whom`."""

    kind: str
    who: str
    what: str
    whom: str = ""


Where = Mapping[str, str]  # person -> place; object -> place or the person who has it


@dataclass(frozen=True)
class World:
    """What differs between the worlds: the people, what they try (more often if named more often), and the questions.

    about      kinds of events that can lead to a question
    ask        (events so far, number of one of a kind in `about`, rng) -> the question
    get_there  how often "got the milk" ends in "there"
    give       (where, last event, a random person, world, rng) -> a gift, or None if none is possible
    """

    actions: tuple[str, ...]
    about: tuple[str, ...]
    ask: Callable[[Sequence[Event], int, random.Random], Asked]
    people: tuple[str, ...] = PEOPLE
    objects: tuple[str, ...] = OBJECTS
    get_there: float = 1.0
    give: Callable[[Where, Event | None, str, World, random.Random], Event | None] | None = None


def simulate_world(world: World, rng: random.Random) -> Story:
    """A story of people who go about and carry things."""
    where = {name: pick(rng, PLACES) for name in (*world.people, *world.objects)}

    def turn(events: Sequence[Event]) -> tuple[list[Event], list[str]]:
        while (event := _attempt(where, events[-1] if events else None, world, rng)) is None:
            pass
        kind, who, what, whom = event
        if kind == "go":
            where[who] = what
        else:
            where[what] = {"get": who, "drop": where[who], "give": whom}[kind]
        return [event], [_tell(event, world, rng)]

    def ask(events: Sequence[Event], i: int) -> Asked:
        return world.ask(events, i, rng) if events[i].kind in world.about else None

    return narrate(turn, ask, rng)


def _attempt(where: Where, last: Event | None, world: World, rng: random.Random) -> Event | None:
    """A random person's random action, or None if it is not possible."""
    who, kind = pick(rng, world.people), pick(rng, world.actions)
    if kind == "go":
        return None if (place := pick(rng, PLACES)) == where[who] else Event(kind, who, place)
    if kind == "give":
        return world.give(where, last, who, world, rng)
    things = [thing for thing in world.objects if where[thing] == (where[who] if kind == "get" else who)]
    return Event(kind, who, pick(rng, things)) if things else None


def random_gift(where: Where, last: Event | None, who: str, world: World, rng: random.Random) -> Event | None:
    """qa5's: of a random thing in hand, to somebody near."""
    if not (things := [thing for thing in world.objects if where[thing] == who]):
        return None
    thing = pick(rng, things)
    # Two gifts on end are of one object: so are all 377 such pairs in the real files.
    if last and last.kind == "give" and last.what != thing:
        return None
    near = [name for name in world.people if name != who and where[name] == where[who]]
    return Event("give", who, thing, pick(rng, near)) if near else None


def _tell(event: Event, world: World, rng: random.Random) -> str:
    kind, who, what, whom = event
    end = f" to {whom}" if whom else ""
    if kind in ("get", "drop") and rng.random() < (world.get_there if kind == "get" else THERE):
        end = " there"
    return f"{who} {pick(rng, VERBS[kind])} the {what}{end}."


def latest(events: Sequence[NamedTuple], stop: int, **want: str) -> int:
    """The last event before `stop` with these fields, or -1."""
    fits = (i for i in range(stop - 1, -1, -1) if all(getattr(events[i], k) == v for k, v in want.items()))
    return next(fits, -1)


def _where_is_person(events: Sequence[Event], i: int, rng: random.Random) -> Asked:
    who = events[i].who
    move = max(j for j in range(i, len(events)) if events[j].who == who)
    return f"Where is {who}?", events[move].what, (move,)


def _where_is_object(events: Sequence[Event], i: int, rng: random.Random) -> Asked:
    touch = latest(events, len(events), what=events[i].what)
    kind, who, thing, _ = events[touch]
    move = latest(events, touch if kind == "drop" else len(events), kind="go", who=who)
    # An object in hand is asked about only once it has been carried somewhere.
    if move < 0 or (kind == "get" and move < touch):
        return None
    return f"Where is the {thing}?", events[move].what, (touch, move)


def _where_was_object(events: Sequence[Event], i: int, rng: random.Random) -> Asked:
    touch = latest(events, len(events), what=events[i].what)
    kind, who, thing, _ = events[touch]
    start = touch if kind == "get" else latest(events, touch, kind="get", what=thing)
    stop = len(events) if kind == "get" else touch
    carried = [j for j in range(start, stop) if events[j].kind == "go" and events[j].who == who]
    path = [events[j].what for j in carried]
    # "before the garden" means the last time in the garden, so a place that comes again is asked once.
    steps = [k for k in range(1, len(path)) if path[k] not in path[k + 1 :]]
    if not steps:
        return None
    k = pick(rng, steps)
    return f"Where was the {thing} before the {path[k]}?", path[k - 1], (touch, carried[k], carried[k - 1])


def _who_gave_what(events: Sequence[Event], i: int, rng: random.Random) -> Asked:
    give = latest(events, len(events), kind="give", what=events[i].what)
    _, giver, thing, taker = events[give]
    # Giver, taker and object are asked for equally often, the first two in two forms each.
    forms = [(f"Who gave the {thing}?", giver), (f"Who gave the {thing} to {taker}?", giver)]
    forms += [(f"Who received the {thing}?", taker), (f"Who did {giver} give the {thing} to?", taker)]
    # If the two had a later gift, "What did Bill give to Fred?" would ask about that.
    if latest(events, len(events), kind="give", who=giver, whom=taker) == give:
        forms += [(f"What did {giver} give to {taker}?", thing)] * 2
    text, answer = pick(rng, forms)
    return text, answer, (give,)


CARRY = ("go", "get", "drop")
WORLDS = {
    "qa1": World(("go",), ("go",), _where_is_person, objects=()),
    "qa2": World(CARRY, ("get", "drop"), _where_is_object),
    "qa3": World(CARRY, ("get", "drop"), _where_was_object, get_there=THERE),
    # "give" 5 times: as in the files
    "qa5": World((*CARRY, *["give"] * 5), ("give",), _who_gave_what, people=GIVERS, give=random_gift),
}


def _simulate_map(rng: random.Random) -> Story:
    """qa4: two places on opposite sides of a third; one fact's second place leads to its first."""
    middle = pick(rng, PLACES)
    one = pick(rng, [place for place in PLACES if place != middle])
    other = pick(rng, [place for place in PLACES if place not in (one, middle)])
    way = pick(rng, tuple(OPPOSITE))
    # Is the middle named last in each fact? The real files have both 3 times in 8, neither once in 8.
    turns = pick(rng, [(True, True)] * 3 + [(True, False), (False, True)] * 2 + [(False, False)])
    ends = zip((one, other), (way, OPPOSITE[way]), turns, strict=True)
    facts = [(end, side, middle) if last else (middle, OPPOSITE[side], end) for end, side, last in ends]
    support = pick(rng, (0, 1))
    answer, way, base = facts[support]
    text = pick(rng, (f"What is {way} of the {base}?", f"What is the {base} {OPPOSITE[way]} of?"))
    told = tuple(f"The {a} is {way} of the {b}." for a, way, b in facts)
    return Story(told, (Question(text, answer, (support,), after=2),))


SIMULATORS = {name: partial(simulate_world, world) for name, world in WORLDS.items()} | {"qa4": _simulate_map}
NAMES = {name: (*world.people, *PLACES, *world.objects) for name, world in WORLDS.items()} | {"qa4": PLACES}
