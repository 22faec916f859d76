"""Mamba-2 as a memory: a sum of pairs that decays as a whole.

    M_t = a_t M_{t-1} + dt_t k_t v_t^T,   a_t = exp(-rate dt_t),   y_t = q_t M_t     Mamba-2, arXiv 2405.21060 eq. (1)

B, C and X of the paper are k, q and v; M is its state h with A a scalar per head, discretised as Mamba's
(2312.00752 eq. (4), B dt in place of its exact form, as the published layer has it). Safe: a = 1 - w f and no dt, the
write gate w in front of v. printed: w = 1, dt = softplus(.), rate = exp(A) learnt, keys of any length. Left out: the
direct path D x around the memory, its short convolution and its gated norm, which are options of the block.
"""

from __future__ import annotations

from torch import Tensor

from atlas_bench.models.memory.base import ALWAYS
from atlas_bench.models.memory.matrix import DT, RATE, MatrixMemory, Update, one_step, retained


class Mamba2(MatrixMemory):
    """Mamba-2 (arXiv 2405.21060): linear attention with a decay per head."""

    gates = {"write": -0.6, "forget": -2.5}
    printed_gates = {"write": ALWAYS, "dt": DT}
    printed_constants = {"rate": RATE}
    printed_unit_keys = False

    def update(self, k: Tensor, v: Tensor, gates: dict[str, Tensor]) -> Update:
        size = gates["write"] * gates["dt"] if "dt" in gates else gates["write"]
        return one_step(retained(gates), k, size[..., None] * v)
