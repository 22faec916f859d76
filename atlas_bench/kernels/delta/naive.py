"""The generalised delta rule on a matrix memory, one token at a time: the truth chunk.py is tested against.

    M <- Diag(a_t) M,    then for each of the token's n steps    M <- M + k (v - e^T M')^T,    y_t = q_t M

M' is the memory before the step; before the first step, it is the memory before the decay. Every memory whose update is
linear is of this form: linear attention (e = 0), the delta rules (e = b k, v = b v), those with gates per channel, with
an erase key of its own, and with several steps per token.
"""

from __future__ import annotations

import torch
from torch import Tensor


def delta(
    q: Tensor, k: Tensor, v: Tensor, *, erase: Tensor | None, retention: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Outputs [B, T, H, V] and the memory after the last token [B, H, K, V].

    q          [B, T, H, K]
    k, v       [B, T, H, n, K], [B, T, H, n, V]: of each step of a token
    erase      [B, T, H, n, K] e, None for zeros
    retention  [B, T, H, K], or [B, T, H, 1] for all channels alike; in [0, 1]
    state      [B, H, K, V]
    """
    erase = torch.zeros_like(k) if erase is None else erase
    outputs = []
    for t in range(q.shape[1]):
        for i in range(k.shape[3]):
            error = v[:, t, :, i] - torch.einsum("bhk,bhkv->bhv", erase[:, t, :, i], state)
            kept = retention[:, t, ..., None] * state if i == 0 else state
            state = kept + k[:, t, :, i, :, None] * error[..., None, :]
        outputs.append(torch.einsum("bhk,bhkv->bhv", q[:, t], state))
    return torch.stack(outputs, 1), state
