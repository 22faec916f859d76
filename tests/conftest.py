"""Tiny tensors on few cores: one thread is fastest, and many would fight over the machine."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
