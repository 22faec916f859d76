"""DLA and SWLA: deep linear attention, whole and over a sliding window.

    M_t = (1 - f_t) M_{t-1} - l_t grad sum_{i=t-c+1..t} g_i^(t) l(M; phi(k_i), v_i),   l = -<M(phi(k)), v>
                                                                        ATLAS eq. (19), c = 1: DLA; eq. (20): SWLA

With a matrix (map=matrix) the step is l_t sum_i g_i phi(k_i) v_i^T: gated linear attention. With the MLP the loss
has no minimum, so its weights would feed each other's growth; the step is bounded as in titans.py, and moves
M(k) by the fraction l of v. The paper publishes no window; SWLA's default of 4 is a choice made here.

printed=true: DLA is (19), with sigmoids f and l; SWLA is (20), with sigmoids f and g_i, and no l, which (20) does not
have. phi has the inner product of eq. (5); gelu (App. E); nothing is bounded; every token is written.
"""

from __future__ import annotations

import torch

from atlas_bench.kernels.anchored.maps import GELU_MAPS
from atlas_bench.models.memory.base import Gate
from atlas_bench.models.memory.features import features as phi
from atlas_bench.models.memory.inner_optimizer import FORGET, LR, InnerOptimizer


class DLA(InnerOptimizer):
    """Deep Linear Attention of ATLAS (arXiv 2505.23735) section 4."""

    bias = "dot"
    gates = {"write": -0.6, "forget": -2.5, "lr": 2.0}
    printed_gates = {"forget": FORGET, "lr": LR}
    printed_maps = GELU_MAPS
    forms = {**InnerOptimizer.forms, "features": ("powers", "taylor")}

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        head_dim: int,
        *,
        map: str = "mlp",
        expansion: int = 1,
        features: str | None = None,
        degree: int = 2,
        sketch_width: int = 0,
        omega_window: int = 1,
        chunk_size: int = 1,
        bounded: bool | None = None,
        printed: bool = False,
    ):
        features = self.chosen("features", features, printed)
        super().__init__(
            d_model, n_heads, head_dim, map=map, expansion=expansion, omega_window=omega_window, chunk_size=chunk_size,
            features=phi(features, degree, head_dim, sketch_width=sketch_width), bounded=bounded,
            printed=printed,
        )  # fmt: skip


class SWLA(DLA):
    """Sliding Window Linear Attention: DLA whose step sums over a window."""

    printed_gates = {"forget": FORGET}
    printed_lag = Gate(-4.5, form=torch.sigmoid)
    weighs_newest = True

    def __init__(self, d_model: int, n_heads: int, head_dim: int, *, omega_window: int = 4, **options):
        super().__init__(d_model, n_heads, head_dim, omega_window=omega_window, **options)
