"""What a chunk keeps of what was written at each of its steps."""

from __future__ import annotations

import torch
from torch import Tensor


def decay(x: Tensor) -> Tensor:
    """Products of gates: [.., C] -> [.., C, C], prod_{s < u <= t} x_u at [t, s] for s <= t, else 0.

    Products themselves, not quotients or differences of logarithms, since a gate may be exactly 0.
    """
    size = x.shape[-1]
    later = torch.ones(size, size, dtype=torch.bool, device=x.device).tril(-1)
    return flush(torch.where(later, x[..., None], 1.0).cumprod(-2).tril())


def flush(x: Tensor) -> Tensor:
    """Products x >= 0 too small to matter as 0: denormal numbers make a matrix product a hundred times slower.

    What is 0 already keeps its gradient.
    """
    return torch.where((x > 0) & (x < torch.finfo(x.dtype).tiny ** 0.5), 0.0, x)
