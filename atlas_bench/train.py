"""The one fixed recipe by which every memory is trained, so that only the memory differs.

    dense    contexts of 64, 128, .. tokens, `tokens_per_step` of them a step, doubled when accuracy over the
             last steps passes `promote_at`
    stream   contexts of random length up to `stream_length`, read in segments; the state is passed on, the
             gradient is not; everything known so far is asked after each segment

Loss: cross-entropy of the answers, plus `write_cost` times the mean write gate, which closes the gates on
background. Matrices are trained by Muon, everything else by AdamW. The data of a round depends on the seed and
the round alone, so a killed run resumes at its last checkpoint as if it had never stopped.
"""

from __future__ import annotations

import json
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from atlas_bench.errors import UserError
from atlas_bench.models.decoder import Config, Decoder, State
from atlas_bench.tasks.lessons import Ask, Lessons, Segment


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run but the architecture; saved in the model's card."""

    version: str = "1"
    subsets: tuple[str, ...] = ("qa1",)
    seed: int = 0
    tokens_per_step: int = 2048
    first_length: int = 64
    dense_length: int = 512
    promote_at: float = 0.9
    promote_steps: int = 40
    dense_tokens: int = 12_000_000  # at most; the stage ends when dense_length is mastered
    stream_tokens: int = 24_000_000
    stream_batch: int = 8
    stream_segment: int = 512
    stream_rate: float = 0.5  # learning rates of the stream stage begin at this share and fall to a tenth of it
    stream_length: int = 65_536
    muon_lr: float = 0.01
    adam_lr: float = 2e-3
    warmup_steps: int = 50
    clip: float = 1.0
    write_cost: float = 0.05


@dataclass
class Progress:
    """Where a run stands; saved with each checkpoint."""

    stage: str = "dense"
    round: int = 0
    step: int = 0
    length: int = 64
    tokens: int = 0
    stage_tokens: int = 0
    seconds: float = 0.0
    recent: list[float] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)


def train(
    config: Config,
    recipe: Recipe,
    make_lessons: Callable[[int], Lessons],
    out: Path,
    *,
    warm_start: dict[str, Tensor] | None = None,
    report: Callable[[Progress, dict[str, float]], None] = lambda progress, figures: None,
    checkpoint_seconds: float = 60.0,
    until: float | None = None,
) -> tuple[Decoder, Progress]:
    """Trains (or goes on training) the model whose checkpoint lies in `out`; returns it with its history.

    make_lessons  lessons of one round, by a seed
    warm_start    weights to begin from; those of like name and shape are taken, the rest stays new
    until         time.time() at which to checkpoint and stop
    """
    torch.manual_seed(recipe.seed)
    model = Decoder(config)
    if warm_start is not None:
        transplant(model, warm_start)
    optimizers = make_optimizers(model, recipe)
    progress = Progress(length=recipe.first_length)
    out.mkdir(parents=True, exist_ok=True)
    if (out / "checkpoint.safetensors").exists():
        progress = restore(out, model, optimizers, config, recipe)
    window = deque(progress.recent, maxlen=recipe.promote_steps)
    saved = time.monotonic()
    while progress.stage != "done":
        if until is not None and time.time() > until:
            break
        began = time.monotonic()
        lessons = make_lessons(recipe.seed * 1_000_003 + progress.round)
        rng = random.Random(f"round {recipe.seed} {progress.round}")
        if progress.stage == "dense":
            batch, length = max(1, recipe.tokens_per_step // progress.length), progress.length
            segment = length
        else:
            batch, segment = recipe.stream_batch, recipe.stream_segment
            shortest = max(1, min(4, recipe.stream_length // segment))
            length = segment * int(2 ** rng.uniform(np.log2(shortest), np.log2(recipe.stream_length / segment)))
        state = None
        for segments in zip(*(lessons.stream(length, segment) for _ in range(batch)), strict=True):
            set_rates(optimizers, recipe, progress)
            figures, state = step(model, optimizers, segments, state, recipe)
            progress.step += 1
            progress.tokens += batch * segment
            progress.stage_tokens += batch * segment
            if figures["asked"]:
                window.append(figures["accuracy"])
        progress.round += 1
        progress.seconds += time.monotonic() - began
        progress.recent = list(window)
        figures["recent"] = float(np.mean(window)) if window else 0.0
        report(progress, figures)
        advance(progress, recipe, window)
        if time.monotonic() - saved > checkpoint_seconds or progress.stage == "done":
            save(out, model, optimizers, config, recipe, progress)
            saved = time.monotonic()
    save(out, model, optimizers, config, recipe, progress)
    return model, progress


def advance(progress: Progress, recipe: Recipe, window: deque[float]) -> None:
    """Doubles the length, or goes on to the next stage, when it is time."""
    if progress.stage == "dense":
        mastered = len(window) == window.maxlen and np.mean(window) >= recipe.promote_at
        if mastered:
            progress.history.append(
                {"stage": "dense", "length": progress.length, "tokens": progress.tokens, "seconds": progress.seconds}
            )
            window.clear()
            progress.length *= 2
        if progress.length > recipe.dense_length or progress.stage_tokens >= recipe.dense_tokens:
            progress.stage, progress.stage_tokens = "stream", 0
            window.clear()
    if progress.stage == "stream" and progress.stage_tokens >= recipe.stream_tokens:
        progress.stage = "done"


def step(
    model: Decoder,
    optimizers: Sequence[torch.optim.Optimizer],
    segments: Sequence[Segment],
    state: State | None,
    recipe: Recipe,
) -> tuple[dict[str, float], State]:
    """One optimiser step on one segment of every row; returns figures and the detached state."""
    tokens = torch.from_numpy(np.stack([segment.tokens for segment in segments])).long()
    _, state = model(tokens, state, output=False)
    write_rate = model.write_rate()
    asks = [(row, ask) for row, segment in enumerate(segments) for ask in segment.asks]
    figures = {"asked": len(asks), "accuracy": 0.0, "answer_loss": 0.0, "write_rate": float(write_rate.detach())}
    loss = recipe.write_cost * write_rate
    if asks:
        answer_loss, correct = ask_all(model, state, asks)
        loss = loss + answer_loss
        figures["accuracy"], figures["answer_loss"] = float(correct.float().mean()), float(answer_loss.detach())
    if loss.requires_grad:
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        figures["gradient_norm"] = float(norm)
        if torch.isfinite(norm):
            for optimizer in optimizers:
                optimizer.step()
    return figures, detach(state)


def ask_all(model: Decoder, state: State, asks: Sequence[tuple[int, Ask]]) -> tuple[Tensor, Tensor]:
    """Loss of the answers and which were right, each question put to a fork of its row's state."""
    rows = torch.tensor([row for row, _ in asks])
    width = max(len(ask.question) + len(ask.answer) for _, ask in asks) - 1
    tokens = torch.zeros(len(asks), width, dtype=torch.long)
    targets = torch.full((len(asks), width), -100)
    for i, (_, ask) in enumerate(asks):
        both = ask.question + ask.answer
        tokens[i, : len(both) - 1] = torch.tensor(both[:-1])
        targets[i, len(ask.question) - 1 : len(both) - 1] = torch.tensor(ask.answer)
    forks = [{k: {n: x[rows] for n, x in part.items()} for k, part in layer.items()} for layer in state]
    hidden, _ = model(tokens, forks)
    asked = targets != -100
    logits = model.logits(hidden[asked])
    right = torch.ones_like(asked)
    right[asked] = logits.detach().argmax(-1) == targets[asked]
    return F.cross_entropy(logits, targets[asked]), right.all(1)


def make_optimizers(model: Decoder, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks; AdamW for embeddings, gates, vectors and fast-weight beginnings."""
    matrices, others = [], []
    for name, parameter in model.named_parameters():
        matrix = parameter.dim() == 2 and name.startswith("blocks") and ".gate." not in name and "bias" not in name
        (matrices if matrix else others).append(parameter)
    return [
        torch.optim.Muon(matrices, lr=recipe.muon_lr, weight_decay=0.0),
        torch.optim.AdamW(others, lr=recipe.adam_lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def set_rates(optimizers: Sequence[torch.optim.Optimizer], recipe: Recipe, progress: Progress) -> None:
    """Linear warm-up; in the stream stage a linear fall to a tenth."""
    factor = min(1.0, (progress.step + 1) / recipe.warmup_steps)
    if progress.stage == "stream":
        left = 1 - progress.stage_tokens / recipe.stream_tokens
        factor *= recipe.stream_rate * max(0.1, left)
    for optimizer, rate in zip(optimizers, (recipe.muon_lr, recipe.adam_lr), strict=True):
        for group in optimizer.param_groups:
            group["lr"] = rate * factor


def transplant(model: Decoder, weights: dict[str, Tensor]) -> list[str]:
    """Copies the weights that fit by name and shape into the model; returns their names."""
    own = model.state_dict()
    taken = {name: x for name, x in weights.items() if name in own and own[name].shape == x.shape}
    model.load_state_dict({**own, **taken})
    return sorted(taken)


def detach(state: State) -> State:
    """The state without its past."""
    return [{k: {n: x.detach() for n, x in part.items()} for k, part in layer.items()} for layer in state]


# Checkpoints -------------------------------------------------------------------------------------


def save(out: Path, model, optimizers, config: Config, recipe: Recipe, progress: Progress) -> None:
    """Writes weights, optimiser state and progress as one file, atomically."""
    tensors = {f"model.{name}": x for name, x in model.state_dict().items()}
    for i, optimizer in enumerate(optimizers):
        for j, entry in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{j}.{name}": torch.as_tensor(x) for name, x in entry.items()}
    meta = {"config": config.to_dict(), "recipe": asdict(recipe), "progress": asdict(progress)}
    new = out / "checkpoint.tmp"
    save_file({k: x.contiguous().clone() for k, x in tensors.items()}, new, {"meta": json.dumps(meta)})
    new.replace(out / "checkpoint.safetensors")


def restore(out: Path, model, optimizers, config: Config, recipe: Recipe) -> Progress:
    """Loads what save() wrote; a checkpoint of another run is an error."""
    from safetensors import safe_open

    path = out / "checkpoint.safetensors"
    with safe_open(path, "pt") as file:
        meta = json.loads(file.metadata()["meta"])
    wanted = json.loads(json.dumps({"config": config.to_dict(), "recipe": asdict(recipe)}))
    for part in ("config", "recipe"):
        different = [k for k in wanted[part] if meta[part].get(k) != wanted[part][k]]
        if different:
            raise UserError(
                f"checkpoint {path} is of another run: {part} differs in {', '.join(different)}."
                f" Train into an empty folder, or give the same options to go on."
            )
    tensors = load_file(path)
    model.load_state_dict({k[6:]: x for k, x in tensors.items() if k.startswith("model.")})
    for i, optimizer in enumerate(optimizers):
        entries: dict[int, dict[str, Tensor]] = {}
        for name, x in tensors.items():
            if name.startswith(f"optimizer.{i}."):
                _, _, j, key = name.split(".", 3)
                entries.setdefault(int(j), {})[key] = x
        optimizer.load_state_dict({**optimizer.state_dict(), "state": entries})
    return Progress(**meta["progress"])
