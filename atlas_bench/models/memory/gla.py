"""Gated linear attention: a sum of pairs that decays, each key channel at its own pace.

    M_t = Diag(a_t) M_{t-1} + k_t v_t^T,   y_t = q_t M_t                             GLA, arXiv 2312.06635 eq. (3)

Safe: a = 1 - w f with a forget gate f per key channel, and the write gate w in front of v. printed: w is 1,
a = sigmoid(.)^(1/16) (section 4.3; its low-rank projection of x is a full one here) and keys of any length.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from atlas_bench.models.memory.base import ALWAYS, Gate
from atlas_bench.models.memory.matrix import MatrixMemory, Update, one_step, retained

TEMPERATURE = 16  # of the published decay


def forgotten(logit: Tensor) -> Tensor:
    """1 - sigmoid(logit)^(1/16)."""
    return -(F.logsigmoid(logit) / TEMPERATURE).expm1()


class GLA(MatrixMemory):
    """Gated linear attention (arXiv 2312.06635)."""

    gates = {"write": -0.6, "forget": Gate(-2.5, per="key")}
    printed_gates = {"write": ALWAYS, "forget": Gate(0.0, per="key", form=forgotten)}
    printed_unit_keys = False

    def update(self, k: Tensor, v: Tensor, gates: dict[str, Tensor]) -> Update:
        return one_step(retained(gates), k, gates["write"][..., None] * v)
