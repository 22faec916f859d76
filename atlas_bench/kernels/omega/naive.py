"""The exact online Omega rule on a matrix memory, one token at a time: the truth chunk.py is tested against.

    M_t = a_t M_{t-1} - sum_{j<W} b_{t,j} phi_{t-j} (phi_{t-j}^T E - v_{t-j}^T)      ATLAS eq. (10), matrix M
    y_t = q_t M_t

with E = M_{t-1} (the Omega rule) or E = a_t M_{t-1} (`decay_first`: the gated delta rule, W = 1).
"""

from __future__ import annotations

import torch
from torch import Tensor


def omega(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    beta: Tensor,
    retention: Tensor,
    state: Tensor,
    decay_first: bool = False,
) -> tuple[Tensor, Tensor]:
    """Outputs [B, T, H, V] and the memory after the last token [B, H, K, V].

    q          [B, T, H, K]
    k, v       [B, W-1+T, H, K], [B, W-1+T, H, V]: the W-1 tokens before the first step come first
    beta       [B, T, H, W] step size of the window's token j steps back, sum over W <= 2
    retention  [B, T, H] in (0, 1]
    state      [B, H, K, V]
    """
    window = beta.shape[-1]
    outputs = []
    for t in range(q.shape[1]):
        alpha = retention[:, t, :, None, None]
        anchor = alpha * state if decay_first else state
        step = torch.zeros_like(state)
        for j in range(window):
            key, value = k[:, t + window - 1 - j], v[:, t + window - 1 - j]
            error = torch.einsum("bhk,bhkv->bhv", key, anchor) - value
            step = step + beta[:, t, :, j, None, None] * key[..., :, None] * error[..., None, :]
        state = alpha * state - step
        outputs.append(torch.einsum("bhk,bhkv->bhv", q[:, t], state))
    return torch.stack(outputs, 1), state
