"""`atlas-bench doctor`: what this machine has, which kernels run on it, and why no faster ones do.

report = examine()                     # plain data; seconds, for everything in it is measured now
report["versions"]["torch"]            # '2.13.0', None if it is not installed
report["kernels"][0]                   # {'op': 'gates', 'form': 'torch', 'error': 3e-07, 'well': True, 'why': ..}
print("\\n".join(lines(report)))
"""

from __future__ import annotations

import os
import platform
import textwrap
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from atlas_bench import __version__
from atlas_bench.running.resources import cpu_name
from atlas_bench.tasks.token_file import cache_folder
from atlas_bench.units import format_bytes

PACKAGES = ("torch", "triton", "transformers", "lm-eval", "numpy")
NAMES = {"chunk": "torch", "triton": "triton"}


def examine() -> dict[str, Any]:
    """Versions, processor, GPU and kernels; without torch the first two alone, and `missing` says why."""
    report: dict[str, Any] = {
        "versions": {"atlas-bench": __version__, "python": platform.python_version(), **_versions()},
        "cache": str(cache_folder()),
        "device": None,
        "cpu": {"name": cpu_name(), "cores": os.cpu_count()},
        "gpu": None,
        "kernels": [],
        "missing": None,
    }
    try:
        import torch
    except ImportError as error:
        return report | {"missing": f"{error}. Without torch only the controls run. Install it: pip install torch"}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    report["versions"]["torch"] = torch.__version__  # with '+cpu' or '+cu130', which the package's own has not
    report["device"] = device
    report["cpu"] |= {"threads": torch.get_num_threads(), **_speed("cpu")}
    if device == "cuda":
        about = torch.cuda.get_device_properties(0)
        capability = f"{about.major}.{about.minor}"
        report["gpu"] = {"name": about.name, "bytes": about.total_memory, "capability": capability, **_speed("cuda")}
    return report | {"kernels": [_kernel(op, device) for op in _fitted()]}


def well(report: dict[str, Any]) -> bool:
    """Whether torch is there and every kernel agrees with its definition."""
    return not report["missing"] and all(kernel["well"] for kernel in report["kernels"])


def lines(report: dict[str, Any]) -> Iterator[str]:
    """The result of examine(), 80 columns wide."""
    versions = (f"{name} {number or '(not installed)'}" for name, number in report["versions"].items())
    yield from textwrap.wrap(", ".join(versions), 80, subsequent_indent=" " * 9)
    yield from _processor(report)
    yield f"cache    {report['cache']}"
    yield ""
    if report["missing"]:
        yield from textwrap.wrap(f"torch    {report['missing']}", 80, subsequent_indent=" " * 9)
        return
    yield f"{'kernel':<15}{'form':<8}{'error':>8}  why not a faster one"
    for kernel in report["kernels"]:
        line = f"{kernel['op']:<15}{kernel['form']:<8}{kernel['error']:>8.0e}  {kernel['why'] or '-'}"
        yield from textwrap.wrap(
            line + ("" if kernel["well"] else "  DIFFERS FROM ITS DEFINITION"), 80, subsequent_indent=" " * 33
        )


def seconds(work: Callable[[], object], device: str, turns: int = 10) -> float:
    """The fastest of some turns."""
    import torch

    best = float("inf")
    for _ in range(turns):
        began = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return best


def _processor(report: dict[str, Any]) -> Iterator[str]:
    """The processor and the GPU, each with its rates and the products it reads with."""
    about, gpu = report["cpu"], report["gpu"]
    threads = f", {about['threads']} threads" if "threads" in about else ""
    yield f"cpu      {about['name']}, {about['cores']} cores{threads}"
    yield from _rates(about)
    if gpu:
        yield f"gpu      {gpu['name']}, {format_bytes(gpu['bytes'])}, compute capability {gpu['capability']}"
        yield from _rates(gpu)
    elif not report["missing"]:
        yield f"gpu      none: torch {report['versions']['torch']} sees no CUDA device"
    if report["device"]:
        yield f"device   {report['device']}: where models run unless --device says otherwise"


def _rates(about: dict[str, Any]) -> Iterator[str]:
    if "gflops" in about:
        rates = about["gflops"]
        yield (
            f"         products {rates['fp32']:,.0f} GFLOP/s fp32, {rates['bf16']:,.0f} bf16; "
            f"copies {about['gigabytes_per_second']:,.0f} GB/s"
        )
        yield f"         streams are read with products in {about['products']}: {about['why']}"


def _speed(device: str, size: int = 1024) -> dict[str, Any]:
    """Rates of products and copies, measured now, and the products that are best."""
    import torch

    from atlas_bench.kernels import cpu

    x = torch.randn(size, size, device=device)
    flops = 2 * size**3 / 1e9
    copied = torch.empty(1 << 25, device=device)  # 128 MiB: more than a core's caches
    fp32, bf16 = (flops / seconds(lambda a=a: a @ a, device) for a in (x, x.bfloat16()))
    gigabytes = 2 * copied.nbytes / 1e9 / seconds(lambda: copied.clone(), device)
    products, why = cpu.best_matmul_precision(device)
    return {
        "gflops": {"fp32": fp32, "bf16": bf16},
        "gigabytes_per_second": gigabytes,
        "products": products,
        "why": why,
    }


def _kernel(op: str, device: str) -> dict[str, Any]:
    """The form of an op that runs, how far it is from its definition, and why no faster one runs."""
    from atlas_bench.kernels import dispatch, selftest

    why = dispatch.why_not(op, device, **_fitted()[op])
    form = "chunk" if why else "triton"
    error = selftest.error(op, form, device)
    return {"op": op, "form": NAMES[form], "error": error, "well": error <= selftest.TOLERANCE, "why": why}


def _fitted() -> dict[str, dict[str, Any]]:
    """Op -> the sizes its Triton form is asked about: those of a head of 64."""
    from atlas_bench.kernels.anchored.maps import MLP
    from atlas_bench.kernels.anchored.rule import Rule
    from atlas_bench.kernels.dispatch import OPS

    sizes = {
        "gates": {"size": 64},
        "omega": {"rows": 64},
        "recurrence": {"width": 64},
        "newton_schulz": {"n": 64, "m": 64},
        "anchored": {"rule": Rule(MLP, chunk_size=16), "features": 64, "width": 64, "hidden": 256},
    }
    return {op: sizes.get(op, {}) for op in OPS}


def _versions() -> dict[str, str | None]:
    """Versions of the packages that affect speed and numbers; None for a package that is not installed."""
    report: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            report[package] = version(package)
        except PackageNotFoundError:
            report[package] = None
    return report
