"""Linear attention: every pair is added, none is corrected.

    M_t = M_{t-1} + w_t k_t v_t^T,   y_t = q_t M_t                                     ATLAS App. B, M as [K, V]

The family's dot-product bias l = -<M(k), v> on a matrix, one gradient step per token. Nothing normalises the
sum and there is no feature map; at w = 1 it is causal attention without the softmax.
"""

from __future__ import annotations

from atlas_bench.models.memory.inner_optimizer import InnerOptimizer


class LinearAttention(InnerOptimizer):
    """Linear attention (arXiv 2006.16236) behind a write gate."""

    bias = "dot"

    def __init__(self, d_model: int, n_heads: int, head_dim: int):
        super().__init__(d_model, n_heads, head_dim)
