"""rule.py token by token with gradients by autograd: the truth that chunk.py is tested against."""

from __future__ import annotations

import torch
from torch import Tensor

from atlas_bench.kernels.anchored.rule import Gates, Rule, surprise_of

State = dict[str, Tensor]


def anchored(rule: Rule, q: Tensor, k: Tensor, v: Tensor, gates: Gates, state: State) -> tuple[Tensor, State]:
    """Outputs [B, T, H, V] and the state after the last token; the first token begins a chunk.

    q, k, v  [B, T, H, P], [B, W-1+T, H, P], [B, W-1+T, H, V]: the W-1 tokens before the first come first
    state    layer -> [B, H, I, O], and with momentum its S; the rule's own layers
    """
    window, most = gates.window.shape[-1], rule.most(gates)
    M = {name: state[name] for name in rule.map.layers}
    S = {name: state[surprise_of(name)] for name in M} if gates.momentum is not None else None
    outputs = []
    for t in range(q.shape[1]):
        w, a, l = (gate[:, t, :, None, None] for gate in (gates.write, gates.retention, gates.lr))  # noqa: E741
        m = torch.zeros_like(w) if S is None else gates.momentum[:, t, :, None, None]
        if t % rule.chunk_size == 0:
            anchor, kept = M, torch.ones_like(w)
            moved = {name: torch.zeros_like(x) for name, x in M.items()}
            mass, mass_s = torch.zeros_like(w), torch.zeros_like(w) if S is None else torch.ones_like(w)
            held, mass_held = S, mass_s
        U = {name: torch.zeros_like(x) if S is None else m * S[name] for name, x in M.items()}
        mass_u = m * mass_s
        for j in range(window):
            g = gates.window[:, t, :, j, None, None]
            gradient = _gradient(rule, anchor, k[:, t + window - 1 - j], v[:, t + window - 1 - j])
            U = {name: U[name] + g * gradient[name] for name in U}
            mass_u = mass_u + g
        if S is not None:
            S = {name: x + w * (U[name] - x) for name, x in S.items()}
            mass_s = mass_s + w * (mass_u - mass_s)
        if (t + 1) % rule.every == 0:
            held, mass_held = (U, mass_u) if rule.every == 1 else (S, mass_s)
        steps = held if rule.orthogonalise is None else {name: rule.orthogonalise(x) for name, x in held.items()}
        keep = 1 - w * (1 - a)
        kept, mass = keep * kept, keep * mass + w * l * mass_held
        moved = {name: keep * x - w * l * steps[name] for name, x in moved.items()}
        scale = 1 / (mass / most).clamp_min(1) if rule.bounded else 1
        M = {name: kept * anchor[name] + scale * x for name, x in moved.items()}
        y = rule.map.read(q[:, t, :, None], lambda name, z: z @ M[name])  # noqa: B023
        outputs.append(y[:, :, 0])
    return torch.stack(outputs, 1), {**M, **({surprise_of(name): x for name, x in S.items()} if S else {})}


def _gradient(rule: Rule, anchor: State, k: Tensor, v: Tensor) -> State:
    """grad l(M_anchor; k, v) for every row and head, bounded where the rule says so."""
    traced = torch.is_grad_enabled()
    with torch.enable_grad():
        own = {name: x for name, x in anchor.items() if traced and x.requires_grad}
        at = {name: own.get(name, x.detach().clone().requires_grad_()) for name, x in anchor.items()}
        predicted = rule.map.read(k[:, :, None], lambda name, z: z @ at[name])[:, :, 0]
        losses = (predicted - v).square() / 2 if rule.bias == "l2" else -predicted * v
        gradients = torch.autograd.grad(losses.sum(), list(at.values()), create_graph=True, allow_unused=True)
    scale = 1 / rule.map.size(k[:, :, None], anchor)[..., None] if rule.bounded else 1
    return {name: scale * (x if x is not None else 0) for name, x in zip(at, gradients, strict=True)}
