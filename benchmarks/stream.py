"""How fast the embedded models read one stream, beside what this machine's matrix products reach in the same run.

    python -m benchmarks.stream [--model atlas-nano ..] [--tokens 1M] [--block 4096] [--batch 16] [--threads N]
    python -m benchmarks.stream --model MODEL --background FOLDER              # novels instead of generated prose
    python -m benchmarks.stream --model 170M:gated-deltanet --tokens 64K       # a size, untrained: every gate half open
    python -m benchmarks.stream --avx2                                         # torch kept to AVX2

First a gate: the state after one block of 4096 tokens must equal the state after the same tokens read 64 at a time, or
no speed is printed. A model with a screen is timed twice, reading by events and densely; it reads so short a block
densely, so the gate compares the two as well. Then float32 matrix products and reading take short turns, and the
fastest of each counts: other work on a shared machine only adds. With one thread the time is the processor's, else
the clock's. Making the tokens counts. Operations are counted by
atlas_bench/models/cost.py: what is executed, no more. Where the processor has AMX, dense reading is timed with products
in float32 and in bf16; the share is that of the float32 rate in both, and may pass 100 %.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import torch

from atlas_bench import registry
from atlas_bench.kernels.cpu import PRECISIONS, best_matmul_precision
from atlas_bench.models import cost, loading, sizes
from atlas_bench.models.decoder import Decoder
from atlas_bench.models.lm import LanguageModel
from atlas_bench.models.tokenizer import embedded
from atlas_bench.tasks.babilong import BABILONG
from atlas_bench.types import TaskOptions
from atlas_bench.units import format_bytes, parse_length
from benchmarks.processor import clock, keep_to_avx2, processor

TURN, PRODUCTS = 4096, 4  # tokens and matrix products of a turn


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append")
    parser.add_argument("--tokens", type=parse_length, default=1_000_000)
    parser.add_argument("--block", type=parse_length, help="tokens; default: what suits the model")
    parser.add_argument("--background", default="generated")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", choices=["cpu", "cuda"])
    parser.add_argument("--matmul-precision", choices=list(PRECISIONS))
    parser.add_argument("--avx2", action="store_true", help="keep torch to AVX2")
    options = parser.parse_args()
    if options.avx2:
        keep_to_avx2()
    torch.set_num_threads(options.threads)
    names = options.model or ["atlas-nano", "omeganet-nano", "gated-deltanet-nano", "titans-nano"]
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    best = best_matmul_precision(device)[0]
    where = torch.cuda.get_device_name() if device == "cuda" else f"{options.threads} CPU threads"
    print(processor())
    print(f"{where}, batch {options.batch}, {options.background} background")
    columns = f"{'tokens/s':>12}{'10M in':>9}{'MFLOP/token':>13}{'GFLOP/s':>9}{'GEMM':>8}{'share':>7}  state"
    print(f"{'model':<31}{'products':<9}{'block':>7}{columns}")
    failed = False
    for name in names:
        model = load(name, options)
        worst = gate(model, options.background)
        if worst > 1e-3:
            print(f"{name:<30}no speed: blocks of 64 and of 4096 tokens differ by {worst:.2g} in the state")
            failed = True
            continue
        if model.events:
            show(f"{name}, by events", model, options, dense=False)
            model.events, model.block = None, 4096
        for precision in [options.matmul_precision] if options.matmul_precision else dict.fromkeys(("fp32", best)):
            model.matmul_precision = precision
            show(name, model, options, dense=True)
    return int(failed)


def show(title: str, model, options: argparse.Namespace, *, dense: bool) -> None:
    """One line; by events most operations of dense reading are not executed, and none are counted."""
    block = options.block or max(256, model.block // options.batch)
    gemm, rate, state_bytes = measure(model, options, block)
    flops = cost.feed_flops(model.model.config, 1)
    counted = f"{flops / 1e6:>13.3f}{rate * flops / 1e9:>9.1f}{gemm / 1e9:>8.1f}{rate * flops / gemm:>7.0%}"
    counted = counted if dense else f"{'':>22}{gemm / 1e9:>8.1f}{'':>7}"
    read = f"{title:<31}{model.matmul_precision:<9}{block:>7}{rate:>12,.0f}{1e7 / rate:>8.0f}s"
    print(f"{read}{counted}  {format_bytes(state_bytes)}", flush=True)


def load(name: str, options: argparse.Namespace):
    """A trained model by name or folder, or SIZE:MEMORY, untrained."""
    size, _, memory = name.partition(":")
    if size not in sizes.SIZES:
        return loading.load(name, device=options.device, matmul_precision=options.matmul_precision)
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    variant, given = registry.typed_memory(memory or "atlas")
    torch.manual_seed(0)
    decoder = Decoder(sizes.config(size, variant, memory_options=registry.memory_options(variant, given)))
    return LanguageModel(name, decoder, embedded(), {}, device=device, matmul_precision=options.matmul_precision)


def context(model, tokens: int, background: str):
    """A BABILong context of that many tokens."""
    return next(BABILONG.samples("qa1", tokens, 1, 0, model.tokenizer, TaskOptions(background=background))).context


def gate(model, background: str) -> float:
    """The greatest relative difference between two splits of one block, over the tensors of the state."""
    tokens = context(model, 5000, background).read(0, 4096)[None]
    whole = model.pack(model.feed(model.start(1), tokens))
    state = model.start(1)
    for start in range(0, 4096, 64):
        state = model.feed(state, tokens[:, start : start + 64])
    pieces = model.pack(state)
    return max(float(np.abs(whole[k] - pieces[k]).max() / (1e-6 + np.abs(whole[k]).max())) for k in whole)


def measure(model, options: argparse.Namespace, block: int) -> tuple[float, float, int]:
    """Rates of the fastest turns: fp32 GEMM operations/s, tokens/s; and the bytes of the state."""
    text, size, batch = context(model, options.tokens, options.background), 1024, options.batch
    a, b = torch.randn(size, size, device=model.device), torch.randn(size, size, device=model.device)
    state, gemm, rate = model.start(batch), [], []
    now = clock(torch.get_num_threads() if model.device == "cpu" else 0)
    turn = max(block, min(TURN, text.length // 8) // block * block)
    for start in range(0, text.length - turn + 1, turn):
        began = now()
        for _ in range(PRODUCTS):
            a @ b
        wait(model)
        gemm.append(PRODUCTS * 2 * size**3 / (now() - began))
        began = now()
        for at in range(start, start + turn, block):
            piece = text.read(at, at + block)
            state = model.feed(state, np.broadcast_to(piece, (batch, len(piece))).copy())
        wait(model)
        rate.append(batch * turn / (now() - began))
    return max(gemm), max(rate), model.state_bytes(state)


def wait(model) -> None:
    if model.device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    sys.exit(main())
