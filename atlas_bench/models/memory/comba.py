"""Comba: the gated delta rule with feedback of its own size, and an output corrected by the key.

    M_t = a_t M_{t-1} + b_t k_t (v_t - p_t^T a_t M_{t-1})^T,   p_t = c k_t,   y_t = (q_t - d k_t) M_t
                                                                                                        arXiv 2506.02475

c in (0, 1) and d are learnt constants of a head: c is how much of what is stored is fed back, d makes queries unlike
keys. Safe: b = w, the write gate, a = 1 - w f. printed: w = 1, b = sigmoid(.), a = exp(-rate dt). d begins at 0.02,
which the authors' code recommends for small models. At its other value, 1, y would be 0 as long as queries equal keys,
and here they do at first.
"""

from __future__ import annotations

import torch
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
)


class Comba(MatrixMemory):
    """Comba (arXiv 2506.02475)."""

    gates = {"write": -0.6, "forget": -2.5}
    constants = {"feedback": Gate(1.0, form=torch.sigmoid), "correction": Gate(0.02, form=torch.positive)}
    printed_gates = {"write": ALWAYS, "lr": SIGMOID, "dt": DT}
    printed_constants = {**constants, "rate": RATE}

    def update(self, k: Tensor, v: Tensor, gates: dict[str, Tensor]) -> Update:
        a, b = retained(gates), step_size(gates)
        return one_step(a, k, b * v, erase=gates["feedback"][..., None] * b * a * k)

    def _queries(self, x: Tensor) -> Tensor:
        return super()._queries(x) - self.constant["correction"][:, None] * self._address(self._project("key", x))

    def read_flops(self) -> int:
        return super().read_flops() + 2 * self.key.weight.numel()
