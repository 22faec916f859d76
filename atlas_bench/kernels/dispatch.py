"""Which form of an op runs, and why no faster one does.

Every op has a slow definition (naive.py), a torch form (chunk.py) and a Triton form (triton.py) of one signature.
omega/chunk.py and anchored/chunk.py combine these ops and exist once: only the ops are exchanged.

    recurrence = form("recurrence", x).recurrence

A Triton form runs on CUDA tensors that it fits, once it has agreed with the definition on this very chip (selftest.py):
Triton has miscompiled kernels silently before, and none of these was tested on every chip. It multiplies float32 as
tf32, so where that is not allowed (cpu.matmul_precision("fp32"), torch's default) the torch form runs.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

OPS = {  # name -> what it is for
    "gates": "shares of a chunk's tokens in weights and momentum",
    "recurrence": "matrix memories over chunks: state and outputs",
    "omega": "delta and Omega rules: the triangular solve",
    "newton_schulz": "Muon's orthogonalisation",
    "anchored": "MLP memories over chunks",
}
OLDEST = (8, 0)  # compute capability that the kernels are compiled for and tested with


def form(op: str, x: Tensor, **sizes: Any) -> ModuleType:
    """The module that computes `op` on x's device.

    sizes  what the op's Triton form is asked about by its fits()
    """
    why = why_torch(x.device.type)
    if why is None:
        why = _why_inexact(x) or why_not(op, x.device.type, **sizes)
    RAN[op] = "torch" if why else "triton", why
    return _module(op, "chunk" if why else "triton")


# op -> (the form that ran last, why no faster one), of the cell that is being run: for its record
RAN: dict[str, tuple[str, str | None]] = {}


def why_not(op: str, device: str, **sizes: Any) -> str | None:
    """Why the Triton form of `op` does not run on "cpu" or "cuda"; None if it does."""
    why = why_torch(device)
    if why:
        return why
    module = _module(op, "triton")
    if hasattr(module, "fits") and (why := module.fits(**sizes)):
        return why
    return _why_distrusted(op, device)


@cache
def _why_distrusted(op: str, device: str) -> str | None:
    """Why the Triton form of `op` is not to be trusted on this chip; found out once in a process."""
    from atlas_bench.kernels import selftest

    try:
        error = selftest.error(op, "triton", device)
    except Exception as reason:  # a compiler that is missing, a chip that is too small: the torch form runs
        return f"it does not run here ({type(reason).__name__}: {str(reason).strip().partition(chr(10))[0]})"
    return f"it differs from its definition by {error:.1e} on this chip" if error > selftest.TOLERANCE else None


def _why_inexact(x: Tensor) -> str | None:
    """Why x's products are for no tensor core, or for none that kernels are launched on."""
    if x.dtype == torch.float64:
        return "float64 is for checks"
    if x.dtype == torch.float32 and torch.get_float32_matmul_precision() == "highest":
        return "products in fp32 were asked for; the Triton kernels make them in tf32"
    if x.device.index not in (None, torch.cuda.current_device()):
        return f"the tensors are on GPU {x.device.index}, not on the current one"
    return None


@cache
def why_torch(device: str) -> str | None:
    """Why no Triton kernel runs on "cpu" or "cuda"; None if they can."""
    if device != "cuda":
        return "Triton kernels need a GPU"
    try:
        import triton  # noqa: F401
    except ImportError as error:
        return f"Triton cannot be imported ({error})"
    capability = torch.cuda.get_device_capability()
    if capability < OLDEST:
        return f"compute capability {capability[0]}.{capability[1]}, {OLDEST[0]}.{OLDEST[1]} or newer is needed"
    return None


def _module(op: str, name: str) -> ModuleType:
    return import_module(f"atlas_bench.kernels.{op}.{name}")
