"""Softmax attention over a sliding window, w queries at a time: nothing is copied forward, little is kept for backward.

Blocks of w tokens follow each other, and the queries of a block see its own keys and those of the block before:
windows of 2 w keys that overlap by half, which torch's attention reads as strided views. Backward the weights are made
anew; autograd would keep every window's copy of keys and values.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from atlas_bench.kernels.cpu import matmul_precision


def window_attention(qkv: Tensor, mask: Tensor) -> Tensor:
    """Outputs of the blocks but the first: [M, w, 3, H, K] -> [M-1, w, H, K], contiguous.

    qkv   queries, keys and values of M blocks
    mask  [H, w, 2 w], added to the scores: query i of a block, key j of the block before and its own
    """
    return _WindowAttention.apply(qkv, mask)


def attend(rows: Tensor, mask: Tensor) -> Tensor:
    """The same without a gradient, of the blocks' rows one after another: [M w, 3, H, K] -> [M-1, w, H, K]."""
    q, k, v = _views(rows, mask.shape[-2])
    with matmul_precision("fp32"):  # torch makes its small products one by one; in bf16 each would be packed anew
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask[None]).transpose(1, 2).contiguous()


class _WindowAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, qkv: Tensor, mask: Tensor) -> Tensor:
        ctx.save_for_backward(qkv, mask)
        return attend(qkv.flatten(0, 1), mask.detach())  # a mask that is learnt would send torch another way

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor):
        qkv, mask = ctx.saved_tensors
        scale, size = qkv.shape[-1] ** -0.5, qkv.shape[1]
        q, k, v = (x.flatten(0, 1) for x in _views(qkv.flatten(0, 1), size))  # [(M-1) H, .., K], each a copy
        q, dy = q * scale, dy.transpose(1, 2).flatten(0, 1)
        blocks = (len(qkv) - 1, len(mask))
        scores = torch.bmm(q, k.mT).unflatten(0, blocks).add_(mask)
        weights = torch.softmax(scores, -1).flatten(0, 1)
        d = torch.ops.aten._softmax_backward_data(torch.bmm(dy, v.mT), weights, -1, weights.dtype)
        parts = torch.bmm(d, k).mul_(scale), torch.bmm(d.mT, q), torch.bmm(weights.mT, dy)
        d_qkv = torch.empty_like(qkv)
        dq, dk, dv = (x.transpose(1, 2) for x in d_qkv.unbind(2))  # [M, H, w, K]
        dq[0] = 0
        dq[1:] = parts[0].unflatten(0, blocks)
        for x, part in zip((dk, dv), parts[1:], strict=True):
            before, own = part.unflatten(0, blocks).chunk(2, 2)
            x[:-1] = before
            x[-1] = 0
            x[1:] += own
        return d_qkv, d.unflatten(0, blocks).sum(0)


def _views(rows: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of rows [M w, 3, H, K] queries [M-1, H, w, K], keys and values of their windows [M-1, H, 2 w, K]."""
    q = rows[size:, 0].unflatten(0, (-1, size)).transpose(1, 2)
    k, v = (rows[:, i].unfold(0, 2 * size, size).mT for i in (1, 2))
    return q, k, v
