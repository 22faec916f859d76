"""When a cell needs no more answers: its interval is narrow enough, or a verdict about it is decided.

    cell = replace(cell, stop=Width(5.0))
    cell.stop.reached(rows, "babilong/official")        # asked after each batch of samples

A rule looks at the answers, so what it stops has intervals and p-values that hold at every look: stats/sequential.py.
It is part of a cell's identity, and a record's `protocol` states it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

from atlas_bench import units
from atlas_bench.errors import UserError
from atlas_bench.results.score import unit
from atlas_bench.stats import sequential

LEVEL = 0.05  # of a verdict, over all comparisons of a command

Row = Mapping[str, Any]  # of a record's answers


@dataclass(frozen=True)
class Width:
    """Stop when the 95 % interval is at most that many points wide, from low to high."""

    points: float

    @classmethod
    def of(cls, points: Any) -> Width:
        """The rule for the user's width; UserError for an invalid one."""
        if not 0 < (number := units.amount("until", points)) < 100:
            raise UserError(f"until is {points}, which is no width. Give points between 0 and 100, such as 5.")
        return cls(number)

    def facts(self) -> dict[str, Any]:
        """The rule as a record's protocol has it."""
        return {"rule": "width", **asdict(self)}

    def reached(self, rows: Sequence[Row], scorer: str) -> bool:
        """Whether the answers so far suffice."""
        low, high = sequential.interval(sequential.counted(_means(rows, scorer).values()))
        return 100 * (high - low) <= self.points

    @property
    def reached_note(self) -> str:
        """What a record notes where the rule ended the cell."""
        return f"stopped as the interval was at most {self.points:g} points wide"

    @property
    def open_note(self) -> str:
        """And where the questions came to an end first."""
        return f"the interval is still wider than {self.points:g} points"


@dataclass(frozen=True)
class Verdict:
    """Stop when the paired difference to a baseline is decided: its e-value reaches `comparisons` / LEVEL.

    All comparisons together are then wrong in at most LEVEL of the cases (Bonferroni; Holm's correction is never
    stricter).

    against      the baseline's name
    weights      and the hash of its weights
    comparisons  how many the command makes
    answers      index of a sample -> the baseline's score; no part of the rule's identity
    """

    against: str
    weights: str | None
    comparisons: int
    answers: Mapping[int, float] = field(compare=False, repr=False, default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """The rule as a record's protocol has it."""
        return {"rule": "verdict", "against": self.against, "weights": self.weights, "comparisons": self.comparisons}

    def reached(self, rows: Sequence[Row], scorer: str) -> bool:
        """Whether the answers so far suffice."""
        differences = _means(rows, scorer, minus=self.answers).values()
        return sequential.evidence(sequential.counted(differences)) >= self.comparisons / LEVEL

    @property
    def reached_note(self) -> str:
        """What a record notes where the rule ended the cell."""
        return f"stopped as the verdict against {self.against} was decided"

    @property
    def open_note(self) -> str:
        """And where the questions came to an end first."""
        return f"no verdict against {self.against} by then"


Stop = Width | Verdict


def _means(rows: Sequence[Row], scorer: str, minus: Mapping[int, float] | None = None) -> dict[int, float]:
    """The mean score of each context, or its mean difference to other scores of the same questions."""
    found: dict[int, list[float]] = defaultdict(list)
    for row in rows:
        if scorer in row["correct"] and (minus is None or row["index"] in minus):
            found[unit(row)].append(row["correct"][scorer] - (0 if minus is None else minus[row["index"]]))
    return {context: fmean(scores) for context, scores in found.items()}
