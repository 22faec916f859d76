"""`atlas-bench train`: the recipe on tasks' lessons, resumed where it stopped, ending in a folder with a card."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch

from atlas_bench import __version__, registry, units
from atlas_bench.errors import UserError
from atlas_bench.files import locks, output_folder, text_files
from atlas_bench.kernels.cpu import matmul_precision
from atlas_bench.models import lm, loading, sizes
from atlas_bench.models.config import Config
from atlas_bench.models.decoder import Decoder
from atlas_bench.models.tokenizer import embedded
from atlas_bench.running import plan
from atlas_bench.tasks.lessons import Mixture
from atlas_bench.training import trackers
from atlas_bench.training.examine import accuracy, by_position, position_lines, validation
from atlas_bench.training.log import Log
from atlas_bench.training.loop import open_shares, train
from atlas_bench.training.processes import Processes, launched
from atlas_bench.training.recipe import Progress, Recipe, is_language, language
from atlas_bench.training.schedule import budget, left
from atlas_bench.training.texts import Texts, clean, open_texts
from atlas_bench.units import format_count, format_seconds

WARM_LENGTH = 1024  # first contexts of a run that begins from a trained model,
WARM_RATE = 1.0  # and its share of the rates there: a memory put in anew learns to bind half as fast at the recipe's
CLEAN_TOKENS = 16_384  # of each corpus, on which open gates are counted in training
EXAMINED_BACKGROUND = 131_072  # and at its end
EXAMINED = (4096, 16_384)  # lengths of the final check
LARGEST_RATE = 1000
PRECISION = {"cpu": "fp32", "cuda": "tf32"}  # of matrix products in training; the Triton kernels make them in tf32


def main(
    *, memory: str, out: Path, init: str | None, tokens: str | int | None, task: Sequence[str], seed: int,
    background: Sequence[str], encoding: str | None, hold_out: Sequence[str], size: str, attention_window: int | None,
    layers: int | None, placement: str, persistent: int, segment: int, screen: int, context: str | int, batch: int,
    fixed_schedule: bool, rate: float, validate: bool, log_to: Sequence[str], threads: int | None, device: str | None,
    shard_weights: bool, examine: bool, say: Callable[[str], Any],
) -> Path:  # fmt: skip
    """Trains a model into the folder `out` and returns it; continues if the folder has a checkpoint.

    memory            as the user writes it: a name of `list memories`, with options, or a file, which is executed
    init              model to begin from: what fits by name and shape is taken
    tokens            budget over all stages; None: the recipe's own
    task              as `run` takes them; each is drawn as often as others. 'loss:text' alone: a language model
    background        corpora in equal parts, one named twice doubly; none: generated prose where there is a background
    encoding          of the files of those that are folders, None for UTF-8
    hold_out          text files (without .txt) of folder corpora that training must not see
    size              a name of `list sizes`: layers, width, heads, MLP and attention window
    attention_window  tokens; 0 for full attention, None for the size's
    layers            of [attention, memory, MLP], None for the size's; 3 without a memory weigh as much as 2 with one
    placement         how attention and memory are joined, models/placement.py
    persistent        learnt tokens of each layer, always in sight
    segment           tokens that attention spans in placement "mac"
    screen            newest tokens that a gate before all write gates sees, models/screen.py; 0: no such gate
    context, batch    of a language model: tokens of a context, contexts in a step
    fixed_schedule    the same lessons whatever is learnt from them, recipe.py
    rate              factor on the recipe's learning rates
    validate          put the loss on held-out lessons into the card, by which rates can be chosen;
    examine           the accuracy on fresh contexts
    log_to            names of trackers.py, beside the log in the folder
    device            "cpu" or "cuda"; None: a GPU where torch sees one. A training goes on on either
    shard_weights     the processes share the weights too, loop.py
    """
    encoding = encoding and text_files.known(encoding)
    device = loading.checked(device, None)
    processes, starts = launched(device), trackers.chosen(log_to)
    say = say if processes.first else _silent
    output_folder.check(out)
    wanted = plan.subsets(",".join(task))
    if units.few(threads):
        torch.set_num_threads(threads)
    config = architecture(
        memory, size, attention_window, layers, vocab_size=embedded().vocab_size, placement=placement,
        n_persistent=persistent, segment=segment, screen=screen,
    )  # fmt: skip
    origin, warm = _beginning(init)
    recipe = recipe_of(
        wanted, seed=seed, tokens=tokens, rate=rate, origin=origin, fixed_schedule=fixed_schedule,
        context=units.parse_length(context), batch=batch, config=config,
    )  # fmt: skip
    texts = open_texts(wanted, background, hold_out, encoding, embedded())
    with _alone_in(out, processes, say), matmul_precision(PRECISION[device]):
        model, progress, figures = _trained(
            config, recipe, wanted, texts, out, warm, say, device=device, examine=examine, validate=validate,
            processes=processes, starts=starts, shard_weights=shard_weights,
        )  # fmt: skip
        if processes.first:
            card = describe_run(recipe, progress, texts.keys, list(hold_out), origin, figures, device)
            loading.save(out, model, card)
            say(f"saved {out / loading.WEIGHTS} and {out / loading.CARD}")
    return out


def _alone_in(out: Path, processes: Processes, say: Callable[[str], Any]) -> AbstractContextManager[Any]:
    """The folder's lock, which the first process holds for all."""
    if not processes.first:
        return nullcontext()
    return locks.held(out / ".lock", f"training into '{out}'", wait=True, say=partial(_warn, say))


@contextmanager
def _reporting(
    config: Config, recipe: Recipe, out: Path, starts: Mapping[str, trackers.Start], say: Callable[[str], Any],
    processes: Processes,
) -> Iterator[Callable[[Progress], Any]]:  # fmt: skip
    """What the first process does after each round: a printed line, one in the folder's log, the user's trackers."""
    if not processes.first:
        yield lambda progress: None
        return
    warn, about = partial(_warn, say), {**config.to_dict(), **asdict(recipe), "processes": processes.size}
    with trackers.tracking(starts, out, about, warn) as track:
        reports = (Reporter(recipe, say), Log(out, warn), track)
        yield lambda progress: [report(progress) for report in reports]


def architecture(memory: str, size: str, window: int | None, layers: int | None, **own: Any) -> Config:
    """A size's architecture with the memory that a user typed; its own window and layers where none are given."""
    name, options = registry.typed_memory(memory)
    given = {"attention_window": window, "n_layers": layers}
    own |= {field: value for field, value in given.items() if value is not None}
    return sizes.config(size, name, memory_options=options, **own)


def _warn(say: Callable[[str], Any], text: str) -> None:
    say(f"warning: {text}")


def _silent(line: str) -> None:
    """What the other processes say: the same as the first."""


def _trained(
    config: Config, recipe: Recipe, wanted: Mapping[str, Sequence[str]], texts: Texts, out: Path,
    warm: dict[str, torch.Tensor] | None, say: Callable[[str], Any], *, device: str, examine: bool, validate: bool,
    processes: Processes, starts: Mapping[str, trackers.Start], shard_weights: bool,
) -> tuple[Decoder, Progress, dict[str, Any]]:  # fmt: skip
    """The model trained on lessons of all tasks, and how it does on fresh contexts."""
    kinds = {
        name: registry.task(name).lessons(subsets, embedded(), recipe.seed, texts.training)
        for name, subsets in wanted.items()
    }
    reads = texts.training if not recipe.context else []  # what states nothing, where facts are learnt
    with _reporting(config, recipe, out, starts, say, processes) as report:
        model, progress = train(
            config, recipe, Mixture(list(kinds.values()), recipe.seed).seeded, out, device=processes.device or device,
            warm_start=warm, report=report, say=say, warn=partial(_warn, say),
            background=clean(reads, CLEAN_TOKENS) if reads else None, processes=processes, shard_weights=shard_weights,
        )  # fmt: skip
    processes.end()
    figures: dict[str, Any] = {}
    if not processes.first:
        return model, progress, figures
    for name, kind in kinds.items():
        for length in EXAMINED if examine and kind.examinations() else ():
            figures[f"{name} accuracy at {length}"] = accuracy(model, kind.examinations(), length)
    if validate:
        figures["validation"] = validation(model, [each for kind in kinds.values() for each in kind.examinations()])
    if reads and examine:
        figures["background_open"] = open_shares(model, clean(reads, EXAMINED_BACKGROUND))
    if recipe.context and examine:
        figures["loss_by_position"] = found = by_position(model, texts.held_out, embedded())
        for line in position_lines(found):
            say(line)
    return model, progress, figures


def recipe_of(
    wanted: Mapping[str, Sequence[str]],
    *,
    seed: int,
    tokens: str | int | None,
    fixed_schedule: bool,
    origin: dict[str, Any] | None,
    rate: float = 1.0,
    context: int = 0,
    batch: int = 0,
    config: Config = Config(),  # noqa: B008 - frozen
) -> Recipe:
    """The recipe for those tasks' subsets on a budget of tokens, from nothing or from a model that knows them."""
    named = tuple(f"{name}:{subset}" for name, subsets in wanted.items() for subset in subsets)
    if not 0 < units.amount("rate", rate) <= LARGEST_RATE:
        raise UserError(f"rate is {rate}. Give a factor above 0, and not above {LARGEST_RATE}; 1 is the recipe's own.")
    if is_language(wanted):
        recipe = replace(language(context, batch, config.attention_window), seed=seed, tasks=named)
    else:
        recipe = replace(Recipe(), seed=seed, tasks=named, paced=fixed_schedule)
    recipe = replace(recipe, muon_lr=recipe.muon_lr * rate, adam_lr=recipe.adam_lr * rate)
    if tokens is not None:
        recipe = recipe.within(units.parse_length(tokens))
    known = loading.taught(origin) if origin else set()
    if set(wanted) <= known and not recipe.context:  # what binds need not begin with a sentence or two
        recipe = replace(recipe, first_length=WARM_LENGTH, long_rate=WARM_RATE)
    if config.full_attention:  # a cache that grows is not passed on: those tokens are spent on whole contexts
        recipe = replace(recipe, mixed_tokens=recipe.mixed_tokens + recipe.stream_tokens, stream_tokens=0)
    return recipe


def _beginning(init: str | None) -> tuple[dict[str, Any] | None, dict[str, torch.Tensor] | None]:
    """What the card says of the model that training begins from, and its weights; (None, None) for none."""
    return (origin_of(init), loading.read_weights(loading.folder_of(init) / loading.WEIGHTS)) if init else (None, None)


def origin_of(init: str) -> dict[str, Any]:
    """What the card says of the model that training began from."""
    card = loading.card(init)
    return {
        "memory": card["config"]["memory"],
        "training_tokens": lm.training_tokens(card),
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
    device: str = "cpu",
) -> dict[str, Any]:
    """The card of a finished run, without the architecture."""
    return {
        "recipe": asdict(recipe),
        "initialised_from": origin,
        "training_tokens": progress.tokens,
        "training_minutes": round(progress.seconds / 60, 1),
        "skipped_steps": progress.skipped,
        "data": {"corpora": data, "held_out": hold_out},
        "history": progress.history,
        "final": {**progress.last, **figures},
        "hardware": {
            "machine": platform.machine(),
            "threads": torch.get_num_threads(),
            "device": device,
            "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
            "matmul_precision": PRECISION[device],
        },
        "versions": {
            "atlas_bench": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


class Reporter:
    """A plain line every ten seconds."""

    def __init__(self, recipe: Recipe, say):
        self.recipe, self.say, self.seconds, self.tokens = recipe, say, 0.0, 0

    def __call__(self, progress: Progress) -> None:
        if self.seconds and progress.seconds - self.seconds < 10:
            return
        elapsed = progress.seconds - self.seconds
        rate = (progress.tokens - self.tokens) / max(elapsed, 1e-9)
        seconds = left(self.recipe, progress) / rate
        last = progress.last
        self.say(
            f"{progress.stage:<10} {format_count(progress.tokens):>6} of {budget(self.recipe, progress)} tokens, about "
            f"{format_seconds(seconds)} left at {format_count(rate)}/s  length {progress.length}  "
            f"accuracy {last['accuracy']:.3f}  loss {last['loss']:.3f}  gates {last['write_rate']:.4f}"
        )
        if len(progress.kinds) > 1 or progress.open:
            kinds = "  ".join(f"{kind} {right:.2f}" for kind, right in sorted(progress.kinds.items()))
            shares = " ".join(f"{share:.2%}" for share in progress.open)
            self.say(f"           {kinds}  cost x{progress.cost:.1f}  background open {shares}")
        self.seconds, self.tokens = progress.seconds, progress.tokens
