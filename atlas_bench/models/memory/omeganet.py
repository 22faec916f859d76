"""OmegaNet: matrix memory, polynomial features, the exact online Omega rule.

    M_t = a_t M_{t-1} - sum_{i=t-c+1..t} g_i^(t) phi(k_i) (phi(k_i)^T M_{t-1} - v_i^T)      ATLAS eq. (10), M as [P, V]

The gradient is taken at M_{t-1}, not frozen at a chunk's start, so facts keep their order. The paper
does not state the gates; here g_t = 1 for the newest token, a hard sigmoid of x_t for each older one, and
the window's sum is kept at 1 or less. a = 1 - w f; the write gate w multiplies the whole step.
"""

from __future__ import annotations

import torch
from torch import Tensor

from atlas_bench.kernels.omega.chunk import omega
from atlas_bench.models.memory.base import FORGET_MOST, Memory, State, retention
from atlas_bench.models.memory.features import Powers


def window_weights(gates: dict[str, Tensor], omega_window: int) -> Tensor:
    """Normalised window gates [..., W], newest token first (lag 0), sum 1 or less."""
    newest = torch.ones_like(gates["write"])
    weights = torch.stack([newest] + [gates[f"lag{j}"] for j in range(1, omega_window)], -1)
    return weights / weights.sum(-1, keepdim=True)


class OmegaNet(Memory):
    gates = {"write": -0.6, "forget": -2.5, "lag1": -2.0}

    def __init__(self, d_model: int, n_heads: int, head_dim: int, *, degree: int = 2):
        super().__init__(d_model, n_heads, head_dim, omega_window=2)
        self.degree = degree
        self.features = Powers(degree, head_dim)

    def init_state(self, batch: int) -> State:
        return {"M": self.key.weight.new_zeros(batch, self.n_heads, self.degree * self.head_dim, self.head_dim)}

    def step(self, state: State, k: Tensor, v: Tensor, gates: dict[str, Tensor]) -> State:
        weights = window_weights(gates, self.omega_window).flip(-1)[..., None]  # oldest first, as k and v
        gradient = k.mT @ (weights * (k @ state["M"] - v))
        return {"M": (1 - FORGET_MOST * gates["forget"][..., None, None]) * state["M"] - gradient}

    def read(self, state: State, q: Tensor) -> Tensor:
        return q @ state["M"]

    def write_chunk(self, state, q, k, v, gates):
        y, M = omega(
            q,
            k,
            v,
            beta=gates["write"][..., None] * window_weights(gates, self.omega_window),
            retention=retention(gates),
            state=state["M"],
        )
        return y, {"M": M}
