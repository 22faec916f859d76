"""phi: polynomial features of keys and queries (ATLAS sec. 3.1), [.., K] -> [.., P].

ATLAS eq. (5) weighs the i-th power of the kernel by a learnable a_i that starts at 1/i!; features carry sqrt(a_i).
The paper publishes neither degree nor sketch. Three are offered, each with x itself as its first K numbers:

    powers       x, x^2, .., x^p elementwise                                 P = p K: the cheapest
    monomials    all products of degree <= p: phi(q).phi(k) = sum_i a_i (q.k)^i      P = C(K+p, p) - 1
    sketch       x, then for each degree a random sketch of (q.k)^i of chosen width  P = K + (p-1) width

`taylor` is `monomials` with the constant and without normalisation: phi(q).phi(k) -> exp(q.k), ATLAS eq. (22). It is
eq. (5) as printed: phi(q).phi(k) = a_0 + a_1 q.k + .. + a_p (q.k)^p. Section 3.1 prints the same monomials unweighted.
All others have unit norm, so that a step of size <= 1 never overshoots; x = 0 stays 0.
"""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations_with_replacement

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atlas_bench.errors import UserError, unknown
from atlas_bench.kernels.cpu import side_by_side


def features(kind: str, degree: int, head_dim: int, *, sketch_width: int = 0) -> nn.Module:
    """The feature map of that name; degree 1 is the identity, except for `taylor`.

    degree        p >= 1
    sketch_width  numbers for each degree from 2 on (0: head_dim)

    Raises UserError for an unknown kind, and for sizes that mean nothing to it.
    """
    if kind not in FEATURES:
        raise unknown("feature map", kind, FEATURES)
    if degree < 1:
        raise UserError(f"degree is {degree}. Features have a degree of 1 or more.")
    if sketch_width and (kind != "sketch" or degree == 1):
        raise UserError(f"sketch_width {sketch_width} is for features=sketch of degree 2 or more. Leave it out.")
    if degree == 1 and kind != "taylor":
        return nn.Identity()
    return FEATURES[kind](degree, head_dim, sketch_width or head_dim)


class Powers(nn.Module):
    """Elementwise powers x, x^2, .., x^degree, rescaled to entries of like size; unit norm."""

    def __init__(self, degree: int, head_dim: int, _sketch_width: int = 0):
        super().__init__()
        self.degree, self.width = degree, degree * head_dim
        # A unit key has entries near 1/sqrt(K); powers are rescaled to entries of like size.
        scale = [math.sqrt(head_dim) ** (i - 1) / math.sqrt(math.factorial(i)) for i in range(1, degree + 1)]
        self.coefficients = nn.Parameter(torch.tensor(scale))

    def forward(self, x: Tensor) -> Tensor:
        """[..., K] -> [..., degree * K]."""
        powers = [x]
        while len(powers) < self.degree:
            powers.append(powers[-1] * x)
        sums = [powers[1].sum(-1, keepdim=True), *((power * power).sum(-1, keepdim=True) for power in powers[1:])]
        squares = self.coefficients.square().unbind()
        length = sum(c * square for c, square in zip(squares, sums, strict=True)).clamp_min(1e-12).rsqrt()
        return side_by_side(powers, [c * length for c in self.coefficients.unbind()])


class Monomials(nn.Module):
    """All monomials up to a degree, with the square roots of their multinomial weights; unit norm."""

    unit = True

    def __init__(self, degree: int, head_dim: int, _sketch_width: int = 0):
        super().__init__()
        self.degree, self.width = degree, math.comb(head_dim + degree, degree) - 1
        self.coefficients = nn.Parameter(torch.tensor([math.factorial(i) ** -0.5 for i in range(1, degree + 1)]))
        for i in range(2, degree + 1):
            chosen = list(combinations_with_replacement(range(head_dim), i))
            counts = [math.factorial(i) // math.prod(map(math.factorial, Counter(c).values())) for c in chosen]
            self.register_buffer(f"index{i}", torch.tensor(chosen), persistent=False)
            # whole numbers, which no change of a model's type rounds; roots are taken where they are used
            self.register_buffer(f"multinomial{i}", torch.tensor(counts), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., K] -> [..., P]."""
        blocks = [self.coefficients[0] * x]
        for i in range(2, self.degree + 1):
            weight = self.coefficients[i - 1] * getattr(self, f"multinomial{i}").to(x.dtype).sqrt()
            blocks.append(weight * x[..., getattr(self, f"index{i}")].prod(-1))
        y = torch.cat(blocks, -1)
        return F.normalize(y, dim=-1, eps=1e-6) if self.unit else y


class Taylor(Monomials):
    """Monomials with the constant in front of the series: phi(q).phi(k) = sum_{i<=p} (q.k)^i / i! at first.

    The key 0, which stands before a stream begins, has no constant either: nothing is written there.
    """

    unit = False

    def __init__(self, degree: int, head_dim: int, _sketch_width: int = 0):
        super().__init__(degree, head_dim)
        self.width += 1
        self.constant = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        """[..., K] -> [..., P], the constant last."""
        return torch.cat([super().forward(x), self.constant * (x != 0).any(-1, keepdim=True)], -1)


class Sketch(nn.Module):
    """Random products of projections: E phi_i(q).phi_i(k) = a_i (q.k)^i; unit norm."""

    def __init__(self, degree: int, head_dim: int, sketch_width: int):
        super().__init__()
        self.degree, self.width = degree, head_dim + (degree - 1) * sketch_width
        self.coefficients = nn.Parameter(torch.tensor([math.factorial(i) ** -0.5 for i in range(1, degree + 1)]))
        for i in range(2, degree + 1):  # part of the weights: a model is the same wherever it is loaded
            self.register_buffer(f"projection{i}", torch.randn(i, head_dim, sketch_width))

    def forward(self, x: Tensor) -> Tensor:
        """[..., K] -> [..., K + (degree-1) width]."""
        blocks = [self.coefficients[0] * x]
        for i in range(2, self.degree + 1):
            projection = getattr(self, f"projection{i}").to(x.dtype)
            factors = torch.stack([x @ each for each in projection])
            blocks.append(self.coefficients[i - 1] * projection.shape[-1] ** -0.5 * factors.prod(0))
        return F.normalize(torch.cat(blocks, -1), dim=-1, eps=1e-6)


FEATURES = {"powers": Powers, "monomials": Monomials, "sketch": Sketch, "taylor": Taylor}
