"""Linear attention: every pair is added, none is corrected.

    M_t = M_{t-1} + w_t k_t v_t^T,   y_t = q_t M_t                                     ATLAS App. B, M as [K, V]

The family's dot-product bias l = -<M(k), v> on a matrix, one gradient step per token. Nothing normalises the
sum and there is no feature map; at w = 1 it is causal attention without the softmax.

printed=true is linear attention as it was published, arXiv 2006.16236 eq. (7) and (18) to (20):

    M_t = M_{t-1} + phi(k_t) v_t^T,   z_t = z_{t-1} + phi(k_t),   y_t = phi(q_t) M_t / phi(q_t) z_t

with phi(x) = elu(x) + 1, of keys and queries of any length. z is kept as one more column of M, whose value is 1 for
every token.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from atlas_bench.models.memory.base import State
from atlas_bench.models.memory.inner_optimizer import InnerOptimizer


class EluPlusOne(nn.Module):
    """phi(x) = elu(x) + 1, which is positive."""

    def forward(self, x: Tensor) -> Tensor:
        return F.elu(x) + 1


class LinearAttention(InnerOptimizer):
    """Linear attention (arXiv 2006.16236) with a write gate."""

    affine = True
    bias = "dot"

    def __init__(self, d_model: int, n_heads: int, head_dim: int, *, printed: bool = False):
        super().__init__(d_model, n_heads, head_dim, features=EluPlusOne() if printed else None, printed=printed)
        if printed:
            self.unit_keys = False
            self.shapes = {"M": (head_dim, head_dim + 1)}

    def _pairs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        k, v = super()._pairs(x)
        return k, F.pad(v, (0, 1), value=1.0) if self.printed else v

    def read(self, state: State, q: Tensor) -> Tensor:
        return self._normalised(super().read(state, q))

    def write_chunk(self, state, q, k, v, gates):
        y, state = super().write_chunk(state, q, k, v, gates)
        return None if y is None else self._normalised(y), state

    def _normalised(self, y: Tensor) -> Tensor:
        """As printed, the sums [.., V + 1] over their last number; 0 of an empty memory."""
        if not self.printed:
            return y
        total = y[..., -1:]
        return y[..., :-1] / (total + (total == 0))
