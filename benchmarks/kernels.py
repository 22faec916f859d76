"""Every op in every form that runs here, forward and backward, beside the machine's own products and copies.

    python -m benchmarks.kernels [--op recurrence ..] [--device cuda] [--dtype bf16] [--turns 20]

First the gate: a form that differs from its definition (atlas_bench/kernels/selftest.py) gets no speed. Times are
medians; forms take turns. `share` is the fraction of the measured GEMM rate of that type that the op's own products
reach forward; forward and backward together are some three times as many. flash-linear-attention's gated delta rule is
timed where it is installed and a GPU is there.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from importlib import import_module
from statistics import median
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from atlas_bench.kernels import dispatch, selftest
from atlas_bench.kernels.anchored.maps import MLP
from atlas_bench.kernels.anchored.rule import Gates, Rule
from benchmarks.processor import processor

HALF_TOLERANCE = 5e-2  # of bf16, 8 bits, through a recurrence or five Newton-Schulz steps
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Work(NamedTuple):
    """An op at a size: run(module, tensors) and the operations of its products forward."""

    op: str
    size: str
    run: Callable[[Any, list[Tensor]], Any]
    tensors: list[Tensor]
    flops: float


def works(large: bool) -> list[Work]:
    """What is timed: sizes of a GPU's batch or of a CPU's."""
    N, X, C, K = (1024, 8, 64, 128) if large else (64, 8, 32, 32)
    unit = 0.1 / K**0.5
    state = [torch.randn(N, X, C, K), unit * torch.randn(N, X, C, K), unit * torch.randn(N, X, C, K)]
    state += [torch.full((N, X, 1, 1), 0.99), torch.randn(X, K, K), torch.randn(N, X, C, K), torch.ones(N, X, C, 1)]
    state += [unit * torch.randn(N, X, C, C).tril()]

    def recurrence(module, x):
        anchors, errors, last = module.recurrence(*x[:5])
        return module.outputs(x[5], x[6], x[7], anchors, errors), last

    W = 1
    gates = [torch.rand(N, X, C) for _ in range(3)] + [torch.ones(N, X, C, W), 0.5 * torch.rand(N, X, C)]
    keys = [F.normalize(torch.randn(N, X, C, K), dim=-1) for _ in range(2)]
    omega = [*keys, torch.randn(N, X, C, K), torch.rand(N, X, C), torch.rand(N, X, C)]
    count, n, m = (1024, 64, 64) if large else (64, 64, 32)
    small = min(n, m)
    muon = 5 * count * (4 * small**2 * max(n, m) + 2 * small**3)
    H, D, L, chunk, T = (8, 64, 256, 64, 65_536) if large else (4, 32, 64, 16, 2048)
    rule = Rule(MLP, chunk_size=chunk)
    mlp = [F.normalize(torch.randn(1, T, H, D), dim=-1) for _ in range(2)] + [torch.randn(1, T, H, D)]
    mlp += [*(torch.rand(1, T, H) for _ in range(3)), torch.ones(1, T, H, 1), 0.5 * torch.rand(1, T, H)]
    mlp += [0.1 * torch.randn(1, H, L, D), 0.1 * torch.randn(1, H, D, L)]
    mlp += [torch.zeros(1, H, L, D), torch.zeros(1, H, D, L)]

    def anchored(module, x):
        state = dict(zip(("W1", "W2", "S1", "S2"), x[8:], strict=True))
        y, state = module.anchored(rule, *x[:3], Gates(*x[3:8]), state)
        return y, *state.values()

    anchored_flops = T * H * 2 * (3 * D * L + 4 * D * L + 2 * chunk * (D + L) + 4 * D * L)
    return [
        Work("gates", f"{N}x{X} chunks of {C}", lambda o, x: o.sums(*x, 1.0), gates, 2 * N * X * C**3),
        Work("omega", f"{N}x{X} chunks of {C}, width {K}",
             lambda o, x: o.prepare(*x[:3], beta=x[3], retention=x[4]), omega, N * X * C * C * (4 * K + 2 * K)),
        Work("recurrence", f"{N * C} tokens, {X} x {K}", recurrence, state, 2 * N * X * (3 * C * K * K + C * C * K)),
        Work("newton_schulz", f"{count} of {n}x{m}", lambda o, x: [o.newton_schulz(x[0])],
             [torch.randn(count, n, m)], muon),
        Work("anchored", f"{T} tokens, {H} x {D}, hidden {L}", anchored, mlp, anchored_flops),
    ]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--op", action="append", choices=list(dispatch.OPS))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=list(DTYPES), help="of the operands [bf16 on a GPU, else fp32]")
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = options.device
    dtype = DTYPES[options.dtype or ("bf16" if device == "cuda" else "fp32")]
    if device == "cuda":  # as streams are read: the kernels make float32 products in tf32, so torch does too
        torch.set_float32_matmul_precision("high")
    torch.manual_seed(0)
    gemm, copy = ceilings(device, dtype)
    print(processor())
    where = torch.cuda.get_device_name() if device == "cuda" else f"{options.threads} CPU threads"
    print(
        f"{where}, torch {torch.__version__}, {str(dtype)[6:]}: "
        f"GEMM {gemm / 1e9:,.0f} GFLOP/s, copy {copy / 1e9:,.0f} GB/s"
    )
    print(f"{'op':<15}{'size':<32}{'form':<8}{'forward':>10}{'share':>7}{'with backward':>15}")
    red = 0
    for work in works(device == "cuda"):
        if options.op and work.op not in options.op:
            continue
        forms = {}
        for form in ["chunk", *(["triton"] if dispatch.why_torch(device) is None else [])]:
            error = selftest.error(work.op, form, device, dtype)
            if error > (selftest.TOLERANCE if dtype == torch.float32 else HALF_TOLERANCE):
                print(f"{work.op:<15}{work.size:<32}{form:<8}no speed: it differs from its definition by {error:.1e}")
                red += 1
            else:
                forms[form] = import_module(f"atlas_bench.kernels.{work.op}.{form}")
        for form, (forward, both) in time_forms(work, forms, device, dtype, options.turns).items():
            print(
                f"{work.op:<15}{work.size:<32}{form:<8}{1e3 * forward:>7.2f} ms{work.flops / forward / gemm:>7.0%}"
                f"{1e3 * both:>12.2f} ms",
                flush=True,
            )
    if device == "cuda":
        flash_linear_attention(options.turns)
    return int(red > 0)


def time_forms(work: Work, forms: dict[str, Any], device: str, dtype: torch.dtype, turns: int):
    """Form -> median seconds (forward, forward and backward), the forms in turns."""
    leaves = [x.requires_grad_() for x in selftest.cast(work.op, work.tensors, device, dtype)]

    def both(module: Any) -> None:
        outputs = work.run(module, leaves)
        torch.autograd.backward([y for y in outputs if y.requires_grad], [y for y in outputs if y.requires_grad])
        for x in leaves:
            x.grad = None

    def forward(module: Any) -> None:
        with torch.no_grad():
            work.run(module, leaves)

    times = {form: ([], []) for form in forms}
    for turn in range(turns + 1):
        for form, module in forms.items():
            for each, run in zip(times[form], (forward, both), strict=True):
                taken = seconds(lambda run=run, module=module: run(module), device)
                if turn:  # the first compiles and warms up
                    each.append(taken)
    return {form: tuple(median(each) for each in pair) for form, pair in times.items()}


def ceilings(device: str, dtype: torch.dtype) -> tuple[float, float]:
    """Operations/s of a large matrix product and bytes/s of a large copy, read and written."""
    size = 8192 if device == "cuda" else 1024
    a = torch.randn(size, size, device=device, dtype=dtype)
    x = torch.randn(1 << (28 if device == "cuda" else 25), device=device)
    product = min(seconds(lambda: a @ a, device) for _ in range(20))
    return 2 * size**3 / product, 2 * x.nbytes / min(seconds(lambda: x.clone(), device) for _ in range(10))


def seconds(work: Callable[[], Any], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def flash_linear_attention(turns: int) -> None:
    """Its gated delta rule beside our linear Omega memory's size: 65,536 tokens, 8 heads of 128, bf16, forward."""
    try:
        from fla.ops.gated_delta_rule import chunk_gated_delta_rule
    except ImportError:
        print("flash-linear-attention is not installed: pip install flash-linear-attention")
        return
    q, k, v = (torch.randn(1, 65_536, 8, 128, device="cuda", dtype=torch.bfloat16) for _ in range(3))
    g = F.logsigmoid(torch.randn(1, 65_536, 8, device="cuda"))
    beta = torch.rand(1, 65_536, 8, device="cuda", dtype=torch.bfloat16)
    q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
    taken = [seconds(lambda: chunk_gated_delta_rule(q, k, v, g=g, beta=beta), "cuda") for _ in range(turns + 1)]
    print(f"{'fla':<15}{'gated delta rule, the same size':<32}{'triton':<8}{1e3 * median(taken[1:]):>7.2f} ms")


if __name__ == "__main__":
    sys.exit(main())
