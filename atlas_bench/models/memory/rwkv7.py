"""RWKV-7: what is removed has a key of its own.

    M_t = (Diag(a_t) - (b_t * r_t) r_t^T) M_{t-1} + k'_t v_t^T,   r_t = unit(R * k_t),   k'_t = k_t * (1 + B (b_t - 1))
                                                            RWKV-7, arXiv 2503.14456 sec. 4.1, transposed: M as [K, V]

r is the removal key, k' the replacement key, b the in-context learning rate per key channel, R and B learnt constants
per key channel. Removal reads M_{t-1} before its decay, so a token is two steps: remove, then write. Safe: b a hard
sigmoid, a = 1 - w f, removal and writing multiplied by the write gate w. printed: w = 1, b = sigmoid(.),
a = exp(-e^-0.5 sigmoid(.)), keys of any length. Left out: the token shift, the bonus term that passes v_t around the
memory, and low-rank forms of projections.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from atlas_bench.models.memory.base import ALWAYS, Gate
from atlas_bench.models.memory.matrix import SIGMOID, MatrixMemory, Update, retained


def forgotten(logit: Tensor) -> Tensor:
    """1 - exp(-e^-0.5 sigmoid(logit)): at most 0.45."""
    return -(-math.exp(-0.5) * torch.sigmoid(logit)).expm1()


class RWKV7(MatrixMemory):
    """The time-mixing state of RWKV-7 (arXiv 2503.14456)."""

    gates = {"write": -0.6, "forget": Gate(-2.5, per="key"), "lr": Gate(2.0, per="key")}
    printed_gates = {
        "write": ALWAYS,
        "forget": Gate(-3.0, per="key", form=forgotten),
        "lr": SIGMOID._replace(per="key"),
    }
    constants = printed_constants = {
        "removal": Gate(1.0, per="key", form=torch.positive),
        "boost": Gate(1.0, per="key", form=torch.positive),
    }
    printed_unit_keys = False

    def update(self, k: Tensor, v: Tensor, gates: dict[str, Tensor]) -> Update:
        w, b = gates["write"][..., None], gates["lr"]
        r = F.normalize(gates["removal"] * k, dim=-1, eps=1e-6)
        into = k * (1 + gates["boost"] * (b - 1))
        nothing = torch.zeros_like(v), torch.zeros_like(k)
        return Update(
            retained(gates),
            k=torch.stack([b * r, into], -2),
            v=torch.stack([nothing[0], w * v], -2),
            erase=torch.stack([w * r, nothing[1]], -2),
        )
