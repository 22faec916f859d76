"""Kimi Delta Attention: the gated delta rule, with a decay per key channel.

    M_t = (I - b_t k_t k_t^T) Diag(a_t) M_{t-1} + b_t k_t v_t^T                  Kimi Linear, arXiv 2510.26692 eq. (1)

Safe: b = w, the write gate, a = 1 - w f. printed: w = 1, b = sigmoid(.), a = exp(-rate dt) with dt = softplus(.) per
key channel and a rate per head (its low-rank projection of x is a full one here).
"""

from __future__ import annotations

from torch import Tensor

from atlas_bench.models.memory.base import ALWAYS, Gate
from atlas_bench.models.memory.matrix import (
    DT,
    RATE,
    SIGMOID,
    MatrixMemory,
    Update,
    one_step,
    retained,
    step_size,
)  # fmt: skip


class KDA(MatrixMemory):
    """Kimi Delta Attention (arXiv 2510.26692)."""

    gates = {"write": -0.6, "forget": Gate(-2.5, per="key")}
    printed_gates = {"write": ALWAYS, "lr": SIGMOID, "dt": DT._replace(per="key")}
    printed_constants = {"rate": RATE}

    def update(self, k: Tensor, v: Tensor, gates: dict[str, Tensor]) -> Update:
        a, b = retained(gates), step_size(gates)
        return one_step(a, k, b * v, erase=b * a * k)
