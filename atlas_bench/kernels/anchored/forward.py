"""The deep memory of mlp.py, read without gradients: chunk by chunk, weights and momentum changed where they stand.

What one call of torch costs counts as much here as its arithmetic. So a chunk takes about thirty, and all that waits
for no weights is made for SEGMENT chunks at once. Each share of a token multiplies the narrower side of a product: a
key before W2, an error after W1. Z2 therefore has the momentum below the weights, and Z1 beside them:

    Z2 [X, J P, L] = [W2; S2],    Z1 [X, L, J V] = [W1 | S1]

Letters and formulas are those of mlp.py.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from atlas_bench.kernels import dispatch
from atlas_bench.kernels.anchored import layout
from atlas_bench.kernels.anchored.maps import FLOOR
from atlas_bench.kernels.anchored.rule import Gates, Rule, surprise_of

State = dict[str, Tensor]
SEGMENT = 16  # chunks


@torch.no_grad()
def anchored(
    rule: Rule, q: Tensor | None, k: Tensor, v: Tensor, gates: Gates, state: State
) -> tuple[Tensor | None, State]:
    """The same outputs and state as mlp.anchored; arguments as there."""
    length, halo = gates.write.shape[1], gates.window.shape[-1] - 1
    rows = (*state["W1"].shape[:2],)
    Z2, Z1 = _stacked(state, "W2", 1), _stacked(state, "W1", 2)
    outputs = []
    for start in range(0, length, SEGMENT * rule.chunk_size):
        stop = min(start + SEGMENT * rule.chunk_size, length)
        part = Gates(*(None if x is None else x[:, start:stop] for x in vars(gates).values()))
        tokens = _tokens(
            rule, None if q is None else q[:, start:stop], *(x[:, start : stop + halo] for x in (k, v)), part
        )
        outputs.append(layout.stream(_walk(tokens, Z2, Z1), part))
    new = {}
    for name, Z, dim in (("W2", Z2, 1), ("W1", Z1, 2)):
        parts = [part for part in (name, surprise_of(name)) if part in state]
        new |= dict(zip(parts, (x.unflatten(0, rows) for x in Z.chunk(len(parts), dim)), strict=True))
    return (None if q is None else torch.cat(outputs, 1)), new


def _stacked(state: State, name: str, dim: int) -> Tensor:
    """A copy of a layer's weights and, if there is one, momentum, as one matrix for each row and head."""
    parts = [state[part].flatten(0, 1) for part in (name, surprise_of(name)) if part in state]
    return torch.cat(parts, dim).contiguous()


class _Tokens(NamedTuple):
    """What a segment's N chunks are made of before any weights, [N, X, ..]; without outputs the last five are None.

    offset   [R, V]    k_1 - v, or -v for the bias dot
    squares  [R, 1]    |k|^2, None unbounded
    k_write  [R, J P]  a key times each of its shares in what is kept
    write    [R, J]    those shares
    mix      [J, J]    shares of the weights and the momentum in what they become
    q_read   [C, J P]  a query times each share of what it reads
    read     [C, J]    those shares
    scores   [C, R]    inside * q k^T
    inside   [C, R]    share of token i's gradient in M_t
    first    [C, V]    q_1
    """

    l2: bool
    k: Tensor
    offset: Tensor
    squares: Tensor | None
    k_write: Tensor
    write: Tensor
    mix: Tensor
    q_read: Tensor | None
    read: Tensor | None
    scores: Tensor | None
    inside: Tensor | None
    first: Tensor | None


def _tokens(rule: Rule, q: Tensor | None, k: Tensor, v: Tensor, gates: Gates) -> _Tokens:
    size, halo = min(rule.chunk_size, gates.write.shape[1]), gates.window.shape[-1] - 1
    q, k, v = layout.chunks(q, size), layout.chunks(k, size, halo), layout.chunks(v, size, halo)
    write, retention, lr, window, momentum = layout.gate_chunks(gates, size)
    bounded_at = rule.most(gates) if rule.bounded else None
    sums = dispatch.form("gates", write, size=size).sums
    read, inside, mix, write = sums(write, retention, lr, window, momentum, bounded_at)
    first, l2 = slice(v.shape[-1]), rule.bias == "l2"
    squares = (k * k).sum(-1, keepdim=True) if rule.bounded else None
    ours = l2, k, k[..., first] - v if l2 else -v, squares, _spread(k, write), write, mix
    if q is None:
        return _Tokens(*ours, None, None, None, None, None)
    scores = torch.matmul(q, k.mT).mul_(inside)
    return _Tokens(*ours, _spread(q, read), read, scores, inside, q[..., first])


def _spread(x: Tensor, shares: Tensor) -> Tensor:
    """x [.., T, I] with each of J shares [.., T, J], side by side: [.., T, J I]."""
    return (x[..., None, :] * shares[..., None]).flatten(-2)


def _walk(tokens: _Tokens, Z2: Tensor, Z1: Tensor) -> Tensor | None:
    """Outputs [N, X, C, V] of a segment's chunks; Z2 and Z1 become what stands at its end."""
    J, L, V = tokens.mix.shape[-1], Z2.shape[-1], tokens.offset.shape[-1]
    P = Z2.shape[1] // J
    W2, W1 = Z2[:, :P], Z1[..., :V]
    parts2, parts1 = Z2.unflatten(1, (J, P)).unbind(1), Z1.unflatten(2, (J, V)).unbind(2)
    h, slope, room, d = (tokens.k.new_empty(*tokens.k.shape[1:-1], L) for _ in range(4))
    one = torch.ones((), dtype=h.dtype, device=h.device)
    y = None if tokens.q_read is None else torch.empty_like(tokens.first)
    chunks = [[None] * len(tokens.k) if x is None else x.unbind(0) for x in (*tokens[1:], y)]
    for k, offset, squares, k_write, write, mix, q_read, read, scores, inside, _, out in zip(*chunks, strict=True):
        torch.bmm(k, W2, out=h)
        torch.sigmoid(h, out=room)
        h.mul_(room)
        torch.lerp(h, one, room, out=slope)  # silu' = h + s (1 - h), s the sigmoid
        e = torch.baddbmm(offset, h, W1) if tokens.l2 else offset.clone()
        if squares is not None:
            reach = (W1 * W1).sum(-1, keepdim=True)
            size = torch.bmm(torch.mul(slope, slope, out=room), reach).mul_(squares)
            e.div_(size.add_(torch.mul(h, h, out=room).sum(-1, keepdim=True)).add_(FLOOR))
        torch.bmm(e, W1.mT, out=d)
        d.mul_(slope)
        if out is not None:
            hq = F.silu(torch.bmm(q_read, Z2).baddbmm_(scores, d), inplace=True)
            outputs = torch.bmm(hq, Z1).unflatten(-1, (J, V)).mul_(read[..., None])
            torch.sum(outputs, -2, out=out)
            out.baddbmm_(torch.bmm(hq, h.mT).mul_(inside), e)
        _mix(mix, parts2)
        _mix(mix, parts1)
        Z2.baddbmm_(k_write.mT, d)
        Z1.baddbmm_(h.mT, _spread(e, write))
    return y if y is None else y.add_(tokens.first)


def _mix(mix: Tensor, parts: tuple[Tensor, ...]) -> None:
    """Weights and momentum [X, ..] each become their share of both; no share of the weights is in the momentum."""
    shares = mix.flatten(1)[..., None, None].unbind(1)
    parts[0].mul_(shares[0])
    if len(parts) == 2:
        parts[0].addcmul_(parts[1], shares[1])
        parts[1].mul_(shares[3])
