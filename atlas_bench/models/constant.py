"""A reader that ignores what it reads: its score is the floor, `chance`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atlas_bench.models.oracle import Control


class Constant(Control):
    """Always answers the task's first label, or '' if the task has no labels."""

    name = "constant"

    def answer(self, state: np.ndarray, question: Sequence[int], max_tokens: int, stop: Sequence[str] = ("\n",)) -> str:
        labels = self._samples[int(state[0, 0])].meta.get("labels", ())
        return next(iter(labels), "")
