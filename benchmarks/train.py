"""How fast a memory trains: optimiser steps of the fixed recipe, in turns with another form of it.

    python -m benchmarks.train [--memory atlas ..] [--length 64] [--init atlas-nano]     this tree alone
    python -m benchmarks.train --against ../earlier            beside another checkout of this repository
    python -m benchmarks.train --torch-muon [--avx2]   beside the same with torch.optim.Muon, always in bf16
    python -m benchmarks.train --compile [--size 170M] [--task loss:text --length 512]    beside blocks by torch.compile

Both sides take the same steps on the same lessons from the same weights, each in a process of its own, one after the
other, at the rates below, whatever the recipe of a tree. The gate: their losses must agree to three digits (with
--torch-muon to two: bf16 rounds), or no speed is printed. Without --init gates are wide open, the slow beginning of
every training; with it as open as a trained model's. The first step of each side warms up; --compile prints how long
its own takes. --avx2 takes the processor's bf16 units, and all that is wider than AVX2, away from torch: an ordinary
laptop.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path
from statistics import median

HERE = Path(__file__).parents[1]
RATES = {"muon_lr": 0.01, "adam_lr": 6e-3}
Side = tuple[str, Path, list[str], float]  # what it is called, its tree, its flags, how near its losses must come


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--memory", action="append")
    parser.add_argument("--length", type=int, default=64, help="tokens of a context")
    parser.add_argument("--task", default="babilong:qa1")
    parser.add_argument("--init", default="", help="a model whose weights are taken")
    parser.add_argument("--size", default="nano", help="see `atlas-bench list sizes`")
    parser.add_argument("--against", type=Path, help="folder of another checkout")
    parser.add_argument("--torch-muon", action="store_true", help="beside torch.optim.Muon")
    parser.add_argument("--compile", action="store_true", help="beside torch.compile of each block")
    parser.add_argument("--avx2", action="store_true", help="as a CPU with AVX2 alone")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return work(options)
    from benchmarks.processor import processor

    sides: list[Side] = [("", HERE, [], 0.0)]
    if options.against:
        sides.append(("against", options.against, [], 1e-3))
    if options.torch_muon:
        sides.append(("torch's Muon", HERE, ["--torch-muon"], 1e-2))
    if options.compile:
        sides.append(("compiled", HERE, ["--compile"], 1e-3))
    print(f"contexts of {options.length} tokens, {options.task}, {options.threads} threads, median of {options.turns}")
    print(processor(options.avx2))
    red = False
    for memory in options.memory or ["gated-deltanet", "omeganet", "titans", "atlas"]:
        steps = take_turns(memory, sides, options)
        line, rate = "", 0.0
        for (name, _, _, tolerance), taken in zip(sides, steps, strict=True):
            losses = [[loss for _, loss, _ in each] for each in (steps[0], taken)]
            if any(abs(a - b) > tolerance * abs(a) for a, b in zip(*losses, strict=True)):
                line += f"   {name}: no speed, losses differ, {losses[0]} and {losses[1]}"
                red = True
                continue
            own, peak = median(each[0] for each in taken), taken[-1][2] / 2**20
            line += f"   {name}" * bool(name) + f"{own:>9,.0f} tok/s{peak:>8,.0f} MiB"
            line += f": {rate / own:.2f}x" if rate else ""
            rate = rate or own
        print(f"{memory:<20}{line}", flush=True)
    return int(red)


def take_turns(memory: str, sides: list[Side], options: argparse.Namespace) -> list[list[tuple[float, float, int]]]:
    """(tokens/s, loss, peak bytes) of every step, for each side."""
    words = ["--worker", "--memory", memory, "--task", options.task]
    words += ["--size", options.size] * (options.size != "nano")  # an earlier checkout has no such option
    words += ["--length", str(options.length), "--init", options.init, "--threads", str(options.threads)]
    from benchmarks.processor import AVX2

    away = AVX2 if options.avx2 else {}
    workers = [
        subprocess.Popen(
            [sys.executable, str(tree.resolve() / "benchmarks" / "train.py"), *words, *flags],
            cwd=tree, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, **away, "PYTHONPATH": str(tree.resolve()), "OMP_NUM_THREADS": str(options.threads)},
        )
        for _, tree, flags, _ in sides
    ]  # fmt: skip
    told = [[] for _ in workers]
    for turn in range(options.turns + 1):
        for (name, *_), worker, steps in zip(sides, workers, told, strict=True):
            began = time.perf_counter()
            worker.stdin.write("step\n")
            worker.stdin.flush()
            if not (line := worker.stdout.readline()):
                raise SystemExit(f"{memory}: no speed, a step failed{f' ({name})' if name else ''}; see above.")
            rate, loss, peak = line.split()
            if turn:
                steps.append((float(rate), float(loss), int(peak)))
            elif name == "compiled":
                print(f"{memory}, {name}: first step after {time.perf_counter() - began:.0f} s", flush=True)
    for worker in workers:
        worker.stdin.close()
        worker.wait()
    return told


def work(options: argparse.Namespace) -> int:
    """A step for every line of the input: tokens/s, loss and peak memory of the process."""
    import torch

    from atlas_bench import registry
    from atlas_bench.models import loading, sizes
    from atlas_bench.models.decoder import Decoder
    from atlas_bench.models.tokenizer import embedded
    from atlas_bench.tasks import corpora
    from atlas_bench.training.loop import transplant
    from atlas_bench.training.muon import MOMENTUM
    from atlas_bench.training.optimizers import Optimizers
    from atlas_bench.training.recipe import Progress, Recipe
    from atlas_bench.training.schedule import set_rates
    from atlas_bench.training.step import step

    torch.set_num_threads(options.threads)
    name, given = registry.typed_memory(options.memory[0])
    torch.manual_seed(0)
    options_of_memory = registry.memory_options(name, given)
    vocabulary = embedded().vocab_size
    model = Decoder(sizes.config(options.size, name, memory_options=options_of_memory, vocab_size=vocabulary))
    if options.compile:
        for block in model.blocks:
            block.compile(dynamic=False)  # shapes are few
    recipe = replace(Recipe(), **RATES)
    if options.init:
        transplant(model, loading.read_weights(loading.folder_of(options.init) / loading.WEIGHTS))
        model.set_gate_noise(recipe.gate_noise)
    optimizers = Optimizers(model, recipe)
    if options.torch_muon:
        matrices = optimizers[0].param_groups[0]["params"]
        optimizers[0] = torch.optim.Muon(matrices, weight_decay=0.0, momentum=MOMENTUM, adjust_lr_fn="original")
    set_rates(optimizers, recipe, Progress(step=recipe.warmup_steps))
    tokenizer, (task, subset) = embedded(), options.task.split(":")
    texts = [corpora.open_corpus("generated", tokenizer)] if registry.reads_text(task) else []
    lessons = registry.task(task).lessons([subset], tokenizer, 0, texts)
    tokens = min(max(recipe.contexts * options.length, recipe.least_tokens), recipe.most_tokens)
    batch, segment = max(2, tokens // options.length), min(recipe.segment, options.length)
    for _ in sys.stdin:
        streams = zip(*(lessons.stream(options.length, segment) for _ in range(batch)), strict=True)
        segments = list(islice(streams, max(1, recipe.longest // segment)))
        torch.manual_seed(1)
        began = time.perf_counter()
        figures, _ = step(optimizers, segments, None, recipe)
        rate = batch * options.length / (time.perf_counter() - began)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(rate, figures["loss"], peak, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
