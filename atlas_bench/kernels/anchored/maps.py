"""The maps M that a memory can be: how each is read, and its gradient as one outer product per layer.

    matrix   M(x) = x W
    mlp      M(x) = x_1 + silu(x W2) W1                      ATLAS eq. (42); x_1: the first V numbers of x
    gated    M(x) = x_1 + (silu(x W2) * (x W3)) W1           ATLAS eq. (43), Atlas++

and, where a rule is wanted as its paper prints it, the two MLPs with gelu in the place of silu (ATLAS App. E), and

    Normed   M(x) = x_1 + LN(x W)  or  x_1 + LN(gelu(x W2) W1)   TTT (arXiv 2407.04620) sec. 2.7

A layer's weights are [I, O] and a token passes as z @ W. The gradient of one token's loss with respect to
a layer is then (the layer's input)^T (the error at its output): two vectors stand for it, and no matrix
per token is ever formed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Linear = Callable[[str, Tensor], Tensor]  # (layer, its input [.., I]) -> its output [.., O]
Error = Callable[[Tensor, Callable[[], Tensor]], Tensor]  # (M(x), a function for size(x)) -> dl/dM(x), scaled
Weights = Mapping[str, Tensor]
Products = dict[str, tuple[Tensor, Tensor]]  # layer -> (input [.., I], error at the output [.., O])


class Matrix:
    """M(x) = x W: the memory of linear attention and of the delta rules."""

    layers = ("M",)

    @staticmethod
    def shapes(features: int, width: int, hidden: int) -> dict[str, tuple[int, int]]:
        """Layer -> (I, O), for keys of `features` numbers and values of `width`."""
        return {"M": (features, width)}

    @staticmethod
    def read(x: Tensor, linear: Linear) -> Tensor:
        """M(x) [.., P] -> [.., V], each layer computed by `linear`."""
        return linear("M", x)

    @staticmethod
    def products(x: Tensor, weights: Weights, error: Error) -> Products:
        """The gradient of every token, x [.., T, P]."""
        return {"M": (x, error(x @ weights["M"], lambda: Matrix.size(x, weights)))}

    @staticmethod
    def size(x: Tensor, weights: Weights) -> Tensor:
        """A bound [.., T] of |dM(x)/dW|^2; keys of norm 1 or less leave a step as it is."""
        return x.square().sum(-1).clamp_min(1.0)


class MLP:
    """M(x) = x_1 + silu(x W2) W1."""

    layers = ("W1", "W2")
    activation = staticmethod(F.silu)
    residual = True  # whether x_1 is part of it

    @staticmethod
    def shapes(features: int, width: int, hidden: int) -> dict[str, tuple[int, int]]:
        return {"W1": (hidden, width), "W2": (features, hidden)}

    @classmethod
    def read(cls, x: Tensor, linear: Linear) -> Tensor:
        return cls._output(x, linear("W1", cls.activation(linear("W2", x))))

    @classmethod
    def products(cls, x: Tensor, weights: Weights, error: Error) -> Products:
        h, slope = cls._activated(x @ weights["W2"])
        e = error(cls._output(x, h @ weights["W1"]), lambda: _size(x, h, slope.square(), weights))
        return {"W1": (h, e), "W2": (x, (e @ weights["W1"].mT) * slope)}

    @classmethod
    def size(cls, x: Tensor, weights: Weights) -> Tensor:
        h, slope = cls._activated(x @ weights["W2"])
        return _size(x, h, slope.square(), weights)

    @classmethod
    def _output(cls, x: Tensor, y: Tensor) -> Tensor:
        return x[..., : y.shape[-1]] + y if cls.residual else y

    @staticmethod
    def _activated(z: Tensor) -> tuple[Tensor, Tensor]:
        """The activation of z and its derivative."""
        gate = torch.sigmoid(z)
        h = z * gate
        return h, gate + h * (1 - gate)


class GatedMLP(MLP):
    """M(x) = x_1 + (silu(x W2) * (x W3)) W1."""

    layers = ("W1", "W2", "W3")

    @staticmethod
    def shapes(features: int, width: int, hidden: int) -> dict[str, tuple[int, int]]:
        return {"W1": (hidden, width), "W2": (features, hidden), "W3": (features, hidden)}

    @classmethod
    def read(cls, x: Tensor, linear: Linear) -> Tensor:
        return cls._output(x, linear("W1", cls.activation(linear("W2", x)) * linear("W3", x)))

    @classmethod
    def products(cls, x: Tensor, weights: Weights, error: Error) -> Products:
        s, slope = cls._activated(x @ weights["W2"])
        u = x @ weights["W3"]
        h, slope = s * u, u * slope
        e = error(cls._output(x, h @ weights["W1"]), lambda: _size(x, h, slope.square() + s.square(), weights))
        back = e @ weights["W1"].mT
        return {"W1": (h, e), "W2": (x, back * slope), "W3": (x, back * s)}

    @classmethod
    def size(cls, x: Tensor, weights: Weights) -> Tensor:
        s, slope = cls._activated(x @ weights["W2"])
        u = x @ weights["W3"]
        return _size(x, s * u, (u * slope).square() + s.square(), weights)


class Gelu:
    """gelu(z) = z Phi(z), Phi the normal distribution function, where an MLP has silu."""

    activation = staticmethod(F.gelu)

    @staticmethod
    def _activated(z: Tensor) -> tuple[Tensor, Tensor]:
        below = torch.special.ndtr(z)
        return z * below, below + z * density(z)


class GeluMLP(Gelu, MLP):
    """M(x) = x_1 + gelu(x W2) W1."""


class GeluGatedMLP(Gelu, GatedMLP):
    """M(x) = x_1 + (gelu(x W2) * (x W3)) W1."""


class PlainGeluMLP(GeluMLP):
    """gelu(x W2) W1, what TTT-MLP normalises."""

    residual = False


class Normed:
    """M(x) = x_1 + LN(f(x)), with the layer norm's gain and bias; f is Matrix or PlainGeluMLP. It has no size().

    norm  a layer norm over the width of values, the same for all heads
    """

    def __init__(self, inner: Any, norm: nn.LayerNorm):
        self.inner, self.norm = inner, norm
        self.layers, self.shapes = inner.layers, inner.shapes

    def read(self, x: Tensor, linear: Linear) -> Tensor:
        y = self.norm(self.inner.read(x, linear))
        return x[..., : y.shape[-1]] + y

    def products(self, x: Tensor, weights: Weights, error: Error) -> Products:
        def before_norm(z: Tensor, size: Callable[[], Tensor]) -> Tensor:
            """dl/df(x): dl/dM(x) back through the norm."""
            centred = z - z.mean(-1, keepdim=True)
            deviation = (centred.square().mean(-1, keepdim=True) + self.norm.eps).sqrt()
            n = centred / deviation
            y = x[..., : z.shape[-1]] + n * self.norm.weight + self.norm.bias
            e = error(y, size) * self.norm.weight
            return (e - e.mean(-1, keepdim=True) - n * (e * n).mean(-1, keepdim=True)) / deviation

        return self.inner.products(x, weights, before_norm)


FLOOR = 1e-3  # of a squared Jacobian norm: a memory of zeros would divide by it
MAPS = {"matrix": Matrix, "mlp": MLP, "gated": GatedMLP}
GELU_MAPS = {"matrix": Matrix, "mlp": GeluMLP, "gated": GeluGatedMLP}


def density(z: Tensor) -> Tensor:
    """The normal density at z."""
    return torch.exp(z.square() / -2) / math.sqrt(2 * math.pi)


def _size(x: Tensor, h: Tensor, inner: Tensor, weights: Weights) -> Tensor:
    """|h|^2 for W1, and for the layers below |x|^2 sum_n inner_n |W1[n]|^2: how far their outputs reach."""
    reach = weights["W1"].square().sum(-1, keepdim=True)
    return h.square().sum(-1) + (inner @ reach).squeeze(-1) * x.square().sum(-1) + FLOOR
