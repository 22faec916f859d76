"""The sequential part of every matrix memory, chunk by chunk: the truth chunk.py and triton.py are tested against.

    E_n = own_n - onto_n Z_n[:Q]
    Z_{n+1} = mix_n (x) Z_n + into_n^T E_n  (+ add_n)

Z has J I rows: J blocks of I, the weights and, if J = 2, the momentum below them. mix_n [J, J] mixes the blocks; for
J = 1 it may be [I, 1], what is kept of each row (a decay per key channel). onto_n [R, Q] sees the first Q rows, into_n
[R, P] adds to the first P rows. Letters: N chunks, X rows and heads.
"""

from __future__ import annotations

import torch
from torch import Tensor


def recurrence(
    own: Tensor, onto: Tensor, into: Tensor, mix: Tensor, state: Tensor, add: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The anchors Z_0 .. Z_{N-1} [N, X, J I, V], the errors E [N, X, R, V] and Z_N [X, J I, V].

    own    [N, X, R, V]
    onto   [N, X, R, Q], Q = I or J I
    into   [N, X, R, P], P = I or J I
    mix    [N, X, J, J], or [N, X, I, 1] with J = 1
    state  [X, J I, V] Z_0
    add    [N, X, J I, V] or None: added to Z_{n+1}
    """
    anchors, errors = [], []
    for n in range(len(own)):
        anchors.append(state)
        errors.append(own[n] - onto[n] @ state[:, : onto.shape[-1]])
        step = into[n].mT @ errors[n]
        if mix.shape[-1] == 1:
            state = mix[n] * state
        else:
            blocks = state.unflatten(1, (mix.shape[-1], -1)).flatten(2)
            state = torch.einsum("xji,xiv->xjv", mix[n], blocks).view_as(state)
        state = state + torch.cat([step, state.new_zeros(len(state), state.shape[1] - step.shape[1], step.shape[2])], 1)
        if add is not None:
            state = state + add[n]
    return torch.stack(anchors), torch.stack(errors), state


def outputs(q: Tensor, read: Tensor, scores: Tensor, anchors: Tensor, errors: Tensor) -> Tensor:
    """y_n = sum_j diag(read_n[:, j]) q_n Z_n,j + scores_n E_n  [N, X, C, V].

    q        [N, X, C, I]
    read     [N, X, C, J] share of each block of Z_n in what a token reads
    scores   [N, X, C, R] share of each error, masked
    anchors  [N, X, J I, V] Z_n
    errors   [N, X, R, V] E_n
    """
    blocks = anchors.unflatten(2, (read.shape[-1], -1))
    return torch.einsum("nxcj,nxci,nxjiv->nxcv", read, q, blocks) + scores @ errors
