"""Kernels compiled for chips that are not here: limits, spills and tensor cores, without a GPU.

The interpreter's functions cannot be compiled, so this happens in a process of its own. All configurations take half an
hour (`python -m atlas_bench.kernels.aot`); here is one of each kernel, at the sizes that models have most often.
"""

import os
import subprocess
import sys

from atlas_bench.kernels.aot import SHARED_LIMIT, SPILL_LIMIT, Report, Variant
from tests.marks import sweep

CHOSEN = {
    "newton_schulz": ["64x64_bf16_sized", "128x128_fp32_fp16"],
    "gates": ["C64_W4_momentum", "gates_backward_C64_W1_bf16"],
    "recurrence": ["64x64_J2_bf16_R128", "128x128_J1_bf16_R64", "64x64_J1_bf16_by_row"],
    "omega": ["C32_K64_bf16", "C64_K128_bf16"],
    "anchored": ["64x256_chunk16_window1_bf16"],
}


@sweep("op", CHOSEN, quick=["recurrence"])
def test_kernels_compile_within_the_limits_of_both_chips(op):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-m", "atlas_bench.kernels.aot", "--only", op, "--match", *CHOSEN[op]],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for chip in ("sm_80", "sm_90"):
        assert sum(chip in line for line in done.stdout.splitlines()) >= 2, done.stdout


def test_a_fault_is_named():
    variant = Variant("x", None, {})
    report = Report("x", 90, shared=0, registers=255, spills=0, tensor_cores=True)
    assert report.fault(variant) is None
    over = SHARED_LIMIT[90] + 1
    for change, word in (
        ({"shared": over}, "shared memory"),
        ({"spills": SPILL_LIMIT + 1}, "spilled"),
        ({"tensor_cores": False}, "tensor-core"),
    ):
        assert word in Report(**{**report.__dict__, **change}).fault(variant)
