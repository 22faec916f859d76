"""What a context hides, and what is asked about it, as text: the facts and the questions of a HaystackTask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Question:
    """One question on a context.

    text        follows the context; begins with its separator, " " or a line break
    targets     right answers; the first is a full one
    supporting  numbers of the facts that answer it
    prefill     text the answer is made to begin with
    asked_at    tokens of the context read before it; None: as many as give the sample the cell's length
    distance    instead of asked_at: tokens between the end of the last supporting fact and the question, or fewer
                where the cell's length ends before
    meta        more for Sample.meta
    """

    text: str
    targets: tuple[str, ...]
    supporting: tuple[int, ...]
    prefill: str = ""
    asked_at: int | None = None
    distance: int | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _no_text(targets=self.targets)


@dataclass(frozen=True)
class Hidden:
    """What a context hides, and what is asked about it.

    facts      in their order in the context; each begins with its separator
    questions  at least one of them is asked at the cell's length
    depths     of each fact, rising in 0..1: the share of the background's tokens before it; None: random gaps
    before     text before everything, such as an instruction
    room       tokens of background that it wants at least
    """

    facts: tuple[str, ...]
    questions: tuple[Question, ...]
    depths: tuple[float, ...] | None = None
    before: str = ""
    room: int = 0

    def __post_init__(self) -> None:
        _no_text(facts=self.facts, questions=self.questions)
        wrong = [q.supporting for q in self.questions if not all(0 <= fact < len(self.facts) for fact in q.supporting)]
        if wrong:
            raise ValueError(f"a question is supported by facts {wrong[0]}, and there are {len(self.facts)}, from 0 on")


def _no_text(**given: Any) -> None:
    """TypeError for a text instead of a tuple of texts: ("garden") would be read letter by letter."""
    for name, value in given.items():
        if isinstance(value, str):
            raise TypeError(f"{name} is the text {value!r}, and a tuple is wanted: ({value!r},) with a comma")
