"""TTT layers: a map trained at test time by plain gradient steps, frozen for a mini-batch.

    W_t = W_{t-1} - l_t grad l(W_{t'}; x_t),   l = || f(k_t; W) - v_t ||^2      arXiv 2407.04620 eq. (1), (4), (6)

t' is the end of the last mini-batch, chunk_size = 16 tokens as published. TTT-Linear: f(x) = x W; TTT-MLP:
f(x) = x + W1 silu(W2 x), expansion 4. Left out of the published layer: the layer norm inside f and the residual
around TTT-Linear's, as ATLAS' table of the family leaves them out. The steps of a mini-batch are bounded as
kernels/anchored/rule.py says, where the published layer divides them by the number of the token.
"""

from __future__ import annotations

from atlas_bench.models.memory.inner_optimizer import InnerOptimizer


class TTTLinear(InnerOptimizer):
    """TTT-Linear (arXiv 2407.04620): the delta rule with its gradient frozen for 16 tokens."""

    gates = {"write": -0.6, "lr": 2.0}

    def __init__(self, d_model: int, n_heads: int, head_dim: int, *, chunk_size: int = 16):
        super().__init__(d_model, n_heads, head_dim, chunk_size=chunk_size)


class TTTMLP(InnerOptimizer):
    """TTT-MLP (arXiv 2407.04620): the same on a two-layer MLP."""

    gates = {"write": -0.6, "lr": 2.0}

    def __init__(self, d_model: int, n_heads: int, head_dim: int, *, expansion: int = 4, chunk_size: int = 16):
        super().__init__(d_model, n_heads, head_dim, map="mlp", expansion=expansion, chunk_size=chunk_size)
