"""The gates of whole chunks: each token's share in M and S (README.md derives it).

Two steps: the shares of the *windows* G_s, one for each of the chunk's C steps, and from them those of the *tokens*
in the windows.

Letters: N chunks, X rows and heads, C tokens of a chunk, W the window, R = C + W - 1 with the halo before them,
J = 2 with momentum, else 1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from atlas_bench.kernels.decay import decay


class Shares(NamedTuple):
    """Of all chunks [N, X, ..]; without momentum the last four are None: U_t is G_t.

    steps   [C, C]  size in M_t of the step taken at s
    kept    [C]     share of M_0 in M_t
    s       [C, C]  share of G_s in S_t
    s_kept  [C]     share of S_0 in S_t
    u       [C, C]  share of G_s in U_t
    u_kept  [C]     share of S_0 in U_t
    """

    steps: Tensor
    kept: Tensor
    s: Tensor | None = None
    s_kept: Tensor | None = None
    u: Tensor | None = None
    u_kept: Tensor | None = None


def shares(write: Tensor, retention: Tensor, lr: Tensor, momentum: Tensor | None = None) -> Shares:
    """Products of the gates, each [N, X, C] in [0, 1]."""
    stays, kept = _decay(1 - write * (1 - retention))
    steps = stays * (write * lr)[..., None, :]
    if momentum is None:
        return Shares(steps, kept)
    stays, s_kept = _decay(1 - write * (1 - momentum))
    s = stays * write[..., None, :]
    u = momentum[..., None] * F.pad(s, (0, 0, 1, -1))
    u = u + torch.eye(write.shape[-1], dtype=u.dtype, device=u.device)
    return Shares(steps, kept, s, s_kept, u, momentum * F.pad(s_kept, (1, -1), value=1.0))


def windows(window: Tensor, x: Tensor | None = None) -> Tensor:
    """Shares of the windows [N, X, T, C], None for the windows themselves, as shares of their tokens [N, X, T, R]."""
    size, width = window.shape[-2:]
    if width == 1 and x is not None:
        return x * window.mT
    # rows of W gates, oldest first, every row one longer than the result: each starts one further right
    rows = F.pad(window.flip(-1), (0, size)).flatten(-2)
    band = rows[..., : size * (size + width - 1)].unflatten(-1, (size, size + width - 1))
    return band if x is None else x @ band


def sums(
    write: Tensor,
    retention: Tensor,
    lr: Tensor,
    window: Tensor,
    momentum: Tensor | None = None,
    bounded_at: float | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(read, inside, mix, write): all that a memory needs to know of the gates where its steps are plain sums.

    write, retention, lr, momentum  [N, X, C], in [0, 1]
    window                          [N, X, C, W], of the token j steps back
    bounded_at                      scale the steps of one anchor back to this sum of their sizes

    read    [N, X, C, J]  shares of M_0 (and of S_0) in M_t
    inside  [N, X, C, R]  share of token i's gradient in M_t, none positive
    mix     [N, X, J, J]  shares of M_0 (and S_0) in M_C (and S_C)
    write   [N, X, R, J]  share of token i's gradient in M_C (and S_C)
    """
    steps, kept, s, s_kept, u, u_kept = shares(write, retention, lr, momentum)
    inside = windows(window, steps if u is None else steps @ u)
    from_s = (steps @ u_kept[..., None])[..., 0] if u is not None else 0.0
    scale = -1.0
    if bounded_at is not None:
        scale = scale / ((inside.sum(-1) + from_s) / bounded_at).clamp_min(1)[..., None]
    inside = scale * inside
    if s is None:
        return kept[..., None], inside, kept[..., -1:, None], inside[..., -1:, :].mT
    read = torch.cat([kept[..., None], scale * from_s[..., None]], -1)
    end = F.pad(s_kept[..., -1:, None], (1, 0))
    write = torch.cat([inside[..., -1:, :], windows(window, s[..., -1:, :])], -2).mT
    return read, inside, torch.cat([read[..., -1:, :], end], -2), write


def _decay(x: Tensor) -> tuple[Tensor, Tensor]:
    """decay(x), and all of x before a step as well."""
    D = decay(x)
    return D, x[..., :1] * D[..., 0]
