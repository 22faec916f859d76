"""`atlas-bench doctor`: what this machine has, which kernels run on it, and why no faster ones do."""

from __future__ import annotations

import os
import platform
import textwrap
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version

import torch

from atlas_bench import __version__
from atlas_bench.kernels import check, dispatch, processor
from atlas_bench.kernels.anchored.maps import MLP
from atlas_bench.kernels.anchored.rule import Rule
from atlas_bench.plan import cpu
from atlas_bench.units import format_bytes

NAMES = {"chunk": "torch", "triton": "triton"}


def lines() -> Iterator[tuple[str, bool]]:
    """Lines 80 columns wide, each with whether what it says is well."""
    yield from ((line, True) for line in machine())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    yield "", True
    yield f"{'kernel':<15}{'form':<8}{'error':>8}  why not a faster one", True
    for op in dispatch.OPS:
        why = dispatch.why_not(op, device, **FITTED.get(op, {}))
        form = "chunk" if why else "triton"
        error = check.error(op, form, device)
        well = error <= check.TOLERANCE
        said = f"{op:<15}{NAMES[form]:<8}{error:>8.0e}  {why or '-'}{'' if well else '  DIFFERS FROM ITS DEFINITION'}"
        yield textwrap.fill(said, 80, subsequent_indent=" " * 33), well


# what a Triton form is asked about, for the line that doctor prints
FITTED = {
    "gates": {"size": 64},
    "omega": {"rows": 64},
    "recurrence": {"width": 64},
    "newton_schulz": {"n": 64, "m": 64},
    "anchored": {"rule": Rule(MLP, chunk_size=16), "features": 64, "width": 64, "hidden": 256},
}


def machine() -> Iterator[str]:
    """Versions, processor and GPU, with the rates of their products and copies measured now."""
    yield f"atlas-bench {__version__}, Python {platform.python_version()}, torch {torch.__version__}, {_triton()}"
    yield f"cpu      {cpu()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    yield f"         products {_rates('cpu')}"
    precision, why = processor.best_products("cpu")
    yield f"         streams are read with products in {precision}: {why}"
    if not torch.cuda.is_available():
        yield f"gpu      none: torch {torch.__version__} sees no CUDA device"
        return
    about = torch.cuda.get_device_properties(0)
    yield f"gpu      {about.name}, {format_bytes(about.total_memory)}, compute capability {about.major}.{about.minor}"
    yield f"         products {_rates('cuda')}"
    precision, why = processor.best_products("cuda")
    yield f"         streams are read with products in {precision}: {why}"


def _rates(device: str, size: int = 1024) -> str:
    x = torch.randn(size, size, device=device)
    b = x.bfloat16()
    flops = 2 * size**3 / 1e9
    copied = torch.empty(1 << 25, device=device)  # 128 MiB: more than a core's caches
    fp32, bf16 = (flops / seconds(lambda a=a: a @ a, device) for a in (x, b))
    gigabytes = 2 * copied.nbytes / 1e9 / seconds(lambda: copied.clone(), device)
    return f"{fp32:,.0f} GFLOP/s fp32, {bf16:,.0f} bf16; copies {gigabytes:,.0f} GB/s"


def seconds(work: Callable[[], object], device: str, turns: int = 10) -> float:
    """The fastest of some turns."""
    best = float("inf")
    for _ in range(turns):
        began = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return best


def _triton() -> str:
    try:
        return f"triton {version('triton')}"
    except PackageNotFoundError:
        return "no triton"
