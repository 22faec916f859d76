"""Gated DeltaNet: matrix memory, delta rule, retention.

    M_t = a_t (I - b_t k_t k_t^T) M_{t-1} + b_t k_t v_t^T          arXiv 2412.06464 eq. (10), M as [K, V]

b = w (the write gate), a = 1 - w f (f: forget gate), so that a closed token has b = 0 and a = 1. With
negative_eigenvalues b = 2 w, so that I - b k k^T has eigenvalues down to -1 and can reflect: arXiv 2411.12537.
"""

from __future__ import annotations

from torch import Tensor

from atlas_bench.kernels.omega.chunk import omega
from atlas_bench.models.memory.base import TOGETHER, Memory, State, retention


class GatedDeltaNet(Memory):
    gates = {"write": -0.6, "forget": -2.5}
    kernel = "events, omega"
    together = TOGETHER

    def __init__(self, d_model: int, n_heads: int, head_dim: int, *, negative_eigenvalues: bool = False):
        super().__init__(d_model, n_heads, head_dim)
        self.most = 2 if negative_eigenvalues else 1

    def init_state(self, batch: int) -> State:
        return {"M": self.key.weight.new_zeros(batch, self.n_heads, self.head_dim, self.head_dim)}

    def write(self, state: State, k: Tensor, v: Tensor, gates: dict[str, Tensor]) -> State:
        b = self.most * gates["write"][..., None, None]
        kept = retention(gates)[..., None, None] * state["M"]
        return {"M": kept - b * k.mT @ (k @ kept - v)}

    def read(self, state: State, q: Tensor) -> Tensor:
        return q @ state["M"]

    def write_chunk(self, state, q, k, v, gates):
        y, M = omega(
            q,
            k,
            v,
            beta=self.most * gates["write"][..., None],
            retention=retention(gates),
            state=state["M"],
            decay_first=True,
        )
        return y, {"M": M}
