"""Atlas: deep memory, polynomial features, Omega window, Muon as inner optimiser.

    S_t = m_t S_{t-1} + grad sum_{i=t-c+1..t} g_i^(t) || M(phi(k_i)) - v_i ||^2        ATLAS eq. (33)
    M_t = (1 - f_t) M_{t-1} - l_t NewtonSchulz-5(S_t)                                  ATLAS eq. (32)
    M(x) = x + W1 silu(W2 phi(x))             ATLAS eq. (42), x being the degree-1 block of phi(x)

Atlas++ is the same with the gated map M(x) = x + W1 (silu(W2 phi(x)) * W3 phi(x)), ATLAS eq. (43).

The gradient is taken at M_{t-1} (chunk_size 1), or at the last chunk's end, ATLAS eq. (34) to (41). Where the paper is
silent: the gates are hard sigmoids per head; each token's error is divided by the squared Jacobian norm (titans.py);
Newton-Schulz keeps the size of the surprise (kernels/newton_schulz/step.py), muon=plain is (32) as printed, and
muon=none with omega_window=1 and degree=1 is Titans. Differences: silu replaces its GELU, no layer norm follows a
chunk, and the default expansion is 1, not 4.

What the paper's capacity claim rests on is an option, for it costs time or state: features=monomials (Prop. 2: capacity
O(d_k^p)) or sketch, most_momentum=1, and window_counts=written (inner_optimizer.py).

printed=true is (32) and (33): m, f, l and all c window gates are sigmoids of x_t, each for itself; plain Newton-Schulz;
phi with the inner product of eq. (5), all monomials from the constant on; gelu (App. E); every token is written. App.
E's layer norm "at the end of each chunk" is in no equation, and the paper does not say what it normalises: we omit it.
App. D.4 prints the rule with the step inside the gradient, (57) and (58): Newton-Schulz would cancel it.
"""

from __future__ import annotations

from atlas_bench.kernels.anchored.maps import GELU_MAPS
from atlas_bench.models.memory.features import features as phi
from atlas_bench.models.memory.inner_optimizer import FORGET, LR, MOMENTUM, InnerOptimizer


class Atlas(InnerOptimizer):
    """ATLAS (arXiv 2505.23735), the memory of its LMM, MAG and MAL models."""

    gates = {"write": -0.6, "forget": -2.5, "momentum": -2.5, "lr": 2.0}
    printed_gates = {"forget": FORGET, "momentum": MOMENTUM, "lr": LR}
    printed_maps = GELU_MAPS
    weighs_newest = True
    forms = {**InnerOptimizer.forms, "features": ("powers", "taylor"), "muon": ("sized", "plain")}

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        head_dim: int,
        *,
        expansion: int = 1,
        degree: int = 2,
        map: str = "mlp",
        features: str | None = None,
        sketch_width: int = 0,
        omega_window: int = 2,
        window_counts: str = "all",
        chunk_size: int = 1,
        muon: str | None = None,
        muon_every: int = 1,
        bounded: bool | None = None,
        most_momentum: float | None = None,
        forgetting: bool = True,
        printed: bool = False,
    ):
        features = self.chosen("features", features, printed)
        muon = self.chosen("muon", muon, printed)
        super().__init__(
            d_model, n_heads, head_dim, map=map, expansion=expansion, omega_window=omega_window,
            features=phi(features, degree, head_dim, sketch_width=sketch_width), window_counts=window_counts,
            chunk_size=chunk_size, muon=muon, muon_every=muon_every, bounded=bounded, most_momentum=most_momentum,
            forgetting=forgetting, printed=printed,
        )  # fmt: skip


class AtlasPlus(Atlas):
    """Atlas++: a gated MLP as the map."""

    def __init__(self, d_model: int, n_heads: int, head_dim: int, *, map: str = "gated", **options):
        super().__init__(d_model, n_heads, head_dim, map=map, **options)
