"""The course of a training as a file in its folder: a line of JSON for each round."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from atlas_bench.errors import reason
from atlas_bench.training.recipe import Progress

FILE = "training.ndjson"
FIELDS = ("round", "step", "stage", "length", "tokens", "seconds", "skipped")


def figures(progress: Progress) -> dict[str, Any]:
    """Of a round: how far training is, the figures of its last step, and the accuracy of each kind."""
    found = {name: getattr(progress, name) for name in FIELDS} | progress.last
    found["seconds"] = round(progress.seconds, 1)
    return found | ({"kinds": progress.kinds} if progress.kinds else {})


class Log:
    """Called after each round; a file that cannot be written is warned of once, and ends no training."""

    def __init__(self, out: Path, warn: Callable[[str], Any]) -> None:
        self.path, self.warn = out / FILE, warn
        self.begun, self.failed = False, False

    def __call__(self, progress: Progress) -> None:
        """Append the round."""
        try:
            if not self.begun:
                self._drop(progress.round)
            with self.path.open("a") as file:
                file.write(json.dumps(figures(progress)) + "\n")
        except OSError as error:
            if not self.failed:
                self.warn(f"'{self.path}' cannot be written: {reason(error)}. Training goes on without.")
            self.failed = True

    def _drop(self, number: int) -> None:
        """Leave out what a killed training wrote after its last checkpoint: those rounds come again."""
        self.begun = True
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        self.path.write_text("".join(f"{line}\n" for line in lines if _round(line) < number))


def _round(line: str) -> float:
    """A line's round; one that a kill cut short belongs to none."""
    try:
        return float(json.loads(line)["round"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
