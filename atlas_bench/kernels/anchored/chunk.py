"""rule.py a chunk at a time: true per-token weights without forming any (README.md derives it).

Within a chunk every weight is  M_t = kept_t M_0 - from_s_t S_0 - sum_i P[t, i] x_i^T e_i,  so a layer's output for
token t is three matrix products for the whole chunk, and its final weights are one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from atlas_bench.kernels.anchored.rule import Gates, Rule, surprise_of
from atlas_bench.kernels.decay import decay, flush

State = dict[str, Tensor]


def anchored(
    rule: Rule, q: Tensor | None, k: Tensor, v: Tensor, gates: Gates, state: State
) -> tuple[Tensor | None, State]:
    """The same outputs and state as naive.anchored; arguments as there. No q: no outputs."""
    batch, length, heads = gates.write.shape
    halo = gates.window.shape[-1] - 1
    size = min(rule.chunk_size, length)
    pad = -length % size
    # a padded token is closed: it leaves the memory as it is
    k, v = (
        F.pad(x, (0, 0, 0, 0, 0, pad)).unfold(1, size + halo, size).permute(1, 0, 2, 4, 3).flatten(1, 2).contiguous()
        for x in (k, v)
    )  # [N, B H, R, .]
    if q is not None:
        q = F.pad(q, (0, 0, 0, 0, 0, pad)).unflatten(1, (-1, size)).permute(1, 0, 3, 2, 4).flatten(1, 2).contiguous()
    coefficients = _coefficients(rule, gates, size)
    form = [x if x is None else x.unbind(0) for x in vars(coefficients).values()]
    state = {name: x.flatten(0, 1) for name, x in state.items()}
    first = [] if q is None else _first(coefficients, q, k)
    outputs = []
    for n in range(len(k)):
        here = Coefficients(*(None if x is None else x[n] for x in form))
        read = None if q is None else [None if x is None else x[n] for x in (q, *first)]
        y, state = _chunk(rule, read, k[n], v[n], here, state)
        outputs.append(y)
    state = {name: x.unflatten(0, (batch, heads)) for name, x in state.items()}
    if q is None:
        return None, state
    y = torch.stack(outputs, 1).unflatten(0, (batch, heads))  # [B, H, N, C, V]
    return y.permute(0, 2, 3, 1, 4).flatten(1, 2)[:, :length], state


@dataclass(frozen=True)
class Coefficients:
    """What the gates of a chunk say, once the products are taken; R = C + W - 1 tokens, halo first.

    kept    [.., C]     share of the anchor in M_t
    steps   [.., C, J]  size of the step O_j in M_t (Muon), else None
    from_s  [.., C]     share of S_0 in M_t, None without momentum or with Muon
    P       [.., C, R]  share of token i's gradient in M_t, None with Muon
    s_kept  [.., J]     share of S_0 in the S (or U) that is orthogonalised, and last in S_C
    Q       [.., J, R]  share of token i's gradient in it, likewise
    """

    kept: Tensor
    steps: Tensor | None
    from_s: Tensor | None
    P: Tensor | None
    s_kept: Tensor | None
    Q: Tensor | None


def _coefficients(rule: Rule, gates: Gates, size: int) -> Coefficients:
    """All chunks at once: gates [B, T, H(, W)] -> [N, B H, ..]."""
    pad = -gates.write.shape[1] % size

    def split(x: Tensor) -> Tensor:
        x = F.pad(x, (0, 0, 0, pad)).unflatten(1, (-1, size))  # [B, N, C, H]
        return x.permute(1, 0, 3, 2).flatten(1, 2)

    w, a, lr = (split(x) for x in (gates.write, gates.retention, gates.lr))
    band = _band(torch.stack([split(x) for x in gates.window.unbind(-1)], -1).flip(-1))
    keep = 1 - w * (1 - a)
    kept = flush(keep.cumprod(-1))
    A = decay(keep) * (w * lr)[..., None, :]
    if gates.momentum is None:
        share_u, share_s, u_kept, s_kept = band, None, None, None
    else:
        m = split(gates.momentum)
        carry = 1 - w * (1 - m)
        share_s, s_kept = (decay(carry) * w[..., None, :]) @ band, flush(carry.cumprod(-1))
        share_u = band + m[..., None] * F.pad(share_s, (0, 0, 1, -1))
        u_kept = m * F.pad(s_kept, (1, -1), value=1.0)
    most = rule.most(gates)
    if rule.orthogonalise is None:
        P = A @ share_u
        from_s = None if u_kept is None else (A @ u_kept[..., None])[..., 0]
        if rule.bounded:
            scale = 1 / ((P.sum(-1) + (0 if from_s is None else from_s)) / most).clamp_min(1)
            P, from_s = P * scale[..., None], None if from_s is None else from_s * scale
        last = None if share_s is None else share_s[..., -1:, :]
        return Coefficients(kept, None, from_s, P, None if last is None else s_kept[..., -1:], last)
    steps = A
    if rule.every == 1:
        Q, q_kept = share_u, torch.zeros_like(w) if u_kept is None else u_kept
    else:  # the S of token r, 2r, .., with S_0 before them
        Q = F.pad(share_s[..., rule.every - 1 :: rule.every, :], (0, 0, 1, 0))
        q_kept = F.pad(s_kept[..., rule.every - 1 :: rule.every], (1, 0), value=1.0)
        group = torch.arange(1, size + 1, device=w.device) // rule.every
        steps = A @ F.one_hot(group, Q.shape[-2]).to(A.dtype)
    if rule.bounded:
        mass = (steps @ (Q.sum(-1) + q_kept)[..., None])[..., 0]
        steps = steps / (mass / most).clamp_min(1)[..., None]
    if share_s is not None:
        Q, q_kept = torch.cat([Q, share_s[..., -1:, :]], -2), torch.cat([q_kept, s_kept[..., -1:]], -1)
    return Coefficients(kept, steps, None, None, q_kept, Q)


def _first(form: Coefficients, q: Tensor, k: Tensor) -> list[Tensor | None]:
    """What the first layers multiply with M_0, S_0 and the errors: it waits for no state, so all chunks at once."""
    scores = None if form.P is None else form.P * (q @ k.mT)
    return [form.kept[..., None] * q, None if form.from_s is None else form.from_s[..., None] * q, scores]


def _chunk(
    rule: Rule, read: list[Tensor | None] | None, k: Tensor, v: Tensor, form: Coefficients, state: State
) -> tuple[Tensor | None, State]:
    """One chunk of all rows and heads X: read [X, C, P] and _first() of it, k, v [X, R, .], state [X, I, O]."""
    products = rule.map.products(
        k,
        state,
        lambda predicted, size: (
            rule.error(predicted, v) / size()[..., None] if rule.bounded else rule.error(predicted, v)
        ),
    )
    momentum = surprise_of(rule.map.layers[0]) in state
    new, directions = {}, {}
    for name, (x, e) in products.items():
        anchor, s = state[name], state[surprise_of(name)] if momentum else None
        if rule.orthogonalise is not None:
            surprises = (form.Q[..., None, :] * x.mT[:, None]) @ e[:, None]  # [X, J, I, O], S_C last
            if momentum:
                surprises = surprises + form.s_kept[..., None, None] * s[:, None]
                new[surprise_of(name)], surprises = surprises[:, -1], surprises[:, :-1]
            directions[name] = rule.orthogonalise(surprises)
            new[name] = _last(form.kept) * anchor - (form.steps[:, -1, :, None, None] * directions[name]).sum(1)
            continue
        kept = _last(form.kept) * anchor
        if momentum:
            kept = torch.addcmul(kept, _last(form.from_s), s, value=-1)
            new[surprise_of(name)] = torch.baddbmm(form.s_kept[..., None] * s, x.mT, form.Q.mT * e)
        new[name] = torch.baddbmm(kept, x.mT, form.P[:, -1, :, None] * e, alpha=-1)
    if read is None:
        return None, new
    q, *first = read

    def linear(name: str, z: Tensor) -> Tensor:
        x, e = products[name]
        at_anchor, at_s, scores = first if z is q else _first(form, z, x)
        y = at_anchor @ state[name]
        if rule.orthogonalise is not None:
            each = z[:, None] @ directions[name]  # [X, J, C, O]
            return y - (form.steps.mT[..., None] * each).sum(1)
        if momentum:
            y = torch.baddbmm(y, at_s, state[surprise_of(name)], alpha=-1)
        return torch.baddbmm(y, scores, e, alpha=-1)

    return rule.map.read(q, linear), new


def _last(x: Tensor) -> Tensor:
    """[X, C] -> [X, 1, 1], of the chunk's last token."""
    return x[:, -1, None, None]


def _band(g: Tensor) -> Tensor:
    """[.., C, W], oldest first -> [.., C, C+W-1]: row t holds its window at columns t .. t+W-1."""
    size, window = g.shape[-2:]
    rows = F.pad(g, (0, size)).flatten(-2)  # every row one longer than the result: it starts one further right
    return rows[..., : size * (size + window - 1)].unflatten(-1, (size, size + window - 1))
