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


class _WindowAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, qkv: Tensor, mask: Tensor) -> Tensor:
        ctx.save_for_backward(qkv, mask)
        q, k, v = _views(qkv)
        with matmul_precision("fp32"):  # torch makes its small products one by one; in bf16 each would be packed anew
            # a mask that is learnt would send torch another way, to another layout
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask.detach()[None])
        return y.transpose(1, 2).contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor):
        qkv, mask = ctx.saved_tensors
        scale = qkv.shape[-1] ** -0.5
        q, k, v = (x.flatten(0, 1) for x in _views(qkv))  # [(M-1) H, .., K], each a copy
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


def _views(qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries [M-1, H, w, K], keys and values of their windows [M-1, H, 2 w, K]."""
    size = qkv.shape[1]
    rows = qkv.flatten(0, 1)  # [M w, 3, H, K]
    q = qkv[1:, :, 0].transpose(1, 2)
    k, v = (rows[:, i].unfold(0, 2 * size, size).permute(0, 1, 3, 2) for i in (1, 2))
    return q, k, v
