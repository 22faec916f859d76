"""phi: polynomial features of keys and queries (ATLAS sec. 3.1)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Powers(nn.Module):
    """Elementwise powers x, x^2, .., x^degree with learnable coefficients sqrt(a_i), a_i = 1/i! at first.

    ATLAS eq. (5) weighs the i-th block of the kernel by a_i; the paper publishes neither degree nor
    sketch. Powers are the cheapest sketch: P = degree * K. The result has unit norm, so that a step of
    size <= 1 never overshoots; x = 0 stays 0.
    """

    def __init__(self, degree: int, head_dim: int):
        super().__init__()
        self.degree = degree
        # A unit key has entries near 1/sqrt(K); powers are rescaled to entries of like size.
        scale = [math.sqrt(head_dim) ** (i - 1) / math.sqrt(math.factorial(i)) for i in range(1, degree + 1)]
        self.coefficients = nn.Parameter(torch.tensor(scale))

    def forward(self, x: Tensor) -> Tensor:
        """[..., K] -> [..., degree * K]."""
        powers = [self.coefficients[i] * x ** (i + 1) for i in range(self.degree)]
        return F.normalize(torch.cat(powers, -1), dim=-1, eps=1e-6)
