"""MesaNet: the memory that fits all pairs best, solved for at every read.

    H_t = a_t H_{t-1} + b_t k_t k_t^T,   G_t = a_t G_{t-1} + b_t k_t v_t^T,   y_t = q_t (H_t + L)^-1 G_t     2506.05233

The ridge regression of all values on all keys, weighted by a and b; L = diag(ridge), 0.25 at least, is learnt. Safe:
b = w, the write gate, a = 1 - w f. printed: w = 1, b = sigmoid(.), a = 1 - sigmoid(.). iterations=0 solves exactly;
n > 0 takes n steps of conjugate gradients, as the paper does (30 in its experiments). State: [H | G], and the ridge.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atlas_bench.kernels.conjugate_gradient import solve
from atlas_bench.kernels.decay import decay
from atlas_bench.models.memory.base import ALWAYS, State
from atlas_bench.models.memory.matrix import SIGMOID, MatrixMemory, Update, one_step, retained, step_size


class MesaNet(MatrixMemory):
    gates = {"write": -0.6, "forget": -2.5}
    printed_gates = {"write": ALWAYS, "lr": SIGMOID, "forget": SIGMOID._replace(bias=-3.0)}
    together = 1  # every matrix of a dense block is made

    def __init__(self, d_model: int, n_heads: int, head_dim: int, *, iterations: int = 0, printed: bool = False):
        super().__init__(d_model, n_heads, head_dim, printed=printed)
        self.iterations = iterations
        self.ridge = nn.Parameter(torch.zeros(n_heads, head_dim))

    def init_state(self, batch: int) -> State:
        ridge = 0.25 + F.softplus(self.ridge)
        M = ridge.new_zeros(batch, self.n_heads, self.head_dim, 2 * self.head_dim)
        return {"M": M, "ridge": ridge.expand(batch, -1, -1).contiguous()}

    def update(self, k: Tensor, v: Tensor, gates: dict[str, Tensor]) -> Update:
        return one_step(retained(gates), k, step_size(gates) * torch.cat([k, v], -1))

    def read(self, state: State, q: Tensor) -> Tensor:
        H, G = state["M"].split(self.head_dim, -1)
        return solve(H + torch.diag_embed(state["ridge"]), q.mT, self.iterations).mT @ G

    def read_flops(self) -> int:
        size = self.head_dim
        solving = (
            max(self.iterations, 1) * size**2
        )  # a matrix is factorised once for all that is read between two writes
        return 2 * self.n_heads * (solving + size**2)

    def write_chunk(self, state, q, k, v, gates):
        if q is None:
            return super().write_chunk(state, q, k, v, gates)
        update = self.update(k, v, gates)
        a = update.retention[..., 0].transpose(1, 2)
        shares = decay(a)  # [B, H, T, T]
        pairs = (update.k.mT @ update.v).transpose(1, 2)  # [B, H, T, K, K + V]
        kept = (a[..., :1] * shares[..., 0])[..., None, None]
        M = kept * state["M"][:, :, None] + (shares @ pairs.flatten(-2)).view_as(pairs)
        y = self.read({"M": M, "ridge": state["ridge"][:, :, None]}, q.transpose(1, 2)[..., None, :])
        return y[..., 0, :].transpose(1, 2), {**state, "M": M[:, :, -1]}
