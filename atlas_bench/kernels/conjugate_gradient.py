"""Linear systems with positive definite matrices, exactly or by conjugate gradients."""

from __future__ import annotations

import torch
from torch import Tensor


def solve(A: Tensor, b: Tensor, iterations: int) -> Tensor:
    """A^-1 b, [.., K, T], for positive definite A [.., K, K] and b [.., K, T], broadcast over [..].

    iterations  0: exactly; else so many steps of conjugate gradients from 0 (Hestenes and Stiefel 1952), of which K are
                enough except for rounding
    """
    b = b.expand(*torch.broadcast_shapes(A.shape[:-2], b.shape[:-2]), *b.shape[-2:])
    if not iterations:
        return torch.linalg.solve(A, b)
    x, residual, direction = torch.zeros_like(b), b, b
    size = residual.square().sum(-2, keepdim=True)
    least = torch.finfo(b.dtype).tiny  # a residual of 0 has been solved for: its steps are 0
    for _ in range(iterations):
        image = A @ direction
        step = size / (direction * image).sum(-2, keepdim=True).clamp_min(least)
        x, residual = x + step * direction, residual - step * image
        new = residual.square().sum(-2, keepdim=True)
        direction, size = residual + new / size.clamp_min(least) * direction, new
    return x
