"""The definitions, one token at a time: the truth that chunk.py and triton.py are tested against.

A chunk's matrices M_t and S_t are sums of M_0, S_0 and the tokens' gradients, each with a coefficient. Those of U_t,
S_t and M_t are run through the recursion as vectors over (M_0, S_0, token 0, .., token R-1):

    U_t = m_t S_{t-1} + sum_{j<W} g_{t,j} token_{t+W-1-j}
    S_t = S_{t-1} + w_t (U_t - S_{t-1})
    M_t = M_{t-1} + w_t (a_t M_{t-1} - l_t U_t - M_{t-1})

Letters: N chunks, X rows and heads, C tokens of a chunk, W the window, R = C + W - 1 with the halo before them,
J = 2 with momentum, else 1.
"""

from __future__ import annotations

import torch
from torch import Tensor


def sums(
    write: Tensor,
    retention: Tensor,
    lr: Tensor,
    window: Tensor,
    momentum: Tensor | None = None,
    bounded_at: float | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """read [N, X, C, J], inside [N, X, C, R], mix [N, X, J, J], write [N, X, R, J], as chunk.sums defines them.

    write, retention, lr, momentum  [N, X, C], in [0, 1]
    window                          [N, X, C, W], of the token j steps back
    bounded_at                      scale the steps of one anchor back to this sum of their sizes
    """
    size, width = window.shape[-2:]
    tokens = size + width - 1
    unit = torch.eye(2 + tokens, dtype=write.dtype, device=write.device)
    M, S = unit[0].expand(*write.shape[:2], -1), unit[1].expand(*write.shape[:2], -1)
    read, inside = [], []
    for t in range(size):
        w, a, l = (x[..., t, None] for x in (write, retention, lr))  # noqa: E741
        U = sum(window[..., t, j, None] * unit[2 + t + width - 1 - j] for j in range(width))
        if momentum is not None:
            U = U + momentum[..., t, None] * S
            S = S + w * (U - S)
        M = M + w * (a * M - l * U - M)
        moved = M[..., 1:]
        if bounded_at is not None:
            moved = moved / (-moved.sum(-1, keepdim=True) / bounded_at).clamp_min(1)
        read.append(torch.cat([M[..., :1], moved[..., :1]], -1))
        inside.append(moved[..., 1:])
    end = torch.stack([torch.cat([M[..., :1], moved], -1), S], -2)  # [N, X, J, 2 + R]
    parts = 1 if momentum is None else 2
    mix, write = end[..., :parts, :parts], end[..., :parts, 2:].mT
    return torch.stack(read, 2)[..., :parts], torch.stack(inside, 2), mix, write
