"""The maps M that a memory can be: how each is read, and its gradient as one outer product per layer.

    matrix   M(x) = x W
    mlp      M(x) = x_1 + silu(x W2) W1                      ATLAS eq. (42); x_1: the first V numbers of x
    gated    M(x) = x_1 + (silu(x W2) * (x W3)) W1           ATLAS eq. (43), Atlas++

A layer's weights are [I, O] and a token passes as z @ W. The gradient of one token's loss with respect to
a layer is then (the layer's input)^T (the error at its output): two vectors stand for it, and no matrix
per token is ever formed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

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

    @staticmethod
    def shapes(features: int, width: int, hidden: int) -> dict[str, tuple[int, int]]:
        return {"W1": (hidden, width), "W2": (features, hidden)}

    @staticmethod
    def read(x: Tensor, linear: Linear) -> Tensor:
        y = linear("W1", F.silu(linear("W2", x)))
        return x[..., : y.shape[-1]] + y

    @staticmethod
    def products(x: Tensor, weights: Weights, error: Error) -> Products:
        h, slope = _silu(x @ weights["W2"])
        y = h @ weights["W1"]
        e = error(x[..., : y.shape[-1]] + y, lambda: _size(x, h, slope.square(), weights))
        return {"W1": (h, e), "W2": (x, (e @ weights["W1"].mT) * slope)}

    @staticmethod
    def size(x: Tensor, weights: Weights) -> Tensor:
        h, slope = _silu(x @ weights["W2"])
        return _size(x, h, slope.square(), weights)


class GatedMLP:
    """M(x) = x_1 + (silu(x W2) * (x W3)) W1."""

    layers = ("W1", "W2", "W3")

    @staticmethod
    def shapes(features: int, width: int, hidden: int) -> dict[str, tuple[int, int]]:
        return {"W1": (hidden, width), "W2": (features, hidden), "W3": (features, hidden)}

    @staticmethod
    def read(x: Tensor, linear: Linear) -> Tensor:
        y = linear("W1", F.silu(linear("W2", x)) * linear("W3", x))
        return x[..., : y.shape[-1]] + y

    @staticmethod
    def products(x: Tensor, weights: Weights, error: Error) -> Products:
        s, slope = _silu(x @ weights["W2"])
        u = x @ weights["W3"]
        h, slope = s * u, u * slope
        y = h @ weights["W1"]
        e = error(x[..., : y.shape[-1]] + y, lambda: _size(x, h, slope.square() + s.square(), weights))
        back = e @ weights["W1"].mT
        return {"W1": (h, e), "W2": (x, back * slope), "W3": (x, back * s)}

    @staticmethod
    def size(x: Tensor, weights: Weights) -> Tensor:
        s, slope = _silu(x @ weights["W2"])
        u = x @ weights["W3"]
        return _size(x, s * u, (u * slope).square() + s.square(), weights)


FLOOR = 1e-3  # of a squared Jacobian norm: a memory of zeros would divide by it
MAPS = {"matrix": Matrix, "mlp": MLP, "gated": GatedMLP}


def _silu(z: Tensor) -> tuple[Tensor, Tensor]:
    """silu(z) and its derivative."""
    gate = torch.sigmoid(z)
    h = z * gate
    return h, gate + h * (1 - gate)


def _size(x: Tensor, h: Tensor, inner: Tensor, weights: Weights) -> Tensor:
    """|h|^2 for W1, and for the layers below |x|^2 sum_n inner_n |W1[n]|^2: how far their outputs reach."""
    reach = weights["W1"].square().sum(-1, keepdim=True)
    return h.square().sum(-1) + (inner @ reach).squeeze(-1) * x.square().sum(-1) + FLOOR
