"""Own simulators of bAbI qa1..qa5 (Weston et al. 2015, arXiv:1502.05698) and a reader of the real files.

A story is a small world in which random people do random things; a task says what they can do and what
is asked. One whole story of qa4, as `simulate` makes it and as the real files write it:

    1 The kitchen is west of the garden.
    2 The hallway is west of the kitchen.
    3 What is the garden east of?    kitchen    1

The process was read off the en-10k files of v1.2: everybody starts somewhere; a random person tries a random
action until one is possible; after every second fact a random one of the last five is asked about, if it
supports a question. Story lengths, answers and distances all follow from that; none of them is set.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from atlas_bench.errors import UserError, unknown

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

QUESTIONS_PER_STORY = 5
FACTS_PER_CHECK = 2  # a question can only come after an even number of facts
WINDOW = 5  # what is asked about was touched within so many facts
THERE = 0.2  # how often a sentence ends in "there" where it may


@dataclass(frozen=True)
class Question:
    """One question; `supporting` indexes its story's facts from 0, `after` counts the facts before it."""

    text: str
    answer: str
    supporting: tuple[int, ...]
    after: int


@dataclass(frozen=True)
class Story:
    """Facts in order, and the questions asked along the way."""

    facts: tuple[str, ...]
    questions: tuple[Question, ...]


class _Event(NamedTuple):
    """`who` goes to the place `what`, gets or drops the object `what`, or gives it to `whom`."""

    kind: str
    who: str
    what: str
    whom: str = ""


# What the functions below make of event i: a question's text, answer and support, or None.
_Asked = tuple[str, str, tuple[int, ...]] | None


def _pick(rng: random.Random, options: Sequence):
    # Not rng.choice: across Python versions only rng.random() is promised to stay the same.
    return options[int(rng.random() * len(options))]


def _last(events: Sequence[_Event], stop: int, **want: str) -> int:
    """The last event before `stop` with these fields, or -1."""
    fits = (i for i in range(stop - 1, -1, -1) if all(getattr(events[i], k) == v for k, v in want.items()))
    return next(fits, -1)


def _where_is_person(events: Sequence[_Event], i: int, rng: random.Random) -> _Asked:
    who = events[i].who
    move = max(j for j in range(i, len(events)) if events[j].who == who)
    return f"Where is {who}?", events[move].what, (move,)


def _where_is_object(events: Sequence[_Event], i: int, rng: random.Random) -> _Asked:
    touch = _last(events, len(events), what=events[i].what)
    kind, who, thing, _ = events[touch]
    move = _last(events, touch if kind == "drop" else len(events), kind="go", who=who)
    # An object in hand is asked about only once it has been carried somewhere.
    if move < 0 or (kind == "get" and move < touch):
        return None
    return f"Where is the {thing}?", events[move].what, (touch, move)


def _where_was_object(events: Sequence[_Event], i: int, rng: random.Random) -> _Asked:
    touch = _last(events, len(events), what=events[i].what)
    kind, who, thing, _ = events[touch]
    start = touch if kind == "get" else _last(events, touch, kind="get", what=thing)
    stop = len(events) if kind == "get" else touch
    carried = [j for j in range(start, stop) if events[j].kind == "go" and events[j].who == who]
    path = [events[j].what for j in carried]
    # "before the garden" means the last time in the garden, so a place that comes again is asked once.
    steps = [k for k in range(1, len(path)) if path[k] not in path[k + 1 :]]
    if not steps:
        return None
    k = _pick(rng, steps)
    return f"Where was the {thing} before the {path[k]}?", path[k - 1], (touch, carried[k], carried[k - 1])


def _who_gave_what(events: Sequence[_Event], i: int, rng: random.Random) -> _Asked:
    give = _last(events, len(events), kind="give", what=events[i].what)
    _, giver, thing, taker = events[give]
    # Giver, taker and object are asked for equally often, the first two in two forms each.
    forms = [(f"Who gave the {thing}?", giver), (f"Who gave the {thing} to {taker}?", giver)]
    forms += [(f"Who received the {thing}?", taker), (f"Who did {giver} give the {thing} to?", taker)]
    # If the two had a later gift, "What did Bill give to Fred?" would ask about that.
    if _last(events, len(events), kind="give", who=giver, whom=taker) == give:
        forms += [(f"What did {giver} give to {taker}?", thing)] * 2
    text, answer = _pick(rng, forms)
    return text, answer, (give,)


@dataclass(frozen=True)
class _Task:
    """What differs between the tasks: who, what they try (more often if named more often), what is asked."""

    people: tuple[str, ...]
    actions: tuple[str, ...]
    about: tuple[str, ...]  # kinds of facts that can lead to a question
    ask: Callable[[Sequence[_Event], int, random.Random], _Asked]
    objects: tuple[str, ...] = OBJECTS
    get_there: float = 1.0  # how often "got the milk" ends in "there"


_CARRY = ("go", "get", "drop")
_TASKS = {
    "qa1": _Task(PEOPLE, ("go",), ("go",), _where_is_person, objects=()),
    "qa2": _Task(PEOPLE, _CARRY, ("get", "drop"), _where_is_object),
    "qa3": _Task(PEOPLE, _CARRY, ("get", "drop"), _where_was_object, get_there=THERE),
    "qa5": _Task(GIVERS, (*_CARRY, *["give"] * 5), ("give",), _who_gave_what),  # 5 times: as in the files
}

SUBSETS = ("qa1", "qa2", "qa3", "qa4", "qa5")
LABELS = {name: (*GIVERS, *OBJECTS) if name == "qa5" else PLACES for name in SUBSETS}
NAMES = {name: (*task.people, *PLACES, *task.objects) for name, task in _TASKS.items()} | {"qa4": PLACES}


def _attempt(where: dict[str, str], last: _Event | None, task: _Task, rng: random.Random) -> _Event | None:
    """A random person's random action, or None where it is not possible; `where` maps people and objects."""
    who, kind = _pick(rng, task.people), _pick(rng, task.actions)
    if kind == "go":
        return None if (place := _pick(rng, PLACES)) == where[who] else _Event(kind, who, place)
    things = [thing for thing in task.objects if where[thing] == (where[who] if kind == "get" else who)]
    if not things:
        return None
    thing = _pick(rng, things)
    if kind != "give":
        return _Event(kind, who, thing)
    # Two gifts on end are of one object: so are all 377 such pairs in the real files.
    if last and last.kind == "give" and last.what != thing:
        return None
    near = [name for name in task.people if name != who and where[name] == where[who]]
    return _Event(kind, who, thing, _pick(rng, near)) if near else None


def _tell(event: _Event, task: _Task, rng: random.Random) -> str:
    kind, who, what, whom = event
    end = f" to {whom}" if whom else ""
    if kind in ("get", "drop") and rng.random() < (task.get_there if kind == "get" else THERE):
        end = " there"
    return f"{who} {_pick(rng, VERBS[kind])} the {what}{end}."


def _simulate_world(task: _Task, rng: random.Random) -> Story:
    where = {name: _pick(rng, PLACES) for name in (*task.people, *task.objects)}
    events: list[_Event] = []
    facts: list[str] = []
    questions: list[Question] = []
    while len(questions) < QUESTIONS_PER_STORY:
        if (event := _attempt(where, events[-1] if events else None, task, rng)) is None:
            continue
        kind, who, what, whom = event
        if kind == "go":
            where[who] = what
        else:
            where[what] = {"get": who, "drop": where[who], "give": whom}[kind]
        events.append(event)
        facts.append(_tell(event, task, rng))
        if len(events) % FACTS_PER_CHECK:
            continue
        recent = range(max(0, len(events) - WINDOW), len(events))
        # Over facts, not over people or objects: what was touched more often is asked about more often.
        asked = [q for i in recent if events[i].kind in task.about and (q := task.ask(events, i, rng))]
        if asked:
            questions.append(Question(*_pick(rng, asked), after=len(events)))
    return Story(tuple(facts), tuple(questions))


def _simulate_map(rng: random.Random) -> Story:
    """qa4: two places on opposite sides of a third; one fact's second place leads to its first."""
    middle = _pick(rng, PLACES)
    one = _pick(rng, [place for place in PLACES if place != middle])
    other = _pick(rng, [place for place in PLACES if place not in (one, middle)])
    way = _pick(rng, tuple(OPPOSITE))
    # Is the middle named last in each fact? The real files have both 3 times in 8, neither once in 8.
    turns = _pick(rng, [(True, True)] * 3 + [(True, False), (False, True)] * 2 + [(False, False)])
    ends = zip((one, other), (way, OPPOSITE[way]), turns, strict=True)
    facts = [(end, side, middle) if last else (middle, OPPOSITE[side], end) for end, side, last in ends]
    support = _pick(rng, (0, 1))
    answer, way, base = facts[support]
    text = _pick(rng, (f"What is {way} of the {base}?", f"What is the {base} {OPPOSITE[way]} of?"))
    told = tuple(f"The {a} is {way} of the {b}." for a, way, b in facts)
    return Story(told, (Question(text, answer, (support,), after=2),))


def simulate(subset: str, rng: random.Random) -> Story:
    """One random story of a subset, as the generator of the real files would write it.

    Source: the process behind bAbI v1.2 en-10k (arXiv:1502.05698), measured on its files; no code of it.
    Args: subset, one of SUBSETS; rng, which alone decides the story (same bytes on every Python).
    """
    if subset not in SUBSETS:
        raise unknown("bAbI subset", subset, SUBSETS)
    return _simulate_map(rng) if subset == "qa4" else _simulate_world(_TASKS[subset], rng)


def parse(lines: Iterable[str]) -> list[Story]:
    """The stories of a bAbI file.

    Source: the format of bAbI v1.2, `N fact` or `N question<TAB>answer<TAB>supporting line numbers`.
    Args: lines, with or without their ends; a line that fits neither form raises UserError with its number.
    """
    return _parse(lines, "bAbI")


def _parse(lines: Iterable[str], source: str) -> list[Story]:
    stories: list[tuple[list[str], list[Question]]] = []
    fact_at: dict[int, int] = {}  # line number in the story -> index of the fact
    number = 0
    for at, raw in enumerate(lines, 1):

        def malformed(why: str, at: int = at, raw: str = raw) -> UserError:
            return UserError(
                f"{source}, line {at}: {raw.strip()[:80]!r} is not a bAbI line: {why}. Write 'N fact.' or "
                "'N question<TAB>answer<TAB>supporting line numbers', N counting from 1 in each story."
            )

        match = re.fullmatch(r"([0-9]+) (\S.*)", raw.rstrip("\r\n"))
        if not match:
            raise malformed("it does not start with a number and a text")
        previous, number = number, int(match[1])
        fields = [field.strip() for field in match[2].split("\t")]
        if number == 1:
            stories.append(([], []))
            fact_at.clear()
        elif number != previous + 1:
            raise malformed(f"its number should be 1 or {previous + 1}")
        facts, questions = stories[-1]
        if len(fields) == 1:
            fact_at[number] = len(facts)
            facts += fields
            continue
        if len(fields) != 3 or not all(fields):
            raise malformed(f"a question has 3 fields parted by tabs, this has {sum(map(bool, fields))}")
        try:
            supporting = tuple(fact_at[int(n)] for n in fields[2].split())
        except (KeyError, ValueError):
            raise malformed(f"its support {fields[2]!r} does not name earlier facts of the story") from None
        questions.append(Question(fields[0], fields[1], supporting, after=len(facts)))
    return [Story(tuple(facts), tuple(questions)) for facts, questions in stories]


def load_folder(path: str | Path) -> dict[str, list[Story]]:
    """All stories of a folder by subset, {"qa1": [...], ...}; files of one subset follow each other by name.

    Source: files named `qaN_*.txt` as in the bAbI v1.2 archive, e.g. its folder `en-10k`.
    Args: path of the folder; UserError if it holds no such stories, or for a line that is none.
    """
    folder = Path(path)
    found: dict[str, list[Story]] = {}
    for file in sorted(folder.glob("qa*_*.txt")):
        if prefix := re.match(r"qa[0-9]+(?=_)", file.name):
            lines = file.read_text("utf-8").splitlines()
            found.setdefault(prefix[0], []).extend(_parse(lines, str(file)))
    if not any(found.values()):
        why = "has no bAbI lines in files 'qaN_*.txt'" if folder.is_dir() else "is not a folder"
        raise UserError(
            f"no bAbI stories in '{path}': it {why}. Give the folder that holds files such as "
            "'qa1_single-supporting-fact_train.txt' (en-10k in tasks_1-20_v1-2.tar.gz)."
        )
    return found
