"""The exact online Omega rule on a matrix memory, chunk by chunk: one triangular solve per chunk.

A step is a rank-W update, so W virtual tokens stand for it and the delta rule's solve carries over
(README.md derives it). No gradient is frozen: facts keep their order inside a chunk.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from atlas_bench.kernels.decay import decay, flush


def omega(
    q: Tensor | None,
    k: Tensor,
    v: Tensor,
    *,
    beta: Tensor,
    retention: Tensor,
    state: Tensor,
    decay_first: bool = False,
    chunk_size: int = 32,
) -> tuple[Tensor | None, Tensor]:
    """The same outputs and state as naive.omega, for any chunk_size; arguments as there. No q: no outputs."""
    length, window = beta.shape[1], beta.shape[-1]
    size = min(chunk_size, length)
    pad = -length % size
    # A padded token has beta 0 and retention 1: it leaves the memory as it is.
    beta = F.pad(beta, (0, 0, 0, 0, 0, pad))
    retention = F.pad(retention, (0, 0, 0, pad), value=1.0)
    # [B, N, W, H, C, K] -> [B, H, N, C*W, K]: the window's tokens of every step, side by side
    k, v = (_windows(F.pad(x, (0, 0, 0, 0, 0, pad)), window, size) for x in (k, v))
    beta = beta.unflatten(1, (-1, size)).permute(0, 3, 1, 2, 4).flatten(-2)  # [B, H, N, C*W]
    retention = retention.unflatten(1, (-1, size)).permute(0, 3, 1, 2)  # [B, H, N, C]
    kept = flush(retention.cumprod(-1))
    shares = decay(retention)  # [t, s]: what is kept in M_t of a step taken at s

    step = torch.arange(size, device=k.device).repeat_interleave(window)
    before = shares if decay_first else F.pad(shares, (0, 0, 1, -1))  # of the memory that step t's errors are taken at
    past = kept if decay_first else F.pad(kept, (1, -1), value=1.0)
    ratio = before.tril(-1)[..., step[:, None], step] if window > 1 else before.tril(-1)
    past = past[..., step]
    lower = beta[..., None] * ratio * (k @ k.mT)
    eye = torch.eye(step.numel(), dtype=k.dtype, device=k.device)
    rhs = beta[..., None] * torch.cat([v, past[..., None] * k], -1)
    # errors of a chunk = own - weights @ M0
    own, weights = torch.linalg.solve_triangular(lower + eye, rhs, upper=False, unitriangular=True).split(
        [v.shape[-1], k.shape[-1]], -1
    )
    if q is not None:
        q = F.pad(q, (0, 0, 0, 0, 0, pad)).unflatten(1, (-1, size)).permute(0, 3, 1, 2, 4)  # [B, H, N, C, K]
        scores = (shares[..., step] if window > 1 else shares) * (q @ k.mT)
        q = kept[..., None] * q
    k = shares[..., -1, :][..., step, None] * k
    carry = kept[..., -1, None, None]

    outputs = []
    for n in range(k.shape[2]):
        errors = own[:, :, n] - weights[:, :, n] @ state
        if q is not None:
            outputs.append(q[:, :, n] @ state + scores[:, :, n] @ errors)
        state = carry[:, :, n] * state + k[:, :, n].mT @ errors
    if q is None:
        return None, state
    return torch.stack(outputs, 2).permute(0, 2, 3, 1, 4).flatten(1, 2)[:, :length], state


def _windows(x: Tensor, window: int, size: int) -> Tensor:
    """[B, W-1+T, H, K] -> [B, H, T/C, C*W, K]; lag j of step t is row t*W + j."""
    x = x.unfold(1, window, 1).flip(-1)  # [B, T, H, K, W]
    return x.unflatten(1, (-1, size)).permute(0, 3, 1, 2, 5, 4).flatten(3, 4)
