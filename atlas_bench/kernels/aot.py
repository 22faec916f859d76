"""Compiles the Triton kernels for chips that are not here, and says what they take.

    python -m atlas_bench.kernels.aot [--target sm_90] [--only newton_schulz] [--match 64x64_bf16 ..]

A module with kernels lists every configuration it can choose in `variants()`. Compiling needs Triton and its bundled
assembler, no GPU. It finds errors of syntax, type and shape, registers spilled and shared memory over the chip's
limit, and matrix products that miss the tensor cores. It does not find a miscompilation: only the chip does.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

MODULES = {  # name -> module with variants()
    "newton_schulz": "atlas_bench.kernels.newton_schulz.triton",
    "gates": "atlas_bench.kernels.gates.triton",
    "recurrence": "atlas_bench.kernels.recurrence.triton",
    "omega": "atlas_bench.kernels.omega.triton",
    "anchored": "atlas_bench.kernels.anchored.triton",
}
SHARED_LIMIT = {80: 163 * 1024, 90: 227 * 1024}  # bytes a program may have, CUDA programming guide, table 30
SPILL_LIMIT = 64  # bytes per thread


@dataclass(frozen=True)
class Variant:
    """One configuration of one kernel.

    name       what a reader calls it: newton_schulz_64x64_bf16
    kernel     the @triton.jit function
    signature  argument -> "*bf16", "*fp32", "i32", "fp32"; every argument that is no constant
    constants  constexpr argument -> value
    num_warps  of a program
    num_stages of the software pipeline
    products   whether it multiplies matrices in a type that tensor cores have
    """

    name: str
    kernel: Any
    signature: Mapping[str, str]
    constants: Mapping[str, Any] = field(default_factory=dict)
    num_warps: int = 4
    num_stages: int = 2
    products: bool = True


@dataclass(frozen=True)
class Report:
    """What a compiled variant takes: bytes of shared memory, registers and spilled bytes of a thread."""

    name: str
    target: int
    shared: int
    registers: int
    spills: int
    tensor_cores: bool

    def fault(self, variant: Variant) -> str | None:
        """Why this variant must not be chosen on this chip."""
        if self.shared > SHARED_LIMIT[self.target]:
            return f"{self.shared} bytes of shared memory, {SHARED_LIMIT[self.target]} allowed"
        if self.spills > SPILL_LIMIT:
            return f"{self.spills} bytes spilled, {SPILL_LIMIT} allowed"
        if variant.products and not self.tensor_cores:
            return "no tensor-core instruction"
        return None


def compile(variant: Variant, target: int) -> Report:
    """Compile for compute capability `target` (80, 90); raises Triton's own error where it cannot."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = variant.kernel.arg_names
    signature = {name: variant.signature.get(name, "constexpr") for name in names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if signature[name].startswith("*")}
    source = ASTSource(fn=variant.kernel, signature=signature, constexprs=dict(variant.constants), attrs=aligned)
    options = {"num_warps": variant.num_warps, "num_stages": variant.num_stages}
    compiled = triton.compile(source, target=GPUTarget("cuda", target, 32), options=options)
    ptx = compiled.asm["ptx"]
    registers, spills = _resources(compiled.asm["cubin"])
    return Report(
        variant.name, target, compiled.metadata.shared, registers, spills, "wgmma" in ptx or "mma.sync" in ptx
    )


def _resources(cubin: bytes) -> tuple[int, int]:
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        said = subprocess.run([tool, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True)
    registers, stack = re.search(r"REG:(\d+) STACK:(\d+)", said.stdout).groups()
    return int(registers), int(stack)


def variants(only: list[str] | None = None) -> Iterator[Variant]:
    """Every configuration that can be chosen, of all modules or of those named."""
    for name in only or MODULES:
        yield from import_module(MODULES[name]).variants()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", action="append", choices=["sm_80", "sm_90"])
    parser.add_argument("--only", action="append", choices=list(MODULES))
    parser.add_argument("--match", nargs="*", help="part of a variant's name; any of several")
    options = parser.parse_args()
    print(f"{'kernel':<44}{'chip':<7}{'warps':>5}{'shared KiB':>11}{'regs':>5}{'spill B':>8}  products")
    faults = 0
    for variant in variants(options.only):
        if options.match and not any(part in variant.name for part in options.match):
            continue
        for target in options.target or ["sm_80", "sm_90"]:
            report = compile(variant, int(target[3:]))
            fault = report.fault(variant)
            faults += fault is not None
            print(
                f"{report.name:<44}{target:<7}{variant.num_warps:>5}{report.shared / 1024:>11.1f}{report.registers:>5}"
                f"{report.spills:>8}  {'tensor cores' if report.tensor_cores else '-'}",
                f"  FAULT: {fault}" if fault else "",
                flush=True,
            )
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
