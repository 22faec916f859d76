"""Orthogonalisation by the quintic Newton-Schulz iteration, as ATLAS' inner Muon uses it."""

from __future__ import annotations

import torch
from torch import Tensor

# Muon's coefficients; the ATLAS paper prints none and every re-implementation uses these.
A, B, C = 3.4445, -4.7750, 2.0315


def newton_schulz(x: Tensor, *, steps: int = 5, floor: float = 1e-4) -> Tensor:
    """Approximately U V^T of x = U S V^T, for the last two dimensions.

    X_0 = x / (||x||_F + floor),  X <- A X + B (X X^T) X + C (X X^T)^2 X

    steps  iterations; 5 amplify a small singular value about 485 times
    floor  surprises far below it stay small instead of being blown up to full size
    """
    shape = x.shape
    tall = shape[-2] > shape[-1]
    x = (x.mT if tall else x).reshape(-1, min(shape[-2:]), max(shape[-2:]))
    x = x / (torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True) + floor)
    for _ in range(steps):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=B, alpha=C)
        x = torch.baddbmm(x, polynomial, x, beta=A)
    return (x.mT if tall else x).reshape(shape)
