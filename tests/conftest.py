"""Tiny tensors on few cores: one thread is fastest, and many would fight over the machine.

Triton kernels run in Triton's interpreter, on the CPU; it must be asked for before Triton is imported. What tests
tokenise is kept from run to run, apart from the user's own cache.
"""

import os
import signal
from pathlib import Path

# A job in the background begins with Ctrl-C ignored, and so do its children: those that tests interrupt would not end.
signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("TRITON_INTERPRET", "1")
os.environ.setdefault("ATLAS_BENCH_CACHE", str(Path(__file__).parents[1] / ".pytest_cache" / "atlas-bench"))
