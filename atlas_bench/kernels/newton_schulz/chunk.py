"""naive.py for many small matrices at once, with the backward written out (README.md derives it).

    step      G = X X^T,  P = B G + C G^2,  X <- A X + P X
    backward  S = D X^T + X D^T,  T = B S + C (G S + S G),  D <- A D + P D + T X

Autograd would take the two factors of G, and of G^2, for different matrices: a third more products, twice as many
small ones, and passes to add their gradients. No iterate is kept from forward to backward; they are made again.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from atlas_bench.kernels.newton_schulz.naive import A, B, C


def newton_schulz(x: Tensor, *, steps: int = 5, floor: float = 1e-4, sized: bool = False) -> Tensor:
    """Approximately U V^T of x = U S V^T, for the last two dimensions.

    steps  iterations
    floor  added to the norm that x is divided by
    sized  O <x, O> / <O, O> instead of O: the step keeps the size of the surprise, and is x itself at rank one
    """
    return _NewtonSchulz.apply(x.reshape(-1, *x.shape[-2:]), steps, floor, sized).view(x.shape)


def pulled_back(
    x: Tensor, d: Tensor, *, steps: int = 5, floor: float = 1e-4, sized: bool = False
) -> tuple[Tensor, Tensor]:
    """(newton_schulz(x), the gradient of <d, newton_schulz(x)>) of matrices [N, n, m], each iterate made once."""
    size = torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True)
    norm = size + floor
    iterates, direction = _iterates(x / norm, steps)
    out = direction
    if sized:
        along, squares = _inner(x, direction), _squares(direction)
        share = along / squares
        out = direction * share
        to_x = _inner(d, direction) / squares
        to_direction = 2 * to_x * share * (squares > _least(x))  # the least one is a constant
        d = torch.addcmul(d * share, to_x, x).addcmul_(to_direction, direction, value=-1)
    d = _unwind(iterates, d)
    # <d, x> / size is what d says of the norm; where the norm is 0 so is x
    to_norm = _inner(d, x) / (size * norm.square()).clamp_min(torch.finfo(x.dtype).tiny)
    dx = (d / norm).addcmul_(to_norm, x, value=-1)
    return out, dx.addcmul_(to_x, direction) if sized else dx


class _NewtonSchulz(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, steps: int, floor: float, sized: bool) -> Tensor:
        direction = x / (torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True) + floor)
        for _ in range(steps):
            direction = _advance(direction, _polynomial(_gram(direction, direction)))
        ctx.save_for_backward(x)
        ctx.options = {"steps": steps, "floor": floor, "sized": sized}
        return direction * (_inner(x, direction) / _squares(direction)) if sized else direction

    @staticmethod
    @once_differentiable
    def backward(ctx, d: Tensor):
        return pulled_back(*ctx.saved_tensors, d, **ctx.options)[1], None, None, None


def _iterates(x: Tensor, steps: int) -> tuple[list[tuple[Tensor, Tensor, Tensor]], Tensor]:
    """X_k, G and P of every step, and the last step's result."""
    made = []
    for _ in range(steps):
        gram = _gram(x, x)
        made.append((x, gram, _polynomial(gram)))
        x = _advance(x, made[-1][2])
    return made, x


def _unwind(iterates: list[tuple[Tensor, Tensor, Tensor]], d: Tensor) -> Tensor:
    """The gradient d of the last iterate's successor -> that of the first."""
    for x, gram, polynomial in reversed(iterates):
        half = _gram(d, x)
        s = half + half.mT
        torch.bmm(gram, s, out=half)
        t = torch.add(half, half.mT).mul_(C).add_(s, alpha=B)
        d = _advance(d, polynomial)
        d = d.baddbmm_(x, t) if _tall(x) else d.baddbmm_(t, x)
    return d


def _tall(x: Tensor) -> bool:
    """Then products are made on the other side: every n x n matrix is symmetric, and nothing need be transposed."""
    return x.shape[-2] > x.shape[-1]


def _gram(x: Tensor, y: Tensor) -> Tensor:
    return torch.bmm(x.mT, y) if _tall(x) else torch.bmm(x, y.mT)


def _polynomial(gram: Tensor) -> Tensor:
    return torch.baddbmm(gram, gram, gram, beta=B, alpha=C)


def _advance(x: Tensor, polynomial: Tensor) -> Tensor:
    return torch.baddbmm(x, x, polynomial, beta=A) if _tall(x) else torch.baddbmm(x, polynomial, x, beta=A)


def _inner(x: Tensor, y: Tensor) -> Tensor:
    """<x, y> of each pair of matrices: [N, 1, 1]. As a batched product it takes ten times as long."""
    return (x * y).sum((-2, -1), keepdim=True)


def _squares(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True).square().clamp_min(_least(x))


def _least(x: Tensor) -> float:
    return max(1e-12, torch.finfo(x.dtype).tiny)
