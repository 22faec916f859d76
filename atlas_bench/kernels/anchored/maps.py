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
    def products(x: Tensor, v: Tensor, weights: Weights, error: Callable[[Tensor, Tensor], Tensor]) -> Products:
        """The gradient of every token: x [.., T, P], v [.., T, V]; error(M(x), v) is dl/dM(x)."""
        return {"M": (x, error(x @ weights["M"], v))}

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
    def products(x: Tensor, v: Tensor, weights: Weights, error: Callable[[Tensor, Tensor], Tensor]) -> Products:
        h, slope = _silu(x @ weights["W2"])
        e = error(x[..., : v.shape[-1]] + h @ weights["W1"], v)
        return {"W1": (h, e), "W2": (x, (e @ weights["W1"].mT) * slope)}

    @staticmethod
    def size(x: Tensor, weights: Weights) -> Tensor:
        h, slope = _silu(x @ weights["W2"])
        jacobian = (slope.square() @ _squares(weights["W1"])).squeeze(-1) * x.square().sum(-1)
        return h.square().sum(-1) + jacobian + FLOOR


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
    def products(x: Tensor, v: Tensor, weights: Weights, error: Callable[[Tensor, Tensor], Tensor]) -> Products:
        s, slope = _silu(x @ weights["W2"])
        u = x @ weights["W3"]
        e = error(x[..., : v.shape[-1]] + (s * u) @ weights["W1"], v)
        back = e @ weights["W1"].mT
        return {"W1": (s * u, e), "W2": (x, back * u * slope), "W3": (x, back * s)}

    @staticmethod
    def size(x: Tensor, weights: Weights) -> Tensor:
        s, slope = _silu(x @ weights["W2"])
        u = x @ weights["W3"]
        inner = (u * slope).square() + s.square()
        jacobian = (inner @ _squares(weights["W1"])).squeeze(-1) * x.square().sum(-1)
        return (s * u).square().sum(-1) + jacobian + FLOOR


FLOOR = 1e-3  # of a squared Jacobian norm: a memory of zeros would divide by it
MAPS = {"matrix": Matrix, "mlp": MLP, "gated": GatedMLP}


def _silu(z: Tensor) -> tuple[Tensor, Tensor]:
    """silu(z) and its derivative."""
    gate = torch.sigmoid(z)
    h = z * gate
    return h, gate + h * (1 - gate)


def _squares(w: Tensor) -> Tensor:
    """[.., I, O] -> [.., I, 1]: the squared norm of what each input reaches."""
    return w.square().sum(-1, keepdim=True)
