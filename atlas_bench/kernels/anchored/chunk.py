"""rule.py a chunk at a time: true per-token weights without forming any (README.md derives it).

Within a chunk every weight is  M_t = kept_t M_0 - from_s_t S_0 - sum_i P[t, i] x_i^T e_i,  so a layer's output for
token t is two matrix products for the whole chunk, and its final weights are one. A layer's weights and momentum
stand on top of each other as one matrix Z = [M; S] of J I rows (J = 1 without momentum): what a call costs is the
number of its operations, and their products are then one.

Letters: N chunks, X = B H rows and heads, C tokens of a chunk, R = C + W - 1 with the halo before them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from atlas_bench.kernels import dispatch
from atlas_bench.kernels.anchored import layout
from atlas_bench.kernels.anchored.maps import Error, Linear, Matrix, Products
from atlas_bench.kernels.anchored.rule import Gates, Rule
from atlas_bench.kernels.gates.chunk import shares as of_windows
from atlas_bench.kernels.gates.chunk import windows

State = dict[str, Tensor]


def anchored(
    rule: Rule, q: Tensor | None, k: Tensor, v: Tensor, gates: Gates, state: State
) -> tuple[Tensor | None, State]:
    """The same outputs and state as naive.anchored; arguments as there. No q: no outputs."""
    size = min(rule.chunk_size, gates.write.shape[1])
    halo = gates.window.shape[-1] - 1
    q, k, v = layout.chunks(q, size), layout.chunks(k, size, halo), layout.chunks(v, size, halo)
    coefficients_of, one_chunk = (_sums, _sum) if rule.orthogonalise is None else (_directions, _direct)
    coefficients = coefficients_of(rule, gates, size, q, k)
    stacked = layout.stack(state, rule.map.layers)
    if rule.map is Matrix and rule.orthogonalise is None:
        y, stacked["M"] = _recur(rule, coefficients, v, stacked["M"])
    else:
        y, stacked = _loop(rule, one_chunk, coefficients, v, stacked, parts=1 if gates.momentum is None else 2)
    return layout.stream(y, gates), layout.unstack(stacked, gates)


def _recur(rule: Rule, form: Sums, v: Tensor, state: Tensor) -> tuple[Tensor | None, Tensor]:
    """A matrix without Muon: (outputs [N, X, C, V], Z at the end). Its errors are linear in it: kernels/recurrence."""
    size = rule.map.size(form.k, {})[..., None] if rule.bounded else 1.0
    onto = form.k / size if rule.bias == "l2" else torch.zeros_like(form.k)
    over_chunks = dispatch.form("recurrence", v, width=form.k.shape[-1])
    anchors, errors, state = over_chunks.recurrence(v / size, onto, -form.k_write, form.mix, state)
    if form.q is None:
        return None, state
    return over_chunks.outputs(form.q, form.read, -form.q_inside, anchors, errors), state


def _loop(rule, one_chunk, coefficients, v: Tensor, stacked: State, parts: int):
    """Every other memory, chunk after chunk: (outputs [N, X, C, V], Z at the end)."""
    outputs = []
    for n, here in enumerate(zip(*(_each(x, len(v)) for x in coefficients), strict=True)):
        here = type(coefficients)(*here)
        anchor = {name: x[:, : x.shape[1] // parts] for name, x in stacked.items()}
        products = rule.map.products(here.k, anchor, _error(rule, v[n]))
        linear, stacked = one_chunk(rule, here, products, anchor, stacked)
        if here.q is not None:
            outputs.append(rule.map.read(here.q, linear))
    return torch.stack(outputs) if outputs else None, stacked


def _each(x: Tensor | None, chunks: int):
    return [None] * chunks if x is None else x.unbind(0)


def _error(rule: Rule, v: Tensor) -> Error:
    """dl/dM(k) of every token, divided by the squared norm of dM(k)/dW where the rule is bounded."""

    def error(predicted: Tensor, size: Callable[[], Tensor]) -> Tensor:
        e = rule.error(predicted, v)
        return e / size()[..., None] if rule.bounded else e

    return error


class Sums(NamedTuple):
    """The shares without Muon, from the gates' products; for all chunks [N, ..], or for one.

    read    [X, C, J]  shares of M_0 (and of S_0) in M_t
    inside  [X, C, R]  share of token i's gradient in M_t, -P
    mix     [X, J, J]  shares of M_0 (and S_0) in M_C (and S_C)
    write   [X, R, J]  share of token i's gradient in M_C (and S_C)

    The first layers' inputs are q and k themselves, and their factors do not depend on the state, so they are computed
    for all chunks at once.
    """

    read: Tensor
    inside: Tensor
    mix: Tensor
    write: Tensor
    q: Tensor | None
    k: Tensor
    q_read: Tensor | None
    q_inside: Tensor | None
    k_write: Tensor


class Directions(NamedTuple):
    """The same with Muon, which needs the D surprises that it orthogonalises as matrices; momentum adds S_C.

    kept    [X, C]       share of M_0 in M_t
    steps   [X, C, D]    size of the step O_d in M_t
    s_kept  [X, D (+1)]  share of S_0 in a surprise
    shares  [X, D (+1), R]  share of token i's gradient in it
    """

    kept: Tensor
    steps: Tensor
    s_kept: Tensor
    shares: Tensor
    q: Tensor | None
    k: Tensor


def _sum(rule: Rule, form: Sums, products: Products, anchor: State, state: State) -> tuple[Linear, State]:
    """A chunk without Muon: (how its tokens pass a layer, Z at its end)."""
    new = {}
    for name, (x, e) in products.items():
        Z = state[name]
        old = Z.unflatten(1, (form.mix.shape[-1], -1))
        kept = form.mix.diagonal(dim1=-2, dim2=-1)[..., None, None] * old  # S_C has no share of M_0
        if old.shape[1] == 2:
            kept = torch.stack([torch.addcmul(kept[:, 0], form.mix[:, 0, 1, None, None], old[:, 1]), kept[:, 1]], 1)
        kept = kept.view_as(Z)
        new[name] = torch.baddbmm(kept, (form.k_write if x is form.k else _spread(x, form.write)).mT, e)

    def linear(name: str, z: Tensor) -> Tensor:
        x, e = products[name]
        if z is form.q:
            return torch.baddbmm(form.q_read @ state[name], form.q_inside, e)
        return torch.baddbmm(_spread(z, form.read) @ state[name], form.inside * (z @ x.mT), e)

    return linear, new


def _direct(rule: Rule, form: Directions, products: Products, anchor: State, state: State) -> tuple[Linear, State]:
    """A chunk with Muon."""
    new, directions = {}, {}
    for name, (x, e) in products.items():
        surprises = (form.shares[..., None, :] * x.mT[:, None]) @ e[:, None]  # [X, D (+1), I, O]
        momentum = state[name][:, anchor[name].shape[1] :]
        if momentum.shape[1]:
            surprises = surprises + form.s_kept[..., None, None] * momentum[:, None]
            momentum, surprises = surprises[:, -1], surprises[:, :-1]
        directions[name] = rule.orthogonalise(surprises)
        steps = (form.steps[:, -1, :, None, None] * directions[name]).sum(1)
        new[name] = torch.cat([form.kept[:, -1, None, None] * anchor[name] - steps, momentum], 1)

    def linear(name: str, z: Tensor) -> Tensor:
        each = z[:, None] @ directions[name]  # [X, D, C, O]
        return (form.kept[..., None] * z) @ anchor[name] - (form.steps.mT[..., None] * each).sum(1)

    return linear, new


def _sums(rule: Rule, gates: Gates, size: int, q: Tensor | None, k: Tensor) -> Sums:
    write, retention, lr, window, momentum = layout.gate_chunks(gates, size)
    bounded_at = rule.most(gates) if rule.bounded else None
    read, inside, mix, write = dispatch.form("gates", write, size=size).sums(
        write, retention, lr, window, momentum, bounded_at
    )
    q_read = None if q is None or rule.map is Matrix else _spread(q, read)
    q_inside = None if q is None else inside * (q @ k.mT)
    return Sums(read, inside, mix, write, q, k, q_read, q_inside, _spread(k, write))


def _directions(rule: Rule, gates: Gates, size: int, q: Tensor | None, k: Tensor) -> Directions:
    most = rule.most(gates)
    write, retention, lr, window, momentum = layout.gate_chunks(gates, size)
    shares = of_windows(write, retention, lr, momentum)
    steps, wanted, s_kept = shares.steps, windows(window, shares.u), shares.u_kept
    if s_kept is None:
        s_kept = torch.zeros_like(write)
    if rule.every > 1:  # the S of token r, 2r, .., with S_0 before them
        wanted = F.pad(windows(window, shares.s[..., rule.every - 1 :: rule.every, :]), (0, 0, 1, 0))
        s_kept = F.pad(shares.s_kept[..., rule.every - 1 :: rule.every], (1, 0), value=1.0)
        group = torch.arange(1, size + 1, device=steps.device) // rule.every
        steps = steps @ F.one_hot(group, wanted.shape[-2]).to(steps.dtype)
    if rule.bounded:
        mass = (steps @ (wanted.sum(-1) + s_kept)[..., None])[..., 0]
        steps = steps / (mass / most).clamp_min(1)[..., None]
    if momentum is not None:
        wanted = torch.cat([wanted, windows(window, shares.s[..., -1:, :])], -2)
        s_kept = torch.cat([s_kept, shares.s_kept[..., -1:]], -1)
    return Directions(shares.kept, steps, s_kept, wanted, q, k)


def _spread(x: Tensor, shares: Tensor) -> Tensor:
    """x [.., T, I] with each of J shares [.., T, J], side by side: [.., T, J I], as Z has its rows."""
    return (x[..., None, :] * shares[..., None]).flatten(-2)
