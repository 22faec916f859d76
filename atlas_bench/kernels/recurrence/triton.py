"""chunk.py as Triton kernels: one thin sequential kernel, everything else for all chunks at once.

`_recurrence_kernel`: a program has a tile of BV columns of the state of one row and head in registers, in fp32, and
goes through the chunks with it; columns need nothing of each other. A chunk is two products,

    E = own - onto Z      [R, BV], R in blocks of BR rows
    Z = mix (x) Z + into^T E  (+ add)

of operands in the dtype of `own`. Backward is the same kernel, from the last chunk to the first with the signs of
onto and into turned (README.md). `_outputs_kernel` reads the anchors, y = sum_j (read_j q) Z_j + scores E: a program
per chunk, row and head, BC tokens and BV columns. No GPU has run these yet, the interpreter and the compiler only.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from atlas_bench.kernels.aot import Variant


def tiles(width: int, rows: int, onto: int, into: int, itemsize: int) -> dict[str, int]:
    """Tiles, warps and pipeline stages of `_recurrence_kernel`: a row of operands is (onto + into) blocks of `width`.

    Two products a chunk are little work, so operands of later chunks are fetched meanwhile: as many stages as fit.
    """
    size = width * max(onto, into) * itemsize  # bytes of a column of the state
    BV = 32 if size <= 256 else 16
    BR = _power(rows, 128 if itemsize == 2 else 32)
    stage = BR * triton.cdiv(rows, BR) * ((onto + into) * _power(width) + BV) * itemsize
    return {"BV": BV, "BR": BR, "num_warps": 4 if size <= 256 else 8, "num_stages": max(1, min(3, 216 * 1024 // stage))}


def fits(width: int) -> str | None:
    """None if a memory of so many rows fits, else why not."""
    return f"keys of {width} numbers, 128 at most" if width > 128 else None


def _power(n: int, most: int = 1 << 30) -> int:
    """Tile size for n: the power of two from n on, 16 at least, as a product needs."""
    return min(most, max(16, triton.next_power_of_2(n)))


def recurrence(
    own: Tensor,
    onto: Tensor,
    into: Tensor,
    mix: Tensor,
    state: Tensor,
    add: Tensor | None = None,
    *,
    anchors_dtype: torch.dtype | None = None,
    precision: str = "tf32",
) -> tuple[Tensor, Tensor, Tensor]:
    """The same anchors, errors and last state as naive.recurrence; arguments as there.

    own, onto, into  of one dtype, that of the products' operands and of the errors
    mix, state, add  of any dtype; the state is carried in fp32 and returned in its own
    anchors_dtype    of the anchors, own.dtype if None
    precision        of products of fp32 operands, "tf32" or "ieee": exact, without tensor cores, for checks only
    """
    if not own.dtype == onto.dtype == into.dtype:
        raise ValueError(f"own, onto and into have one dtype, not {own.dtype}, {onto.dtype}, {into.dtype}")
    width, blocks = state.shape[1] // mix.shape[-1], mix.shape[-1]
    seen = {onto.shape[-1], into.shape[-1]}
    if (
        mix.shape[-2] not in (blocks, width)
        or blocks not in (1, 2)
        or width * blocks != state.shape[1]
        or not seen <= {width, state.shape[1]}
    ):
        raise ValueError(
            f"onto {onto.shape}, into {into.shape} and mix {mix.shape} fit no state {state.shape} of {blocks} blocks"
        )
    return _Recurrence.apply(own, onto, into, mix, state, add, anchors_dtype or own.dtype, precision)


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx, own, onto, into, mix, state, add, dtype, precision):
        onto, into, mix = (x.contiguous() for x in (onto, into, mix))
        anchors, errors, last = _run(own, onto, into, mix, state, add, dtype, precision)
        ctx.save_for_backward(onto, into, mix, anchors, errors)
        ctx.precision, ctx.state, ctx.add = precision, state.dtype, None if add is None else add.dtype
        ctx.set_materialize_grads(False)
        return anchors, errors, last

    @staticmethod
    @once_differentiable
    def backward(ctx, d_anchors, d_errors, d_last):
        onto, into, mix, anchors, errors = ctx.saved_tensors
        d_errors = torch.zeros_like(errors) if d_errors is None else d_errors
        d_last = torch.zeros_like(anchors[0], dtype=ctx.state) if d_last is None else d_last
        after, d_own, d_state = _run(
            d_errors, into, onto, mix, d_last, d_anchors, errors.dtype, ctx.precision, reverse=True
        )
        # what waits for no state any more: plain batched products
        d_onto = (d_own @ anchors[:, :, : onto.shape[-1]].mT.to(d_own.dtype)).neg_()
        d_into = errors @ after[:, :, : into.shape[-1]].mT
        d_mix = _mix_gradient(after, anchors, mix)
        return d_own, d_onto, d_into, d_mix, d_state, None if ctx.add is None else after.to(ctx.add), None, None


def _run(own, onto, into, mix, state, add, dtype, precision, reverse=False):
    """chunk.run in one launch; anchors of `dtype`."""
    chunks, x, rows, value = own.shape
    blocks = mix.shape[-1]
    width = state.shape[1] // blocks
    own, state = own.contiguous(), state.contiguous()
    anchors = torch.empty(chunks, *state.shape, dtype=dtype, device=own.device)
    errors, last = torch.empty_like(own), torch.empty_like(state)
    seen = {"ONTO": onto.shape[-1] // width, "INTO": into.shape[-1] // width}
    config = tiles(width, rows, *seen.values(), own.element_size())
    _recurrence_kernel[(x, triton.cdiv(value, config["BV"]))](
        own,
        onto,
        into,
        mix,
        state,
        own if add is None else add.contiguous(),
        anchors,
        errors,
        last,
        chunks,
        rows,
        WIDTH=width,
        J=blocks,
        V=value,
        BY_ROW=mix.shape[-2] > blocks,
        ADD=add is not None,
        REVERSE=reverse,
        BI=_power(width),
        PARTS=triton.cdiv(rows, config["BR"]),
        PRECISION=precision,
        **seen,
        **config,
    )
    return anchors, errors, last


@triton.jit(do_not_specialize=["N", "R"])
def _recurrence_kernel(
    own,
    onto,
    into,
    mix,
    state,
    add,
    anchors,
    errors,
    last,
    N,
    R,
    WIDTH: tl.constexpr,  # rows of a block of the state
    J: tl.constexpr,
    V: tl.constexpr,
    ONTO: tl.constexpr,  # blocks that onto sees
    INTO: tl.constexpr,  # blocks that into adds to
    BY_ROW: tl.constexpr,  # whether mix has a number for each row of the state; J is 1 then
    ADD: tl.constexpr,
    REVERSE: tl.constexpr,
    BI: tl.constexpr,
    BV: tl.constexpr,
    BR: tl.constexpr,
    PARTS: tl.constexpr,  # blocks of BR rows that make R
    PRECISION: tl.constexpr,
):
    dtype = own.dtype.element_ty
    i, v = tl.arange(0, BI), tl.program_id(1) * BV + tl.arange(0, BV)
    tile = i[:, None] * V + v[None, :]
    inside = (i < WIDTH)[:, None] & (v < V)[None, :]
    place = tl.program_id(0).to(tl.int64) * J * WIDTH * V
    # M and S: the first and the second block of Z (S is M's stand-in where there is one block)
    M = tl.load(state + place + tile, mask=inside, other=0.0).to(tl.float32)
    S = M
    if J == 2:
        S = tl.load(state + place + WIDTH * V + tile, mask=inside, other=0.0).to(tl.float32)
    row = tl.program_id(0).to(tl.int64)  # of [N, X] as one
    if REVERSE:
        row += (N - 1) * tl.num_programs(0).to(tl.int64)
    for _ in range(N):
        at = row * J * WIDTH * V + tile
        tl.store(anchors + at, M.to(anchors.dtype.element_ty), mask=inside)
        if J == 2:
            tl.store(anchors + at + WIDTH * V, S.to(anchors.dtype.element_ty), mask=inside)
        if BY_ROW:
            M_new = tl.load(mix + row * WIDTH + i, mask=i < WIDTH, other=0.0)[:, None] * M
        else:
            M_new = tl.load(mix + row * J * J) * M
        S_new = S
        if J == 2:  # REVERSE: the transposed mix
            M_new += tl.load(mix + row * 4 + (2 if REVERSE else 1)) * S
            S_new = tl.load(mix + row * 4 + (1 if REVERSE else 2)) * M + tl.load(mix + row * 4 + 3) * S
        if ADD:
            M_new += tl.load(add + at, mask=inside, other=0.0).to(tl.float32)
            if J == 2:
                S_new += tl.load(add + at + WIDTH * V, mask=inside, other=0.0).to(tl.float32)

        M_signed = (-M if REVERSE else M).to(dtype)
        S_signed = (-S if REVERSE else S).to(dtype)
        for part in tl.static_range(PARTS):
            r = part * BR + tl.arange(0, BR)
            rv = row * R * V + r[:, None] * V + v[None, :]
            full = (r < R)[:, None] & (v < V)[None, :]
            # subtracted from, not an accumulator of the product: so its load is pipelined as well
            e = tl.load(own + rv, mask=full, other=0.0).to(tl.float32)
            from_onto = onto + row * R * WIDTH * ONTO + r[:, None] * (WIDTH * ONTO) + i[None, :]
            seen = (r < R)[:, None] & (i < WIDTH)[None, :]
            k = tl.load(from_onto, mask=seen, other=0.0)
            known = tl.dot(k, M_signed, input_precision=PRECISION)
            if ONTO == 2:
                k = tl.load(from_onto + WIDTH, mask=seen, other=0.0)
                known = tl.dot(k, S_signed, known, input_precision=PRECISION)
            e -= known
            tl.store(errors + rv, e.to(dtype), mask=full)
            e = (-e).to(dtype) if REVERSE else e.to(dtype)
            # loaded transposed, which pipelines better than tl.trans
            from_into = into + row * R * WIDTH * INTO + i[:, None] + r[None, :] * (WIDTH * INTO)
            seen = (i < WIDTH)[:, None] & (r < R)[None, :]
            k = tl.load(from_into, mask=seen, other=0.0)
            M_new = tl.dot(k, e, M_new, input_precision=PRECISION)
            if INTO == 2:
                k = tl.load(from_into + WIDTH, mask=seen, other=0.0)
                S_new = tl.dot(k, e, S_new, input_precision=PRECISION)
        M, S = M_new, S_new
        row += -tl.num_programs(0) if REVERSE else tl.num_programs(0)
    tl.store(last + place + tile, M.to(last.dtype.element_ty), mask=inside)
    if J == 2:
        tl.store(last + place + WIDTH * V + tile, S.to(last.dtype.element_ty), mask=inside)


def _mix_gradient(after: Tensor, anchors: Tensor, mix: Tensor) -> Tensor:
    """d mix[j, i] = <after_j, anchors_i>, summed in fp32: a batched product as thin as this one is no good."""
    if mix.shape[-1] == 1 < mix.shape[-2]:
        return (after.float() * anchors.float()).sum(-1, keepdim=True).to(mix.dtype)
    gradient = torch.empty_like(mix, dtype=torch.float32)
    size = after[0, 0].numel() // mix.shape[-1]
    _mix_kernel[(mix.shape[0] * mix.shape[1],)](after, anchors, gradient, SIZE=size, J=mix.shape[-1], B=1024)
    return gradient.to(mix.dtype)


@triton.jit
def _mix_kernel(after, anchors, gradient, SIZE: tl.constexpr, J: tl.constexpr, B: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    for j in tl.static_range(J):
        for i in tl.static_range(J):
            total = tl.zeros([B], tl.float32)
            for start in range(0, SIZE, B):
                at = start + tl.arange(0, B)
                a = tl.load(after + (row * J + j) * SIZE + at, mask=at < SIZE, other=0.0).to(tl.float32)
                b = tl.load(anchors + (row * J + i) * SIZE + at, mask=at < SIZE, other=0.0).to(tl.float32)
                total += a * b
            tl.store(gradient + (row * J + j) * J + i, tl.sum(total))


def outputs(
    q: Tensor, read: Tensor, scores: Tensor, anchors: Tensor, errors: Tensor, *, precision: str = "tf32"
) -> Tensor:
    """The same as naive.outputs; arguments as there.

    q, scores, errors  of one dtype, that of the products' operands and of the result
    read, anchors      of any dtype
    """
    if not q.dtype == scores.dtype == errors.dtype:
        raise ValueError(f"q, scores and errors have one dtype, not {q.dtype}, {scores.dtype}, {errors.dtype}")
    return _Outputs.apply(q, read, scores, anchors, errors, precision)


class _Outputs(torch.autograd.Function):
    """Backward in torch: five batched products that wait for no state; a library does them as well as a kernel."""

    @staticmethod
    def forward(ctx, q, read, scores, anchors, errors, precision):
        q, read, scores, anchors, errors = (x.contiguous() for x in (q, read, scores, anchors, errors))
        ctx.save_for_backward(q, read, scores, anchors, errors)
        chunks, x, steps, width = q.shape
        rows, value = errors.shape[2:]
        y = torch.empty(chunks, x, steps, value, dtype=q.dtype, device=q.device)
        BC, BR, BV = _power(steps, 64), _power(rows, 64), _power(value, 64 if width <= 64 else 32)
        _outputs_kernel[(chunks * x, triton.cdiv(value, BV), triton.cdiv(steps, BC))](
            q,
            read,
            scores,
            anchors,
            errors,
            y,
            steps,
            rows,
            WIDTH=width,
            J=read.shape[-1],
            V=value,
            BC=BC,
            BI=_power(width),
            BR=BR,
            BV=BV,
            PARTS=triton.cdiv(rows, BR),
            PRECISION=precision,
            num_warps=4,
            num_stages=2,
        )
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        q, read, scores, anchors, errors = ctx.saved_tensors
        by_block = q[..., None, :] * read[..., None]  # [N, X, C, J, I]
        d_block = (dy @ anchors.mT.to(dy.dtype)).view(by_block.shape).float()
        return (
            (d_block * read[..., None]).sum(-2).to(q.dtype),
            (d_block * q[..., None, :]).sum(-1).to(read.dtype),
            dy @ errors.mT,
            (by_block.flatten(-2).to(dy.dtype).mT @ dy).to(anchors.dtype),
            scores.mT @ dy,
            None,
        )


@triton.jit(do_not_specialize=["C"])  # an aligned R is worth knowing: it is the row of the scores
def _outputs_kernel(
    q,
    read,
    scores,
    anchors,
    errors,
    y,
    C,
    R,
    WIDTH: tl.constexpr,
    J: tl.constexpr,
    V: tl.constexpr,
    BC: tl.constexpr,
    BI: tl.constexpr,
    BR: tl.constexpr,
    BV: tl.constexpr,
    PARTS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    dtype = q.dtype.element_ty
    row = tl.program_id(0).to(tl.int64)
    c, i = tl.program_id(2) * BC + tl.arange(0, BC), tl.arange(0, BI)
    v = tl.program_id(1) * BV + tl.arange(0, BV)
    here, width, value = c < C, i < WIDTH, v < V
    at = row * C * WIDTH + c[:, None] * WIDTH + i[None, :]
    query = tl.load(q + at, mask=here[:, None] & width[None, :], other=0.0).to(tl.float32)
    total = tl.zeros([BC, BV], tl.float32)
    for j in tl.static_range(J):
        share = tl.load(read + row * C * J + c * J + j, mask=here, other=0.0).to(tl.float32)
        at = (row * J + j) * WIDTH * V + i[:, None] * V + v[None, :]
        block = tl.load(anchors + at, mask=width[:, None] & value[None, :], other=0.0)
        total = tl.dot((query * share[:, None]).to(dtype), block.to(dtype), total, input_precision=PRECISION)
    for part in tl.static_range(PARTS):
        r = part * BR + tl.arange(0, BR)
        at = row * C * R + c[:, None] * R + r[None, :]
        weights = tl.load(scores + at, mask=here[:, None] & (r < R)[None, :], other=0.0)
        at = row * R * V + r[:, None] * V + v[None, :]
        e = tl.load(errors + at, mask=(r < R)[:, None] & value[None, :], other=0.0)
        total = tl.dot(weights, e, total, input_precision=PRECISION)
    tl.store(y + row * C * V + c[:, None] * V + v[None, :], total.to(dtype), mask=here[:, None] & value[None, :])


def variants() -> list[Variant]:
    """Every kernel for states of 32, 64 and 128 rows and columns, of chunks of 64 tokens without and with a window."""
    found = []
    for width, blocks in [(32, 1), (32, 2), (64, 1), (64, 2), (128, 1), (128, 2)]:
        for dtype in ("bf16", "fp16", "fp32"):
            name = f"{width}x{width}_J{blocks}_{dtype}"
            shape = {"WIDTH": width, "J": blocks, "V": width, "PRECISION": "tf32"}
            for rows in (64, 128):
                for direction, onto, into in [("forward", 1, blocks), ("backward", blocks, 1)]:
                    found.append(_variant(f"recurrence_{direction}_{name}_R{rows}", shape, rows, onto, into, dtype))
                    if blocks == 1 and rows == 64:
                        found.append(
                            _variant(f"recurrence_{direction}_{name}_by_row", shape, rows, 1, 1, dtype, by_row=True)
                        )
            pointers = dict.fromkeys(("q", "scores", "anchors", "errors", "y"), f"*{dtype}") | {"read": "*fp32"}
            constants = shape | {"BC": 64, "BI": width, "BV": 64 if width == 64 else 32, "BR": 64, "PARTS": 2}
            scalars = {"C": "i32", "R": "i32"}
            found.append(Variant(f"outputs_{name}", _outputs_kernel, pointers | scalars, constants))
    pointers = {"after": "*bf16", "anchors": "*bf16", "gradient": "*fp32"}
    for blocks in (1, 2):
        constants = {"SIZE": 128 * 128, "J": blocks, "B": 1024}
        found.append(Variant(f"mix_gradient_J{blocks}_bf16", _mix_kernel, pointers, constants, products=False))
    return found


def _variant(name: str, shape: dict, rows: int, onto: int, into: int, dtype: str, *, by_row: bool = False) -> Variant:
    config = tiles(shape["WIDTH"], rows, onto, into, 4 if dtype == "fp32" else 2)
    back = "backward" in name
    constants = {
        "ONTO": onto,
        "INTO": into,
        "BY_ROW": by_row,
        "ADD": back,
        "REVERSE": back,
        "PARTS": triton.cdiv(rows, config["BR"]),
    }
    constants |= shape | {"BI": shape["WIDTH"]} | {key: config.pop(key) for key in ("BV", "BR")}
    pointers = dict.fromkeys(("own", "onto", "into", "add", "anchors", "errors"), f"*{dtype}")
    pointers |= dict.fromkeys(("mix", "state", "last"), "*fp32") | {"N": "i32", "R": "i32"}
    return Variant(name, _recurrence_kernel, pointers, constants, **config)
