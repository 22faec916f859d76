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
from atlas_bench.kernels.decay import decay

State = dict[str, Tensor]


def anchored(
    rule: Rule, q: Tensor | None, k: Tensor, v: Tensor, gates: Gates, state: State
) -> tuple[Tensor | None, State]:
    """The same outputs and state as naive.anchored; arguments as there. No q: no outputs."""
    length, window = gates.write.shape[1], gates.window.shape[-1]
    size = min(rule.chunk_size, length)
    pad = -length % size
    # a padded token is closed: it leaves the memory as it is
    k, v = (F.pad(x, (0, 0, 0, 0, 0, pad)).unfold(1, size + window - 1, size).permute(0, 2, 1, 4, 3) for x in (k, v))
    if q is not None:
        q = F.pad(q, (0, 0, 0, 0, 0, pad)).unflatten(1, (-1, size)).permute(0, 3, 1, 2, 4)  # [B, H, N, C, P]
    form = _coefficients(rule, gates, size)
    k, v = k.contiguous(), v.contiguous()
    outputs = []
    for n in range(k.shape[2]):
        here = Coefficients(*(None if x is None else x[:, :, n] for x in vars(form).values()))
        y, state = _chunk(rule, None if q is None else q[:, :, n], k[:, :, n], v[:, :, n], here, state)
        outputs.append(y)
    if q is None:
        return None, state
    return torch.stack(outputs, 2).permute(0, 2, 3, 1, 4).flatten(1, 2)[:, :length], state


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
    """All chunks at once: gates [B, T, H(, W)] -> [B, H, N, ..]."""
    pad = -gates.write.shape[1] % size

    def split(x: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, pad)).unflatten(1, (-1, size)).permute(0, 3, 1, 2)

    w, a, lr = (split(x) for x in (gates.write, gates.retention, gates.lr))
    g = F.pad(gates.window, (0, 0, 0, 0, 0, pad)).unflatten(1, (-1, size)).permute(0, 3, 1, 2, 4)
    band = _band(g.flip(-1))
    keep = 1 - w * (1 - a)
    kept = keep.cumprod(-1)
    A = decay(keep) * (w * lr)[..., None, :]
    if gates.momentum is None:
        share_u, share_s, u_kept, s_kept = band, None, None, None
    else:
        m = split(gates.momentum)
        carry = 1 - w * (1 - m)
        share_s, s_kept = (decay(carry) * w[..., None, :]) @ band, carry.cumprod(-1)
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


def _chunk(
    rule: Rule, q: Tensor | None, k: Tensor, v: Tensor, form: Coefficients, state: State
) -> tuple[Tensor | None, State]:
    """One chunk: q [B, H, C, P], k, v [B, H, R, .], state [B, H, I, O]."""
    anchor = {name: state[name] for name in rule.map.layers}
    scale = (1 / rule.map.size(k, anchor))[..., None] if rule.bounded else 1
    products = rule.map.products(k, v, anchor, lambda predicted, v: scale * rule.error(predicted, v))
    momentum = surprise_of(rule.map.layers[0]) in state
    directions, new = {}, {}
    for name, (x, e) in products.items():
        s0 = state[surprise_of(name)] if momentum else None
        if form.Q is not None:  # [.., J, I, O]: the surprises wanted, S_C last
            surprises = (form.Q[..., None, :] * x.mT[..., None, :, :]) @ e[..., None, :, :]
            if momentum:
                surprises = surprises + form.s_kept[..., None, None] * s0[..., None, :, :]
                new[surprise_of(name)] = surprises[..., -1, :, :]
                surprises = surprises[..., :-1, :, :]
        if rule.orthogonalise is not None:
            directions[name] = rule.orthogonalise(surprises)
            moved = (form.steps[..., -1, :, None, None] * directions[name]).sum(-3)
        else:
            moved = (form.P[..., -1, :, None] * x).mT @ e
            if momentum:
                moved = moved + form.from_s[..., -1, None, None] * s0
        new[name] = form.kept[..., -1, None, None] * anchor[name] - moved
    if q is None:
        return None, new

    def linear(name: str, z: Tensor) -> Tensor:
        y = form.kept[..., None] * (z @ anchor[name])
        if rule.orthogonalise is not None:
            each = z[..., None, :, :] @ directions[name]  # [.., J, C, O]
            return y - (form.steps.mT[..., None] * each).sum(-3)
        x, e = products[name]
        if momentum:
            y = y - form.from_s[..., None] * (z @ state[surprise_of(name)])
        return y - (form.P * (z @ x.mT)) @ e

    return rule.map.read(q, linear), new


def _band(g: Tensor) -> Tensor:
    """[.., C, W], oldest first -> [.., C, C+W-1]: row t holds its window at columns t .. t+W-1."""
    size, window = g.shape[-2:]
    rows = F.pad(g, (0, size)).flatten(-2)  # every row one longer than the result: it starts one further right
    return rows[..., : size * (size + window - 1)].unflatten(-1, (size, size + window - 1))
