"""DeltaProduct: n steps of the delta rule per token, each with a key, a value and a step size of its own.

    M_t,0 = a_t M_{t-1},   M_t,i = (I - b_i k_i k_i^T) M_t,i-1 + b_i k_i v_i^T,   M_t = M_t,n    arXiv 2502.10297 sec. 3

n products of reflections (b up to 2, eigenvalues down to -1) are any orthogonal matrix of n mirrors: permutations, and
so state tracking. a is the gated form's; forgetting=false leaves it out. Safe: b_i = w l_i, or 2 w l_i with negative
eigenvalues, w the write gate and l a hard sigmoid per step; a = 1 - w f. printed: w = 1, l = sigmoid(.),
a = exp(-rate dt). n = 1 is Gated DeltaNet, or DeltaNet.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atlas_bench.errors import UserError
from atlas_bench.models.memory.base import ALWAYS, Gate
from atlas_bench.models.memory.matrix import DT, RATE, SIGMOID, MatrixMemory, Update, retained, step_size


class DeltaProduct(MatrixMemory):
    """DeltaProduct (arXiv 2502.10297), gated or not."""

    def __init__(
        self, d_model: int, n_heads: int, head_dim: int, *, steps: int = 2, negative_eigenvalues: bool = True,
        forgetting: bool = True, printed: bool = False,
    ):  # fmt: skip
        if steps < 1:
            raise UserError(f"steps is {steps}. Give 1 or more.")
        self.gates = {"write": -0.6, "lr": Gate(0.0, per=steps)} | ({"forget": -2.5} if forgetting else {})
        self.printed_gates = {"write": ALWAYS, "lr": SIGMOID._replace(per=steps)} | ({"dt": DT} if forgetting else {})
        self.printed_constants = {"rate": RATE} if forgetting else {}
        super().__init__(d_model, n_heads, head_dim, printed=printed)
        self.steps, self.most = steps, 2 if negative_eigenvalues else 1
        self.key = nn.Linear(d_model, n_heads * steps * head_dim, bias=False)
        self.value = nn.Linear(d_model, n_heads * steps * head_dim, bias=False)
        with torch.no_grad():  # the last step's key is the query at first, as in every memory
            self.key.weight.view(n_heads, steps, -1)[:, -1] = self.query.weight.view(n_heads, -1)

    def _pairs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        shape = (self.n_heads, self.steps, self.head_dim)
        k = F.normalize(self._project("key", x).unflatten(-1, shape), dim=-1, eps=1e-6)
        return k.flatten(-2), self._project("value", x).unflatten(-1, shape).flatten(-2)

    def update(self, k: Tensor, v: Tensor, gates: dict[str, Tensor]) -> Update:
        a, b = retained(gates), self.most * step_size(gates)[..., None]
        k, v = (x.unflatten(-1, (self.steps, -1)) for x in (k, v))
        decayed = torch.cat([a[..., None, :].expand(*k.shape[:-2], 1, -1), torch.ones_like(b[..., 1:, :])], -2)
        return Update(a, k, b * v, erase=b * decayed * k)
