"""naive.py on a GPU, forward and backward: one program per matrix takes all five steps in one launch.

    X = x / (||x||_F + floor)                                   [n, m], n <= m: a tall x is read transposed
    step      G = X X^T,  P = B G + C G^2,  X <- A X + P X
    backward  S = D X^T + X D^T,  T = B S + C (G S + S G),  D <- A D + P D + T X          (README.md derives it)

A product is made in tiles: its sum [N, N] or [N, W] is in registers, its factors come W or K columns at a time from a
buffer of the program's own, small enough for L1 and L2. So registers hold one fp32 sum at a time, and any shape up to
128x128 or 64x256 fits. A factor that is needed transposed is always a loaded tile: Hopper transposes the result of a
product wrongly. Between writing and reading the buffer stands a barrier.

X and D stay in fp32; only products round, to fp16 or tf32. Both are of norm about 1, so fp16 neither overflows nor
loses digits, and with X itself unrounded a surprise of rank one keeps its rank: see README.md, precision.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from atlas_bench.kernels import aot
from atlas_bench.kernels.newton_schulz import naive

A, B, C = tl.constexpr(naive.A), tl.constexpr(naive.B), tl.constexpr(naive.C)
PRECISIONS = ("ieee", "tf32x3", "tf32", "fp16")
MOST_BUFFER = 1 << 28  # bytes of buffers at a time; a larger batch is taken in parts


def newton_schulz(
    x: Tensor, *, steps: int = 5, floor: float = 1e-4, sized: bool = False, precision: str = "tf32"
) -> Tensor:
    """Approximately U V^T of x = U S V^T, for the last two dimensions; fp32, fp16 or bf16.

    steps      iterations
    floor      added to the norm that x is divided by
    sized      O <x, O> / <O, O> instead of O: the step keeps the size of the surprise, and is x itself at rank one
    precision  of the products of an fp32 x: ieee (no tensor cores), tf32x3 (three products for nearly fp32's digits),
               tf32, fp16 (as exact as tf32 here, and half the work); those of a half-precision x are fp16

    Raises ValueError for a shape that `fits` refuses.
    """
    if why := fits(*x.shape[-2:]):
        raise ValueError(why)
    if x.dtype != torch.float32:
        precision = "fp16"
    elif precision not in PRECISIONS:
        raise ValueError(f"precision '{precision}' is none of {', '.join(PRECISIONS)}")
    return _NewtonSchulz.apply(x.reshape(-1, *x.shape[-2:]), steps, floor, sized, precision).view(x.shape)


def fits(n: int, m: int) -> str | None:
    """None if a matrix of this shape fits, else why not."""
    n, m = min(n, m), max(n, m)
    if _padded(n) * _padded(m) <= 128 * 128 and _padded(m) <= 256:
        return None
    return f"a {n}x{m} matrix is too large for the Newton-Schulz kernel, which takes up to 128x128 or 64x256"


def config(n: int, m: int, precision: str) -> dict[str, int]:
    """Padded sizes N <= M, columns W of a tile of X, columns K of a tile of an N x N matrix, warps."""
    N, M = _padded(n), _padded(m)
    W = K = 32 if precision in ("fp16", "tf32") else 16
    if N == 128:  # where sm_80 spills registers with other tiles
        W = K = 64 if precision == "fp16" else 16
    return {"N": N, "M": M, "W": min(M, W), "K": min(N, K), "num_warps": 8 if N == 128 else 4, "num_stages": 1}


def _padded(n: int) -> int:
    return max(16, triton.next_power_of_2(n))


class _NewtonSchulz(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, steps: int, floor: float, sized: bool, precision: str) -> Tensor:
        ctx.save_for_backward(x)
        ctx.options = steps, floor, sized, precision
        y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        _launch(forward, x, [y], slots=2, squares=2, options=ctx.options)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor):
        (x,) = ctx.saved_tensors
        dx = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        _launch(backward, x, [dy.contiguous(), dx], slots=ctx.options[0] + 3, squares=4, options=ctx.options)
        return dx, None, None, None, None


def _launch(kernel, x: Tensor, others: list[Tensor], slots: int, squares: int, options: tuple) -> None:
    """One program per matrix, each with its buffer of so many [N, M] and [N, N] matrices."""
    steps, floor, sized, precision = options
    tall = x.shape[1] > x.shape[2]
    (n, m), (down, across) = x.shape[1:], x.stride()[1:]
    if tall:
        n, m, down, across = m, n, across, down
    c = config(n, m, precision)
    room = slots * c["N"] * c["M"] + squares * c["N"] ** 2
    batch = max(1, min(len(x), MOST_BUFFER // (4 * room)))
    buffer = torch.empty(batch, room, dtype=torch.float32, device=x.device)
    for parts in zip(*(t.split(batch) for t in (x, *others)), strict=True):
        if len(parts[0]):
            with torch.cuda.device_of(x):
                kernel[(len(parts[0]),)](
                    *parts, buffer, floor, x.stride(0), n=n, m=m, down=down, across=across, TALL=tall, STEPS=steps,
                    SIZED=sized, **_products(precision), **c,
                )  # fmt: skip


def _products(precision: str) -> dict:
    half = precision == "fp16"
    return {"TYPE": tl.float16 if half else tl.float32, "PRECISION": "ieee" if half else precision}


@triton.jit
def forward(
    x_ptr, y_ptr, buffer, floor, x_stride,
    n: tl.constexpr, m: tl.constexpr, down: tl.constexpr, across: tl.constexpr, TALL: tl.constexpr,
    STEPS: tl.constexpr, SIZED: tl.constexpr, TYPE: tl.constexpr, PRECISION: tl.constexpr,
    N: tl.constexpr, M: tl.constexpr, W: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """x [., n, m] with strides x_stride, down, across -> y, contiguous; slots: X_k and X_k+1 in turn."""
    own = tl.program_id(0).to(tl.int64)
    x_ptr += own * x_stride
    y_ptr += own * (n * m)
    slots = buffer + own * (2 * N * M + 2 * N * N)
    out_down: tl.constexpr = 1 if TALL else m
    out_across: tl.constexpr = n if TALL else 1

    _iterate(x_ptr, slots, slots + 2 * N * M, floor, 2, n, m, down, across, STEPS, TYPE, PRECISION, N, M, W, K)
    result = slots + (STEPS % 2) * (N * M)
    scale = 1.0
    if SIZED:
        along, squares = 0.0, 0.0
        for j in range(M // W):
            Y = tl.load(_tile(result, 0, j, M, N, W))
            along += tl.sum(Y * _read(x_ptr, j, n, m, down, across, N, W))
            squares += tl.sum(Y * Y)
        scale = along / tl.maximum(squares, 1e-12)
    for j in range(M // W):
        at, inside = _outside(y_ptr, j, n, m, out_down, out_across, N, W)
        tl.store(at, scale * tl.load(_tile(result, 0, j, M, N, W)), mask=inside)


@triton.jit
def backward(
    x_ptr, dy_ptr, dx_ptr, buffer, floor, x_stride,
    n: tl.constexpr, m: tl.constexpr, down: tl.constexpr, across: tl.constexpr, TALL: tl.constexpr,
    STEPS: tl.constexpr, SIZED: tl.constexpr, TYPE: tl.constexpr, PRECISION: tl.constexpr,
    N: tl.constexpr, M: tl.constexpr, W: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """dy -> dx, both contiguous; slots: X_0 .. X_STEPS, then D_k+1 and D_k in turn."""
    own = tl.program_id(0).to(tl.int64)
    x_ptr += own * x_stride
    dy_ptr += own * (n * m)
    dx_ptr += own * (n * m)
    slots = buffer + own * ((STEPS + 3) * N * M + 4 * N * N)
    squares_ptr = slots + (STEPS + 3) * N * M
    out_down: tl.constexpr = 1 if TALL else m
    out_across: tl.constexpr = n if TALL else 1

    size = _iterate(x_ptr, slots, squares_ptr, floor, STEPS + 1, n, m, down, across, STEPS, TYPE, PRECISION, N, M, W, K)
    result = slots + STEPS * N * M

    # The step's own size: D = along dY + to_x x - to_y Y of Y = O, and dx += to_x Y at the end
    d_squares, squares, along, to_x, to_y = 0.0, 0.0, 0.0, 0.0, 0.0
    for j in range(M // W):
        D = _read(dy_ptr, j, n, m, out_down, out_across, N, W)
        d_squares += tl.sum(D * D)
        if SIZED:
            Y = tl.load(_tile(result, 0, j, M, N, W))
            squares += tl.sum(Y * Y)
            along += tl.sum(Y * _read(x_ptr, j, n, m, down, across, N, W))
            to_x += tl.sum(Y * D)
    unit = tl.sqrt(d_squares)  # D is carried in units of about its own norm, which it is linear in
    if SIZED:
        least = tl.maximum(squares, 1e-12)
        along /= least
        to_x /= least
        to_y = tl.where(squares > 1e-12, 2 * to_x * along, 0.0)
        unit *= size / tl.sqrt(least)
    unit = tl.where(unit > 0, unit, 1.0)
    for j in range(M // W):
        D = _read(dy_ptr, j, n, m, out_down, out_across, N, W)
        if SIZED:
            Y = tl.load(_tile(result, 0, j, M, N, W))
            D = along * D + to_x * _read(x_ptr, j, n, m, down, across, N, W) - to_y * Y
        tl.store(_tile(result + N * M, 0, j, M, N, W), D / unit)
    tl.debug_barrier()

    for k in range(STEPS):
        x = slots + (STEPS - 1 - k) * (N * M)
        d = result + (1 + k % 2) * (N * M)
        after = result + (1 + (k + 1) % 2) * (N * M)
        _unwind(x, d, after, squares_ptr, TYPE, PRECISION, N, M, W, K)

    d = result + (1 + STEPS % 2) * (N * M)
    norm = size + floor
    back = 0.0
    for j in range(M // W):
        back += tl.sum(tl.load(_tile(d, 0, j, M, N, W)) * _read(x_ptr, j, n, m, down, across, N, W))
    back /= norm * norm * tl.maximum(size, 1e-30)  # where the norm is 0 so is x
    for j in range(M // W):
        D = tl.load(_tile(d, 0, j, M, N, W)) / norm - back * _read(x_ptr, j, n, m, down, across, N, W)
        D *= unit
        if SIZED:
            D += to_x * tl.load(_tile(result, 0, j, M, N, W))
        at, inside = _outside(dx_ptr, j, n, m, out_down, out_across, N, W)
        tl.store(at, D, mask=inside)


@triton.jit
def _iterate(
    x_ptr, slots, squares_ptr, floor, SLOTS: tl.constexpr,
    n: tl.constexpr, m: tl.constexpr, down: tl.constexpr, across: tl.constexpr,
    STEPS: tl.constexpr, TYPE: tl.constexpr, PRECISION: tl.constexpr,
    N: tl.constexpr, M: tl.constexpr, W: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """X_k to slot k % SLOTS; returns ||x||_F."""
    squares = 0.0
    for j in range(M // W):
        X = _read(x_ptr, j, n, m, down, across, N, W)
        squares += tl.sum(X * X)
    size = tl.sqrt(squares)
    for j in range(M // W):
        X = _read(x_ptr, j, n, m, down, across, N, W)
        tl.store(_tile(slots, 0, j, M, N, W), X / (size + floor))
    tl.debug_barrier()
    for k in range(STEPS):
        x = slots + (k % SLOTS) * (N * M)
        after = slots + ((k + 1) % SLOTS) * (N * M)
        _polynomial(x, squares_ptr, TYPE, PRECISION, N, M, W, K)
        for j in range(M // W):
            X = tl.load(_tile(x, 0, j, M, N, W)) * A
            for i in range(N // K):
                P_i = tl.load(_tile(squares_ptr + N * N, 0, i, N, N, K)).to(TYPE)
                x_i = tl.load(_tile(x, i, j, M, K, W)).to(TYPE)
                X = tl.dot(P_i, x_i, X, input_precision=PRECISION)
            tl.store(_tile(after, 0, j, M, N, W), X)
        tl.debug_barrier()
    return size


@triton.jit
def _polynomial(
    x, squares_ptr, TYPE: tl.constexpr, PRECISION: tl.constexpr,
    N: tl.constexpr, M: tl.constexpr, W: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """G and P of the slot x, to the first and second square."""
    G = tl.zeros([N, N], tl.float32)
    for j in range(M // W):
        x_j = tl.load(_tile(x, 0, j, M, N, W)).to(TYPE)
        G = tl.dot(x_j, tl.trans(x_j), G, input_precision=PRECISION)
    tl.store(_tile(squares_ptr, 0, 0, N, N, N), G)
    tl.debug_barrier()
    G *= B / C
    for i in range(N // K):
        g_i = tl.load(_tile(squares_ptr, 0, i, N, N, K)).to(TYPE)
        G = tl.dot(g_i, tl.trans(g_i), G, input_precision=PRECISION)
    tl.store(_tile(squares_ptr + N * N, 0, 0, N, N, N), G * C)
    tl.debug_barrier()


@triton.jit
def _unwind(
    x, d, after, squares_ptr, TYPE: tl.constexpr, PRECISION: tl.constexpr,
    N: tl.constexpr, M: tl.constexpr, W: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """One step back: X_k of slot x and D_k+1 of slot d -> D_k to slot after; S, T to the third and fourth square."""
    _polynomial(x, squares_ptr, TYPE, PRECISION, N, M, W, K)
    S = tl.zeros([N, N], tl.float32)
    for j in range(M // W):
        S = _outer(S, d, x, j, M, TYPE, PRECISION, N, W)
    for j in range(M // W):
        S = _outer(S, x, d, j, M, TYPE, PRECISION, N, W)
    tl.store(_tile(squares_ptr + 2 * N * N, 0, 0, N, N, N), S)
    tl.debug_barrier()
    S *= B / C
    for i in range(N // K):
        S = _outer(S, squares_ptr, squares_ptr + 2 * N * N, i, N, TYPE, PRECISION, N, K)
    for i in range(N // K):
        S = _outer(S, squares_ptr + 2 * N * N, squares_ptr, i, N, TYPE, PRECISION, N, K)
    tl.store(_tile(squares_ptr + 3 * N * N, 0, 0, N, N, N), S * C)
    tl.debug_barrier()
    for j in range(M // W):
        D = tl.load(_tile(d, 0, j, M, N, W)) * A
        for i in range(N // K):
            P_i = tl.load(_tile(squares_ptr + N * N, 0, i, N, N, K)).to(TYPE)
            T_i = tl.load(_tile(squares_ptr + 3 * N * N, 0, i, N, N, K)).to(TYPE)
            D = tl.dot(P_i, tl.load(_tile(d, i, j, M, K, W)).to(TYPE), D, input_precision=PRECISION)
            D = tl.dot(T_i, tl.load(_tile(x, i, j, M, K, W)).to(TYPE), D, input_precision=PRECISION)
        tl.store(_tile(after, 0, j, M, N, W), D)
    tl.debug_barrier()


@triton.jit
def _outer(
    S, x, y, j, WIDTH: tl.constexpr, TYPE: tl.constexpr, PRECISION: tl.constexpr, N: tl.constexpr, W: tl.constexpr
):
    """S + x_j y_j^T of the j-th W columns of two of the buffer's matrices."""
    x_j = tl.load(_tile(x, 0, j, WIDTH, N, W)).to(TYPE)
    y_j = tl.load(_tile(y, 0, j, WIDTH, N, W)).to(TYPE)
    return tl.dot(x_j, tl.trans(y_j), S, input_precision=PRECISION)


@triton.jit
def _tile(matrix, i, j, WIDTH: tl.constexpr, H: tl.constexpr, W: tl.constexpr):
    """Pointers to tile (i, j), H x W, of one of the buffer's matrices."""
    return matrix + (i * H + tl.arange(0, H)[:, None]) * WIDTH + j * W + tl.arange(0, W)[None, :]


@triton.jit
def _outside(
    matrix, j, n: tl.constexpr, m: tl.constexpr, down: tl.constexpr, across: tl.constexpr,
    N: tl.constexpr, W: tl.constexpr,
):  # fmt: skip
    """Pointers to columns j W .. of an n x m matrix of the caller's, and which of them exist."""
    row, column = tl.arange(0, N)[:, None], j * W + tl.arange(0, W)[None, :]
    return matrix + row * down + column * across, (row < n) & (column < m)


@triton.jit
def _read(
    matrix, j, n: tl.constexpr, m: tl.constexpr, down: tl.constexpr, across: tl.constexpr,
    N: tl.constexpr, W: tl.constexpr,
):  # fmt: skip
    at, inside = _outside(matrix, j, n, m, down, across, N, W)
    return tl.load(at, mask=inside, other=0.0).to(tl.float32)


def variants() -> list[aot.Variant]:
    """Every configuration that `newton_schulz` can choose: types, precisions and shapes, the step's size included."""
    types = {"bf16": ("bf16", "fp16"), "fp16": ("fp16", "fp16")}
    types |= {f"fp32_{precision}": ("fp32", precision) for precision in PRECISIONS}
    made = []
    for n, m in ((32, 32), (32, 64), (64, 64), (64, 128), (64, 256), (128, 128)):
        for name, (dtype, precision) in types.items():
            for kernel, others in ((forward, ("y_ptr",)), (backward, ("dy_ptr", "dx_ptr"))):
                for sized in (False, True):
                    signature = {"x_ptr": f"*{dtype}", **dict.fromkeys(others, f"*{dtype}")}
                    signature |= {"buffer": "*fp32", "floor": "fp32", "x_stride": "i32"}
                    c = config(n, m, precision)
                    warps, stages = c.pop("num_warps"), c.pop("num_stages")
                    constants = {"n": n, "m": m, "down": m, "across": 1, "TALL": False, "STEPS": 5, "SIZED": sized}
                    constants |= {**_products(precision), **c}
                    title = f"newton_schulz_{kernel.fn.__name__}_{n}x{m}_{name}{'_sized' if sized else ''}"
                    made.append(
                        aot.Variant(title, kernel, signature, constants, warps, stages, products=precision != "ieee")
                    )
    return made
