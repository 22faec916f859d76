"""The first contract: a memory is built, and what its methods take and give has the shapes that the base expects."""

from __future__ import annotations

import inspect

import torch
from torch import Tensor

from atlas_bench.comparison.differences import is_state, names
from atlas_bench.comparison.fixtures import HEAD, HEADS, ROWS, Build, tokens
from atlas_bench.models.memory.base import Memory
from atlas_bench.models.memory.user_file import NO_WRITE_GATE


@torch.no_grad()
def runs(build: Build) -> str | None:
    """It is built, its methods take and give the shapes the base expects, and it reads a stream."""
    memory, x = build(), tokens()
    if "write" not in memory.gates:
        return NO_WRITE_GATE
    if build.variant.forward is Memory.forward and (sentence := _methods(memory, x)):
        return sentence
    parameters = inspect.signature(memory.forward).parameters.values()
    if not any(p.name == "output" or p.kind is p.VAR_KEYWORD for p in parameters):
        return "forward() takes no output=: write `def forward(self, x, state=None, *, output=True)`"
    for call, given in {"forward(x)": memory(x), "forward(x, output=False)": memory(x, output=False)}.items():
        if not (isinstance(given, tuple) and len(given) == 2 and is_state(given[1])):
            return f"{call} gives {names(given)}, not a pair of the output [B, T, D] and the state, a dict of tensors"
    y, state = memory(x)
    if not isinstance(y, Tensor):
        return f"output is {names(y)}, not a tensor"
    if y.shape != x.shape:
        return f"output has shape {tuple(y.shape)}, not {tuple(x.shape)}"
    short = [f"'{name}' is {tuple(s.shape)}" for name, s in state.items() if s.shape[:1] != (ROWS,)]
    return f"state {short[0]} for {ROWS} streams: its first dimension must be the batch" if short else None


def _methods(memory: Memory, x: Tensor) -> str | None:
    """init_state, step and read alone, so that a wrong shape is reported where it is made."""
    state = memory.init_state(ROWS)
    if not is_state(state):
        return f"init_state() gives {type(state).__name__}, not a dict of names and tensors"
    for name, s in state.items():
        if s.shape[:2] != (ROWS, HEADS):
            return (
                f"init_state({ROWS}): '{name}' is {tuple(s.shape)}, which does not begin with ({ROWS}, {HEADS}), [B, H]"
            )
        if s.is_floating_point() and s.dtype != x.dtype:
            return f"init_state(): '{name}' is {s.dtype} and the weights {x.dtype}; self.key.weight.new_zeros(..) fits"
    k, v = memory._pairs(x[:, : memory.sees + 1])
    k, v = (part.transpose(1, 2).flatten(0, 1) for part in (k, v))  # rows and heads as one dimension
    old = {name: s.flatten(0, 1) for name, s in state.items()}
    gates = {name: gate[:, 0].flatten(0, 1) for name, gate in memory._gates(x[:, :1]).items()}
    if type(memory).step is not Memory.step:
        new = memory.step(old, k, v, gates)
        if not isinstance(new, dict) or new.keys() != old.keys():
            return f"step() gives {names(new)}, not {names(old)} as init_state()"
        for name, s in old.items():
            if new[name].shape != s.shape:
                verb = "grows" if new[name].numel() > s.numel() else "changes shape"
                return f"state {verb}: '{name}' is {tuple(s.shape)} before a step() and {tuple(new[name].shape)} after"
    q = memory._queries(x[:, : memory.convolved + 5]).transpose(1, 2).flatten(0, 1)
    wanted = (ROWS * HEADS, 5, HEAD)
    if tuple(y := memory.read(old, q).shape) != wanted:
        return f"read() gives {tuple(y)} for 5 queries, not {wanted}"
    stacked = {name: torch.stack([s, s]) for name, s in old.items()}
    if tuple(y := memory.read(stacked, q).shape) != (2, *wanted):
        return f"read() of two states stacked in front gives {tuple(y)}, not {(2, *wanted)}; use matmul's broadcasting"
    return None
