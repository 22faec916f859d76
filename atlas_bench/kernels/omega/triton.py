"""The parallel part of chunk.py as Triton kernels: all of a chunk that waits for no state, for all chunks at once.

`prepare` turns keys, values and gates into what the recurrence over the chunks takes (README.md has the formulas).
One program per chunk, row and head, whose C W virtual tokens are at most 64 rows:

    _inverse_kernel   T = (I + L)^-1
    _forward_kernel   own = T (beta V), onto = T (beta past K), into, scores, read, mix
    _backward_kernel  their gradients, from T made again

T is made by block forward substitution: the blocks on the diagonal row by row, all of them at once, and then pairs of
neighbours: with blocks A and B on the diagonal and L' below A, the inverse is [[A^-1, 0], [-B^-1 L' A^-1, B^-1]].
Powers of L, which are fewer products, cancel catastrophically where keys repeat. T goes through global memory, since
the backward needs it both upright and transposed. No GPU has run these yet: interpreter and compiler only.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from atlas_bench.kernels.aot import Variant

COLUMNS = 32  # of keys and values that a program takes at a time
BACKWARD = {"BK": 16, "BV": 16}  # fewer there, for its many matrices in registers
TYPES = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}


def prepare(
    q: Tensor | None,
    k: Tensor,
    v: Tensor,
    *,
    beta: Tensor,
    retention: Tensor,
    decay_first: bool = False,
    precision: str = "tf32",
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor]:
    """(own, onto, into, mix, scores, read), so that with M_0 the memory at a chunk's start

        E = own - onto M_0,   y_t = read_t q_t M_0 + scores E,   the memory at its end = mix M_0 + into^T E

    q          [N, X, C, K], or None: no scores
    k, v       [N, X, R, K], [N, X, R, V], R = C W <= 64: the token j steps before t is row t W + j
    beta       [N, X, R] step sizes
    retention  [N, X, C] in [0, 1]
    precision  "tf32" or "ieee", of products of fp32 operands: of fp32 inputs, and in (I + L)^-1

    own [N, X, R, V], onto and into [N, X, R, K], scores [N, X, C, R] in k's dtype, mix [N, X, 1, 1] and
    read [N, X, C, 1] in retention's.
    """
    if why := fits(beta.shape[-1]):
        raise ValueError(why)
    if (types := {x.dtype for x in (q, k, v) if x is not None}) != {k.dtype}:
        raise ValueError(f"q, k and v have one dtype, not {types}")
    return _Prepare.apply(q, k, v, beta, retention, decay_first, precision)


def fits(rows: int) -> str | None:
    """None if chunks of so many virtual tokens, C W, fit, else why not."""
    return f"a chunk of {rows} virtual tokens, 64 at most" if rows > 64 else None


class _Prepare(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, beta, retention, decay_first, precision):
        q, k, v, beta, retention = (None if x is None else x.contiguous() for x in (q, k, v, beta, retention))
        (n, x, rows, width), steps = k.shape, retention.shape[-1]
        options = _options(steps, rows, width, v.shape[-1], k.dtype, decay_first, precision)
        T = _inverse(k, beta, retention, options)
        own, onto, into = torch.empty_like(v), torch.empty_like(k), torch.empty_like(k)
        scores = None if q is None else k.new_empty(n, x, steps, rows)
        mix, read = retention.new_empty(n, x, 1, 1), retention.new_empty(n, x, steps, 1)
        _forward_kernel[n * x,](q, k, v, beta, retention, T, own, onto, into, mix, scores, read, **options)
        ctx.save_for_backward(q, k, v, beta, retention, own, onto)
        ctx.options = options
        return own, onto, into, mix, scores, read

    @staticmethod
    @once_differentiable
    def backward(ctx, *d_results):
        q, k, v, beta, retention, own, onto = ctx.saved_tensors
        T = _inverse(k, beta, retention, ctx.options)
        d_results = [None if x is None else x.contiguous() for x in d_results]
        d_inputs = [None if x is None else torch.empty_like(x) for x in (q, k, v, beta, retention)]
        chunks, options = k.shape[0] * k.shape[1], ctx.options | BACKWARD
        _backward_kernel[chunks,](q, k, v, beta, retention, T, own, onto, *d_results, *d_inputs, **options)
        return *d_inputs, None, None


def _inverse(k: Tensor, beta: Tensor, retention: Tensor, options: dict) -> Tensor:
    T = k.new_empty(*beta.shape, beta.shape[-1])
    names = [name for name in options if name not in ("V", "BC", "BV", "COMPUTE")]
    # on the chips a product of many fp32 rows is slower than row by row
    block = options["BR"] if options["PRECISION"] == "ieee" else 16
    chunks = beta.shape[0] * beta.shape[1]
    _inverse_kernel[chunks,](k, beta, retention, T, **{name: options[name] for name in names}, BLOCK=block)
    return T


def _options(
    steps: int, rows: int, width: int, value: int, dtype: torch.dtype, decay_first: bool, precision: str
) -> dict:
    sizes = {"C": steps, "R": rows, "K": width, "V": value}
    tiles = {f"B{name}": max(16, triton.next_power_of_2(size)) for name, size in sizes.items()}
    tiles = {**tiles, "BK": min(COLUMNS, tiles["BK"]), "BV": min(COLUMNS, tiles["BV"])}
    launch = {"num_warps": 8 if tiles["BR"] > 32 else 4, "num_stages": 1}
    rest = {"LAG": 0 if decay_first else 1, "COMPUTE": TYPES[dtype], "PRECISION": precision}
    return {**sizes, **tiles, **rest, **launch}


@triton.jit
def _matrix(start, rows, columns, height: tl.constexpr, width: tl.constexpr):
    """Entries of a matrix [height, width], 0 outside it."""
    return tl.load(start + rows * width + columns, mask=(rows < height) & (columns < width), other=0.0)


@triton.jit
def _store(start, x, rows, columns, height: tl.constexpr, width: tl.constexpr):
    tl.store(start + rows * width + columns, x, mask=(rows < height) & (columns < width))


@triton.jit
def _vector(start, i, size: tl.constexpr):
    return tl.load(start + i, mask=(i >= 0) & (i < size), other=0.0).to(tl.float32)


@triton.jit
def _new(retention, n, C: tl.constexpr, W: tl.constexpr, LAG: tl.constexpr):
    """Gate of the step that comes in with virtual token n, LAG steps late; 1 where none does."""
    u = n // W - LAG
    return tl.load(retention + u, mask=(n % W == 0) & (u >= 0) & (u < C), other=1.0).to(tl.float32)


@triton.jit
def _ratio(retention, n, C: tl.constexpr, W: tl.constexpr, LAG: tl.constexpr):
    """prod of a_u over t(m) < u <= t(n) - LAG at [n, m] for t(m) <= t(n) - LAG, else 0."""
    last, step = (n // W - LAG)[:, None], (n // W)[None, :]
    D = tl.cumprod(tl.where(last > step, _new(retention, n, C, W, LAG)[:, None], 1.0), 0)
    return tl.where(last >= step, D, 0.0)


@triton.jit
def _before(retention, n, C: tl.constexpr, W: tl.constexpr, LAG: tl.constexpr):
    """What is left of m's step in the memory that n's error is taken at; 0 for steps not before n's."""
    return tl.where((n // W)[:, None] > (n // W)[None, :], _ratio(retention, n, C, W, LAG), 0.0)


@triton.jit
def _shares(retention, t, n, C: tl.constexpr, R: tl.constexpr):
    """What is left in M_t of m's step, [t, m], and what is left of each in the end."""
    step, a = (n // (R // C))[None, :], tl.load(retention + t, mask=t < C, other=1.0).to(tl.float32)
    shares = tl.cumprod(tl.where(t[:, None] > step, a[:, None], 1.0), 0)
    shares = tl.where((t[:, None] >= step) & (n < R)[None, :], shares, 0.0)
    return shares, tl.sum(tl.where((t == C - 1)[:, None], shares, 0.0), 0), tl.cumprod(a, 0)


@triton.jit
def _inverse_kernel(
    k, beta, retention, T,
    C: tl.constexpr, R: tl.constexpr, K: tl.constexpr, BR: tl.constexpr, BK: tl.constexpr, BLOCK: tl.constexpr,
    LAG: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """T = (I + L)^-1 [R, R] of a program's chunk."""
    W: tl.constexpr = R // C
    here = tl.program_id(0).to(tl.int64)
    k, beta, retention = k + here * (R * K), beta + here * R, retention + here * C
    n, f = tl.arange(0, BR), tl.arange(0, BK)
    row, column = n[:, None], n[None, :]
    L = tl.zeros([BR, BR], tl.float32)
    for first in range(0, K, BK):
        keys = _matrix(k, row, first + f[None, :], R, K)
        L = tl.dot(keys, _matrix(k, column, first + f[:, None], R, K), L, input_precision=PRECISION)
    L *= _vector(beta, n, R)[:, None] * _before(retention, n, C, W, LAG)
    inverse = tl.where(row == column, 1.0, 0.0)
    near = row // BLOCK == column // BLOCK
    for i in range(BLOCK):  # with row i of each block done, take it out of those below
        done = tl.sum(tl.where(row == column // BLOCK * BLOCK + i, inverse, 0.0), 0)
        held = tl.sum(tl.where(near & (column % BLOCK == i), L, 0.0), 1)
        inverse -= tl.where(near, held[:, None] * done[None, :], 0.0)
    if BLOCK < BR:
        inverse = _join(inverse, L, row, column, BLOCK, PRECISION)
    if 2 * BLOCK < BR:
        inverse = _join(inverse, L, row, column, 2 * BLOCK, PRECISION)
    _store(T + here * (R * R), inverse, row, column, R, R)


@triton.jit
def _join(inverse, L, row, column, size: tl.constexpr, PRECISION: tl.constexpr):
    """From the inverse of blocks of `size` rows that of pairs of them."""
    below = (row // size > column // size) & (row // (2 * size) == column // (2 * size))
    across = tl.dot(tl.where(below, L, 0.0), inverse, input_precision=PRECISION)
    return inverse - tl.dot(inverse, across, input_precision=PRECISION)


@triton.jit
def _forward_kernel(
    q, k, v, beta, retention, T, own, onto, into, mix, scores, read,
    C: tl.constexpr, R: tl.constexpr, K: tl.constexpr, V: tl.constexpr,
    BC: tl.constexpr, BR: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
    LAG: tl.constexpr, COMPUTE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """own [R, V], onto and into [R, K], mix, scores [C, R] and read [C] of a program's chunk."""
    W: tl.constexpr = R // C
    here = tl.program_id(0).to(tl.int64)
    k, v, own = k + here * (R * K), v + here * (R * V), own + here * (R * V)
    onto, into, retention = onto + here * (R * K), into + here * (R * K), retention + here * C
    t, n, f, g = tl.arange(0, BC), tl.arange(0, BR), tl.arange(0, BK), tl.arange(0, BV)
    shares, at_end, kept = _shares(retention, t, n, C, R)
    tl.store(read + here * C + t, kept, mask=t < C)
    tl.store(mix + here, tl.sum(tl.where(t == C - 1, kept, 0.0), 0))
    sizes = _vector(beta + here * R, n, R)
    past = sizes * tl.cumprod(_new(retention, n, C, W, LAG), 0)
    T = _matrix(T + here * (R * R), n[:, None], n[None, :], R, R).to(tl.float32)
    ready = (T * sizes[None, :]).to(COMPUTE)
    for first in range(0, V, BV):
        values = _matrix(v, n[:, None], first + g[None, :], R, V)
        _store(own, tl.dot(ready, values, input_precision=PRECISION), n[:, None], first + g[None, :], R, V)
    ready = (T * past[None, :]).to(COMPUTE)
    products = tl.zeros([BC, BR], tl.float32)
    for first in range(0, K, BK):
        keys = _matrix(k, n[:, None], first + f[None, :], R, K)
        if q is not None:
            queries = _matrix(q + here * (C * K), t[:, None], first + f[None, :], C, K)
            keys_up = _matrix(k, n[None, :], first + f[:, None], R, K)
            products = tl.dot(queries, keys_up, products, input_precision=PRECISION)
        _store(onto, tl.dot(ready, keys, input_precision=PRECISION), n[:, None], first + f[None, :], R, K)
        _store(into, at_end[:, None] * keys, n[:, None], first + f[None, :], R, K)
    if q is not None:
        _store(scores + here * (C * R), shares * products, t[:, None], n[None, :], C, R)


@triton.jit
def _back_through_solve(
    T, T_up, U, d_U, x, d_L, d_L_up, n, columns,
    R: tl.constexpr, width: tl.constexpr, COMPUTE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """U = T B, some of its columns: gradients of B and of L (also transposed), and of what scales the rows x of B."""
    d = tl.dot(T_up, _matrix(d_U, n[:, None], columns[None, :], R, width), input_precision=PRECISION)
    d_up = tl.dot(_matrix(d_U, n[None, :], columns[:, None], R, width), T, input_precision=PRECISION)
    U_up = _matrix(U, n[None, :], columns[:, None], R, width)
    d_L -= tl.dot(d.to(COMPUTE), U_up, input_precision=PRECISION)
    U = _matrix(U, n[:, None], columns[None, :], R, width)
    d_L_up -= tl.dot(U, d_up.to(COMPUTE), input_precision=PRECISION)
    return d, d_L, d_L_up, tl.sum(d * _matrix(x, n[:, None], columns[None, :], R, width).to(tl.float32), 1)


@triton.jit
def _backward_kernel(
    q, k, v, beta, retention, T, own, onto, d_own, d_onto, d_into, d_mix, d_scores, d_read,
    d_q, d_k, d_v, d_beta, d_retention,
    C: tl.constexpr, R: tl.constexpr, K: tl.constexpr, V: tl.constexpr,
    BC: tl.constexpr, BR: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
    LAG: tl.constexpr, COMPUTE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of a program's chunk."""
    W: tl.constexpr = R // C
    here = tl.program_id(0).to(tl.int64)
    k, v, d_k, d_v = k + here * (R * K), v + here * (R * V), d_k + here * (R * K), d_v + here * (R * V)
    own, onto, d_own, d_onto, d_into = (
        own + here * (R * V), onto + here * (R * K),
        d_own + here * (R * V), d_onto + here * (R * K), d_into + here * (R * K),
    )  # fmt: skip
    if q is not None:
        q, d_q, d_scores = q + here * (C * K), d_q + here * (C * K), d_scores + here * (C * R)
    retention, T = retention + here * C, T + here * (R * R)
    t, n, f, g = tl.arange(0, BC), tl.arange(0, BR), tl.arange(0, BK), tl.arange(0, BV)
    sizes, past = _vector(beta + here * R, n, R), tl.cumprod(_new(retention, n, C, W, LAG), 0)
    upright, turned = _matrix(T, n[:, None], n[None, :], R, R), _matrix(T, n[None, :], n[:, None], R, R)

    d_L, d_L_up = tl.zeros([BR, BR], tl.float32), tl.zeros([BR, BR], tl.float32)
    d_sizes, d_past, d_at_end = tl.zeros([BR], tl.float32), tl.zeros([BR], tl.float32), tl.zeros([BR], tl.float32)
    for first in range(0, V, BV):
        d, d_L, d_L_up, seen = _back_through_solve(
            upright, turned, own, d_own, v, d_L, d_L_up, n, first + g, R, V, COMPUTE, PRECISION
        )
        _store(d_v, sizes[:, None] * d, n[:, None], first + g[None, :], R, V)
        d_sizes += seen
    kk = tl.zeros([BR, BR], tl.float32)
    for first in range(0, K, BK):
        _, d_L, d_L_up, seen = _back_through_solve(
            upright, turned, onto, d_onto, k, d_L, d_L_up, n, first + f, R, K, COMPUTE, PRECISION
        )
        d_past += seen
        keys, keys_up = (
            _matrix(k, n[:, None], first + f[None, :], R, K), _matrix(k, n[None, :], first + f[:, None], R, K)
        )  # fmt: skip
        d_at_end += tl.sum(keys.to(tl.float32) * _matrix(d_into, n[:, None], first + f[None, :], R, K), 1)
        kk = tl.dot(keys, keys_up, kk, input_precision=PRECISION)

    d_sizes, d_past = d_sizes + past * d_past, sizes * d_past
    before = _before(retention, n, C, W, LAG)
    d_kk = (d_L * sizes[:, None] * before + d_L_up * sizes[None, :] * tl.trans(before)).to(COMPUTE)
    d_sizes += tl.sum(d_L * before * kk, 1)

    # a step's gate is left out of a product: what comes after it times what comes before
    if q is not None:
        qk = tl.zeros([BC, BR], tl.float32)
        for first in range(0, K, BK):
            keys_up = _matrix(k, n[None, :], first + f[:, None], R, K)
            qk = tl.dot(_matrix(q, t[:, None], first + f[None, :], C, K), keys_up, qk, input_precision=PRECISION)
    up, kept = tl.trans(_before(retention, n, C, W, 1)), tl.cumprod(_new(retention, n, C, W, 1), 0)
    up = up.to(COMPUTE)
    d_before = tl.dot((d_L * sizes[:, None] * kk).to(COMPUTE), up, input_precision=PRECISION)
    d_a = tl.sum(_ratio(retention, n, C, W, LAG) * (d_before + d_past[:, None] * kept[None, :]), 0)
    tl.store(d_beta + here * R + n, d_sizes, mask=n < R)
    shares, at_end, _ = _shares(retention, t, n, C, R)
    d_shares = tl.where((t == C - 1)[:, None], d_at_end[None, :], 0.0)
    if q is not None:
        d_products = _matrix(d_scores, t[:, None], n[None, :], C, R).to(tl.float32)
        d_shares += d_products * qk
    d_kept = _vector(d_read + here * C, t, C) + tl.where(t == C - 1, tl.load(d_mix + here).to(tl.float32), 0.0)
    d_shares = tl.dot(d_shares.to(COMPUTE), up, input_precision=PRECISION)
    d_a += tl.sum(shares * (d_shares + d_kept[:, None] * kept[None, :]), 0)
    tl.store(d_retention + here * C + n // W, d_a, mask=(n < R) & (n % W == 0))

    if q is not None:
        d_qk = d_products * shares
    for first in range(0, K, BK):
        keys = _matrix(k, n[:, None], first + f[None, :], R, K)
        d = tl.dot(turned, _matrix(d_onto, n[:, None], first + f[None, :], R, K), input_precision=PRECISION)
        d = d * (sizes * past)[:, None]
        d += at_end[:, None] * _matrix(d_into, n[:, None], first + f[None, :], R, K)
        d = tl.dot(d_kk, keys, d, input_precision=PRECISION)
        if q is not None:
            queries = _matrix(q, t[:, None], first + f[None, :], C, K)
            d = tl.dot(tl.trans(d_qk).to(COMPUTE), queries, d, input_precision=PRECISION)
            d_queries = tl.dot(d_qk.to(COMPUTE), keys, input_precision=PRECISION)
            _store(d_q, d_queries, t[:, None], first + f[None, :], C, K)
        _store(d_k, d, n[:, None], first + f[None, :], R, K)


def variants() -> list[Variant]:
    """Configurations that prepare() can choose, for chunks of 64 virtual tokens.

    fp16 takes what bf16 does, and is here for one shape. Not here is the backward of fp32 for 64 steps, which spills
    400 bytes on sm_80: 32 steps are what to ask for there.
    """
    inputs, made = ["q", "k", "v", "beta", "retention", "T"], ["own", "onto", "into", "mix", "scores", "read"]
    kernels = {
        "inverse": (_inverse_kernel, ["k", "beta", "retention", "T"]),
        "forward": (_forward_kernel, [*inputs, *made]),
        "backward": (
            _backward_kernel,
            [*inputs, "own", "onto", *(f"d_{name}" for name in made), *(f"d_{name}" for name in inputs[:5])],
        ),
    }
    types = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
    shapes = [(short, steps, width) for short in types for steps in (64, 32, 16) for width in (32, 64, 128)]
    found = []
    for short, steps, width in shapes:
        if short != "bf16" and steps != 32:
            continue
        options = _options(steps, 64, width, width, types[short], steps == 64, "tf32") | {"BLOCK": 16}
        launch = {name: options.pop(name) for name in ("num_warps", "num_stages")}
        for way, (kernel, names) in kernels.items():
            gates = {"beta", "retention", "mix", "read"}
            signature = {name: "*fp32" if name.removeprefix("d_") in gates else f"*{short}" for name in names}
            chosen = options | BACKWARD if way == "backward" else options
            constants = {name: x for name, x in chosen.items() if name in kernel.arg_names}
            found.append(Variant(f"omega_{way}_C{steps}_K{width}_{short}", kernel, signature, constants, **launch))
    return found
