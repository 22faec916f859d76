"""The Titans layer beside titans-pytorch's NeuralMemory of the same shape, in turns in one run.

    pip install titans-pytorch==0.5.5 -c constraints.txt
    python -m benchmarks.peers [--tokens 16384] [--width 128] [--heads 2] [--expansion 4] [--chunk 64] [--turns 5]
    python -m benchmarks.peers --avx2                  # torch kept to AVX2

Forward, batch 1, every gate open. titans-pytorch twice: by default, where the gradients of the whole sequence are
taken at the initial weights (no token's write depends on an earlier one), and with batch_size = chunk, which
renews the weights at every chunk and is what this package's layer computes. With one thread the time is the
processor's, else the clock's. First two gates: our chunk form
must equal the token loop of kernels/anchored/naive.py, and both layers' outputs must be finite, or it is said.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import torch

from atlas_bench.kernels.anchored import naive
from atlas_bench.kernels.anchored.rule import Gates
from atlas_bench.kernels.cpu import keep_freed_memory
from atlas_bench.models.memory.titans import Titans
from benchmarks.processor import clock, keep_to_avx2, processor


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=16_384)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--heads", type=int, default=2)
    parser.add_argument("--expansion", type=int, default=4)
    parser.add_argument("--chunk", type=int, default=64)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--avx2", action="store_true", help="keep torch to AVX2")
    options = parser.parse_args()
    if options.avx2:
        keep_to_avx2()
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as a LanguageModel does
    now = clock(options.threads)
    torch.manual_seed(0)
    head = options.width // options.heads
    ours = Titans(options.width, options.heads, head, expansion=options.expansion, chunk_size=options.chunk)
    open_gates(ours)
    if (worst := gate(ours)) > 1e-4:
        print(f"no speed: the chunk form differs from the token loop by {worst:.2g}")
        return 1
    candidates = {f"atlas-bench, chunk {options.chunk}": lambda x: ours(x)[0], **peers(options, head)}
    if len(candidates) == 1:
        print("titans-pytorch is not installed: pip install titans-pytorch==0.5.5 -c constraints.txt")
    x = torch.randn(1, options.tokens, options.width)
    a = torch.randn(1024, 1024)
    rates: dict[str, list[float]] = {name: [] for name in candidates}
    gemm, finite = [], {}
    with torch.no_grad():
        for _ in range(options.turns):
            gemm.append(2 * 1024**3 / min(seconds(lambda: a @ a, now) for _ in range(20)))
            for name, layer in candidates.items():
                began = now()
                y = layer(x)
                rates[name].append(options.tokens / (now() - began))
                finite[name] = bool(torch.isfinite(y).all())
    flops = operations(options, head)
    print(processor())
    print(
        f"{options.tokens} tokens, width {options.width}, {options.heads} heads of {head}, "
        f"expansion {options.expansion}, {options.threads} threads, fastest of {options.turns} turns"
    )
    print(f"GEMM {max(gemm) / 1e9:.0f} GFLOP/s")
    own = max(next(iter(rates.values())))
    for name, each in rates.items():
        note = "" if finite[name] else "  OUTPUT NOT FINITE"
        print(f"{name:<38}{max(each):>9,.0f} tok/s   ours / this {own / max(each):>5.2f}{note}")
    print(f"ours: {flops / 1e6:.2f} MFLOP/token, {own * flops / max(gemm):.0%} of the GEMM rate")
    return 0


def open_gates(layer: Titans) -> None:
    """Every token writes; lr, momentum and forgetting vary with the token."""
    with torch.no_grad():
        layer.out.weight.normal_(std=0.1)
        layer.w1.normal_(std=0.1)
        layer.gate["write"].bias.fill_(5.0)


@torch.no_grad()
def gate(layer: Titans) -> float:
    """The greatest relative difference between the chunk form and the token loop, on 200 tokens."""
    x = torch.randn(1, 200, layer.query.in_features)
    gates: Gates = layer.terms(layer._gates(x))
    q = layer._address(layer.query(x))
    k, v = layer._pairs(x)
    want, _ = naive.anchored(layer.rule, q, k, v, gates, layer.init_state(1))
    got, _ = layer._anchored(k).anchored(layer.rule, q, k, v, gates, layer.init_state(1))
    return float((got - want).abs().max() / want.abs().max())


def peers(options: argparse.Namespace, head: int) -> dict:
    """titans-pytorch's layer, open loop and with its weights renewed at every chunk."""
    try:
        from titans_pytorch import NeuralMemory
    except ImportError:
        return {}
    found = {}
    for name, batch_size in (("default (gradients at W0)", None), ("weights renewed each chunk", options.chunk)):
        layer = NeuralMemory(
            dim=options.width, chunk_size=options.chunk, batch_size=batch_size, dim_head=head, heads=options.heads,
            default_model_kwargs={"depth": 2, "expansion_factor": float(options.expansion)},
        )  # fmt: skip
        found[f"titans-pytorch, {name}"] = lambda x, layer=layer: layer(x)[0]
    return found


def operations(options: argparse.Namespace, head: int) -> float:
    """Operations of our layer per token: projections, and per head what kernels/anchored/chunk.py multiplies."""
    hidden, size = options.expansion * head, options.chunk
    projections = 2 * 4 * options.width**2
    gradients = 2 * (3 * head * hidden)  # z W2, h W1, e W1^T
    reads = 2 * 2 * (2 * head * hidden)  # two layers, at M_0 and S_0
    inside = 2 * 2 * size * (head + hidden)  # (z x^T) e, two layers
    updates = 2 * 2 * (2 * head * hidden)  # two layers, M and S
    coefficients = 2 * 2 * size * size  # D Gam and A B
    return projections + options.heads * (gradients + reads + inside + updates + coefficients)


def seconds(work: Callable[[], object], now: Callable[[], float]) -> float:
    began = now()
    work()
    return now() - began


if __name__ == "__main__":
    sys.exit(main())
