"""The deep memory on a GPU: a thin kernel carries the state from chunk to chunk, another makes all outputs at once.

mlp.py has the equations and the letters, triton_forward.py and triton_backward.py the kernels.
Nothing here has run on a GPU yet: the kernels are tested in Triton's interpreter and compiled ahead of time.
"""

from __future__ import annotations

from functools import partial

import torch
import triton
import triton.language as tl
from torch import Tensor

from atlas_bench.kernels.anchored import mlp
from atlas_bench.kernels.anchored.rule import Gates, Rule
from atlas_bench.kernels.anchored.triton_backward import inputs_back, lower_back, upper_back, walk_back
from atlas_bench.kernels.anchored.triton_forward import outputs, walk
from atlas_bench.kernels.aot import Variant

State = dict[str, Tensor]
TYPES = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}


def anchored(
    rule: Rule, q: Tensor | None, k: Tensor, v: Tensor, gates: Gates, state: State, *, precision: str = "tf32"
) -> tuple[Tensor | None, State]:
    """The same outputs, state and gradients as chunk.anchored, for what fits() takes; arguments as there.

    q, k, v    of one type, in which matrices are multiplied; their sums, gates and state are fp32
    precision  of fp32 products: ieee, for the interpreter (on a chip it spills), or tf32, for tensor cores
    """
    return mlp.chunked(partial(_Scan.apply, precision), rule, q, k, v, gates, state)


def fits(
    rule: Rule, features: int, width: int, hidden: int, window: int = 1, dtype: torch.dtype = torch.bfloat16
) -> str | None:
    """None, or why the kernels cannot take this rule with keys of `features` and values of `width` numbers."""
    why = mlp.fits(rule)
    if why is None and features < width:
        why = f"keys of {features} numbers are shorter than values of {width}"
    if why is None and features > 64:
        why = f"keys of {features} numbers, more than 64"
    if why is None and rule.chunk_size + window - 1 > 64:
        why = f"chunk_size {rule.chunk_size} with the {window - 1} tokens before it, more than 64"
    if why is None and hidden > 256:
        why = f"{hidden} hidden units, more than the 256 that were compiled"
    if why is None and dtype == torch.float32 and rule.chunk_size + window - 1 > 16:
        why = (
            f"chunk_size {rule.chunk_size} with its halo in float32, more than 16: it spills, or takes too much memory"
        )
    return why


# Hidden units of a tile, warps, stages: of chunks of up to 32 tokens with their halo, and of up to 64. Small tiles keep
# the backward in registers; aot.py shows what each takes of a chip.
CONFIGS = {
    walk: ((32, 4, 2), (32, 4, 2)),
    outputs: ((32, 4, 2), (32, 4, 2)),
    upper_back: ((16, 4, 2), (16, 4, 2)),
    lower_back: ((16, 4, 2), (16, 8, 3)),
    walk_back: ((16, 4, 2), (16, 4, 2)),
    inputs_back: ((16, 4, 2), (16, 4, 2)),
}


def padded(size: int) -> int:
    """The next power of two that a matrix product takes."""
    return max(16, triton.next_power_of_2(size))


def _form(kernel, R: int, P: int, V: int, L: int, J: int, dtype: torch.dtype, precision: str) -> dict:
    """The sizes that `kernel` gets, and its launch options."""
    tile, warps, stages = CONFIGS[kernel][padded(R) > 32]
    sizes = {"R": R, "P": P, "V": V, "L": L, "J": J, "BR": padded(R), "BP": padded(P), "BV": padded(V), "BL": tile}
    return {**sizes, "COMPUTE": TYPES[dtype], "PRECISION": precision, "num_warps": warps, "num_stages": stages}


class _Scan(torch.autograd.Function):
    """scan() of mlp.chunked. Kept for the backward: the inputs, the anchors and their errors."""

    @staticmethod
    def forward(ctx, precision, l2, bounded, q, k, v, read, inside, mix, write, Z2, Z1):
        (chunks, rows, R, P), V, L, J = k.shape, v.shape[-1], Z2.shape[-1], mix.shape[-1]
        ctx.form = partial(_form, R=R, P=P, V=V, L=L, J=J, dtype=k.dtype, precision=precision)
        ctx.rule = {"L2": l2, "BOUNDED": bounded}
        Zs2, Zs1 = (torch.empty(chunks + 1, *x.shape, dtype=torch.float32, device=x.device) for x in (Z2, Z1))
        Zs2[0], Zs1[0] = Z2, Z1
        E, y = torch.empty_like(v), None
        walk[rows,](k, v, mix, write, Zs2, Zs1, E, chunks, **ctx.rule, **ctx.form(walk))
        if q is not None:
            y, C = torch.empty(*q.shape[:-1], V, dtype=v.dtype, device=v.device), q.shape[2]
            outputs[chunks * rows,](
                q, k, read, inside, E, Zs2, Zs1, y, C=C, BC=padded(C), **ctx.form(outputs)
            )  # fmt: skip
        ctx.save_for_backward(q, k, v, read, inside, mix, write, E, Zs2, Zs1)
        return y, Zs2[-1].clone(), Zs1[-1].clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dy, dZ2, dZ1):
        q, k, v, read, inside, mix, write, E, Zs2, Zs1 = ctx.saved_tensors
        (chunks, rows), L, wide = k.shape[:2], Zs2.shape[-1], partial(torch.empty, dtype=torch.float32, device=k.device)
        if q is None:
            wide = partial(torch.zeros, dtype=torch.float32, device=k.device)  # by no outputs
        dZs2, dZs1, dh, dd = (wide(x) for x in (Zs2.shape, Zs1.shape, (*k.shape[:-1], L), (*k.shape[:-1], L)))
        dZs2[-1], dZs1[-1] = dZ2, dZ1
        if q is None:
            dq, dread, dinside, dk, dE = None, None, None, wide(k.shape), wide(v.shape)
        else:
            dq, dread, dinside, dk, dE = _outputs_back(
                ctx.form, q, k, read, inside, E, Zs2, Zs1, dy.contiguous(), dZs2, dZs1, dh, dd
            )  # fmt: skip
        dv, dwrite, dsquares = torch.empty_like(v), torch.empty_like(write), wide(k.shape[:-1])
        walk_back[rows,](
            k, mix, write, Zs2, Zs1, E, dh, dE, dd, dZs2, dZs1, dsquares, dv, chunks, **ctx.rule, **ctx.form(walk_back)
        )  # fmt: skip
        inputs_back[chunks * rows,](
            k, write, Zs2, Zs1, E, dd, dsquares, dv, dZs2[1:], dZs1[1:], dk, dwrite, **ctx.rule, **ctx.form(inputs_back)
        )  # fmt: skip
        flat = (x.view(chunks * rows, mix.shape[-1], -1) for x in (dZs2[1:], Zs2[:-1], dZs1[1:], Zs1[:-1]))
        after2, before2, after1, before1 = flat
        dmix = (after2 @ before2.mT + after1 @ before1.mT).view_as(mix)
        return None, None, None, dq, dk.to(k.dtype), dv, dread, dinside, dmix, dwrite, dZs2[0], dZs1[0]


def _outputs_back(form, q, k, read, inside, E, Zs2, Zs1, dy, dZs2, dZs1, dh, dd):
    """Gradients by the outputs: of q, read, inside, k, E; those of the anchors, h and d are written to dZs2 .. dd."""
    (chunks, rows, C, P), L, wide = q.shape, Zs2.shape[-1], partial(torch.empty, dtype=torch.float32, device=q.device)
    products, dabove = q.float() @ k.float().mT, dy.float() @ E.float().mT
    scores, dscores = (inside * products).to(q.dtype), (inside * dabove).to(q.dtype)
    da = torch.empty(*q.shape[:-1], L, dtype=q.dtype, device=q.device)
    above, below, dread, back = (wide(x) for x in (inside.shape, inside.shape, read.shape, (*read.shape, P)))
    sizes = {"C": C, "BC": padded(C)}
    upper_back[chunks * rows,](
        q, k, read, scores, dscores, E, Zs2, Zs1, dy, da, dread, above, dh, dZs1, **sizes, **form(upper_back)
    )  # fmt: skip
    lower_back[chunks * rows,](
        q, k, read, scores, E, Zs2, Zs1, da, back, below, dd, dZs2, **sizes, **form(lower_back)
    )  # fmt: skip
    dproducts = inside * below
    dread += (back * q[..., None, :]).sum(-1)
    dq = (back * read[..., None]).sum(-2) + dproducts @ k.float()
    dq[..., : dy.shape[-1]] += dy
    dE = (inside * above).mT @ dy.float()
    return dq.to(q.dtype), dread, dabove * above + below * products, dproducts.mT @ q.float(), dE


SIGNATURES = {  # what is of the compute type; the rest is fp32
    walk: "k v E",
    outputs: "q k E y",
    upper_back: "q k scores dscores E dy da",
    lower_back: "q k scores E da",
    walk_back: "k E dv",
    inputs_back: "k E dv",
}


def variants() -> list[Variant]:
    """Every configuration that can be chosen, for the heads and chunks that models have."""
    sizes = [(32, 32), (32, 64), (64, 64), (64, 128), (64, 256)]
    cases = [(*size, 16, 1, dtype) for size in sizes for dtype in (torch.bfloat16, torch.float16)]
    cases += [(64, 256, chunk, window, torch.bfloat16) for chunk, window in ((16, 2), (32, 1), (32, 2), (64, 1))]
    cases += [(32, 64, 16, 1, torch.float32), (64, 256, 16, 1, torch.float32)]
    return [_variant(kernel, *case) for case in cases for kernel in CONFIGS]


def _variant(kernel, head: int, hidden: int, chunk: int, window: int, dtype: torch.dtype) -> Variant:
    form = _form(kernel, chunk + window - 1, head, head, hidden, 2, dtype, "tf32")
    warps, stages = form.pop("num_warps"), form.pop("num_stages")
    known = {**form, "C": chunk, "BC": padded(chunk), "L2": True, "BOUNDED": True}
    name = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}[dtype]
    narrow = SIGNATURES[kernel].split()
    signature = {x: f"*{name if x in narrow else 'fp32'}" for x in kernel.arg_names if x not in known}
    if "chunks" in signature:
        signature["chunks"] = "i32"
    constants = {x: known[x] for x in kernel.arg_names if x in known}
    title = f"{kernel.__name__}_{head}x{hidden}_chunk{chunk}_window{window}_{name}"
    return Variant(title, kernel, signature, constants, warps, stages)
