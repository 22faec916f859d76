"""bAbI stories: how most of them are written, and a reader of the real files. One story of qa4 as the files write it:

1 The kitchen is west of the garden.
2 The hallway is west of the kitchen.
3 What is the garden east of?    kitchen    1
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from atlas_bench.errors import UserError
from atlas_bench.files import text_files

T = TypeVar("T")

QUESTIONS_PER_STORY = 5
FACTS_PER_CHECK = 2  # a question can only come after an even number of facts
WINDOW = 5  # what is asked about was touched by one of so many last events


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


def pick(rng: random.Random, options: Sequence[T]) -> T:
    """One of the options, equally likely."""
    # Not rng.choice: across Python versions only rng.random() is promised to stay the same.
    return options[int(rng.random() * len(options))]


# What is made of an event that can be asked about: a question's text, answer and supporting facts, or None.
Asked = tuple[str, str, tuple[int, ...]] | None


def narrate(
    turn: Callable[[Sequence[T]], tuple[Sequence[T], Sequence[str]]],
    ask: Callable[[Sequence[T], int], Asked],
    rng: random.Random,
) -> Story:
    """A story in turns; after every second fact one of the last five events is asked about, if one can be.

    Source: the process behind qa1..qa3, qa5..qa14 of bAbI v1.2 en-10k, measured on its files.
    Args: turn, of the events so far, gives the next events and the facts that tell them; ask, of the events so
    far and the number of one, gives a question that it leads to; rng.
    """
    events: list[T] = []
    facts: list[str] = []
    questions: list[Question] = []
    while len(questions) < QUESTIONS_PER_STORY:
        happened, told = turn(events)
        events += happened
        facts += told
        if len(facts) % FACTS_PER_CHECK:
            continue
        recent = range(max(0, len(events) - WINDOW), len(events))
        # Over events, not over people or objects: what was touched more often is asked about more often.
        if asked := [question for i in recent if (question := ask(events, i))]:
            questions.append(Question(*pick(rng, asked), after=len(facts)))
    return Story(tuple(facts), tuple(questions))


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


def load_folder(path: str | Path, encoding: str | None = None) -> dict[str, list[Story]]:
    """All stories of a folder by subset, {"qa1": [...], ...}; files of one subset follow each other by name.

    Source: files named `qaN_*.txt` as in the bAbI v1.2 archive, e.g. its folder `en-10k`. Args: path of the folder;
    encoding of the files, None for UTF-8. UserError if it has no such stories, an invalid line, or another encoding.
    """
    folder = Path(path)
    found: dict[str, list[Story]] = {}
    for file in sorted(folder.glob("qa*_*.txt")):
        if prefix := re.match(r"qa[0-9]+(?=_)", file.name):
            lines = text_files.read(file, encoding, choice=True).splitlines()
            found.setdefault(prefix[0], []).extend(_parse(lines, str(file)))
    if not any(found.values()):
        why = "has no bAbI lines in files 'qaN_*.txt'" if folder.is_dir() else "is not a folder"
        raise UserError(
            f"no bAbI stories in '{path}': it {why}. Give the folder that holds files such as "
            "'qa1_single-supporting-fact_train.txt' (en-10k in tasks_1-20_v1-2.tar.gz)."
        )
    return found
