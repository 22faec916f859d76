"""TTT layers: a map trained at test time by plain gradient steps, frozen for a mini-batch.

    W_t = W_{t-1} - l_t grad l(W_{t'}; x_t),   l = || f(k_t; W) - v_t ||^2      arXiv 2407.04620 eq. (1), (4), (6)

t' is the end of the last mini-batch, chunk_size = 16 tokens as published. TTT-Linear: f(x) = x W; TTT-MLP:
f(x) = x + W1 silu(W2 x), expansion 4. Left out of the published layer: the layer norm inside f and the residual
around TTT-Linear's, as ATLAS' table of the family leaves them out. The steps of a mini-batch are bounded as
kernels/anchored/rule.py says.

printed=true is the layer of the paper's sec. 2.7:

    f(x) = x + LN(x W)   or   x + LN(gelu(x W2) W1),   l_t = base sigmoid(.), base 1 or 0.1 for the MLP

with W_0 learnt, keys and queries of any length, and steps that are summed as they are: the division by the number of
the token in its mini-batch is in the authors' code alone. One gain and one bias of LN for all heads are read into "LN".
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from atlas_bench.kernels.anchored.maps import Matrix, Normed, PlainGeluMLP
from atlas_bench.models.memory.base import Gate
from atlas_bench.models.memory.inner_optimizer import InnerOptimizer


class TTT(InnerOptimizer):
    """What TTT-Linear and TTT-MLP share."""

    gates = {"write": -0.6, "lr": 2.0}

    def __init__(self, d_model: int, n_heads: int, head_dim: int, *, map: str = "matrix", printed: bool, **options):
        super().__init__(d_model, n_heads, head_dim, map=map, printed=printed, **options)
        if not printed:
            return
        self.unit_keys = False
        self.norm = nn.LayerNorm(head_dim)
        self.rule = replace(self.rule, map=Normed(Matrix if map == "matrix" else PlainGeluMLP, self.norm))
        for name, (rows, columns) in self.shapes.items():  # a norm of zeros would have no gradient to speak of
            start = torch.randn(n_heads, columns, rows) / rows**0.5
            self.register_parameter(name.lower(), nn.Parameter(start))

    def has_closed_form(self) -> bool:
        return super().has_closed_form() and not self.printed


class TTTLinear(TTT):
    """TTT-Linear (arXiv 2407.04620): the delta rule with its gradient frozen for 16 tokens."""

    printed_gates = {"lr": Gate(0.0, form=torch.sigmoid)}

    def __init__(self, d_model: int, n_heads: int, head_dim: int, *, chunk_size: int = 16, printed: bool = False):
        super().__init__(d_model, n_heads, head_dim, chunk_size=chunk_size, printed=printed)


def tenth(logit: Tensor) -> Tensor:
    """The learning rate of TTT-MLP, up to 0.1."""
    return 0.1 * torch.sigmoid(logit)


class TTTMLP(TTT):
    """TTT-MLP (arXiv 2407.04620): the same on a two-layer MLP."""

    printed_gates = {"lr": Gate(0.0, form=tenth)}

    def __init__(
        self, d_model: int, n_heads: int, head_dim: int, *, expansion: int = 4, chunk_size: int = 16,
        printed: bool = False,
    ):  # fmt: skip
        super().__init__(
            d_model, n_heads, head_dim, map="mlp", expansion=expansion, chunk_size=chunk_size, printed=printed
        )
