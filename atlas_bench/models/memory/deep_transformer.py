"""DeepTransformer, SWDT and Dot: the family with features whose kernel is the exponential.

    DeepTransformer   M_t = M_{t-1} - grad l(M; phi*(k_t), v_t),  l = -<M(phi*(k)), v>             ATLAS eq. (25)
    SWDT              the same, summed over a window of c tokens
    Dot               M_t = M_{t-1} - grad sum_{i=t-c+1..t} g_i^(t) || M(phi*(k_i)) - v_i ||^2     ATLAS eq. (27)

phi*(q).phi*(k) = exp(q.k), eq. (23). phi* is infinite; here its Taylor series up to `degree`, all monomials, with
learnable coefficients that start at 1/i!. On a matrix the first is then softmax attention without its denominator,
y_t = sum_i v_i exp(q_t.k_i), eq. (26), up to the cut of the series, and Dot at c = 1 the same with the delta rule,
eq. (30). The papers give no closed form for a deep M and no size of phi*; map=mlp takes the same features.
There are no gates but the write gate and the window's. Dot's steps are divided by |phi*(k)|^2, which is about e
and would overshoot.

printed=true: no write gate either, the window's gates are sigmoids, each for itself, and Dot's gradient is twice the
error. The series still ends at `degree`: no finite state holds phi*. No equation of SWDT is at hand; it is read as (20)
with phi* and without retention, as (25) is (19) without it.
"""

from __future__ import annotations

from atlas_bench.kernels.anchored.maps import GELU_MAPS
from atlas_bench.models.memory.features import features as phi
from atlas_bench.models.memory.inner_optimizer import InnerOptimizer


class DeepTransformer(InnerOptimizer):
    """DeepTransformer of ATLAS (arXiv 2505.23735) section 4."""

    bias = "dot"
    printed_maps = GELU_MAPS

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        head_dim: int,
        *,
        map: str = "matrix",
        expansion: int = 1,
        degree: int = 2,
        omega_window: int = 1,
        chunk_size: int = 1,
        bounded: bool | None = None,
        printed: bool = False,
    ):
        super().__init__(
            d_model, n_heads, head_dim, map=map, expansion=expansion, omega_window=omega_window, chunk_size=chunk_size,
            features=phi("taylor", degree, head_dim), bounded=bounded, printed=printed,
        )  # fmt: skip


class SWDT(DeepTransformer):
    """Sliding Window Deep Transformer; the paper publishes no window, 4 is a choice made here."""

    weighs_newest = True

    def __init__(self, d_model: int, n_heads: int, head_dim: int, *, omega_window: int = 4, **options):
        super().__init__(d_model, n_heads, head_dim, omega_window=omega_window, **options)


class Dot(DeepTransformer):
    """Deep Omega Transformer: the squared error in place of the dot product, over a window."""

    bias = "l2"
    weighs_newest = True

    def __init__(self, d_model: int, n_heads: int, head_dim: int, *, omega_window: int = 2, **options):
        super().__init__(d_model, n_heads, head_dim, omega_window=omega_window, **options)
