"""Memories whose update is linear in a matrix M [K, V]: what a variant states is one token's decay and its steps.

    M <- Diag(a_t) M,   then for each of the token's n steps   M <- M + k (v - e^T M')^T,   y_t = q_t M

M' is the memory before the step; before the first step, it is the memory before the decay (kernels/delta). A variant
states `update`: a (retention), k, v and e (erase) of a token as functions of its key, value and gates, at any write
gate w. At w = 1 it is the paper's rule; at w = 0 it must be a = 1, v = 0, e = 0. The event loop and the closed form
over a chunk follow.

The same names mean the same in every variant:

    forget  share of M that a token forgets, per head or per key channel
    lr      step size where it is a gate of its own; elsewhere the write gate is the step size
    dt      forget = 1 - exp(-rate dt), the parametrisation of Mamba-2 and its successors; rate is a constant

`printed=true` takes `printed_gates` and `printed_constants` in place of `gates` and `constants`: the papers'
parametrisation, and no write gate: every token is written (docs/printed.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from atlas_bench.kernels.cpu import through
from atlas_bench.kernels.delta.chunk import delta
from atlas_bench.models.memory.base import ALWAYS, TOGETHER, Gate, Memory, State, like

SIGMOID = Gate(0.0, form=torch.sigmoid)
DT = Gate(-4.6, form=F.softplus)  # dt = 0.01 at first; with RATE, 4 % are forgotten per token
RATE = Gate(1.4, form=torch.exp)


class Update(NamedTuple):
    """One token's update, n steps.

    retention  [.., 1] or [.., K], in [0, 1]
    k, v       [.., n, K], [.., n, V]
    erase      [.., n, K], None for zeros
    """

    retention: Tensor
    k: Tensor
    v: Tensor
    erase: Tensor | None = None


class MatrixMemory(Memory):
    """Base of the memories that state `update`.

    printed  the paper's own parametrisation of the gates, and keys as it has them
    """

    kernel = "events, delta"
    affine = True
    together = TOGETHER
    constants: Mapping[str, Gate] = {}
    printed_gates: Mapping[str, float | Gate] = {"write": ALWAYS}
    printed_constants: Mapping[str, Gate] = {}
    printed_unit_keys = True  # whether the paper scales keys and queries to length 1

    def __init__(self, d_model: int, n_heads: int, head_dim: int, *, printed: bool = False):
        gates, constants = (
            (self.printed_gates, self.printed_constants) if printed else (self.gates, self.constants)
        )  # fmt: skip
        super().__init__(d_model, n_heads, head_dim, gates=gates, constants=constants)
        self.unit_keys = self.printed_unit_keys or not printed

    def update(self, k: Tensor, v: Tensor, gates: dict[str, Tensor]) -> Update:
        """The update of tokens with keys [.., K], values [.., V] and gates [..] or [.., n]."""
        raise NotImplementedError

    def init_state(self, batch: int) -> State:
        return {"M": self.key.weight.new_zeros(batch, self.n_heads, self.head_dim, self.head_dim)}

    def write(self, state: State, k: Tensor, v: Tensor, gates: dict[str, Tensor]) -> State:
        update, M = self.update(k[..., 0, :], v[..., 0, :], gates), state["M"]
        for i in range(update.k.shape[-2]):
            key, error = update.k[..., i : i + 1, :], update.v[..., i : i + 1, :]
            if update.erase is not None:
                error = error - update.erase[..., i : i + 1, :] @ M
            M = (update.retention[..., None] * M if i == 0 else M) + key.mT @ error
        return {**state, "M": M}

    def read(self, state: State, q: Tensor) -> Tensor:
        return through(q, state["M"])

    def write_chunk(self, state, q, k, v, gates):
        update = self.update(k, v, gates)
        y, M = delta(q, update.k, update.v, erase=update.erase, retention=update.retention, state=state["M"])
        return y, {**state, "M": M}


def retained(gates: dict[str, Tensor]) -> Tensor:
    """1 - w f, [.., 1] or [.., K]: what a token leaves of the memory, before its steps."""
    write = gates["write"]
    if "dt" in gates:
        forget = -torch.expm1(-like(gates["rate"], gates["dt"]) * gates["dt"])
    else:
        forget = gates["forget"] if "forget" in gates else torch.zeros_like(write)
    if forget.dim() == write.dim():
        forget = forget[..., None]
    return 1 - write[..., None] * forget


def step_size(gates: dict[str, Tensor]) -> Tensor:
    """w, or w lr: [.., 1], or [.., n] for an lr of n numbers."""
    write = gates["write"][..., None]
    if "lr" not in gates:
        return write
    lr = gates["lr"]
    return write * (lr[..., None] if lr.dim() == gates["write"].dim() else lr)


def one_step(retention: Tensor, k: Tensor, v: Tensor, erase: Tensor | None = None) -> Update:
    """The update of a token with one step; k, v, erase [.., K], [.., V], [.., K]."""
    return Update(retention, k[..., None, :], v[..., None, :], None if erase is None else erase[..., None, :])
