"""What a task's sample costs to make: one of 10M tokens, read block by block, on one core, corpus tokenised before.

    python -m benchmarks.samples [TASK[:SUBSET] ..] [--len 10M] [--block 64Ki] [--data FOLDER]

First a gate: the tokens read in blocks must be those of the same sample made again and read in blocks of another size,
and exactly as many as asked for, or no time is printed. Each sample is made in a process of its own, the second one
there: the first tokenises what the corpus lacks. `plan` is the time until the sample is there, `read` until its
last token is, in CPU seconds; `memory` is what the process grew by,
seen after every block, memory maps of the cache apart. More than 10 s or 200 MB is too much, and exit code 1.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

import psutil

from atlas_bench import registry
from atlas_bench.errors import UserError
from atlas_bench.models.tokenizer import embedded
from atlas_bench.running import plan
from atlas_bench.types import Sample, TaskOptions
from atlas_bench.units import format_length, parse_length
from benchmarks.processor import processor

MOST_SECONDS, MOST_MEGABYTES = 10, 200  # what a sample may take


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*")
    parser.add_argument("--len", dest="length", type=parse_length, default=10_000_000)
    parser.add_argument("--block", type=parse_length, default=65_536)
    parser.add_argument("--data", default="generated")
    options = parser.parse_args()
    print(processor())
    print(f"one sample of {format_length(options.length)} tokens on one core")
    print(f"{'task':<28}{'plan s':>8}{'read s':>8}{'memory MB':>11}")
    worst = 0
    for name, subset in plan.parse_tasks(",".join(options.tasks or registry.TASKS)):
        asked = [name, subset, str(options.length), str(options.block), options.data]
        command = [sys.executable, "-c", "from benchmarks.samples import one; one()", *asked]
        done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
        title = f"{name}:{subset}"
        if done.returncode:
            print(f"{title:<28}{(done.stderr.strip().splitlines() or ['failed'])[-1][:50]}")
            worst = 1
            continue
        told = json.loads(done.stdout.splitlines()[-1])
        over = told["plan"] + told["read"] > MOST_SECONDS or told["megabytes"] > MOST_MEGABYTES
        worst = max(worst, int(over))
        figures = f"{told['plan']:>8.2f}{told['read']:>8.2f}{told['megabytes']:>11.0f}"
        print(f"{title:<28}{figures}{'  too much' if over else ''}", flush=True)
    return worst


def one() -> None:
    """The measurement of one sample, as JSON on stdout; arguments from the command line."""
    name, subset, length, block, data = sys.argv[1:]
    length, block = int(length), int(block)
    try:
        expected = _digest(_sample(name, subset, length, data), length, 50_021)
    except UserError as error:
        sys.exit(str(error))
    base = _private()
    began = time.process_time()
    sample = _sample(name, subset, length, data)
    planned = time.process_time()
    peak: list[int] = [_private()]
    digest = _digest(sample, length, block, peak)
    ended = time.process_time()
    if digest != expected:
        sys.exit("blocks of two sizes gave two streams: no time")
    print(json.dumps({"plan": planned - began, "read": ended - planned, "megabytes": (max(peak) - base) / 1e6}))


def _sample(name: str, subset: str, length: int, data: str) -> Sample:
    task, options = type(registry.task(name))(), TaskOptions(data=data)
    task.check(subset, length, embedded(), options)
    return next(iter(task.samples(subset, length, 1, 0, embedded(), options)))


def _digest(sample: Sample, length: int, block: int, peak: list[int] | None = None) -> str:
    sha, read = hashlib.sha256(), 0
    for start in range(0, sample.context.length, block):
        tokens = sample.context.read(start, start + block)
        sha.update(tokens.tobytes())
        read += len(tokens)
        if peak is not None:
            peak.append(_private())
    if read != sample.context.length or sample.length > length:
        sys.exit(f"{read} tokens read of a sample of {sample.length}, {length} asked for: no time")
    return sha.hexdigest()


def _private() -> int:
    """Resident bytes of this process alone: maps of the cached corpus are the page cache's."""
    told = psutil.Process().memory_info()
    return told.rss - told.shared


if __name__ == "__main__":
    sys.exit(main())
