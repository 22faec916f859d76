"""The exact online Omega rule on a matrix memory, chunk by chunk: one triangular solve per chunk.

A step is a rank-W update, so W virtual tokens stand for it and the delta rule's solve carries over
(README.md derives it). No gradient is frozen: facts keep their order inside a chunk.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from atlas_bench.kernels.decay import decay
from atlas_bench.kernels.dispatch import form


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
    batch, length, heads, window = beta.shape
    size = min(chunk_size, length)
    pad = -length % size
    # A padded token has beta 0 and retention 1: it leaves the memory as it is.
    beta = _chunks(F.pad(beta, (0, 0, 0, 0, 0, pad)), size).flatten(-2)  # [N, X, C*W]
    retention = _chunks(F.pad(retention, (0, 0, 0, pad), value=1.0)[..., None], size)[..., 0]  # [N, X, C]
    k, v = (_windows(F.pad(x, (0, 0, 0, 0, 0, pad)), window, size) for x in (k, v))
    q = None if q is None else _chunks(F.pad(q, (0, 0, 0, 0, 0, pad)), size)
    parts = form("omega", k, rows=beta.shape[-1]).prepare(
        q, k, v, beta=beta, retention=retention, decay_first=decay_first
    )
    own, onto, into, mix, scores, read = parts
    over_chunks = form("recurrence", k, width=k.shape[-1])
    anchors, errors, last = over_chunks.recurrence(own, onto, into, mix, state.flatten(0, 1))
    last = last.unflatten(0, (batch, heads))
    if q is None:
        return None, last
    y = over_chunks.outputs(q, read, scores, anchors, errors).unflatten(1, (batch, heads))  # [N, B, H, C, V]
    return y.permute(1, 0, 3, 2, 4).flatten(1, 2)[:, :length], last


def prepare(
    q: Tensor | None, k: Tensor, v: Tensor, *, beta: Tensor, retention: Tensor, decay_first: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor]:
    """What waits for no state, of all chunks: (own, onto, into, mix, scores, read), so that

        E = own - onto M_0,   y_t = read_t q_t M_0 + scores E,   the memory at the chunk's end = mix M_0 + into^T E

    q [N, X, C, K] (None: no scores), k and v [N, X, R, .] with R = C W, beta [N, X, R], retention [N, X, C]
    """
    size, rows = retention.shape[-1], beta.shape[-1]
    shares = decay(retention)  # [t, s]: what is kept in M_t of a step taken at s
    kept = retention[..., :1] * shares[..., 0]
    step = torch.arange(size, device=k.device).repeat_interleave(rows // size)
    before = shares if decay_first else F.pad(shares, (0, 0, 1, -1))  # of the memory that step t's errors are taken at
    past = kept if decay_first else F.pad(kept, (1, -1), value=1.0)
    ratio = before.tril(-1)
    if rows > size:
        ratio, past, shares = ratio[..., step[:, None], step], past[..., step], shares[..., step]
    lower = beta[..., None] * ratio * (k @ k.mT)
    rhs = beta[..., None] * torch.cat([v, past[..., None] * k], -1)
    # of the matrix to be inverted the diagonal is not read, but taken for one
    wide = torch.promote_types(k.dtype, torch.float32)  # there is no solve in half precision
    solved = torch.linalg.solve_triangular(lower.to(wide), rhs.to(wide), upper=False, unitriangular=True).to(k.dtype)
    own, onto = solved.split([v.shape[-1], k.shape[-1]], -1)
    scores = None if q is None else shares * (q @ k.mT)
    return own, onto, shares[..., -1, :, None] * k, kept[..., -1:, None], scores, kept[..., None]


def _chunks(x: Tensor, size: int) -> Tensor:
    """[B, N*C, H, ..] -> [N, X, C, ..]."""
    return x.unflatten(1, (-1, size)).transpose(2, 3).transpose(0, 1).flatten(1, 2)


def _windows(x: Tensor, window: int, size: int) -> Tensor:
    """[B, W-1+T, H, K] -> [N, X, C*W, K]; lag j of step t is row t*W + j."""
    x = x.unfold(1, window, 1).flip(-1) if window > 1 else x[..., None]  # [B, T, H, K, W]
    x = x.unflatten(1, (-1, size)).permute(1, 0, 3, 2, 5, 4)  # [N, B, H, C, W, K]
    return x.flatten(3, 4).flatten(1, 2)
