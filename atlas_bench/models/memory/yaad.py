"""Yaad: an MLP memory with the Huber loss, which an outlier moves by no more than its threshold.

    W_t = a_t W_{t-1} - l_t grad |e|^2 / 2   where |e| <= d_t,  else  - l_t d_t grad |e|_1       MIRAS, 2504.13173 (26)

e = M(k_t) - v_t; the threshold d = softplus(.) is a gate of its own. As printed, the slope jumps at the threshold, from
e to d sign(e) in each channel (the smooth sign of moneta.py). Safe: the paper's norm-wise variant, d e / |e|, which is
continuous, and bounded steps.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from atlas_bench.models.memory.base import Gate
from atlas_bench.models.memory.deep import DeepMemory, smooth_sign

THRESHOLD = Gate(1.0, form=F.softplus)


class Yaad(DeepMemory):
    """Yaad of MIRAS (arXiv 2504.13173)."""

    gates = {**DeepMemory.gates, "threshold": THRESHOLD}
    printed_gates = {**DeepMemory.printed_gates, "threshold": THRESHOLD}

    def slope(self, error: Tensor, gates: dict[str, Tensor]) -> Tensor:
        size, threshold = error.norm(dim=-1, keepdim=True), gates["threshold"]
        beyond = threshold * (smooth_sign(error) if self.printed else error / size.clamp_min(1e-6))
        return torch.where(size <= threshold, error, beyond)
