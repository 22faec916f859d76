"""rule.py at chunk_size 1, every gradient at the current memory, with the backward by hand and the caches in mind.

    G  = x^T e of each layer, the W tokens of a step as outer products at M            (maps.py)
    U  = m S + G                                  O  = U, or its orthogonalisation
    S' = S + w (U - S)                            M' = keep M + step O,    keep = 1 - w (1 - a),  step = -w l

    dU = w dS' + step NS*(dM')                    dx = e dU^T,  de = x dU                  NS*: the pullback
    dS = (1 - w) dS' + m dU                       dM = keep dM' + what x and e say of it

Of a step only the M and S that it began with are kept; the rest is made again. A step is many passes over small
matrices, so rows and heads are taken a few at a time through all their steps, as many as a cache holds.

Letters: E steps, X rows and heads, W tokens of a step's window, I and O of a layer, L the hidden width. Step e concerns
the first active_e rows, those with more steps coming first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from atlas_bench.kernels.anchored.maps import FLOOR, MLP, GatedMLP, GeluGatedMLP, GeluMLP, Matrix, density
from atlas_bench.kernels.anchored.rule import Gates, Rule, surprise_of

State = dict[str, Tensor]
Some = Sequence[Tensor | None]
Products = list[tuple[Tensor, Tensor]]  # of each layer: (input [X, W, I], error at the output [X, W, O])
# (gradients of the layers' G; those of the layers' weights, added to in place) -> gradients of k, v, window
Pullback = Callable[[list[Tensor], list[Tensor]], tuple[Tensor, Tensor, Tensor]]

SLICE = (
    2**19
)  # bytes of a layer's weights that are worked on together: more than that, and no matrix is still in the cache


def online(
    rule: Rule, k: Tensor, v: Tensor, gates: Gates, state: State, active: list[int] | None = None
) -> tuple[State, State]:
    """Layer -> its weights before and after every step [E+1, X, I, O], and the state after the last step.

    k, v    [E, X, W, P], [E, X, W, V]: the tokens of each step, oldest first
    gates   [E, X], window [E, X, W] newest first
    state   layer -> [X, I, O], and with momentum its S
    active  rows that take part in each step, not rising; None for all in all
    """
    layers = rule.map.layers
    names = [*layers, *(surprise_of(name) for name in layers if gates.momentum is not None)]
    results = _Online.apply(
        rule,
        active or [k.shape[1]] * k.shape[0],
        k,
        v,
        gates.window.flip(-1)[..., None],
        gates.write[..., None, None],
        (1 - gates.write * (1 - gates.retention))[..., None, None],
        (-gates.write * gates.lr)[..., None, None],
        None if gates.momentum is None else gates.momentum[..., None, None],
        *(state[name] for name in names),
    )
    versions, final = results[: len(layers)], results[len(layers) :]
    return dict(zip(layers, versions, strict=True)), dict(zip(names, final, strict=True))


class _Online(torch.autograd.Function):
    """Gates [E, X, 1, 1]; M of each layer, S of each layer -> versions of M [E+1, X, I, O], the last M, the last S."""

    @staticmethod
    def forward(ctx, rule, active, k, v, window, write, keep, step, momentum, *state: Tensor):
        layers = len(rule.map.layers)
        versions = [x.new_empty(len(k) + 1, *x.shape) for x in state[:layers]]
        if any(ctx.needs_input_grad):
            versions += [x.new_empty(len(k) + 1, *x.shape) for x in state[layers:]]
        else:  # of S one, in one place: nobody comes back
            versions += [torch.empty_like(x).expand(len(k) + 1, *x.shape) for x in state[layers:]]
        for x, start in zip(versions, state, strict=True):
            x[0] = start
        inputs = k, v, window, write, keep, step, momentum
        for steps, rows, idle in _runs(active, state[:layers]):
            for x in versions:
                if x.stride(0):  # not the S of one place
                    x[steps.start + 1 : steps.stop + 1, idle] = x[steps.start, idle]
            if rows.start < rows.stop:
                part = _cut(versions, slice(steps.start, steps.stop + 1), rows)
                _forward(rule, _cut(inputs, steps, rows), part[:layers], part[layers:])
        ctx.save_for_backward(*inputs, *versions)
        ctx.options = rule, active
        ctx.set_materialize_grads(False)
        return *versions[:layers], *(x[-1].clone() for x in versions)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor | None):
        rule, active = ctx.options
        layers = len(rule.map.layers)
        inputs, versions, read = ctx.saved_tensors[:7], ctx.saved_tensors[7:], grads[:layers]
        found = [None if x is None else torch.zeros_like(x) for x in inputs]
        state = [
            torch.zeros_like(x[0]) if grad is None else grad.clone()
            for x, grad in zip(versions, grads[layers:], strict=True)
        ]
        for steps, rows, idle in reversed(list(_runs(active, state[:layers]))):
            after = slice(steps.start + 1, steps.stop + 1)
            _add([x[idle] for x in state], [None if x is None else x.sum(0) for x in _cut(read, after, idle)])
            if rows.start < rows.stop:
                here = [x[rows] for x in state]
                _backward(
                    rule, _cut(inputs, steps, rows), _cut(versions, steps, rows), _cut(read, after, rows),
                    _cut(found, steps, rows), here[:layers], here[layers:],
                )  # fmt: skip
        _add(state, [None if x is None else x[0] for x in read])
        return None, None, *found, *state


def _runs(active: list[int], weights: Sequence[Tensor]) -> Iterator[tuple[slice, slice, slice]]:
    """(steps, the rows that they concern, those that they do not) of a few rows, in order; then of others."""
    rows = size = len(weights[0])
    if weights[0].is_cpu:
        size = max(1, SLICE // max(x[0].numel() * x.element_size() for x in weights))
    for start in range(0, rows, size):
        stop = min(start + size, rows)
        ends = [min(max(n, start), stop) for n in active]
        for end, steps in groupby(range(len(active)), ends.__getitem__):
            steps = list(steps)
            yield slice(steps[0], steps[-1] + 1), slice(start, end), slice(end, stop)


def _cut(tensors: Some, steps: slice, rows: slice) -> list[Tensor | None]:
    return [None if x is None else x[steps, rows] for x in tensors]


def _steps(tensors: Some, length: int) -> list[tuple[Tensor | None, ...]]:
    """The tensors of each of `length` steps."""
    return list(zip(*([None] * length if x is None else x.unbind(0) for x in tensors), strict=True))


def _add(to: Sequence[Tensor], what: Some):
    for x, y in zip(to, what, strict=False):
        if y is not None:
            x += y


def _forward(rule: Rule, inputs: Some, weights: list[Tensor], momenta: list[Tensor]):
    """Fills the versions of some rows from their first on."""
    steps = len(inputs[0])
    Us = [torch.empty_like(x[0]) for x in weights]
    weights, momenta = _steps(weights, steps + 1), _steps(momenta, steps + 1)
    for e, (k, v, window, w, keep, step, m) in enumerate(_steps(inputs, steps)):
        products, _ = _look(rule, k, v, window, weights[e])
        for i, (x, error) in enumerate(products):
            U = torch.bmm(x.mT, error, out=Us[i])
            if m is not None:
                S = momenta[e][i]
                U.addcmul_(S, m)
                torch.lerp(S, U, w, out=momenta[e + 1][i])
            direction = U if rule.orthogonalise is None else rule.orthogonalise(U)
            torch.mul(weights[e][i], keep, out=weights[e + 1][i]).addcmul_(direction, step)


def _backward(rule: Rule, inputs: Some, versions, read: Some, found: Some, dM: list[Tensor], dS: list[Tensor]):
    """Back through the steps of some rows: gradients of the inputs to `found`; dM and dS change in place.

    versions  of M, then of S, before each step
    read      gradients of the versions of M after each step
    """
    Us, dUs, rooms = ([torch.empty_like(x) for x in dM] for _ in range(3))
    each = zip(*(_steps(x, len(inputs[0])) for x in (inputs, versions, read, found)), strict=True)
    for here, state, by_reads, grads in reversed(list(each)):
        k, v, window, w, keep, step, m = here
        dk, dv, dwindow, dw, dkeep, dstep, dm = grads
        weights, momenta = state[: len(dM)], state[len(dM) :]
        _add(dM, by_reads)
        products, pull = _look(rule, k, v, window, weights)
        dG = []
        for i, (x, error) in enumerate(products):
            U, room = torch.bmm(x.mT, error, out=Us[i]), rooms[i]
            if momenta:
                U.addcmul_(momenta[i], m)
            direction, dU = U, torch.mul(dM[i], step, out=dUs[i])
            if rule.orthogonalise is not None:
                direction, dU = rule.orthogonalise.pulled_back(U, dU)
            dstep += _inner(dM[i], direction, room)
            dkeep += _inner(dM[i], weights[i], room)
            dM[i] *= keep
            if momenta:
                dw += _inner(dS[i], U.sub_(momenta[i]), room)
                dU.addcmul_(dS[i], w)
                dm += _inner(dU, momenta[i], room)
                dS[i].mul_(1 - w).addcmul_(dU, m)
            dG.append(dU)
        for into, x in zip((dk, dv, dwindow), pull(dG, dM), strict=True):
            into.copy_(x)


def _inner(x: Tensor, y: Tensor, room: Tensor) -> Tensor:
    """<x, y> of each pair of matrices: [X, 1, 1]. As a batched product it takes ten times as long."""
    return torch.mul(x, y, out=room).sum((-2, -1), keepdim=True)


# What the tokens say at the current memory, and its pullback ------------------------------------------------


def _look(rule: Rule, k: Tensor, v: Tensor, window: Tensor, weights: Sequence[Tensor]) -> tuple[Products, Pullback]:
    return (_look_matrix if rule.map is Matrix else _look_deep)(rule, k, v, window, weights)


def _look_matrix(
    rule: Rule, k: Tensor, v: Tensor, window: Tensor, weights: Sequence[Tensor]
) -> tuple[Products, Pullback]:
    """r = k M - v,  e = g r / size,  size = max(|k|^2, 1)."""
    (M,) = weights
    r = torch.baddbmm(v, k, M, beta=-1) if rule.bias == "l2" else -v
    squares = k.square().sum(-1, keepdim=True)
    size = squares.clamp_min(1) if rule.bounded else torch.ones_like(squares)
    share = r / size
    e = window * share

    def pull(dG, dM):
        dk, de = torch.bmm(e, dG[0].mT), torch.bmm(k, dG[0])
        dwindow = (de * share).sum(-1, keepdim=True)
        dr = de * (window / size)
        if rule.bounded:
            dk.addcmul_(k, (dr * share).sum(-1, keepdim=True) * (squares > 1), value=-2)
        if rule.bias == "l2":
            dM[0].baddbmm_(k.mT, dr)
            dk.baddbmm_(dr, M.mT)
        return dk, dr.neg_(), dwindow

    return [(k, e)], pull


def _look_deep(
    rule: Rule, k: Tensor, v: Tensor, window: Tensor, weights: Sequence[Tensor]
) -> tuple[Products, Pullback]:
    """A hidden layer h = act(k W2, ..), one of HIDDEN, with its slopes s_i = dh/da_i, and above it

    r = k_1 + h W1 - v,  e = g r / size,  d_i = s_i (e W1^T)
    size = |h|^2 + |k|^2 sum_n |W1[n]|^2 sum_i s_i[n]^2 + floor
    """
    W1, *inner = weights
    h, slopes, pull_act = HIDDEN[rule.map]([torch.bmm(k, W) for W in inner])
    width = v.shape[-1]
    r = torch.baddbmm(k[..., :width] - v, h, W1) if rule.bias == "l2" else -v
    if rule.bounded:
        reach = torch.linalg.vector_norm(W1, dim=-1, keepdim=True).square_()  # [X, L, 1]
        squares = k.square().sum(-1, keepdim=True)
        slopes_squared = sum(s.square() for s in slopes)
        reached = torch.bmm(slopes_squared, reach)
        size = h.square().sum(-1, keepdim=True).addcmul_(reached, squares).add_(FLOOR)
        share, factor = r / size, window / size
    else:
        share, factor = r, window
    e = window * share
    back = torch.bmm(e, W1.mT)

    def pull(dG, dM):
        dW1, *dinner = dM
        dG1, *dGs = dG
        dk, ds, dback = torch.zeros_like(k), [], torch.zeros_like(back)
        for s, D in zip(slopes, dGs, strict=True):
            dd = torch.bmm(k, D)
            dk.baddbmm_(back * s, D.mT)
            dback.addcmul_(dd, s)
            ds.append(dd.mul_(back))
        de, dh = torch.bmm(h, dG1).baddbmm_(dback, W1), torch.bmm(e, dG1.mT)
        dW1.baddbmm_(dback.mT, e)
        dwindow = (de * share).sum(-1, keepdim=True)
        dr = de * factor
        if rule.bounded:
            twice = (dr * share).sum(-1, keepdim=True).mul_(-2)  # 2 dsize
            dh.addcmul_(h, twice)
            dk.addcmul_(k, twice * reached)
            twice *= squares
            ds = [to_s.addcmul_(s * reach.mT, twice) for to_s, s in zip(ds, slopes, strict=True)]
            dW1.addcmul_(W1, torch.bmm(slopes_squared.mT, twice))
        if rule.bias == "l2":
            dW1.baddbmm_(h.mT, dr)
            dh.baddbmm_(dr, W1.mT)
            dk[..., :width] += dr
        for da, W, dW in zip(pull_act(dh, ds), inner, dinner, strict=True):
            dW.baddbmm_(k.mT, da)
            dk.baddbmm_(da, W.mT)
        return dk, dr.neg_(), dwindow

    return [(h, e), *((k, back * s) for s in slopes)], pull


def _silu(inputs: list[Tensor]):
    """h = silu(a), [silu'(a)], and (dh, dslopes) -> da."""
    (a,) = inputs
    gate = torch.sigmoid(a)
    h = a * gate
    rest = 1 - gate
    slope = torch.addcmul(gate, h, rest)

    def pull(dh, ds):
        second = torch.addcmul(gate + slope, gate, h, value=-1).mul_(rest)  # silu''(a)
        return [(dh * slope).addcmul_(ds[0], second)]

    return h, [slope], pull


def _gelu(inputs: list[Tensor]):
    """h = gelu(a), [gelu'(a)], and (dh, dslopes) -> da."""
    (a,) = inputs
    below, at = torch.special.ndtr(a), density(a)
    slope = torch.addcmul(below, a, at)

    def pull(dh, ds):
        return [(dh * slope).addcmul_(ds[0], at * (2 - a.square()))]  # gelu''(a)

    return a * below, [slope], pull


def _gated(inputs: list[Tensor], activation: Callable = _silu):
    """h = act(a) u, [act'(a) u, act(a)], and (dh, dslopes) -> da, du."""
    a, u = inputs
    s, (slope,), pull_act = activation([a])

    def pull(dh, ds):
        da = pull_act(torch.addcmul(ds[1], dh, u), [ds[0] * u])[0]
        return [da, (dh * s).addcmul_(ds[0], slope)]

    return s * u, [slope * u, s], pull


HIDDEN = {MLP: _silu, GatedMLP: _gated, GeluMLP: _gelu, GeluGatedMLP: partial(_gated, activation=_gelu)}
