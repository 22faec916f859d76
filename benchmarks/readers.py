"""What several readers of one stream gain over one, part by part: making its text, searching it, reading it.

    python -m benchmarks.readers [--model atlas-nano ..] [--tokens 4M] [--readers 2] [--turns 3]

First a gate: both must leave the same state, bit for bit, or no speed is printed. One reader and N take turns, and the
least time of each counts: other work on a shared machine only adds. torch has one thread, so that N readers are
N processors at most. `made` is generated text that no cache has; `searched` and `replayed` are the two halves of
reading by events, each alone, from text that the cache has; `read` is both, as a run does them. `densely` is a memory
that is written at every token, its stream cut into N segments (models/segments.py) where one reader has blocks of 4096.

`ratio` compares wall-clock times. `free` estimates the ratio on N idle processors from processor times: the time of one
reader, divided by the larger of the busiest reader's time and an N-th of all readers' time.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from atlas_bench.models import loading
from atlas_bench.models.decoder import Config, Decoder
from atlas_bench.models.lm import LanguageModel
from atlas_bench.models.segments import SegmentReader
from atlas_bench.models.tokenizer import embedded
from atlas_bench.running import streams
from atlas_bench.tasks import corpora, making
from atlas_bench.tasks.babilong import BABILONG
from atlas_bench.types import Context, TaskOptions
from atlas_bench.units import parse_length
from benchmarks.processor import processor

DOCUMENT = 250_000  # tokens of one that is made
DENSE = 4096  # tokens of a block, or of a segment
MODELS = ("atlas-nano", "gated-deltanet-nano", "omeganet-nano", "titans-nano")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append")
    parser.add_argument("--tokens", type=parse_length, default=4_000_000)
    parser.add_argument("--readers", type=int, default=2)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    n = options.readers
    print(processor())
    print(f"{options.tokens:,} tokens, {options.turns} turns")
    print(f"{'':<34}{'1 reader':>12}{f'{n} readers':>12}{'ratio':>7}{'CPU s of 1':>12}{f'of {n}':>7}{'free':>7}")
    show("made", options.tokens, lambda readers: make(options.tokens, readers), options, helpers=n - 1)
    failed = False
    for name in options.model or MODELS:
        model = loading.load(name, threads=1)
        text = next(BABILONG.samples("qa1", options.tokens, 1, 0, model.tokenizer, TaskOptions())).context
        if not same(model, read(model, text, 1), read(model, text, n)):
            print(f"{name:<34}no speed: {n} readers leave another state than one")
            failed = True
            continue
        found = list(search(model, text, 1))
        show(f"{name}, searched", text.length, lambda k, m=model, t=text: list(search(m, t, k)), options, helpers=n)
        show(f"{name}, replayed", text.length, lambda k, m=model, f=found: replay(m, f), options, helpers=0)
        show(f"{name}, read", text.length, lambda k, m=model, t=text: read(m, t, k), options, helpers=n)
    show_segments(options)
    return int(failed)


def show_segments(options: argparse.Namespace) -> None:
    """One line for a memory that is written at every token, read in segments."""
    torch.manual_seed(0)
    config = Config("gated-deltanet", memory_options={"printed": True})
    decoder, n = Decoder(config).eval().requires_grad_(False), options.readers
    tokens = torch.randint(config.vocab_size, (1, 4 * n * DENSE))
    reader = SegmentReader(decoder, n)

    @torch.inference_mode()
    def work(readers: int) -> None:
        torch.set_num_threads(readers)
        state = decoder.start(1)
        for part in tokens.split(readers * DENSE, 1):
            state = reader.feed(state, part) if readers > 1 else decoder(part, state, output=False)[1]
        torch.set_num_threads(1)

    show("gated-deltanet, densely", tokens.shape[1], work, options, helpers=n - 1)


def show(title: str, tokens: int, work: Callable[[int], Any], options: argparse.Namespace, *, helpers: int):
    """One line: tokens/s of one reader and of several, in turns; helpers 0: of one alone.

    helpers  threads or processes that work beside this one where there are several readers
    """
    n = options.readers
    turns = [[spent(work, k, helpers) for k in ((1, n) if helpers else (1,))] for _ in range(options.turns)]
    (wall, cpu), *many = (tuple(map(min, zip(*each, strict=True))) for each in zip(*turns, strict=True))
    line = f"{title:<34}{tokens / wall:>12,.0f}"
    if many:
        line += f"{tokens / many[0][0]:>12,.0f}{wall / many[0][0]:>7.2f}{cpu:>12.2f}"
        line += f"{many[0][1]:>7.2f}{cpu / many[0][1]:>7.2f}"
    else:
        line += f"{cpu:>31.2f}"
    print(line, flush=True)


def spent(work: Callable[[int], Any], readers: int, helpers: int) -> tuple[float, float]:
    """(seconds on the wall, processor seconds of the busiest of the readers) of work(readers)."""
    began, own, ours, theirs = time.perf_counter(), time.thread_time(), time.process_time(), children()
    work(readers)
    wall, own = time.perf_counter() - began, time.thread_time() - own
    whole = time.process_time() - ours + children() - theirs
    return wall, whole if readers == 1 else max(own, (whole - own) / helpers, whole / readers)


def children() -> float:
    """Processor seconds of processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def make(tokens: int, readers: int) -> None:
    """Make so much text that no cache has."""
    folder = Path(tempfile.mkdtemp())
    try:
        corpus = corpora.generated(embedded(), cache=folder, shard_tokens=DOCUMENT)
        documents = list(range(max(readers, tokens // DOCUMENT)))
        with making.processes(readers):
            making.make(corpus, documents)
        for number in documents:
            corpus.document(number)
    finally:
        shutil.rmtree(folder)


def search(model: LanguageModel, text: Context, readers: int) -> Any:
    """What is found in each block."""
    return streams.searched([text], 0, text.length, model.block, model=model, readers=readers)


def replay(model: LanguageModel, found: list[tuple[np.ndarray, Any]]) -> Any:
    """The state after blocks that are searched."""
    state = model.start(1)
    for tokens, each in found:
        state = model.feed(state, tokens) if each is None else model.replay(state, each)
    return state


def read(model: LanguageModel, text: Context, readers: int) -> Any:
    """The state after the text, as a run reads it."""
    if readers > 1:
        return replay(model, search(model, text, readers))
    state = model.start(1)
    for tokens in streams.blocks([text], 0, text.length, model.block):
        state = model.feed(state, tokens)
    return state


def same(model: LanguageModel, one: Any, other: Any) -> bool:
    """Whether two states are equal bit for bit."""
    one, other = model.pack(one), model.pack(other)
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


if __name__ == "__main__":
    sys.exit(main())
