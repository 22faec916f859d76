"""How two outputs or states of a memory differ, in words that a contract's sentence ends with."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from atlas_bench.models.memory.base import State

EXACT = 1e-9  # float64 sums in another order


def output_gap(a: Tensor, b: Tensor, tolerance: float = EXACT) -> str | None:
    gap = float((a - b).detach().abs().max())
    return None if gap <= tolerance else f"the output by {gap:.2g}"


def state_gap(a: State, b: State, tolerance: float = EXACT) -> str | None:
    """What differs; integer tensors must be equal."""
    if a.keys() != b.keys():
        return f"the state's names: {names(a)} and {names(b)}"
    for name in a:
        if a[name].shape != b[name].shape:
            return f"the state's shape: '{name}' is {tuple(a[name].shape)} and {tuple(b[name].shape)}"
        gap = float((a[name].detach().double() - b[name].detach().double()).abs().max()) if a[name].numel() else 0.0
        if not gap <= (tolerance if a[name].is_floating_point() else 0):
            return f"the state '{name}' by {gap:.2g}"
    return None


def is_state(state: Any) -> bool:
    return isinstance(state, dict) and all(isinstance(s, Tensor) for s in state.values())


def names(given: Any) -> str:
    """The names in a state; for anything else its type, such as '(Tensor, list)'."""
    if isinstance(given, dict):
        return ", ".join(map(repr, given)) or "nothing"
    return f"({', '.join(type(part).__name__ for part in given)})" if type(given) is tuple else type(given).__name__
