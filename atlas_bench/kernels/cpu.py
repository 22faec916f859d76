"""What suits the CPU: projections side by side, products in bf16 if it has a unit for them, and memory that it keeps.

with matmul_precision("bf16"):            # matrix products of float32 tensors are made in bf16, sums in float32
    y = project(x, query, key)    # one product for both
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# as torch.set_float32_matmul_precision has them
PRECISIONS = {"fp32": "highest", "tf32": "high", "bf16": "medium"}


@cache
def best_matmul_precision(device: str = "cpu") -> tuple[str, str]:
    """(a name of PRECISIONS, why): the fastest products on "cpu" or "cuda" that do not change answers.

    bf16 rounds the factors of a product to 8 bits, tf32 to 11, and both add in float32. With AMX bf16 is four to five
    times as fast; units before AMX gain too little to be worth the rounding.
    """
    if device == "cuda":
        return "tf32", "tensor cores multiply float32 as tf32"
    supported = getattr(torch.cpu, "_is_amx_tile_supported", None)
    if supported is None:
        return "fp32", f"torch {torch.__version__} does not say whether the processor has AMX"
    if not supported():
        return "fp32", "the processor has no AMX unit"
    kept = os.environ.get("ONEDNN_MAX_CPU_ISA", "")
    if "AVX" in kept.upper() and "AMX" not in kept.upper():
        return "fp32", f"ONEDNN_MAX_CPU_ISA={kept} keeps torch from the processor's AMX unit"
    return "bf16", "the processor has an AMX unit"


@contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """A context in which the whole process computes matrix products of float32 tensors in that precision, a name of
    PRECISIONS."""
    before, now = torch.get_float32_matmul_precision(), PRECISIONS[precision]
    if now == before:
        yield
        return
    torch.set_float32_matmul_precision(now)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def project(x: Tensor, *layers: nn.Linear) -> Tensor:
    """x [.., D] through several linear layers side by side, as one product: [.., sum of their widths]."""
    weight = torch.cat([layer.weight for layer in layers])
    bias = None if layers[0].bias is None else torch.cat([layer.bias for layer in layers])
    return F.linear(x, weight, bias)


def columns(x: Tensor, layer: nn.Linear) -> Tensor:
    """layer(x) of tokens x [B, T, D], for one row read on a CPU with each channel's tokens side by side in memory.

    What then goes by head or channel has rows of T numbers, not of a head's few; the product takes less time, too.
    """
    if torch.is_grad_enabled() or len(x) > 1 or x.device.type != "cpu" or layer.bias is not None:
        return layer(x)
    return (layer.weight @ x[0].mT)[None].mT


def through(x: Tensor, weight: Tensor) -> Tensor:
    """x @ weight, for x [1, H, T, I] of columns() and weight [1, H, I, O] in the layout of x."""
    if x.dim() == 4 and len(x) == 1 and _by_column(x):
        return torch.bmm(weight[0].mT, x[0].mT)[None].mT
    return x @ weight


def side_by_side(parts: Sequence[Tensor], factors: Sequence[Tensor]) -> Tensor:
    """Tensors [.., T, K], each times its factor, as one [.., T, n K], in the layout of the first."""
    first, n = parts[0], len(parts)
    if torch.is_grad_enabled():
        return torch.cat([part * factor for part, factor in zip(parts, factors, strict=True)], -1)
    if _by_column(first):
        whole = first.new_empty(*first.shape[:-2], n * first.shape[-1], first.shape[-2]).mT
    else:
        whole = first.new_empty(*first.shape[:-1], n * first.shape[-1])
    for part, factor, room in zip(parts, factors, whole.chunk(n, -1), strict=True):
        torch.mul(part, factor, out=room)
    return whole


def _by_column(x: Tensor) -> bool:
    return x.stride(-2) == 1 < x.stride(-1)


@cache
def keep_freed_memory() -> None:
    """The blocks of a stream free and allocate the same megabytes thousands of times, so glibc keeps them.

    Otherwise it returns them to the kernel, which clears every page again: a third of a block's time. Without glibc
    nothing changes.
    """
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        for parameter in (-3, -1):  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
            libc.mallopt(parameter, 1 << 30)
