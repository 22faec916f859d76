"""The deep memory with a handwritten backward: states chunk by chunk, outputs of many chunks at once, few tensors kept.

Without Muon and for the map "mlp" a chunk is, in README.md's letters and with a layer's weights and momentum on top of
each other as Z = [W; S] (J = 2, or 1 without momentum),

    a = k W2,  h = silu(a),  s = silu'(a),  r = k_1 + h W1 - v,  e = r / size,  g = e W1^T,  d = g s
    size = |h|^2 + |k|^2 sum_n s_n^2 |W1[n]|^2 + floor
    Z2' = mix Z2 + (write k)^T d,         Z1' = mix Z1 + (write h)^T e
    a_q = (read q) Z2 + (inside * q k^T) d,    h_q = silu(a_q),    y = q_1 + (read h_q) Z1 + (inside * h_q h^T) e

Forward and backward take the chunks in groups, so that what they pass through stays in a cache. The forward keeps the
anchors Z. The backward computes again what the tokens make of them, for a group at once, as are the outputs' gradients;
then it walks back chunk by chunk, from Z2', Z1' through d and e to Z2 and Z1; and what no earlier chunk waits for is
again done for the group at once. README.md has the formulas.

Letters: N chunks, G of them in a group, X = B H rows and heads, C tokens of a chunk, R = C + W - 1 with the halo before
them, keys of P numbers, values of V, L the hidden width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from atlas_bench.kernels import dispatch
from atlas_bench.kernels.anchored import forward, layout
from atlas_bench.kernels.anchored.maps import FLOOR, MLP
from atlas_bench.kernels.anchored.rule import Gates, Rule

State = dict[str, Tensor]
GROUP = 2**22  # bytes of Z in a group of chunks: what a cache holds


def anchored(
    rule: Rule, q: Tensor | None, k: Tensor, v: Tensor, gates: Gates, state: State
) -> tuple[Tensor | None, State]:
    """The same outputs, state and gradients as chunk.anchored, for rules that fits() takes; arguments as there."""
    if not torch.is_grad_enabled():
        return forward.anchored(rule, q, k, v, gates, state)
    return chunked(_Scan.apply, rule, q, k, v, gates, state)


def fits(rule: Rule) -> str | None:
    """None, or why `anchored` here cannot take this rule."""
    if rule.map is not MLP:
        return "the map is not mlp"
    return None if rule.orthogonalise is None else "there is Muon"


def chunked(
    scan: Callable, rule: Rule, q: Tensor | None, k: Tensor, v: Tensor, gates: Gates, state: State
) -> tuple[Tensor | None, State]:
    """anchored() around scan(l2, bounded, q, k, v, read, inside, mix, write, Z2, Z1) -> (y, Z2, Z1).

    q [N, X, C, P]; k, v [N, X, R, .]; read, inside, mix, write as in chunk.Sums; Z2 [X, J P, L], Z1 [X, J L, V]
    """
    size = min(rule.chunk_size, gates.write.shape[1])
    halo = gates.window.shape[-1] - 1
    q, k, v = layout.chunks(q, size), layout.chunks(k, size, halo), layout.chunks(v, size, halo)
    write, retention, lr, window, momentum = layout.gate_chunks(gates, size)
    bounded_at = rule.most(gates) if rule.bounded else None
    shares = dispatch.form("gates", write, size=size).sums(write, retention, lr, window, momentum, bounded_at)
    stacked = layout.stack(state, ("W2", "W1"))
    y, *Z = scan(rule.bias == "l2", rule.bounded, q, k, v, *(x.contiguous() for x in shares), *stacked.values())
    return layout.stream(y, gates), layout.unstack(dict(zip(stacked, Z, strict=True)), gates)


class _Scan(torch.autograd.Function):
    """scan() of `chunked`. Kept for the backward: the inputs and the anchors, not what the tokens make of them."""

    @staticmethod
    def forward(ctx, l2, bounded, q, k, v, read, inside, mix, write, Z2, Z1):
        group = max(1, GROUP // (4 * (Z2.numel() + Z1.numel())))
        y = None if q is None else v.new_empty(*q.shape[:-1], v.shape[-1])
        anchors = []
        for n in range(0, len(k), group):
            here = slice(n, n + group)
            tokens = _tokens(l2, bounded, k[here], v[here], write[here])
            Zs2, Zs1, parts = _walk(tokens, mix[here], Z2, Z1)
            if q is not None:
                outputs = _read(q[here], read[here], inside[here], tokens.k, parts, Zs2[:-1], Zs1[:-1])
                torch.add(outputs, q[here, ..., : v.shape[-1]].flatten(0, 1), out=y[here].flatten(0, 1))
            Z2, Z1 = Zs2[-1].clone(), Zs1[-1].clone()  # lets the group go
            if any(ctx.needs_input_grad):
                anchors += [Zs2, Zs1]
        ctx.save_for_backward(q, k, v, read, inside, mix, write, *anchors)
        ctx.options = l2, bounded, group
        return y, Z2, Z1

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dy, dZ2, dZ1):
        q, k, v, read, inside, mix, write, *anchors = ctx.saved_tensors
        l2, bounded, group = ctx.options
        grads = [None if x is None else torch.empty_like(x) for x in (q, k, v, read, inside, mix, write)]
        for n in reversed(range(0, len(k), group)):
            here = slice(n, n + group)
            tokens = _tokens(l2, bounded, k[here], v[here], write[here])
            outputs = None if q is None else (q[here], read[here], inside[here], dy[here])
            found, dZ2, dZ1 = _back(tokens, mix[here], *anchors[n // group * 2 :][:2], dZ2, dZ1, outputs)
            for grad, x in zip(grads, found, strict=True):
                if grad is not None:
                    grad[here] = 0 if x is None else x.view_as(grad[here])
        return None, None, *grads, dZ2, dZ1


class _Tokens(NamedTuple):
    """Everything about the tokens of a group of G chunks that does not depend on an anchor, [G X, R, .].

    offset  k_1 - v, or -v for the bias dot      squares  |k|^2, None unbounded      k_write  [G X, R, J P]
    """

    l2: bool
    k: Tensor
    offset: Tensor
    squares: Tensor | None
    write: Tensor
    k_write: Tensor


class _Parts(NamedTuple):
    """What the anchors say of them, [.., R, .]: above; `reached` is sum_n s_n^2 |W1[n]|^2."""

    gate: Tensor
    h: Tensor
    slope: Tensor
    e: Tensor
    back: Tensor
    d: Tensor
    size: Tensor | None
    reached: Tensor | None


def _tokens(l2: bool, bounded: bool, k: Tensor, v: Tensor, write: Tensor) -> _Tokens:
    k, v, write = (x.flatten(0, 1) for x in (k, v, write))
    offset = k[..., : v.shape[-1]] - v if l2 else -v
    return _Tokens(l2, k, offset, k.square().sum(-1, keepdim=True) if bounded else None, write, _spread(k, write))


def _spread(x: Tensor, shares: Tensor) -> Tensor:
    """x [.., T, I] with each of J shares [.., T, J], side by side: [.., T, J I], as Z has its rows."""
    return (x[..., None, :] * shares[..., None]).flatten(-2)


def _parts(tokens: _Tokens, hidden: int) -> _Parts:
    """Room for what `_look` finds."""
    wide = [tokens.k.new_empty(*tokens.k.shape[:-1], hidden) for _ in range(5)]
    sizes = [None if tokens.squares is None else torch.empty_like(tokens.squares) for _ in range(2)]
    return _Parts(*wide[:3], torch.empty_like(tokens.offset), *wide[3:], *sizes)


def _collect(x: Tensor, shares: Tensor, onto: Tensor) -> Tensor:
    """onto + sum_j shares_j x_j: the backward of _spread, x [.., T, J, I]. In place."""
    for j in range(shares.shape[-1]):
        onto.addcmul_(x[..., j, :], shares[..., j, None])
    return onto


def _look(l2: bool, k: Tensor, offset: Tensor, squares: Tensor | None, W2: Tensor, W1: Tensor, found: _Parts):
    """Write to `found` what the anchors say of their tokens."""
    gate, h, slope, e, back, d, size, reached = found
    torch.bmm(k, W2, out=h)
    torch.sigmoid(h, out=gate)
    h.mul_(gate)
    torch.addcmul(gate, h, 1 - gate, out=slope)
    torch.baddbmm(offset, h, W1, out=e) if l2 else e.copy_(offset)
    if squares is not None:
        torch.bmm(slope.square(), W1.square().sum(-1, keepdim=True), out=reached)
        torch.sum(h.square(), -1, keepdim=True, out=size)
        e.div_(size.addcmul_(reached, squares).add_(FLOOR))
    torch.bmm(e, W1.mT, out=back)
    torch.mul(back, slope, out=d)


def _walk(tokens: _Tokens, mix: Tensor, Z2: Tensor, Z1: Tensor) -> tuple[Tensor, Tensor, _Parts]:
    """The anchors [G+1, X, ..] of both layers, Z_n at n, and what they say of their tokens."""
    chunks, J = mix.shape[0], mix.shape[-1]
    P, L = Z2.shape[1] // J, Z2.shape[2]
    Zs2, Zs1 = (x.new_empty(chunks + 1, *x.shape) for x in (Z2, Z1))
    Zs2[0], Zs1[0] = Z2, Z1
    found = _parts(tokens, L)
    each = zip(_each(tokens[1:], chunks), _each(found, chunks), strict=True)
    for n, ((k, offset, squares, write, k_write), here) in enumerate(each):
        here = _Parts(*here)
        _look(tokens.l2, k, offset, squares, Zs2[n][:, :P], Zs1[n][:, :L], here)
        for Zs, x, e in ((Zs2, k_write, here.d), (Zs1, _spread(here.h, write), here.e)):
            old, new = (Z.unflatten(1, (J, -1)) for Z in Zs[n : n + 2])
            torch.mul(mix[n].diagonal(dim1=-2, dim2=-1)[..., None, None], old, out=new)
            if J == 2:
                new[:, 0].addcmul_(mix[n, :, 0, 1, None, None], old[:, 1])
            Zs[n + 1].baddbmm_(x.mT, e)
    return Zs2, Zs1, found


def _each(tensors, chunks: int):
    """Tensors [G X, ..] or None as G tuples of [X, ..]."""
    return zip(*([None] * chunks if x is None else x.chunk(chunks) for x in tensors), strict=True)


def _read(q: Tensor, read: Tensor, inside: Tensor, k: Tensor, parts: _Parts, Z2: Tensor, Z1: Tensor) -> Tensor:
    """The outputs of a group of chunks at once, but for q_1: [G X, C, V]."""
    q, read, inside, Z2, Z1 = (x.flatten(0, 1) for x in (q, read, inside, Z2, Z1))
    hq = F.silu(_pass(q, read, inside * torch.bmm(q, k.mT), Z2, parts.d))
    return _pass(hq, read, inside * torch.bmm(hq, parts.h.mT), Z1, parts.e)


def _pass(z: Tensor, read: Tensor, scores: Tensor, Z: Tensor, e: Tensor) -> Tensor:
    return torch.bmm(_spread(z, read), Z).baddbmm_(scores, e)


def _back(tokens: _Tokens, mix: Tensor, Zs2: Tensor, Zs1: Tensor, dZ2: Tensor, dZ1: Tensor, outputs):
    """Through a group of chunks: (gradients of q, k, v, read, inside, mix, write; of Z2; of Z1).

    dZ2, dZ1  gradients of the anchors after the group
    outputs   q, read, inside, dy of the group, or None
    """
    chunks, rows, J, _ = mix.shape
    P, L = Zs2.shape[2] // J, Zs2.shape[3]
    parts = _parts(tokens, L)
    W2, W1 = Zs2[:-1, :, :P].flatten(0, 1), Zs1[:-1, :, :L].flatten(0, 1)
    _look(tokens.l2, tokens.k, tokens.offset, tokens.squares, W2, W1, parts)
    dZs2, dZs1 = _buffer(Zs2, dZ2), _buffer(Zs1, dZ1)
    if outputs is None:
        dq = dread = dinside = None
        dk, dh, de, dd = (torch.zeros_like(x) for x in (tokens.k, parts.h, parts.e, parts.d))
        dZs2[:-1], dZs1[:-1] = 0, 0
    else:
        dq, dread, dinside, dk, dh, de, dd = _read_back(
            *outputs, tokens.k, parts, Zs2[:-1].flatten(0, 1), Zs1[:-1].flatten(0, 1), dZs2[:-1], dZs1[:-1]
        )
    dr, dsize, da, dwrite = _walk_back(tokens, mix, parts, Zs2, Zs1, dZs2, dZs1, dh, de, dd)
    after2, after1 = dZs2[1:].flatten(0, 1), dZs1[1:].flatten(0, 1)
    by_share = torch.bmm(parts.d, after2.mT).unflatten(-1, (J, P))
    dwrite += (by_share * tokens.k[..., None, :]).sum(-1)
    _collect(by_share, tokens.write, onto=dk)
    dk.baddbmm_(da, W2.mT)
    if tokens.l2:
        dk[..., : dr.shape[-1]] += dr
    if tokens.squares is not None:
        dk.addcmul_(tokens.k, dsize * parts.reached, value=2)
    flat = [x.flatten(0, 1).view(chunks * rows, J, -1) for x in (Zs2[:-1], Zs1[:-1])]
    dmix = torch.bmm(after2.view_as(flat[0]), flat[0].mT).baddbmm_(after1.view_as(flat[1]), flat[1].mT)
    return (dq, dk, -dr, dread, dinside, dmix, dwrite), dZs2[0], dZs1[0]


def _buffer(Zs: Tensor, last: Tensor) -> Tensor:
    dZs = torch.empty_like(Zs)
    dZs[-1] = last
    return dZs


def _read_back(q, read, inside, dy, k, parts: _Parts, Z2, Z1, dZ2, dZ1):
    """Through _read: gradients of q, read, inside, k, h, e, d; those of the anchors are written to dZ2 and dZ1."""
    q, read, inside, dy = (x.flatten(0, 1) for x in (q, read, inside, dy))
    dZ2, dZ1 = dZ2.flatten(0, 1), dZ1.flatten(0, 1)
    scores = torch.bmm(q, k.mT)
    hq, slope = _silu(_pass(q, read, inside * scores, Z2, parts.d))
    dhq, dread, dinside, dh, de = _pass_back(hq, read, inside, torch.bmm(hq, parts.h.mT), parts.h, parts.e, Z1, dy, dZ1)
    da = dhq.mul_(slope)
    dq, dread2, dinside2, dk, dd = _pass_back(q, read, inside, scores, k, parts.d, Z2, da, dZ2)
    dq[..., : dy.shape[-1]] += dy
    return dq, dread.add_(dread2), dinside.add_(dinside2), dk, dh, de, dd


def _pass_back(z, read, inside, scores, x, e, Z, dy, dZ):
    """Through _pass with the scores inside * z x^T: gradients of z, read, inside, x, e; that of Z into dZ."""
    torch.bmm(_spread(z, read).mT, dy, out=dZ)
    by_share = torch.bmm(dy, Z.mT).unflatten(-1, (read.shape[-1], -1))
    dread = (by_share * z[..., None, :]).sum(-1)
    dscores = torch.bmm(dy, e.mT)
    dinside = dscores * scores
    dscores.mul_(inside)
    dz = _collect(by_share, read, onto=torch.bmm(dscores, x))
    return dz, dread, dinside, torch.bmm(dscores.mT, z), torch.bmm((inside * scores).mT, dy)


def _silu(a: Tensor) -> tuple[Tensor, Tensor]:
    """(silu(a), silu'(a)); a is overwritten."""
    gate = torch.sigmoid(a)
    h = a.mul_(gate)
    return h, torch.addcmul(gate, h, 1 - gate)


def _walk_back(tokens: _Tokens, mix: Tensor, parts: _Parts, Zs2, Zs1, dZs2, dZs1, dh, de, dd):
    """Through _walk, chunk by chunk: gradients of r, size, a [G X, R, .], and of write as far as h goes.

    dZs2, dZs1 hold the gradients of the anchors by the outputs, and afterwards all of them; dh, de, dd are overwritten.
    """
    chunks, _, J, _ = mix.shape
    P, L = Zs2.shape[2] // J, Zs2.shape[3]
    lean = None
    if tokens.squares is not None:
        reach = Zs1[:-1, :, :L].square().sum(-1).flatten(0, 1)[:, None]
        lean = 2 * parts.slope * reach * tokens.squares
    constants = (tokens.k, tokens.write, tokens.squares, tokens.k_write, _spread(parts.h, tokens.write), lean)
    found = []
    each = list(zip(*(_each(x, chunks) for x in (parts, constants, (dh, de, dd))), strict=True))
    for n in reversed(range(chunks)):
        (gate, h, slope, e, back, _, size, _), (k, write, squares, k_write, h_write, lean), (dh, de, dd) = each[n]
        after2, after1, W1 = dZs2[n + 1], dZs1[n + 1], Zs1[n][:, :L]
        dd.baddbmm_(k_write, after2)
        dback = dd * slope
        dslope = dd.mul_(back)
        de.baddbmm_(h_write, after1).baddbmm_(dback, W1)
        by_share = torch.bmm(e, after1.mT).unflatten(-1, (J, L))
        dwrite = (by_share * h[..., None, :]).sum(-1)
        _collect(by_share, write, onto=dh)
        dW1, dsize = torch.bmm(dback.mT, e), None
        if size is not None:
            dr = de.div_(size)
            dsize = (dr * e).sum(-1, keepdim=True).neg_()
            dh.addcmul_(h, dsize, value=2)
            dslope.addcmul_(lean, dsize)
            dW1.addcmul_(W1, torch.bmm(slope.square().mT, dsize * squares), value=2)
        if tokens.l2:
            dh.baddbmm_(de, W1.mT)
            dW1.baddbmm_(h.mT, de)
        second = torch.addcmul(gate + slope, gate, h, value=-1).mul_(1 - gate)  # silu''(a)
        da = (dh * slope).addcmul_(dslope, second)
        for dZs, after in ((dZs2, after2), (dZs1, after1)):
            old, new = after.unflatten(1, (J, -1)), dZs[n].unflatten(1, (J, -1))
            new.addcmul_(mix[n].diagonal(dim1=-2, dim2=-1)[..., None, None], old)
            if J == 2:
                new[:, 1].addcmul_(mix[n, :, 0, 1, None, None], old[:, 0])
        dZs2[n][:, :P].baddbmm_(k.mT, da)
        dZs1[n][:, :L].add_(dW1)
        found.append((de, dsize, da, dwrite))
    return (None if x[0] is None else torch.cat(x) for x in zip(*reversed(found), strict=True))
