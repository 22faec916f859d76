"""Gated DeltaNet-2: erasing and writing have gates of their own.

    M_t = (I - k_t (b_t * k_t)^T) Diag(a_t) M_{t-1} + k_t (u_t * v_t)^T              arXiv 2605.22791, b and u vectors

b per key channel says what is erased, u per value channel what is written (w in the paper). Both the same number: KDA.
Safe: both are hard sigmoids, multiplied by the write gate w; a = 1 - w f. printed: w = 1, b and u are sigmoids,
a = exp(-rate dt) as in KDA.
"""

from __future__ import annotations

import torch
from torch import Tensor

from atlas_bench.models.memory.base import ALWAYS, Gate
from atlas_bench.models.memory.matrix import DT, RATE, MatrixMemory, Update, one_step, retained


class GatedDeltaNet2(MatrixMemory):
    """Gated DeltaNet-2 (arXiv 2605.22791)."""

    gates = {
        "write": -0.6, "forget": Gate(-2.5, per="key"), "erase": Gate(2.0, per="key"), "add": Gate(2.0, per="value"),
    }  # fmt: skip
    printed_gates = {
        "write": ALWAYS, "dt": DT._replace(per="key"),
        "erase": Gate(0.0, per="key", form=torch.sigmoid), "add": Gate(0.0, per="value", form=torch.sigmoid),
    }  # fmt: skip
    printed_constants = {"rate": RATE}

    def update(self, k: Tensor, v: Tensor, gates: dict[str, Tensor]) -> Update:
        a, w = retained(gates), gates["write"][..., None]
        return one_step(a, k, w * gates["add"] * v, erase=w * a * gates["erase"] * k)
