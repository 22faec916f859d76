"""Titans: deep memory, momentum ("past surprise"), retention.

    S_t = m_t S_{t-1} - l_t grad || M_{t-1}(k_t) - v_t ||^2          Titans eq. (14), at the current memory
    M_t = (1 - f_t) M_{t-1} + S_t                                    Titans eq. (13)
    M(x) = x + W1 silu(W2 x)

Gates (the paper states no parametrisation): m, f, l hard sigmoids of x_t per head. Step size: l_t divides
by the squared norm of dM(k)/dW, so that one step corrects the fraction l_t of the error whatever the
size of W. Unbounded steps on an MLP memory diverge within hundreds of tokens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atlas_bench.models.memory.base import Memory, State


def mlp_gradient(w1: Tensor, w2: Tensor, x: Tensor, skip: Tensor, v: Tensor, weights: Tensor | None = None):
    """Gradient of sum_i g_i || M(x_i) - v_i ||^2 / 2 for M(x) = skip + W1 silu(W2 x), made a bounded step.

    w1 [.., V, N], w2 [.., N, P], x [.., W, P], skip, v [.., W, V], weights g [.., W] (default 1). Each
    token's error is divided by its own squared Jacobian norm |h|^2 + |W1 diag(silu')|^2 |x|^2.
    """
    z = x @ w2.mT
    gate = torch.sigmoid(z)
    h = z * gate
    slope = gate * (1 + z * (1 - gate))
    error = skip + h @ w1.mT - v
    jacobian = (w1.square().sum(-2)[..., None, :] * slope.square()).sum(-1) * x.square().sum(-1)
    size = h.square().sum(-1) + jacobian
    scale = 1 / (size + 1e-3)
    error = error * (scale if weights is None else scale * weights)[..., None]
    return error.mT @ h, ((error @ w1) * slope).mT @ x


class Titans(Memory):
    gates = {"write": -0.6, "forget": -2.5, "momentum": -2.0, "lr": 2.0}

    def __init__(self, d_model: int, n_heads: int, head_dim: int, *, expansion: int = 2):
        super().__init__(d_model, n_heads, head_dim)
        hidden = expansion * head_dim
        self.w1 = nn.Parameter(torch.zeros(n_heads, head_dim, hidden))
        self.w2 = nn.Parameter(torch.randn(n_heads, hidden, head_dim) * 1.5)

    def init_state(self, batch: int) -> State:
        w1, w2 = (w.expand(batch, *w.shape) for w in (self.w1, self.w2))
        return {"W1": w1, "W2": w2, "S1": torch.zeros_like(w1), "S2": torch.zeros_like(w2)}

    def step(self, state: State, k: Tensor, v: Tensor, gates: dict[str, Tensor]) -> State:
        g1, g2 = mlp_gradient(state["W1"], state["W2"], k, k, v)
        forget, momentum, lr = (gates[name][..., None, None] for name in ("forget", "momentum", "lr"))
        s1, s2 = momentum * state["S1"] - lr * g1, momentum * state["S2"] - lr * g2
        return {
            "W1": (1 - forget) * state["W1"] + s1,
            "W2": (1 - forget) * state["W2"] + s2,
            "S1": s1,
            "S2": s2,
        }

    def read(self, state: State, q: Tensor) -> Tensor:
        return q + F.silu(q @ state["W2"].mT) @ state["W1"].mT

    def read_flops(self) -> int:
        return super().read_flops() // 2  # the momenta are not read
