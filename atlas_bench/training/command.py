"""`atlas-bench train`: the recipe on tasks' lessons, resumed where it stopped, ending in a folder with a card."""

from __future__ import annotations

import platform
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from atlas_bench import __version__, registry, units
from atlas_bench.errors import UserError, did_you_mean
from atlas_bench.files import locks, text_files
from atlas_bench.files.home import expanded
from atlas_bench.kernels.cpu import matmul_precision
from atlas_bench.models import lm, loading
from atlas_bench.models.config import Config
from atlas_bench.models.decoder import Decoder
from atlas_bench.models.tokenizer import embedded
from atlas_bench.results import store
from atlas_bench.results.record import clip
from atlas_bench.running import plan
from atlas_bench.tasks import corpora, haystack
from atlas_bench.tasks.lessons import Lessons, Mixture
from atlas_bench.training.loop import open_shares, train
from atlas_bench.training.recipe import Progress, Recipe
from atlas_bench.training.step import ask_all, tag_all, token_rows

WARM_LENGTH = 1024  # first contexts of a run that begins from a trained model,
WARM_RATE = 1.0  # and its share of the rates there: a memory put in anew learns to bind half as fast at the recipe's
CLEAN_TOKENS = 16_384  # of each corpus, on which open gates are counted in training
EXAMINED_BACKGROUND = 131_072  # and at its end
EXAMINED = (4096, 16_384)  # lengths of the final check
VALIDATED = (1024, 4096)  # lengths of the contexts that rates are chosen by,
VALIDATION_CONTEXTS, VALIDATION_SEGMENT = 8, 512  # so many of each, that many tokens at a time
LARGEST_RATE = 1000
PRECISION = {"cpu": "fp32", "cuda": "tf32"}  # of matrix products in training; the Triton kernels make them in tf32
NO_FOLDERS = ("generated", "pg19")  # backgrounds by name


def main(
    *, memory: str, out: Path, init: str | None, tokens: str | int | None, task: Sequence[str], seed: int,
    background: Sequence[str], encoding: str | None, hold_out: Sequence[str], attention_window: int, layers: int,
    placement: str, persistent: int, segment: int, screen: int, fixed_schedule: bool, rate: float, validate: bool,
    threads: int | None, device: str | None, examine: bool, say: Callable[[str], Any],
) -> Path:  # fmt: skip
    """Trains a model into the folder `out` and returns it; continues if the folder has a checkpoint.

    memory            as the user writes it: a name of `list memories`, with options, or a file, which is executed
    init              model to begin from: what fits by name and shape is taken
    tokens            budget over all stages; None: the recipe's own
    task              as `run` takes them, 'mqar:8,babilong:qa1'; a context is of one task's, all equally likely
    background        corpora that contexts are drawn from, in equal parts; naming one twice doubles it;
                      none: generated prose where a task has a background
    encoding          of the files of those that are folders, None for UTF-8
    hold_out          text files (without .txt) of folder corpora that training must not see
    attention_window  tokens; 0 for full attention
    layers            of [attention, memory, MLP]; 3 without a memory have as many weights as 2 with one
    placement         how attention and memory are joined, models/placement.py
    persistent        learnt tokens of each layer, always in sight
    segment           tokens that attention spans in placement "mac"
    screen            newest tokens that a gate before all write gates sees, models/screen.py; 0: no such gate
    fixed_schedule    the same lessons whatever is learnt from them, recipe.py
    rate              factor on the recipe's learning rates
    validate          put the loss on held-out lessons into the card, by which rates can be chosen
    device            "cpu" or "cuda"; None: a GPU where torch sees one. A training goes on on either
    examine           ask the trained model about fresh contexts, and put its accuracy into the card
    """
    name, options = registry.typed_memory(memory)
    tokens = None if tokens is None else units.parse_length(tokens)
    encoding = encoding and text_files.known(encoding)
    device = loading.checked(device, None)
    store.check_writable(out)
    wanted = plan.subsets(",".join(task))
    backgrounds = _backgrounds(wanted, background, hold_out, encoding)
    if units.few(threads):
        torch.set_num_threads(threads)
    config = Config(
        memory=name, memory_options=options, attention_window=attention_window, n_layers=layers, placement=placement,
        n_persistent=persistent, segment=segment, screen=screen,
    )  # fmt: skip
    origin = origin_of(init) if init else None
    recipe = recipe_of(wanted, seed=seed, tokens=tokens, fixed_schedule=fixed_schedule, origin=origin, rate=rate)
    if config.full_attention:  # a cache that grows is not passed on: those tokens are spent on whole contexts
        recipe = replace(recipe, mixed_tokens=recipe.mixed_tokens + recipe.stream_tokens, stream_tokens=0)
    opened = {spec: open_corpus(spec, embedded(), hold_out, encoding) for spec in backgrounds}
    warm = loading.read_weights(loading.folder_of(init) / loading.WEIGHTS) if init else None
    data = {Path(spec).name: corpus.key for spec, corpus in opened.items()}
    with locks.held(out / ".lock", f"training into '{out}'", wait=True, say=lambda text: say(f"warning: {text}")):
        texts = [opened[spec] for spec in backgrounds]
        with matmul_precision(PRECISION[device]):
            model, progress, figures = _trained(
                config, recipe, wanted, texts, out, warm, say, device=device, examine=examine, validate=validate
            )
        loading.save(out, model, describe_run(recipe, progress, data, list(hold_out), origin, figures, device))
    say(f"saved {out / loading.WEIGHTS} and {out / loading.CARD}")
    return out


def _backgrounds(
    wanted: Iterable[str], background: Sequence[str], hold_out: Sequence[str], encoding: str | None
) -> list[str]:
    """The backgrounds to train on; UserError for a task without lessons, and for options that nothing would read."""
    plan.check_lessons(wanted)
    reading = any(map(registry.reads_text, wanted))
    if not reading and (background or hold_out):
        raise UserError(
            f"{', '.join(wanted)} has no background, so '{(*background, *hold_out)[0]}' would not be read. "
            "Leave --background and --hold-out out."
        )
    backgrounds = list(background) or ["generated"] * reading
    if encoding and set(backgrounds) <= set(NO_FOLDERS):
        raise UserError(
            f"--encoding '{encoding}' would do nothing: no --background is a folder of texts. Leave it out."
        )
    check_held_out(hold_out, backgrounds)
    return backgrounds


def _trained(
    config: Config, recipe: Recipe, wanted: Mapping[str, Sequence[str]], texts: Sequence[corpora.Corpus], out: Path,
    warm: dict[str, torch.Tensor] | None, say: Callable[[str], Any], *, device: str, examine: bool, validate: bool,
) -> tuple[Decoder, Progress, dict[str, Any]]:  # fmt: skip
    """The model trained on lessons of all tasks, and how it does on fresh contexts."""
    kinds = {
        name: registry.task(name).lessons(subsets, embedded(), recipe.seed, texts) for name, subsets in wanted.items()
    }
    model, progress = train(
        config, recipe, Mixture(list(kinds.values()), recipe.seed).seeded, out, device=device, warm_start=warm,
        report=Reporter(recipe, say), warn=lambda message: say(f"warning: {message}"),
        background=clean(texts, CLEAN_TOKENS) if texts else None,
    )  # fmt: skip
    figures: dict[str, Any] = {
        f"{name} accuracy at {length}": accuracy(model, kind.examinations(), length)
        for name, kind in kinds.items()
        for length in (EXAMINED if examine else ())
    }
    if validate:
        figures["validation"] = validation(model, [each for kind in kinds.values() for each in kind.examinations()])
    if texts and examine:
        figures["background_open"] = open_shares(model, clean(texts, EXAMINED_BACKGROUND))
    return model, progress, figures


def recipe_of(
    wanted: Mapping[str, Sequence[str]],
    *,
    seed: int,
    tokens: int | None,
    fixed_schedule: bool,
    origin: dict[str, Any] | None,
    rate: float = 1.0,
) -> Recipe:
    """The recipe for those tasks' subsets on a budget of tokens, from nothing or from a model that knows them."""
    named = tuple(f"{name}:{subset}" for name, subsets in wanted.items() for subset in subsets)
    if not 0 < units.amount("rate", rate) <= LARGEST_RATE:
        raise UserError(f"rate is {rate}. Give a factor above 0, and not above {LARGEST_RATE}; 1 is the recipe's own.")
    recipe = replace(Recipe(), seed=seed, tasks=named, paced=fixed_schedule)
    recipe = replace(recipe, muon_lr=recipe.muon_lr * rate, adam_lr=recipe.adam_lr * rate)
    if tokens is not None:
        recipe = recipe.within(tokens)
    known = loading.taught(origin) if origin else set()
    if set(wanted) <= known:  # what binds need not begin with a sentence or two
        recipe = replace(recipe, first_length=WARM_LENGTH, long_rate=WARM_RATE)
    return recipe


def check_held_out(names: Sequence[str], backgrounds: Sequence[str]) -> None:
    """Raise UserError for a text that no background folder has: the card would say that it was held out."""
    folders = [spec for spec in backgrounds if spec not in NO_FOLDERS]
    if names and not folders:
        raise UserError(f"--hold-out '{names[0]}': no --background is a folder of texts. Name one, or leave it out.")
    texts = sorted({file.stem for spec in folders for file in expanded(spec).rglob("*.txt")})
    for name in names if texts else ():  # a folder without a text is refused when it is opened
        if name not in texts:
            where, known = ", ".join(folders), clip(", ".join(texts), 400)
            raise UserError(
                f"--hold-out '{name}': no {name}.txt in {where}.{did_you_mean(name, texts)} There are: {known}."
            )


def open_corpus(spec: str, tokenizer: Any, hold_out: Sequence[str], encoding: str | None = None) -> corpora.Corpus:
    """A corpus as for `run --background`; a folder without its held-out files."""
    if spec in NO_FOLDERS or not hold_out:
        return corpora.open_corpus(spec, tokenizer, encoding)
    return corpora.folder(spec, tokenizer, encoding, exclude=tuple(hold_out))


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


def clean(texts: Sequence[corpora.Corpus], length: int) -> np.ndarray:
    """[corpora, length] tokens of background that states nothing; of a generated corpus, what training never reads."""
    rows = []
    for corpus in dict.fromkeys(texts):
        spans = haystack.background(corpus, length, random.Random("clean background"))
        rows.append(haystack.Pieces(corpus, spans).read(0, length))
    return np.stack(rows)


def accuracy(model: Decoder, examinations: Iterable[Lessons], length: int) -> dict[str, Any]:
    """{"correct", "n", "kinds": {kind: [correct, n]}} of the questions at the end of 16 contexts of each examination.

    The scored answers of the last block of a context with answers along it. Auxiliary questions are left out.
    """
    kinds: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    block = 4096
    for lessons in examinations:
        state = None
        with torch.inference_mode():
            for segments in zip(*(lessons.stream(length, block) for _ in range(16)), strict=True):
                tokens = token_rows(model, [segment.tokens for segment in segments])
                tags = [segment.tags for segment in segments]
                hidden, state = model(tokens, state, output=any(tags))
            asks = [(row, ask) for row, segment in enumerate(segments) for ask in segment.asks if not ask.auxiliary]
            right = ask_all(model, state, asks)[1].tolist() if asks else ()
            answers = list(zip([ask.kind for _, ask in asks], right, strict=True))
            if any(tags):
                answers += tag_all(model, hidden, tags)[2]
            for kind, is_right in answers:
                kinds[kind][0] += is_right
                kinds[kind][1] += 1
    correct, n = (sum(tally[i] for tally in kinds.values()) for i in (0, 1))
    return {"correct": correct, "n": n, "kinds": dict(kinds)}


@torch.inference_mode()
def validation(model: Decoder, examinations: Iterable[Lessons], lengths: Sequence[int] = VALIDATED) -> dict[str, Any]:
    """{"loss", "accuracy", "n"} of the answers to all questions on lessons that training never draws.

    As in training, contexts are read in segments and asked after each; loss is the mean cross-entropy of an answer's
    tokens. The lessons are the same for every model, and none of them is asked in an evaluation.
    """
    loss = right = asked = 0.0
    for lessons in examinations:
        for length in lengths:
            state = None
            contexts = [lessons.stream(length, VALIDATION_SEGMENT) for _ in range(VALIDATION_CONTEXTS)]
            for segments in zip(*contexts, strict=True):
                _, state = model(token_rows(model, [each.tokens for each in segments]), state, output=False)
                asks = [(row, ask) for row, each in enumerate(segments) for ask in each.asks if not ask.auxiliary]
                if asks:
                    mean, correct = ask_all(model, state, asks)
                    loss, right = loss + float(mean) * len(asks), right + int(correct.sum())
                    asked += len(asks)
    return {"loss": loss / asked if asked else None, "accuracy": right / max(asked, 1), "n": int(asked)}


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
        if len(progress.kinds) > 1 or progress.open:
            kinds = "  ".join(f"{kind} {right:.2f}" for kind, right in sorted(progress.kinds.items()))
            shares = " ".join(f"{share:.2%}" for share in progress.open)
            self.say(f"           {kinds}  cost x{progress.cost:.1f}  background open {shares}")
        self.seconds, self.tokens = progress.seconds, progress.tokens
