"""Tiny tensors on few cores: one thread is fastest, and many would fight over the machine.

Triton kernels run in Triton's interpreter, on the CPU; it must be asked for before Triton is imported.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("TRITON_INTERPRET", "1")
