"""naive.py without an autograd graph of every chunk: the backward is the same recurrence from the last chunk on.

README.md derives it. Only what waits for the state is in the loop, three or four operations a chunk that write where
the result belongs; the rest of the backward is one batched product for all chunks.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def recurrence(
    own: Tensor, onto: Tensor, into: Tensor, mix: Tensor, state: Tensor, add: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The same anchors, errors and last state as naive.recurrence; arguments as there."""
    return _Recurrence.apply(own, onto, into, mix, state, add)


def outputs(q: Tensor, read: Tensor, scores: Tensor, anchors: Tensor, errors: Tensor) -> Tensor:
    """The same as naive.outputs, two products for all chunks; arguments as there."""
    q = (q[..., None, :] * read[..., None]).flatten(-2)  # [N, X, C, J I], as Z has its rows
    y = torch.bmm(q.flatten(0, 1), anchors.flatten(0, 1))
    return torch.baddbmm(y, scores.flatten(0, 1), errors.flatten(0, 1)).unflatten(0, q.shape[:2])


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx, own, onto, into, mix, state, add):
        anchors, errors, last = run(own, onto, into, mix, state, add)
        ctx.save_for_backward(onto, into, mix, anchors, errors)
        ctx.added = add is not None
        ctx.set_materialize_grads(False)
        return anchors, errors, last

    @staticmethod
    @once_differentiable
    def backward(ctx, d_anchors, d_errors, d_last):
        onto, into, mix, anchors, errors = ctx.saved_tensors
        d_errors = torch.zeros_like(errors) if d_errors is None else d_errors
        d_last = torch.zeros_like(anchors[0]) if d_last is None else d_last
        # after[n] is the gradient of Z_{n+1}
        turned = mix if mix.shape[-1] == 1 else mix.mT
        after, d_own, d_state = run(d_errors, into, onto, turned, d_last, d_anchors, reverse=True)
        return d_own, *products(onto, into, mix, anchors, errors, after, d_own), d_state, after if ctx.added else None


def run(
    own: Tensor,
    onto: Tensor,
    into: Tensor,
    mix: Tensor,
    state: Tensor,
    add: Tensor | None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """naive.recurrence; `reverse`: from the last chunk to the first, with the signs of onto and into turned."""
    anchors, errors, last = (own.new_empty(s) for s in ((len(own), *state.shape), own.shape, state.shape))
    Z, E = anchors.unbind(0), errors.unbind(0)
    order = range(len(own))[::-1] if reverse else range(len(own))
    sign = -1 if reverse else 1
    Z[order[0]].copy_(state)
    for n, new in zip(order, [*(Z[n] for n in order[1:]), last], strict=True):
        torch.baddbmm(own[n], onto[n], Z[n][:, : onto.shape[-1]], alpha=-sign, out=E[n])
        _mixed(mix[n], Z[n], None if add is None else add[n], out=new)
        if into.shape[-1] == new.shape[1]:
            new.baddbmm_(into[n].mT, E[n], alpha=sign)
        else:  # a product can be added in one go to whole matrices only
            new[:, : into.shape[-1]].add_(into[n].mT @ E[n], alpha=sign)
    return anchors, errors, last


def _mixed(mix: Tensor, Z: Tensor, add: Tensor | None, out: Tensor) -> None:
    """mix (x) Z (+ add) [X, J I, V] in one operation."""
    if mix.shape[-1] == 1:
        torch.mul(mix, Z, out=out) if add is None else torch.addcmul(add, mix, Z, out=out)
        return
    Z, out = (x.view(len(x), mix.shape[-1], -1) for x in (Z, out))
    torch.bmm(mix, Z, out=out) if add is None else torch.baddbmm(add.reshape(Z.shape), mix, Z, out=out)


def products(
    onto: Tensor, into: Tensor, mix: Tensor, anchors: Tensor, errors: Tensor, after: Tensor, d_own: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of onto, into and mix, of all chunks at once; after [N, X, J I, V] is the gradient of Z_{n+1}."""
    d_onto = (d_own @ anchors[:, :, : onto.shape[-1]].mT).neg_()
    d_into = errors @ after[:, :, : into.shape[-1]].mT
    if mix.shape[-1] == 1 < mix.shape[-2]:
        return d_onto, d_into, (after * anchors).sum(-1, keepdim=True)
    by_block = [x.unflatten(2, (mix.shape[-1], -1)).flatten(3) for x in (after, anchors)]
    return d_onto, d_into, by_block[0] @ by_block[1].mT
