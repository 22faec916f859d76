"""DeltaNet: matrix memory, delta rule.

    M_t = (I - b_t k_t k_t^T) M_{t-1} + b_t k_t v_t^T              arXiv 2406.06484 eq. (2) transposed, M as [K, V]

b = w, the write gate: what is kept of the old value and what is written of the new are one number. printed=true: b is
a sigmoid of x_t, `lr`, as the paper has it, and never 0. With negative_eigenvalues b is twice that, so that I - b k k^T
has eigenvalues down to -1 and can reflect: arXiv 2411.12537.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from atlas_bench.kernels.anchored.rule import Gates
from atlas_bench.models.memory.base import Gate
from atlas_bench.models.memory.inner_optimizer import InnerOptimizer


class DeltaNet(InnerOptimizer):
    """DeltaNet (arXiv 2102.11174, 2406.06484): the Omega rule with a window of 1, exact inside a chunk."""

    affine = True
    printed_gates = {"lr": Gate(0.0, form=torch.sigmoid)}
    printed_slope = 1.0  # of |M(k) - v|^2 / 2

    def __init__(
        self, d_model: int, n_heads: int, head_dim: int, *, negative_eigenvalues: bool = False, printed: bool = False
    ):
        super().__init__(d_model, n_heads, head_dim, printed=printed)
        self.most = 2 if negative_eigenvalues else 1

    def terms(self, gates: dict[str, Tensor]) -> Gates:
        terms = super().terms(gates)
        return replace(terms, lr=self.most * terms.lr)
