"""Orthogonalisation by the quintic Newton-Schulz iteration, as ATLAS' inner Muon uses it."""

from __future__ import annotations

from torch import Tensor

# Muon's coefficients; the ATLAS paper prints none and every re-implementation uses these.
A, B, C = 3.4445, -4.7750, 2.0315


def newton_schulz(x: Tensor, *, steps: int = 5, floor: float = 1e-4) -> Tensor:
    """Approximately U V^T of x = U S V^T, for the last two dimensions.

    X_0 = x / (||x||_F + floor),  X <- A X + B (X X^T) X + C (X X^T)^2 X

    steps  iterations; 5 amplify a small singular value about 485 times
    floor  surprises far below it stay small instead of being blown up to full size
    """
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.square().sum((-2, -1), keepdim=True).add(1e-30).sqrt() + floor)
    for _ in range(steps):
        gram = x @ x.mT
        x = A * x + (B * gram + C * gram @ gram) @ x
    return x.mT if tall else x
