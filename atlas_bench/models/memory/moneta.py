"""Moneta: an MLP memory with an l_p loss, and weights divided by an l_q norm of what was summed up.

    A_t = a_t A_{t-1} - l_t grad |M(k_t) - v_t|_p^p,   W_t = A_t / |A_t|_q^(q-2)        MIRAS, 2504.13173 eq. (24), (25)

The slope is p sign(e) |e|^(p-1), with sign(e) as tanh(10 e) and |e| as sqrt(e^2 + 1e-6) (its remark 5); p = 3, q = 4.
Each matrix has its own norm. Safe: a slope of e |e|^(p-2) below |e| = 1 and e above it, so that no step passes the
error; A is divided by its norm only where that exceeds 1, since as printed W grows without limit as A shrinks; bounded
steps.
"""

from __future__ import annotations

from torch import Tensor

from atlas_bench.errors import UserError
from atlas_bench.models.memory.base import State
from atlas_bench.models.memory.deep import DeepMemory, smooth_sign

SMALL = 1e-6  # under the root of the smooth absolute value


class Moneta(DeepMemory):
    """Moneta of MIRAS (arXiv 2504.13173)."""

    def __init__(
        self, d_model: int, n_heads: int, head_dim: int, *, p: float = 3.0, q: float = 4.0, expansion: int = 2,
        printed: bool = False,
    ):  # fmt: skip
        if p < 1 or q < 2:
            raise UserError(f"p is {p} and q {q}. Give p of 1 or more, and q of 2, for no norm, or more.")
        super().__init__(d_model, n_heads, head_dim, expansion=expansion, printed=printed)
        self.p, self.q = p, q

    def slope(self, error: Tensor, gates: dict[str, Tensor]) -> Tensor:
        size = (error.square() + SMALL).sqrt()
        if self.printed:
            return self.p * smooth_sign(error) * size ** (self.p - 1)
        return error * size.clamp(max=1.0) ** (self.p - 2)

    def weights(self, state: State) -> State:
        norms = {name: A.abs().pow(self.q).sum((-2, -1), keepdim=True) ** (1 / self.q) for name, A in state.items()}
        if not self.printed:
            norms = {name: norm.clamp_min(1.0) for name, norm in norms.items()}
        return {name: A / norms[name] ** (self.q - 2) for name, A in state.items()}
