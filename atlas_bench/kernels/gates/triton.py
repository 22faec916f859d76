"""chunk.sums as Triton kernels: one program per chunk, row and head, which holds [C, C] matrices in registers.

README.md has the formulas and the names. Products of gates are cumulative products, never quotients or differences
of logarithms. The backward kernel makes the forward's matrices again from the gates; what the windows spread over
neighbouring tokens it gathers by shifted loads, one for each lag. No GPU has run these yet: interpreter and compiler
only.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from atlas_bench.kernels.aot import Variant

TYPES = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}
TILE = 16  # tokens of a tile of `inside`: R = C + W - 1 is just over a power of two


def warps(size: int) -> int:
    """Warps of a program that holds matrices of size x size."""
    return 8 if size > 32 else 4


def sums(
    write: Tensor,
    retention: Tensor,
    lr: Tensor,
    window: Tensor,
    momentum: Tensor | None = None,
    bounded_at: float | None = None,
    *,
    compute: torch.dtype = torch.float32,
    precision: str = "tf32",
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same (read, inside, mix, write) as chunk.sums, in the gates' dtype; arguments as there, C at most 64.

    compute    dtype of the operands of the backward's products of [C, C] matrices; the forward's are fp32
    precision  "tf32" or "ieee", of products of fp32 operands
    """
    if why := fits(write.shape[-1]):
        raise ValueError(why)
    gates = [write, retention, lr, window, *([] if momentum is None else [momentum])]
    return _Sums.apply(bounded_at, compute, precision, *gates)


def fits(size: int) -> str | None:
    """None if chunks of that many tokens fit, else why not."""
    return f"chunks of {size} tokens, 64 at most" if size > 64 else None


class _Sums(torch.autograd.Function):
    @staticmethod
    def forward(ctx, bounded_at, compute, precision, *gates):
        gates = [x.contiguous() for x in gates]
        window, parts = gates[3], 2 if len(gates) == 5 else 1
        size, width = window.shape[-2:]
        shapes = [(size, parts), (size, size + width - 1), (parts, parts), (size + width - 1, parts)]
        results = [window.new_empty(*window.shape[:2], *shape) for shape in shapes]
        ctx.save_for_backward(*gates)
        options = _options(size, width, parts == 2, bounded_at, precision)
        ctx.options = {**options, "COMPUTE": TYPES[compute]}
        chunks = window.shape[0] * window.shape[1]
        _forward[chunks,](*_five(gates), *results, **options, TILE=TILE)
        return tuple(results)

    @staticmethod
    @once_differentiable
    def backward(ctx, *d_results):
        gates = ctx.saved_tensors
        d_results, d_gates = [x.contiguous() for x in d_results], [torch.empty_like(x) for x in gates]
        chunks = gates[3].shape[0] * gates[3].shape[1]
        _backward[chunks,](*_five(gates), *d_results, *_five(d_gates), **ctx.options)
        return None, None, None, *d_gates


def _five(gates) -> list[Tensor]:
    """Without momentum the kernels leave the fifth alone."""
    return [*gates, gates[0]][:5]


def _options(size: int, width: int, momentum: bool, bounded_at: float | None, precision: str) -> dict:
    padded = max(16, triton.next_power_of_2(size))
    shape = {"C": size, "W": width, "BC": padded, "num_warps": warps(padded), "num_stages": 1}
    return {**shape, "MOMENTUM": momentum, "BOUNDED_AT": bounded_at, "PRECISION": precision}


@triton.jit
def _vector(start, i, size: tl.constexpr):
    """Numbers i of a vector, 0 outside it."""
    return tl.load(start + i, mask=(i >= 0) & (i < size), other=0.0).to(tl.float32)


@triton.jit
def _keep(write, gate, t, C: tl.constexpr):
    """1 - w (1 - x), 1 outside the chunk."""
    return 1 - _vector(write, t, C) * (1 - _vector(gate, t, C))


@triton.jit
def _decay(x, t, s):
    """prod_{s < u <= t} x_u at [t, s] for s <= t, else 0; x is x_t for consecutive t that begin at 0 or before."""
    D = tl.cumprod(tl.where(t[:, None] > s[None, :], x[:, None], 1.0), 0)
    return tl.where(t[:, None] >= s[None, :], D, 0.0)


@triton.jit
def _steps(write, retention, lr, t, C: tl.constexpr):
    """Size in M_t of the step taken at s."""
    steps = _decay(_keep(write, retention, t, C), t, t)
    return steps * (_vector(write, t, C) * _vector(lr, t, C))[None, :]


@triton.jit
def _momentum(write, momentum, t, C: tl.constexpr):
    """Products of x = 1 - w (1 - m): before each step [t, s], all before it [t], all after it [s], the last one."""
    x = _keep(write, momentum, t - 1, C)
    before, last = _decay(x, t - 1, t), t == C - 1
    x_last = tl.sum(tl.where(last, _keep(write, momentum, t, C), 0.0), 0)
    after = tl.where(last, 1.0, x_last * tl.sum(tl.where(last[:, None], before, 0.0), 0))
    return before, tl.cumprod(x, 0), after, x_last


@triton.jit
def _surprises(before, m, w, t):
    """Share of G_s in U_t."""
    return tl.where(t[:, None] == t[None, :], 1.0, m[:, None] * before * w[None, :])


@triton.jit
def _forward(
    write, retention, lr, window, momentum, read, inside, mix, to,
    C: tl.constexpr, W: tl.constexpr, BC: tl.constexpr, TILE: tl.constexpr,
    MOMENTUM: tl.constexpr, BOUNDED_AT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """read [C, J], inside [C, R], mix [J, J] and `to`, the result `write` [R, J], of a program's chunk."""
    R: tl.constexpr = C + W - 1
    J: tl.constexpr = 2 if MOMENTUM else 1
    here = tl.program_id(0).to(tl.int64)
    write, retention, lr, window = write + here * C, retention + here * C, lr + here * C, window + here * (C * W)
    read, inside, mix, to = read + here * (C * J), inside + here * (C * R), mix + here * (J * J), to + here * (R * J)
    t = tl.arange(0, BC)
    valid, last = t < C, t == C - 1
    Q, kept = _steps(write, retention, lr, t, C), tl.cumprod(_keep(write, retention, t, C), 0)
    from_s, s_end = tl.zeros([BC], tl.float32), tl.zeros([BC], tl.float32)
    if MOMENTUM:
        momentum += here * C
        m, w = _vector(momentum, t, C), _vector(write, t, C)
        before, s_before, after, x_last = _momentum(write, momentum, t, C)
        from_s, s_end = tl.sum(Q * (m * s_before)[None, :], 1), w * after
        Q = tl.dot(Q, _surprises(before, m, w, t), input_precision=PRECISION)
        tl.store(mix + 2, 0.0)
        tl.store(mix + 3, x_last * tl.sum(tl.where(last, s_before, 0.0), 0))
    scale = tl.full([BC], -1.0, tl.float32)
    if BOUNDED_AT is not None:
        total = tl.zeros([BC], tl.float32)
        for j in range(W):
            total += _vector(window, t * W + j, C * W)
        scale = scale / tl.maximum((tl.sum(Q * total[None, :], 1) + from_s) / BOUNDED_AT, 1.0)
    tl.store(read + t * J, kept, mask=valid)
    tl.store(mix, tl.sum(tl.where(last, kept, 0.0), 0))
    if MOMENTUM:
        tl.store(read + t * J + 1, scale * from_s, mask=valid)
        tl.store(mix + 1, tl.sum(tl.where(last, scale * from_s, 0.0), 0))
    Q = scale[:, None] * Q
    if W == 1:
        g = _vector(window, t, C)
        tl.store(inside + t[:, None] * R + t[None, :], Q * g[None, :], mask=valid[:, None] & valid[None, :])
        tl.store(to + t * J, tl.sum(tl.where(last[:, None], Q * g[None, :], 0.0), 0), mask=valid)
        if MOMENTUM:
            tl.store(to + t * J + 1, s_end * g, mask=valid)
    else:
        for first in range(0, R, TILE):
            i = first + tl.arange(0, TILE)
            lag = t[:, None] + (W - 1) - i[None, :]
            band = tl.load(window + t[:, None] * W + lag, mask=valid[:, None] & (lag >= 0) & (lag < W), other=0.0)
            band = band.to(tl.float32)
            P = tl.dot(Q, band, input_precision=PRECISION)
            tl.store(inside + t[:, None] * R + i[None, :], P, mask=valid[:, None] & (i < R)[None, :])
            tl.store(to + i * J, tl.sum(tl.where(last[:, None], P, 0.0), 0), mask=i < R)
            if MOMENTUM:
                tl.store(to + i * J + 1, tl.sum(s_end[:, None] * band, 0), mask=i < R)


@triton.jit
def _backward(
    write, retention, lr, window, momentum, d_read, d_inside, d_mix, d_to,
    d_write, d_retention, d_lr, d_window, d_momentum,
    C: tl.constexpr, W: tl.constexpr, BC: tl.constexpr,
    MOMENTUM: tl.constexpr, BOUNDED_AT: tl.constexpr, COMPUTE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of the gates of a program's chunk.

    The three parts make their matrices each for itself: all of them at once are more than the registers hold.
    """
    R: tl.constexpr = C + W - 1
    J: tl.constexpr = 2 if MOMENTUM else 1
    here = tl.program_id(0).to(tl.int64)
    write, retention, lr, window = write + here * C, retention + here * C, lr + here * C, window + here * (C * W)
    d_read, d_inside, d_mix, d_to = (
        d_read + here * (C * J), d_inside + here * (C * R), d_mix + here * (J * J), d_to + here * (R * J)
    )  # fmt: skip
    momentum += here * C
    t = tl.arange(0, BC)
    valid = t < C
    scale, d_mass, d_from_s = _back_from_tokens(
        write, retention, lr, window, momentum, d_read, d_inside, d_mix, d_to, d_window + here * (C * W),
        C, W, R, J, BC, BOUNDED_AT, COMPUTE, PRECISION,
    )  # fmt: skip
    d_A, d_w, d_s_end = tl.zeros([BC, BC], tl.float32), tl.zeros([BC], tl.float32), tl.zeros([BC], tl.float32)
    for j in range(W):
        i, g = t + (W - 1) - j, _vector(window, t * W + j, C * W)
        d_A += (scale[:, None] * _d_inside(d_inside, d_to, t, i, C, R, J) + d_mass[:, None]) * g[None, :]
        if MOMENTUM:
            d_s_end += g * _vector(d_to, i * J + 1, R * J)
    if MOMENTUM:
        d_w = _back_from_surprises(
            write,
            retention,
            lr,
            momentum,
            d_A,
            d_from_s,
            d_s_end,
            d_mix,
            d_momentum + here * C,
            t,
            C,
            COMPUTE,
            PRECISION,
        )
        d_A = _back_to_steps(write, momentum, d_A, d_from_s, t, C, COMPUTE, PRECISION)
    w, l, keep = _vector(write, t, C), _vector(lr, t, C), _keep(write, retention, t, C)  # noqa: E741
    stays = _decay(keep, t, t)
    d_wl = tl.sum(d_A * stays, 0)
    before = _keep(write, retention, t - 1, C)
    d_kept = _vector(d_read, t * J, C * J) + tl.where(t == C - 1, tl.load(d_mix).to(tl.float32), 0.0)
    d_stays, up = d_A * (w * l)[None, :], tl.trans(_decay(before, t - 1, t))
    d_stays = tl.dot(d_stays.to(COMPUTE), up.to(COMPUTE), input_precision=PRECISION)
    d_keep = tl.sum(stays * (d_stays + d_kept[:, None] * tl.cumprod(before, 0)[None, :]), 0)
    d_w += l * d_wl - (1 - _vector(retention, t, C)) * d_keep
    tl.store(d_write + here * C + t, d_w, mask=valid)
    tl.store(d_retention + here * C + t, w * d_keep, mask=valid)
    tl.store(d_lr + here * C + t, w * d_wl, mask=valid)


@triton.jit
def _back_from_tokens(
    write, retention, lr, window, momentum, d_read, d_inside, d_mix, d_to, d_window,
    C: tl.constexpr, W: tl.constexpr, R: tl.constexpr, J: tl.constexpr, BC: tl.constexpr,
    BOUNDED_AT: tl.constexpr, COMPUTE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The scaling, and the gradients of the mass and of from_s; d_window is stored."""
    t = tl.arange(0, BC)
    Q = _steps(write, retention, lr, t, C)
    from_s, d_from_s = tl.zeros([BC], tl.float32), tl.zeros([BC], tl.float32)
    s_end = tl.zeros([BC], tl.float32)
    if J == 2:
        m, w = _vector(momentum, t, C), _vector(write, t, C)
        before, s_before, after, _ = _momentum(write, momentum, t, C)
        from_s, s_end = tl.sum(Q * (m * s_before)[None, :], 1), w * after
        Q = tl.dot(Q.to(COMPUTE), _surprises(before, m, w, t).to(COMPUTE), input_precision=PRECISION)
        d_from_s = _vector(d_read, t * J + 1, C * J) + tl.where(t == C - 1, tl.load(d_mix + 1).to(tl.float32), 0.0)
    scale, d_mass = tl.full([BC], -1.0, tl.float32), tl.zeros([BC], tl.float32)
    if BOUNDED_AT is not None:
        total, d_scale = tl.zeros([BC], tl.float32), from_s * d_from_s
        for j in range(W):
            i, g = t + (W - 1) - j, _vector(window, t * W + j, C * W)
            total += g
            d_scale += tl.sum(Q * _d_inside(d_inside, d_to, t, i, C, R, J) * g[None, :], 1)
        mass = tl.sum(Q * total[None, :], 1) + from_s
        scale = scale / tl.maximum(mass / BOUNDED_AT, 1.0)
        d_mass = tl.where(mass >= BOUNDED_AT, d_scale * scale * scale / BOUNDED_AT, 0.0)
    for j in range(W):
        i = t + (W - 1) - j
        d_g = tl.sum(Q * (scale[:, None] * _d_inside(d_inside, d_to, t, i, C, R, J) + d_mass[:, None]), 0)
        if J == 2:
            d_g += s_end * _vector(d_to, i * J + 1, R * J)
        tl.store(d_window + t * W + j, d_g, mask=t < C)
    return scale, d_mass, scale * d_from_s + d_mass


@triton.jit
def _d_inside(d_inside, d_to, t, i, C: tl.constexpr, R: tl.constexpr, J: tl.constexpr):
    """Gradient of `inside` at [t, i], the part of its last row that is in `to` included."""
    seen = (t < C)[:, None] & (i < R)[None, :]
    d = tl.load(d_inside + t[:, None] * R + i[None, :], mask=seen, other=0.0).to(tl.float32)
    return d + tl.where((t == C - 1)[:, None], _vector(d_to, i * J, R * J)[None, :], 0.0)


@triton.jit
def _back_from_surprises(
    write, retention, lr, momentum, d_Q, d_from_s, d_s_end, d_mix, d_momentum, t,
    C: tl.constexpr, COMPUTE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The write gate's gradient from Q = A u and from_s = A u_kept through u and u_kept; d_momentum is stored."""
    w, m = _vector(write, t, C), _vector(momentum, t, C)
    A = _steps(write, retention, lr, t, C)
    d_u_kept = tl.sum(A * d_from_s[:, None], 0)
    d_u = tl.dot(tl.trans(A).to(COMPUTE), d_Q.to(COMPUTE), input_precision=PRECISION)
    before, s_before, after, _ = _momentum(write, momentum, t, C)
    d_m = tl.sum(d_u * before * w[None, :], 1) + d_u_kept * s_before
    d_w = tl.sum(d_u * before * m[:, None], 0) + d_s_end * after
    d_before = tl.dot(
        (m[:, None] * d_u * w[None, :]).to(COMPUTE), tl.trans(before).to(COMPUTE), input_precision=PRECISION
    )
    d_x = tl.sum(before * (d_before + (d_u_kept * m)[:, None] * s_before[None, :]), 0)
    d_x += after * (tl.sum(before * (d_s_end * w)[None, :], 1) + tl.load(d_mix + 3).to(tl.float32) * s_before)
    tl.store(d_momentum + t, d_m + w * d_x, mask=t < C)
    return d_w - (1 - m) * d_x


@triton.jit
def _back_to_steps(write, momentum, d_Q, d_from_s, t, C: tl.constexpr, COMPUTE: tl.constexpr, PRECISION: tl.constexpr):
    """Gradient of A, where Q = A u and from_s = A u_kept."""
    w, m = _vector(write, t, C), _vector(momentum, t, C)
    before, s_before, _, _ = _momentum(write, momentum, t, C)
    u_up = tl.trans(_surprises(before, m, w, t))
    d_A = tl.dot(d_Q.to(COMPUTE), u_up.to(COMPUTE), input_precision=PRECISION)
    return d_A + d_from_s[:, None] * (m * s_before)[None, :]


def variants() -> list[Variant]:
    """Every configuration that sums() can choose, but fp32 products in the backward of 64 tokens with momentum.

    That one spills 700 bytes on sm_80: a chunk of 32 tokens, or 16-bit products, is what to ask for there.
    """
    gates = ["write", "retention", "lr", "window", "momentum"]
    forward = dict.fromkeys([*gates, "read", "inside", "mix", "to"], "*fp32")
    backward = [*gates, "d_read", "d_inside", "d_mix", "d_to", *(f"d_{name}" for name in gates)]
    found = []
    for size in (16, 32, 64):
        for width, momentum in ((1, False), (4, True)):
            options = _options(size, width, momentum, 1.0, "tf32")
            launch = {name: options.pop(name) for name in ("num_warps", "num_stages")}
            shape = f"C{size}_W{width}{'_momentum' if momentum else ''}"
            constants = {**options, "TILE": TILE}
            found.append(Variant(f"gates_forward_{shape}", _forward, forward, constants, products=momentum, **launch))
            for name, compute in (("bf16", tl.bfloat16), ("fp16", tl.float16), ("fp32", tl.float32)):
                if name == "fp32" and momentum and size > 32:
                    continue
                constants = {**options, "COMPUTE": compute}
                types = dict.fromkeys(backward, "*fp32")
                found.append(Variant(f"gates_backward_{shape}_{name}", _backward, types, constants, **launch))
    return found
