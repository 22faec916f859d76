"""Titans: deep memory, momentum ("past surprise"), retention.

    S_t = m_t S_{t-1} - l_t grad || M(k_t) - v_t ||^2                                  Titans eq. (14)
    M_t = (1 - f_t) M_{t-1} + S_t                                                      Titans eq. (13)
    M(x) = x + W1 silu(W2 x)           map=mlp; map=matrix: M(x) = W x, Titans eq. (32), (33)

The gradient is taken at M_{t-1} (chunk_size 1), or at the last chunk's end, Titans eq. (16). Gates: the paper
states no parametrisation; m, f, l are hard sigmoids of x_t per head. Step size: l_t divides by the squared
norm of dM(k)/dW, so that one step corrects the fraction l_t of the error whatever the size of W. Unbounded
steps on an MLP memory diverge within hundreds of tokens.

printed=true is (13) and (14) with the loss of (12), |M(k) - v|^2: m, f and l are sigmoids, m up to 1, the gradient is
twice the error times dM(k)/dW, and every token is written. Appendix C prints half that loss. The paper prints neither
activation nor residual of the MLP; both are as above.
"""

from __future__ import annotations

from atlas_bench.models.memory.inner_optimizer import FORGET, LR, MOMENTUM, InnerOptimizer


class Titans(InnerOptimizer):
    """Neural long-term memory of Titans (arXiv 2501.00663)."""

    gates = {"write": -0.6, "forget": -2.5, "momentum": -2.0, "lr": 2.0}
    printed_gates = {"forget": FORGET, "momentum": MOMENTUM, "lr": LR}
    lr_on = "gradient"

    def __init__(
        self, d_model: int, n_heads: int, head_dim: int, *, map: str = "mlp", expansion: int = 2, chunk_size: int = 1,
        bounded: bool | None = None, most_momentum: float | None = None, printed: bool = False,
    ):  # fmt: skip
        super().__init__(
            d_model, n_heads, head_dim, map=map, expansion=expansion, chunk_size=chunk_size, bounded=bounded,
            most_momentum=most_momentum, printed=printed,
        )  # fmt: skip
