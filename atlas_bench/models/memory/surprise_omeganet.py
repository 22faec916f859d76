"""A hybrid: OmegaNet's objective with retention weighted by surprise.

    M_t = (1 - f_t s_t) M_{t-1} - grad sum_{i=t-c+1..t} g_i^(t) || M_{t-1}(phi(k_i)) - v_i ||^2
    s_t = |M_{t-1}(phi(k_t)) - v_t|^2 / (|M_{t-1}(phi(k_t))|^2 + |v_t|^2)      in [0, 1] where the two are not opposed

Titans weighs what is *written* by its surprise, ATLAS derives the write from an objective; joining the two on the side
of *forgetting* is named as open in the literature and is not from either paper. A known fact has no effect: s = 0
forgets nothing. s depends on the memory, so there is no closed form over a chunk. printed=true is this with OmegaNet's
equation as its paper prints it.
"""

from __future__ import annotations

from torch import Tensor

from atlas_bench.models.memory.base import State
from atlas_bench.models.memory.omeganet import OmegaNet


class SurpriseOmegaNet(OmegaNet):
    """OmegaNet that forgets in proportion to its surprise; our own, for comparison. Its chunk_size is always 1."""

    kernel = "events"

    def has_closed_form(self) -> bool:
        return False

    def step(self, state: State, k: Tensor, v: Tensor, gates: dict[str, Tensor]) -> State:
        predicted, told = self.read(state, k[..., -1:, :])[..., 0, :], v[..., -1, :]
        size = predicted.square().sum(-1) + told.square().sum(-1)
        surprise = (predicted - told).square().sum(-1) / (size + 1e-6)
        return super().step(state, k, v, {**gates, "forget": gates["forget"] * surprise.clamp(max=1.0)})
