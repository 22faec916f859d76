"""A perfect reader, to test tasks and the runner with: it is shown the targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from atlas_bench.models.tokenizer import embedded
from atlas_bench.types import Model, Sample


class Control(Model):
    """A model that remembers only which context it reads and how many tokens of it.

    The runner shows a model with a method `peek` the samples of a batch before it starts them;
    this side channel is what makes a control, and no other model may have one.
    A state is int64 [B, 2]: the index of the context's first sample, and the tokens read.
    """

    name = "control"

    def __init__(self) -> None:
        self.tokenizer = embedded()
        self._samples: dict[int, Sample] = {}

    def peek(self, samples: Sequence[Sample]) -> None:
        """The samples that the next streams are asked about, in their order; those in a row may share a context."""
        self._samples = {sample.index: sample for sample in samples}

    def start(self, batch: int) -> np.ndarray:
        samples = self._samples.values()
        firsts = [next(sharing).index for _, sharing in groupby(samples, key=lambda sample: id(sample.context))]
        return np.array([[index, 0] for index in firsts[:batch]], dtype=np.int64)

    def feed(self, state: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        read: np.ndarray = state + np.array([0, tokens.shape[1]])
        return read

    def row(self, state: np.ndarray, index: int) -> np.ndarray:
        return state[index : index + 1].copy()

    def answer(self, state: np.ndarray, question: Sequence[int], max_tokens: int, stop: Sequence[str] = ("\n",)) -> str:
        raise NotImplementedError

    def state_bytes(self, state: np.ndarray) -> int:
        return state[:1].nbytes

    def pack(self, state: np.ndarray) -> dict[str, np.ndarray]:
        return {"state": state}

    def unpack(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        return arrays["state"]

    def facts(self) -> dict[str, Any]:
        return {"parameters": 0, "kernel": "none", "memory": "none", "device": "cpu"}


class Oracle(Control):
    """Answers the target, provided that it was fed the context up to the question, and the right question."""

    name = "oracle"

    def answer(self, state: np.ndarray, question: Sequence[int], max_tokens: int, stop: Sequence[str] = ("\n",)) -> str:
        first, read = state[0].tolist()
        context = self._samples[first].context
        for sample in self._samples.values():
            asked = (*sample.question, *sample.prefill)
            if sample.context is context and sample.reads == read and asked == tuple(question):
                return sample.targets[0]
        return ""
