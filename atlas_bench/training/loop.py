"""The training loop: rounds of contexts, one optimiser step after another, with checkpoints."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atlas_bench.errors import UserError, reason
from atlas_bench.files import checkpoint_file
from atlas_bench.kernels.cpu import keep_freed_memory
from atlas_bench.models.config import Config
from atlas_bench.models.decoder import Decoder
from atlas_bench.models.lm import is_finite
from atlas_bench.tasks.lessons import Lessons, reach, weigh
from atlas_bench.training import checkpoint, muon
from atlas_bench.training.interrupts import ended_by_rounds
from atlas_bench.training.optimizers import Optimizers
from atlas_bench.training.processes import ALONE, Processes
from atlas_bench.training.recipe import Progress, Recipe
from atlas_bench.training.schedule import advance, budget, plan_round, set_cost, set_rates, summed
from atlas_bench.training.step import count_skipped, step, token_rows
from atlas_bench.units import format_count

COUNT_SECONDS = 300  # between two counts of open gates on background


@dataclass
class _Training:
    """A training in progress: the contents of a checkpoint, and the tallies of the last steps."""

    config: Config
    recipe: Recipe
    out: Path
    model: Decoder
    optimizers: Optimizers
    progress: Progress
    processes: Processes
    kept: int | None = None  # tokens of the checkpoint in `out`, None for no checkpoint
    window: deque[dict[str, list[int]]] = field(init=False)

    def __post_init__(self) -> None:
        self.window = deque(self.progress.recent, maxlen=self.recipe.promote_steps)


def train(
    config: Config,
    recipe: Recipe,
    make_lessons: Callable[[int], Lessons],
    out: Path,
    *,
    warm_start: dict[str, Tensor] | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
    say: Callable[[str], Any] = lambda message: None,
    warn: Callable[[str], Any] = lambda message: None,
    background: np.ndarray | None = None,
    checkpoint_seconds: float = 60.0,
    until: float | None = None,
    device: str = "cpu",
    processes: Processes = ALONE,
    shard_weights: bool = False,
) -> tuple[Decoder, Progress]:
    """Trains (or goes on training) the model whose checkpoint lies in `out`; returns it with its history.

    make_lessons  lessons of one round, by a seed
    warm_start    weights to begin from; those of like name and shape are taken, the rest stays new
    say           is told that training stops after the round
    warn          is given a message where a checkpoint cannot be used, or cannot be written: neither ends the training
    background    [B, T] tokens that state nothing; the share of them that is written is taken every few minutes
    until         time.monotonic() of the first process at which to checkpoint and stop
    device        of torch, where the model trains. A checkpoint of one device goes on on another; weights begin alike
                  on all, but noise is drawn on the device, so that only one device's trainings equal each other
    processes     that share the training; all of them call this with the same arguments
    shard_weights deals out the weights too, where all processes have to do the same: running text, equally shared

    Raises UserError for a checkpoint of another run, one that not all processes see, and where training diverges.
    On Ctrl-C in any process the round is finished and a checkpoint saved; then KeyboardInterrupt is raised, which says
    where the same call goes on.
    """
    if shard_weights:
        _check_shardable(recipe, processes.size)
    keep_freed_memory()
    dtype = processes.gathered(muon.fastest_dtype(torch.device(device).type))[0]  # measured: two might not agree
    with processes.in_turn():  # the first one puts a damaged checkpoint aside
        run = _begun(config, recipe, out, device, warm_start, warn, processes, dtype, shard_weights)
    _check_alike(run)
    try:
        with ended_by_rounds(say) as asked:
            stopped = _read_rounds(run, make_lessons, report, warn, background, checkpoint_seconds, until, asked)
        if stopped:
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_where_it_stopped(run)) from None
    run.optimizers.zero_grad()
    return _averaged(run), run.progress


def _read_rounds(
    run: _Training, make_lessons: Callable[[int], Lessons], report: Callable[[Progress], None],
    warn: Callable[[str], Any], background: np.ndarray | None, checkpoint_seconds: float, until: float | None,
    asked: Callable[[], bool],
) -> bool:  # fmt: skip
    """Train until the recipe or the time is over, or a user interrupts a process; return whether one did."""
    progress, processes, failure, stopped = run.progress, run.processes, "", False
    saved, counted = processes.gathered(time.monotonic())[0], -math.inf
    while progress.stage != "done" and not stopped:
        if until is not None and processes.gathered(time.monotonic())[0] > until:
            break
        _read_round(run, make_lessons)
        now = processes.gathered(time.monotonic())[0]  # the first one's clock decides for all
        if background is not None and now - counted > COUNT_SECONDS:
            _count_open(run, background)
            counted = now
        report(progress)
        advance(progress, run.recipe, run.window)
        stopped = any(processes.gathered(asked()))
        if now - saved > checkpoint_seconds or progress.stage == "done":
            failure, saved = _save(run, failure, warn), now
    _save(run, failure, warn)
    return stopped


def _where_it_stopped(run: _Training) -> str:
    """What an interrupted training tells the user: how far it came, and where the same command goes on."""
    where = f"stopped at {format_count(run.progress.tokens)} of {budget(run.recipe, run.progress)} tokens"
    if run.kept is None:
        return f"{where}, before a checkpoint was saved: the same command begins again."
    if run.kept == run.progress.tokens:
        return f"{where}; the same command goes on from there."
    return f"{where}; the same command goes on from the last checkpoint, at {format_count(run.kept)}."


def _check_shardable(recipe: Recipe, size: int) -> None:
    """Raise UserError where some process would call the model less often than others, which would wait for it."""
    if size == 1:
        raise UserError(
            "--shard-weights: this process trains alone. Leave it out, or launch several: accelerate launch "
            "--num_processes 2 -m atlas_bench train .."
        )
    if not recipe.context or recipe.contexts % size:
        raise UserError(
            f"--shard-weights: {recipe.contexts} contexts cannot be shared equally by {size} processes, so that some "
            f"would wait for others. Give a --batch that is a multiple of {size}, and --task loss:text."
        )


def _averaged(run: _Training) -> Decoder:
    """A model of its own with the average weights, in the first process; in the others, the one that they train."""
    average = run.optimizers.whole(run.optimizers.average)
    if not run.processes.first:
        return run.model
    with torch.random.fork_rng(devices=[]):  # its first weights must not change the noise of the next round
        model = Decoder(run.config).to(run.model.device)
    model.load_state_dict({**dict(run.model.named_buffers()), **average}, strict=False)
    return model.requires_grad_(False)


def _begun(
    config: Config, recipe: Recipe, out: Path, device: str, warm_start: dict[str, Tensor] | None,
    warn: Callable[[str], Any], processes: Processes, dtype: torch.dtype, shard_weights: bool,
) -> _Training:  # fmt: skip
    """The training whose checkpoint lies in `out`, or a new one."""
    torch.manual_seed(recipe.seed)
    model = Decoder(config)  # drawn on the CPU, so that every device begins from the same weights
    if warm_start is not None:
        transplant(model, warm_start)
    model = model.to(device)
    if shard_weights:
        processes.shard(model)
    optimizers = Optimizers(model, recipe, processes, dtype=dtype)
    progress, kept = Progress(length=recipe.first_length), None
    out.mkdir(parents=True, exist_ok=True)
    path = out / checkpoint.FILE
    if path.exists():
        try:
            progress = checkpoint.restore(out, model, optimizers, config, recipe)
            kept = progress.tokens
        except checkpoint_file.Damaged as error:
            aside = checkpoint_file.put_aside(path)
            warn(f"checkpoint '{path}' cannot be used: {error}. It is now '{aside}'. Training begins again.")
    return _Training(config, recipe, out, model, optimizers, progress, processes, kept)


def _check_alike(run: _Training) -> None:
    """Raise UserError where the processes do not all begin at one place."""
    rounds = run.processes.gathered(run.progress.round)
    if len(set(rounds)) > 1:
        raise UserError(
            f"the processes of this training found checkpoints of different rounds in '{run.out}': "
            f"{', '.join(map(str, rounds))}. Choose a folder on a file system that all machines share."
        )


def _read_round(run: _Training, make_lessons: Callable[[int], Lessons]) -> None:
    """Train on one round of contexts, all of one length."""
    recipe, progress = run.recipe, run.progress
    began, seed = time.monotonic(), recipe.seed * 1_000_003 + progress.round
    lessons = make_lessons(seed)
    reach(lessons, progress.tokens)
    if not recipe.paced:
        weigh(lessons, progress.kinds)
    torch.manual_seed(seed)
    run.model.set_gate_noise(0.0 if progress.stage == "curriculum" else recipe.gate_noise, run.processes.noise)
    length, batch = plan_round(recipe, progress)
    segment, state = min(recipe.segment, length), None
    streams = zip(*(lessons.stream(length, segment) for _ in range(batch)), strict=True)
    while segments := list(islice(streams, max(1, recipe.longest // segment))):
        set_rates(run.optimizers, recipe, progress)
        figures, state = step(run.optimizers, segments, state, recipe, progress)
        run.optimizers.follow(min(recipe.average, progress.step / (progress.step + 10)))
        progress.step += 1
        for count in ("tokens", "stage_tokens", "length_tokens"):
            setattr(progress, count, getattr(progress, count) + batch * segment * len(segments))
        if tally := figures.pop("kinds"):
            run.window.append(tally)
        count_skipped(progress, figures)
        set_cost(progress, recipe)
        finite = run.processes.gathered(state is None or is_finite(state))
        if not all(finite):  # nothing can be learnt from the rest of these contexts
            break
    progress.round += 1
    progress.seconds += time.monotonic() - began
    progress.recent = list(run.window)
    progress.kinds, accuracy = summed(run.window)
    state_bytes = max(run.processes.gathered(run.optimizers.nbytes()))
    progress.last = {**figures, "accuracy": accuracy, "state_bytes": state_bytes}


def _count_open(run: _Training, background: np.ndarray) -> None:
    """Count open gates of the model with its average weights, in the first process."""
    model = _averaged(run)
    if run.processes.first:
        run.progress.open = open_shares(model, background)


def _save(run: _Training, failure: str, warn: Callable[[str], Any]) -> str:
    """Save a checkpoint; return the last reason why one could not be saved, about which the user was warned.

    failure  that reason so far, "" for none: it is not warned of again
    """
    path, state = run.out / checkpoint.FILE, run.optimizers.state()
    if not run.processes.first:
        run.kept = run.progress.tokens
        return failure
    try:
        checkpoint.save(run.out, run.model, state, run.config, run.recipe, run.progress)
    except Exception as error:  # of safetensors or the system: none of them is worth a training
        if (why := reason(error)) != failure:
            warn(f"'{path}' cannot be written: {why}. Training goes on without.")
        return why
    run.kept = run.progress.tokens
    return failure


@torch.inference_mode()
def open_shares(model: Decoder, background: np.ndarray, block: int = 4096) -> list[float]:
    """Share of background tokens [B, T] that open the screen (1 without one), then each layer's write gates.

    Writing background displaces facts, so this predicts the length at which a model begins to forget.
    """
    state, shares = None, []
    for start in range(0, background.shape[1], block):
        _, state = model(token_rows(model, background[:, start : start + block]), state)
        screen = 1.0 if model.screen is None else float((model.screen.gates > 0).float().mean())
        shares.append([screen] + [float(b.memory.open_rate) for b in model.blocks if b.memory is not None])
    return np.mean(shares, 0).tolist()


def transplant(model: Decoder, weights: dict[str, Tensor]) -> list[str]:
    """Copies the weights that fit by name and shape into the model; returns their names."""
    own = model.state_dict()
    taken = {name: x for name, x in weights.items() if name in own and own[name].shape == x.shape}
    model.load_state_dict({**own, **taken})
    return sorted(taken)
