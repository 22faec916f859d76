"""A transformers model whose recurrent memory is empty when it is asked: what `probe` calls memory=closed.

Attention and short convolutions keep what they have of the context, so the loss is the recurrent state's own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from atlas_bench.models.huggingface import cache as hf_cache
from atlas_bench.models.huggingface.model import HuggingFaceModel, State

RECURRENT = re.compile(r"(^|\.)(recurrent_states?|state)(\.\d+)?$")  # a tensor's path in transformers, fla and mamba.py


class Closed(HuggingFaceModel):
    """The same model; before each question its recurrent states are zero, as at the start of a stream."""

    def __init__(self, model: HuggingFaceModel):
        vars(self).update(vars(model))
        self.name = f"{model.name};memory=closed"

    def answer(self, state: State, question: Sequence[int], max_tokens: int, stop: Sequence[str] = ("\n",)) -> str:
        return super().answer(replace(state, cache=_emptied(state.cache)), question, max_tokens, stop)


def has_memory(model: HuggingFaceModel) -> bool:
    """Whether the model's cache has recurrent states that are known by name."""
    state = model.feed(model.start(1), np.zeros((1, 2), np.int32))
    return any(map(RECURRENT.search, hf_cache.tensors(state.cache)))


def _emptied(cache: Any) -> Any:
    def emptied(path: str, x: Any) -> Any:
        return torch.zeros_like(x) if isinstance(x, torch.Tensor) and RECURRENT.search(path) else x

    return hf_cache.mapped(emptied, cache, grown=lambda x: x)
