"""The generalised delta rule, chunk by chunk: one triangular solve per chunk, none where nothing is erased.

With D[t, s] = prod_{s < u <= t} a_u, a vector over key channels, of the steps t, s of a chunk (a = 1 but in the first
step of a token), the errors E and the memory M_t after step t are

    E_t = v_t - (e_t * A_{t-1}) M_0 - sum_{s < t} <e_t, D[t-1, s] * k_s> E_s,      A_t = a_1 D[t, 1]
    M_t = A_t * M_0 + sum_{s <= t} (D[t, s] * k_s) E_s

so E = (I + L)^-1 (v - (e * A) M_0), and the rest is kernels/recurrence, with a decay per row of the memory. D consists
of products, never of quotients: a gate may be exactly 0. It is one number per channel and pair of steps, which is why
chunks are short where channels decay apart.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from atlas_bench.kernels.decay import decay
from atlas_bench.kernels.dispatch import form


def delta(
    q: Tensor | None, k: Tensor, v: Tensor, *, erase: Tensor | None, retention: Tensor, state: Tensor,
    chunk_size: int | None = None,
) -> tuple[Tensor | None, Tensor]:  # fmt: skip
    """The same outputs and state as naive.delta, for any chunk_size; arguments as there. No q: no outputs.

    chunk_size  tokens of a chunk, None for what is fastest
    """
    batch, length, heads, steps, width = k.shape
    chunk_size = chunk_size or max(1, (32 if retention.shape[-1] == 1 else 16) // steps)
    size = min(chunk_size, length)
    pad = -length % size
    later = F.pad(retention[..., None, :], (0, 0, 0, steps - 1), value=1.0)  # [B, T, H, n, K or 1]
    later = F.pad(later, (0, 0, 0, 0, 0, 0, 0, pad), value=1.0)  # a padded token changes nothing
    a = _chunks(later, size).mT  # [N, X, K or 1, R], R = C n steps
    k, v = _padded(k, size, pad), _padded(v, size, pad)
    shares = decay(a)  # [N, X, K or 1, R, R]
    kept = a[..., :1] * shares[..., 0]  # [N, X, K or 1, R], of M_0 in M_t
    if erase is None:
        own, onto = v, k.new_zeros(k.shape)
    else:
        e = _padded(erase, size, pad)
        before = F.pad(kept, (1, -1), value=1.0).mT  # of M_0 in the memory before step t
        lower = _products(e, k, F.pad(shares, (0, 0, 1, -1))).tril(-1)
        # the diagonal of the matrix to be inverted is not read but taken for one
        rhs = torch.cat([v, (e * before).expand(*e.shape)], -1)
        wide = torch.promote_types(k.dtype, torch.float32)  # there is no solve in half precision
        solved = torch.linalg.solve_triangular(lower.to(wide), rhs.to(wide), upper=False, unitriangular=True)
        own, onto = solved.to(k.dtype).split([v.shape[-1], width], -1)
    over_chunks = form("recurrence", k, width=width)
    into, mix = k * shares[..., -1, :].mT, kept[..., -1:]
    anchors, errors, last = over_chunks.recurrence(own, onto, into, mix, state.flatten(0, 1))
    last = last.unflatten(0, (batch, heads))
    if q is None:
        return None, last
    q = _chunks(F.pad(q[..., None, :], (0, 0, 0, 0, 0, 0, 0, pad)), size)  # [N, X, C, K]
    ends = slice(steps - 1, None, steps)  # a token is read after its last step
    scores = _products(q, k, shares[..., ends, :])
    q = q * kept[..., ends].mT
    y = over_chunks.outputs(q, torch.ones_like(q[..., :1]), scores, anchors, errors)
    y = y.unflatten(1, (batch, heads)).permute(1, 0, 3, 2, 4)  # [B, N, C, H, V]
    return y.flatten(1, 2)[:, :length], last


def _products(x: Tensor, k: Tensor, shares: Tensor) -> Tensor:
    """sum_c x[t, c] k[s, c] shares[c, t, s]: [N, X, T, S] of x [N, X, T, K], k [N, X, S, K]; 0 where shares are."""
    if shares.shape[2] == 1:
        return shares[:, :, 0] * (x @ k.mT)
    return torch.einsum("nxtk,nxsk,nxkts->nxts", x, k, shares)


def _padded(x: Tensor, size: int, pad: int) -> Tensor:
    return _chunks(F.pad(x, (0, 0, 0, 0, 0, 0, 0, pad)), size)


def _chunks(x: Tensor, size: int) -> Tensor:
    """[B, N*C, H, n, ..] -> [N, X, C*n, ..]."""
    x = x.unflatten(1, (-1, size)).transpose(2, 3).transpose(0, 1)  # [N, B, H, C, n, ..]
    return x.flatten(3, 4).flatten(1, 2)
