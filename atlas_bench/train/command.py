"""`atlas-bench train`: the recipe on real data, resumed where it stopped, ending in a model folder with its card."""

from __future__ import annotations

import inspect
import platform
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from atlas_bench import __version__, registry
from atlas_bench.errors import UserError, did_you_mean
from atlas_bench.models import loading
from atlas_bench.models.decoder import Config, Decoder
from atlas_bench.models.tokenizer import embedded
from atlas_bench.tasks import babi, corpora
from atlas_bench.tasks.lessons import Lessons
from atlas_bench.train.loop import ask_all, train
from atlas_bench.train.recipe import Progress, Recipe

WARM_LENGTH = 1024  # first contexts of a run that begins from a trained model
EXAMINED = (4096, 16_384)  # lengths of the final check


def main(
    *,
    memory: str,
    out: Path,
    init: str | None = None,
    tokens: int | None = None,
    subsets: Sequence[str] = ("qa1",),
    seed: int = 0,
    backgrounds: Sequence[str] = ("generated",),
    hold_out: Sequence[str] = (),
    attention_window: int = 16,
    layers: int = 2,
    threads: int | None = None,
    say=print,
) -> Path:
    """Trains a model into the folder `out` and returns it; a folder with a checkpoint is gone on with.

    memory            a name of `list memories`
    init              model to begin from: what fits by name and shape is taken
    tokens            budget over all stages; None: the recipe's own
    backgrounds       corpora that contexts are drawn from, in equal parts; naming one twice doubles it
    hold_out          text files (without .txt) of folder corpora that training must not see
    attention_window  tokens; 0 for full attention
    layers            of [attention, memory, MLP]; 3 without a memory have as many weights as 2 with one
    """
    registry.memory(memory)
    for subset in subsets:
        if subset not in babi.SUBSETS:
            raise UserError(
                f"there is no bAbI simulator '{subset}'.{did_you_mean(subset, babi.SUBSETS)} "
                f"Known: {', '.join(babi.SUBSETS)}."
            )
    if threads:
        torch.set_num_threads(threads)
    config = Config(
        memory=memory,
        memory_options=default_options(memory),
        attention_window=attention_window,
        n_layers=layers,
    )
    recipe = replace(Recipe(), seed=seed, subsets=tuple(subsets))
    if tokens is not None:
        recipe = recipe.within(tokens)
    if init:  # what has learnt to bind need not begin with a sentence or two
        recipe = replace(recipe, first_length=WARM_LENGTH)
    if not attention_window:  # a cache that grows is not passed on: those tokens are spent on whole contexts
        recipe = replace(recipe, mixed_tokens=recipe.mixed_tokens + recipe.stream_tokens, stream_tokens=0)
    tokenizer = embedded()
    opened = {spec: open_corpus(spec, tokenizer, hold_out) for spec in backgrounds}
    warm = loading.read_weights(loading.folder_of(init) / loading.WEIGHTS) if init else None
    origin = origin_of(init) if init else None
    lessons = Lessons(recipe.subsets, [opened[spec] for spec in backgrounds], tokenizer, seed)
    model, progress = train(config, recipe, lessons.seeded, out, warm_start=warm, report=Reporter(recipe, say))
    figures = {
        f"accuracy at {length}": examine(model, recipe.subsets, opened, tokenizer, length) for length in EXAMINED
    }
    data = {Path(spec).name: corpus.key for spec, corpus in opened.items()}
    about = describe_run(recipe, progress, data, list(hold_out), origin, figures)
    loading.save(out, model, about)
    say(f"saved {out / loading.WEIGHTS} and {out / loading.CARD}")
    return out


def default_options(memory: str) -> dict[str, Any]:
    """A memory's own options with their defaults: the card says them, so that a later default changes no model."""
    variant = registry.memory(memory)
    if variant is None or "__init__" not in vars(variant):
        return {}
    parameters = inspect.signature(variant).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def open_corpus(spec: str, tokenizer: Any, hold_out: Sequence[str]) -> corpora.Corpus:
    """A corpus as `run --background` knows it; of a folder, without the held-out files."""
    if spec in ("generated", "pg19") or not hold_out:
        return corpora.open_corpus(spec, tokenizer)
    return corpora.folder(spec, tokenizer, exclude=tuple(hold_out))


def origin_of(init: str) -> dict[str, Any]:
    """What the card tells of the model that training began from."""
    card = loading.card(init)
    return {
        "memory": card["config"]["memory"],
        "training_tokens": card.get("training_tokens"),
        "recipe": card.get("recipe"),
        "history": card.get("history"),
        "weights_hash": loading.weights_hash(loading.folder_of(init)),
    }


def describe_run(
    recipe: Recipe,
    progress: Progress,
    data: dict[str, str],
    hold_out: list[str],
    origin: dict[str, Any] | None,
    figures: dict,
) -> dict[str, Any]:
    """The card of a finished run, without the architecture."""
    return {
        "recipe": asdict(recipe),
        "initialised_from": origin,
        "training_tokens": progress.tokens,
        "training_minutes": round(progress.seconds / 60, 1),
        "data": {"corpora": data, "held_out": hold_out},
        "history": progress.history,
        "final": {**progress.last, **figures},
        "hardware": {"machine": platform.machine(), "threads": torch.get_num_threads(), "device": "cpu"},
        "versions": {
            "atlas_bench": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def examine(
    model: Decoder, subsets: Sequence[str], opened: dict[str, corpora.Corpus], tokenizer: Any, length: int
) -> dict[str, float]:
    """Accuracy on 16 fresh contexts of each corpus, unsalted; generated background from shards never trained on."""
    right: list[bool] = []
    block = 4096
    for corpus in opened.values():
        lessons = Lessons(subsets, [corpus], tokenizer, 99, salt=0, counterfeits=0, first_shard=0)
        state = None
        with torch.inference_mode():
            for segments in zip(*(lessons.stream(length, block) for _ in range(16)), strict=True):
                tokens = torch.from_numpy(np.stack([segment.tokens for segment in segments])).long()
                _, state = model(tokens, state, output=False)
            asks = [(row, ask) for row, segment in enumerate(segments) for ask in segment.asks]
            if asks:
                right += ask_all(model, state, asks)[1].tolist()
    return {"correct": sum(right), "n": len(right)}


class Reporter:
    """A plain line every ten seconds."""

    def __init__(self, recipe: Recipe, say):
        self.recipe, self.say, self.seconds, self.tokens = recipe, say, 0.0, 0

    def __call__(self, progress: Progress) -> None:
        if self.seconds and progress.seconds - self.seconds < 10:
            return
        elapsed = progress.seconds - self.seconds
        rate = (progress.tokens - self.tokens) / max(elapsed, 1e-9)
        last = progress.last
        self.say(
            f"{progress.stage:<10} length {progress.length:>5}  {progress.tokens / 1e6:7.2f}M tokens  "
            f"{rate / 1e3:5.1f}k/s  accuracy {last['accuracy']:.3f}  loss {last['loss']:.3f}  "
            f"gates {last['write_rate']:.4f}"
        )
        self.seconds, self.tokens = progress.seconds, progress.tokens
