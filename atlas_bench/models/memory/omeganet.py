"""OmegaNet: polynomial features and the Omega rule, a window of tokens fitted at every step.

    M_t = (1 - f_t) M_{t-1} - grad sum_{i=t-c+1..t} g_i^(t) || M_{t-1}(phi(k_i)) - v_i ||^2      ATLAS eq. (10)

With a matrix (map=matrix) this is linear in M, and the online form is exact: eq. (11) with its sign corrected:

    M_t = (1 - f_t) M_{t-1} - sum_i g_i phi(k_i) (phi(k_i)^T M_{t-1} - v_i^T)                    M as [P, V]

by a triangular solve per chunk (kernels/omega), the gradient at M_{t-1} and not frozen at a chunk's start, so
facts keep their order. map=mlp is the paper's deep memory, token by token, its step bounded as in titans.py.
The paper does not state the gates; here g_t = 1 for the newest token, a hard sigmoid of x_t for each older
one, and the window's sum is kept at 1.

printed=true is (10): all c gates g_i are sigmoids of x_t, each for itself, and so is the retention a = 1 - f; phi has
the inner product of eq. (5), all monomials from the constant on; the gradient is twice the error; every token is
written.
"""

from __future__ import annotations

from atlas_bench.kernels.anchored.maps import GELU_MAPS
from atlas_bench.models.memory.features import features as phi
from atlas_bench.models.memory.inner_optimizer import FORGET, InnerOptimizer


class OmegaNet(InnerOptimizer):
    """OmegaNet of ATLAS (arXiv 2505.23735) section 3.2."""

    gates = {"write": -0.6, "forget": -2.5}
    printed_gates = {"forget": FORGET}
    printed_maps = GELU_MAPS
    weighs_newest = True
    forms = {**InnerOptimizer.forms, "features": ("powers", "taylor")}

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        head_dim: int,
        *,
        degree: int = 2,
        map: str = "matrix",
        expansion: int = 1,
        features: str | None = None,
        sketch_width: int = 0,
        omega_window: int = 2,
        window_counts: str = "all",
        chunk_size: int = 1,
        bounded: bool | None = None,
        printed: bool = False,
    ):
        features = self.chosen("features", features, printed)
        super().__init__(
            d_model, n_heads, head_dim, map=map, expansion=expansion, omega_window=omega_window, chunk_size=chunk_size,
            bounded=bounded, window_counts=window_counts,
            features=phi(features, degree, head_dim, sketch_width=sketch_width), printed=printed,
        )  # fmt: skip
