"""What a chunk keeps of what was written at each of its steps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def decay(x: Tensor) -> Tensor:
    """Products of gates: [.., C] -> [.., C, C], prod_{s < u <= t} x_u at [t, s] for s <= t, else 0.

    Products themselves, not quotients or differences of logarithms, since a gate x >= 0 may be exactly 0.
    """
    return _Decay.apply(x)


def flush(x: Tensor) -> Tensor:
    """Set negligible products x >= 0 to 0: denormal numbers make a matrix product a hundred times slower.

    Entries that are 0 already keep their gradient.
    """
    return torch.where((x > 0) & (x < _negligible(x)), 0.0, x)


def _negligible(x: Tensor) -> float:
    return torch.finfo(x.dtype).tiny ** 0.5


class _Decay(torch.autograd.Function):
    """Leaving x_u out of D[t, s] gives D[t, u] D[u - 1, s], so the gradient is one matrix product, exact at zeros:

    dx_u = sum_{t >= u} D[t, u] sum_{s < u} dD[t, s] D[u - 1, s]
    """

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        size = x.shape[-1]
        upper = torch.ones(size, size, dtype=x.dtype, device=x.device).triu()
        later = upper.triu(1)
        # [s, t]: a cumulative product is fastest along the last dimension; masks are factors, faster than a selection
        D = torch.addcmul(1 - later, x[..., None, :], later).cumprod(-1).mul_(upper)
        D = F.threshold(D, _negligible(x), 0.0, inplace=True).mT
        ctx.save_for_backward(D)
        return D

    @staticmethod
    def backward(ctx, dD: Tensor) -> Tensor:
        (D,) = ctx.saved_tensors
        return F.pad((D[..., 1:] * (dD @ D.mT)[..., :-1]).sum(-2), (1, 0))
