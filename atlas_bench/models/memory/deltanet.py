"""DeltaNet: matrix memory, delta rule.

    M_t = (I - b_t k_t k_t^T) M_{t-1} + b_t k_t v_t^T              arXiv 2406.06484 eq. (2) transposed, M as [K, V]

b = w, the write gate: what is kept of the old value and what is written of the new are one number.
"""

from __future__ import annotations

from atlas_bench.models.memory.inner_optimizer import InnerOptimizer


class DeltaNet(InnerOptimizer):
    """DeltaNet (arXiv 2102.11174, 2406.06484): the Omega rule with a window of 1, exact inside a chunk."""

    def __init__(self, d_model: int, n_heads: int, head_dim: int):
        super().__init__(d_model, n_heads, head_dim)
