"""The processor under a benchmark, for the line above its figures; and torch kept to AVX2, as on most computers."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

import torch

from atlas_bench.running.resources import cores, cpu_name

AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
BF16 = {"AMX": "_is_amx_tile_supported", "AVX512 bf16": "_is_avx512_bf16_supported"}  # units -> what torch.cpu is asked


def processor(avx2: bool | None = None) -> str:
    """Its name, the instructions that torch may use, and how busy the machine is.

    avx2  whether those are AVX2's alone by the variables of AVX2 [as this process has them]
    """
    if avx2 is None:
        avx2 = AVX2.items() <= os.environ.items()
    units = [name for name, ask in BF16.items() if getattr(torch.cpu, ask, lambda: False)()]
    own = f"{torch.backends.cpu.get_cpu_capability()}, {units[0] if units else 'no bf16 units'}"
    kept = f"kept to AVX2 by {' '.join(f'{name}={value}' for name, value in AVX2.items())}"
    return f"{cpu_name()}, {kept if avx2 else own}; load {os.getloadavg()[0]:.1f} on {cores()} cores"


def clock(threads: int) -> Callable[[], float]:
    """The processor's seconds for one thread, which other work hardly changes; else the wall's."""
    return time.thread_time if threads == 1 else time.perf_counter


def keep_to_avx2() -> None:
    """Start this process again with torch kept to AVX2: oneDNN, torch and MKL look at their variables only once."""
    if not AVX2.items() <= os.environ.items():
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **AVX2})
