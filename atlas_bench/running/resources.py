"""What a run notes: the command, time of day, the processor, peak memory, usage, an exception as a status."""

from __future__ import annotations

import ctypes
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from atlas_bench.files import user_file
from atlas_bench.types import Status


def status_of(error: Exception) -> tuple[Status, str]:
    """An exception as status and one line, with the line of the user's own file that it left last.

    torch's out-of-memory error is recognised by its name, without importing torch.
    """
    message = " ".join(str(error).split())
    phrases = ("out of memory", "not enough memory", "can't allocate memory", "unable to allocate")
    full = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if full or (isinstance(error, RuntimeError) and any(phrase in message.lower() for phrase in phrases)):
        return "oom", f"{message or 'out of memory'}; a smaller --batch or --block needs less"
    if file := user_file.left_last(error):
        return "failed", f"{user_file.describe_error(error, file)}; --debug shows the traceback"
    return "failed", f"{type(error).__name__}: {message}" if message else type(error).__name__


def now() -> str:
    """The time in UTC, ISO 8601."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def command_line() -> str:
    """The command that was typed, as a line that a shell takes."""
    return _joined(tuple(sys.argv))


@lru_cache(1)  # every cell's record has it, and a command that names a thousand seeds is long
def _joined(argv: Sequence[str]) -> str:
    program = Path(argv[0])
    ours = program.name == "__main__.py" and program.parent.name == "atlas_bench"
    return shlex.join([*(("python", "-m", "atlas_bench") if ours else (program.name,)), *argv[1:]])


@cache
def cpu_name() -> str:
    """The processor's name; platform.processor() is empty on most Linux systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def cores() -> int | None:
    """Cores this process may use: fewer than the machine's in a container."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def reset_peak() -> None:
    """Give back what earlier cells freed, and forget their peak, where the system can (Linux); elsewhere a peak is the
    process's.
    """
    with suppress(AttributeError, OSError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)  # freed memory is kept, see kernels/cpu.py
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """Most bytes resident so far, in the middle of a block too."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows keeps it for psutil
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def summed(
    earlier: Mapping[str, Any] | None, current: Mapping[str, Any] | None, before: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """Counts of earlier attempts plus those since `before`; a count that nobody keeps stays None."""
    if current is None:
        return None
    return {
        name: None if value is None else value - ((before or {}).get(name) or 0) + ((earlier or {}).get(name) or 0)
        for name, value in current.items()
    }
