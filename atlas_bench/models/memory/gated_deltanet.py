"""Gated DeltaNet: matrix memory, delta rule, retention.

    M_t = a_t (I - b_t k_t k_t^T) M_{t-1} + b_t k_t v_t^T          arXiv 2412.06464 eq. (10), M as [K, V]

b = w (the write gate), a = 1 - w f (f: forget gate), so that a closed token has b = 0 and a = 1.

printed=true: b = sigmoid(.), the gate `lr`, and a = exp(-A softplus(.)), Mamba-2's (arXiv 2405.21060), to which the
paper refers: the softplus is the gate `dt`, and A > 0, a number per head, the constant `rate`. Every token is written.
With negative_eigenvalues b is twice that, so that I - b k k^T has eigenvalues down to -1 and can reflect: 2411.12537.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from atlas_bench.kernels.cpu import through
from atlas_bench.kernels.omega.chunk import omega
from atlas_bench.models.memory.base import ALWAYS, TOGETHER, Gate, Memory, State, retention


class GatedDeltaNet(Memory):
    gates = {"write": -0.6, "forget": -2.5}
    printed_gates = {"write": ALWAYS, "lr": Gate(0.0, form=torch.sigmoid), "dt": Gate(-4.6, form=F.softplus)}
    printed_constants = {"rate": Gate(1.4, form=torch.exp)}  # with dt, 4 % are forgotten per token at first
    kernel = "events, omega"
    affine = True
    together = TOGETHER

    def __init__(
        self, d_model: int, n_heads: int, head_dim: int, *, negative_eigenvalues: bool = False, printed: bool = False
    ):
        forms = {"gates": self.printed_gates, "constants": self.printed_constants} if printed else {}
        super().__init__(d_model, n_heads, head_dim, **forms)
        self.printed, self.most = printed, 2 if negative_eigenvalues else 1

    def init_state(self, batch: int) -> State:
        return {"M": self.key.weight.new_zeros(batch, self.n_heads, self.head_dim, self.head_dim)}

    def shares(self, gates: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """a and b [..] of a token; with a screen, the share w of them that it lets through."""
        write = gates["write"]
        if not self.printed:
            return retention(gates), self.most * write
        return 1 + write * torch.expm1(-gates["rate"] * gates["dt"]), self.most * write * gates["lr"]

    def write(self, state: State, k: Tensor, v: Tensor, gates: dict[str, Tensor]) -> State:
        a, b = (share[..., None, None] for share in self.shares(gates))
        kept = a * state["M"]
        return {"M": kept - b * k.mT @ (k @ kept - v)}

    def read(self, state: State, q: Tensor) -> Tensor:
        return through(q, state["M"])

    def write_chunk(self, state, q, k, v, gates):
        a, b = self.shares(gates)
        y, M = omega(q, k, v, beta=b[..., None], retention=a, state=state["M"], decay_first=True)
        return y, {"M": M}
