"""Atlas: deep memory, polynomial features, Omega window, Muon as inner optimiser.

    S_t = m_t S_{t-1} + grad sum_{i=t-c+1..t} g_i^(t) || M_{t-1}(phi(k_i)) - v_i ||^2       ATLAS eq. (33)
    M_t = a_t M_{t-1} - l_t NewtonSchulz-5(S_t)                                             ATLAS eq. (32)
    M(x) = x + W1 silu(W2 phi(x))                     ATLAS eq. (42), x being the degree-1 block of phi(x)

Per token, at the current memory, for each weight matrix. Choices where the paper is silent: the gates are
hard sigmoids per head; window gates as in omeganet.py; each token's error is divided by the squared
Jacobian norm (titans.py). Newton-Schulz forgets how large the surprise was, and a repeated fact would be
written again at full size; the step therefore keeps the size of S along the orthogonalised direction O:

    step = O <S, O> / <O, O>,  O = NewtonSchulz-5(S)

which is the steepest-descent step under the spectral norm (its length is the nuclear norm of S, shared
among the directions), and for a surprise of rank one it is S itself.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atlas_bench.kernels.newton_schulz.naive import newton_schulz
from atlas_bench.models.memory.base import Memory, State
from atlas_bench.models.memory.features import Powers
from atlas_bench.models.memory.omeganet import window_weights
from atlas_bench.models.memory.titans import mlp_gradient


def muon(surprise: Tensor) -> Tensor:
    """Surprise with its directions equalised and its size kept."""
    direction = newton_schulz(surprise)
    along = (surprise * direction).sum((-2, -1), keepdim=True)
    return direction * along / direction.square().sum((-2, -1), keepdim=True).clamp_min(1e-12)


class Atlas(Memory):
    gates = {"write": -0.6, "forget": -2.5, "momentum": -2.5, "lr": 2.0, "lag1": -2.5}

    def __init__(self, d_model: int, n_heads: int, head_dim: int, *, expansion: int = 1, degree: int = 2):
        super().__init__(d_model, n_heads, head_dim, omega_window=2)
        hidden = expansion * head_dim
        self.features = Powers(degree, head_dim)
        self.w1 = nn.Parameter(torch.zeros(n_heads, head_dim, hidden))
        self.w2 = nn.Parameter(torch.randn(n_heads, hidden, degree * head_dim) * 1.5)

    def init_state(self, batch: int) -> State:
        w1, w2 = (w.expand(batch, *w.shape) for w in (self.w1, self.w2))
        return {"W1": w1, "W2": w2, "S1": torch.zeros_like(w1), "S2": torch.zeros_like(w2)}

    def step(self, state: State, k: Tensor, v: Tensor, gates: dict[str, Tensor]) -> State:
        weights = window_weights(gates, self.omega_window).flip(-1)  # oldest first, as k and v
        g1, g2 = mlp_gradient(state["W1"], state["W2"], k, k[..., : self.head_dim], v, weights)
        forget, momentum, lr = (gates[name][..., None, None] for name in ("forget", "momentum", "lr"))
        s1, s2 = momentum * state["S1"] + g1, momentum * state["S2"] + g2
        return {
            "W1": (1 - forget) * state["W1"] - lr * muon(s1),
            "W2": (1 - forget) * state["W2"] - lr * muon(s2),
            "S1": s1,
            "S2": s2,
        }

    def read(self, state: State, q: Tensor) -> Tensor:
        return q[..., : self.head_dim] + F.silu(q @ state["W2"].mT) @ state["W1"].mT

    def read_flops(self) -> int:
        return super().read_flops() // 2  # the momenta are not read
