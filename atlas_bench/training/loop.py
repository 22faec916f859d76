"""The training loop: rounds of contexts, one optimiser step at a time."""

from __future__ import annotations

import math
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from atlas_bench.errors import UserError, reason
from atlas_bench.files import checkpoint_file
from atlas_bench.kernels.processor import keep_freed_memory
from atlas_bench.models.decoder import Config, Decoder, State
from atlas_bench.models.lm import is_finite
from atlas_bench.tasks.lessons import Ask, Lessons, Segment, Tags, weigh
from atlas_bench.training import checkpoint
from atlas_bench.training.muon import Muon
from atlas_bench.training.recipe import Progress, Recipe

AUXILIARY = "~"  # before the name of a kind that decides nothing
LEAST_ASKED = 20  # questions of a kind over the last steps, for its accuracy to count
COUNT_SECONDS = 300  # between two counts of open gates on background
MAX_SKIPPED = 20  # steps in a row that may be skipped before training has diverged


def train(
    config: Config,
    recipe: Recipe,
    make_lessons: Callable[[int], Lessons],
    out: Path,
    *,
    warm_start: dict[str, Tensor] | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
    warn: Callable[[str], Any] = lambda message: None,
    background: np.ndarray | None = None,
    checkpoint_seconds: float = 60.0,
    until: float | None = None,
) -> tuple[Decoder, Progress]:
    """Trains (or goes on training) the model whose checkpoint lies in `out`; returns it with its history.

    make_lessons  lessons of one round, by a seed
    warm_start    weights to begin from; those of like name and shape are taken, the rest stays new
    warn          is given a message where a checkpoint cannot be used, or cannot be written: neither ends the training
    background    [B, T] tokens that state nothing; the share of them that is written is taken every few minutes
    until         time.time() at which to checkpoint and stop

    Raises UserError for a checkpoint of another run, and where training diverges.
    """
    keep_freed_memory()
    torch.manual_seed(recipe.seed)
    model = Decoder(config)
    if warm_start is not None:
        transplant(model, warm_start)
    average = Decoder(config).requires_grad_(False)
    average.load_state_dict(model.state_dict())
    optimizers = make_optimizers(model, recipe)
    progress = Progress(length=recipe.first_length)
    out.mkdir(parents=True, exist_ok=True)
    path = out / checkpoint.FILE
    if path.exists():
        try:
            progress = checkpoint.restore(out, model, average, optimizers, config, recipe)
        except checkpoint_file.Damaged as error:
            aside = checkpoint_file.put_aside(path)
            warn(f"checkpoint '{path}' cannot be used: {error}. It is now '{aside}'. Training begins again.")
    told = ""

    def save() -> None:
        nonlocal told
        try:
            checkpoint.save(out, model, average, optimizers, config, recipe, progress)
        except Exception as error:  # of safetensors or the system: none of them is worth a training
            if (why := reason(error)) != told:
                warn(f"'{path}' cannot be written: {why}. Training goes on without.")
                told = why

    window = deque(progress.recent, maxlen=recipe.promote_steps)
    saved, counted = time.monotonic(), -math.inf
    while progress.stage != "done":
        if until is not None and time.time() > until:
            break
        began = time.monotonic()
        lessons = make_lessons(recipe.seed * 1_000_003 + progress.round)
        if not recipe.paced:
            weigh(lessons, progress.kinds)
        torch.manual_seed(recipe.seed * 1_000_003 + progress.round)
        model.set_gate_noise(0.0 if progress.stage == "curriculum" else recipe.gate_noise)
        length, batch = plan_round(recipe, progress)
        segment, state = min(recipe.segment, length), None
        streams = zip(*(lessons.stream(length, segment) for _ in range(batch)), strict=True)
        while segments := list(islice(streams, max(1, recipe.longest // segment))):
            set_rates(optimizers, recipe, progress)
            figures, state = step(model, optimizers, segments, state, recipe, progress)
            follow(average, model, min(recipe.average, progress.step / (progress.step + 10)))
            progress.step += 1
            for count in ("tokens", "stage_tokens", "length_tokens"):
                setattr(progress, count, getattr(progress, count) + batch * segment * len(segments))
            if tally := figures.pop("kinds"):
                window.append(tally)
            count_skipped(progress, figures)
            set_cost(progress, recipe)
            if not is_finite(state):  # nothing can be learnt from the rest of these contexts
                break
        progress.round += 1
        progress.seconds += time.monotonic() - began
        progress.recent = list(window)
        progress.kinds, accuracy = summed(window)
        progress.last = {**figures, "accuracy": accuracy}
        if background is not None and time.monotonic() - counted > COUNT_SECONDS:
            progress.open, counted = open_shares(average, background), time.monotonic()
        report(progress)
        advance(progress, recipe, window)
        if time.monotonic() - saved > checkpoint_seconds or progress.stage == "done":
            save()
            saved = time.monotonic()
    save()
    return average, progress


def plan_round(recipe: Recipe, progress: Progress) -> tuple[int, int]:
    """Length and number of the contexts of the next round."""
    length = progress.length
    if progress.stage != "curriculum":
        longest = recipe.longest if progress.stage == "mixed" else recipe.stream_length
        spread = random.Random(f"length {recipe.seed} {progress.round}").random()
        length = recipe.segment * int(max(1, longest // recipe.segment) ** spread)
    tokens = min(max(recipe.contexts * length, recipe.least_tokens), recipe.most_tokens)
    return length, max(2, tokens // length)


def summed(window: Sequence[dict[str, list[int]]]) -> tuple[dict[str, float], float]:
    """Accuracy over some steps: of each kind that is not auxiliary and was asked often enough; of all questions."""
    totals: dict[str, list[int]] = {}
    for tally in window:
        for kind, (right, asked) in tally.items():
            total = totals.setdefault(kind, [0, 0])
            total[0] += right
            total[1] += asked
    right, asked = (sum(total[i] for total in totals.values()) for i in (0, 1))
    deciding = {kind: total for kind, total in totals.items() if not kind.startswith(AUXILIARY)}
    kinds = {kind: right / asked for kind, (right, asked) in deciding.items() if asked >= LEAST_ASKED}
    return kinds, right / max(asked, 1)


def advance(progress: Progress, recipe: Recipe, window: deque[dict[str, list[int]]]) -> None:
    """Doubles the length, or goes on to the next stage, when it is time."""
    if progress.stage == "curriculum":
        passed = len(window) == window.maxlen and min(progress.kinds.values(), default=0) >= recipe.promote_at
        passed = passed or progress.length_tokens >= recipe.stay_tokens
        if paced_length(recipe, progress) > progress.length if recipe.paced else passed:
            note = {"length": progress.length, "tokens": progress.tokens, "seconds": round(progress.seconds)}
            note["accuracy"] = round(progress.last["accuracy"], 3) if window else None
            note["kinds"] = {kind: round(accuracy, 3) for kind, accuracy in progress.kinds.items()}
            progress.history.append(note)
            window.clear()
            progress.length *= 2
            progress.length_tokens = 0
        if progress.length > recipe.longest or progress.stage_tokens >= recipe.curriculum_tokens:
            progress.stage, progress.stage_tokens = "mixed", 0
    elif progress.stage == "mixed" and progress.stage_tokens >= recipe.mixed_tokens:
        progress.stage, progress.stage_tokens = "stream", 0
    elif progress.stage == "stream" and progress.stage_tokens >= recipe.stream_tokens:
        progress.stage = "done"


def paced_length(recipe: Recipe, progress: Progress) -> int:
    """The length of a paced curriculum: the first for `patience` of its tokens, then doubled at equal distances."""
    doublings = (recipe.longest // recipe.first_length).bit_length() - 1
    late = progress.stage_tokens / recipe.curriculum_tokens - recipe.patience
    done = 0 if late < 0 else 1 + int(late / (1 - recipe.patience) * doublings)
    return recipe.first_length << min(done, doublings)


def step(
    model: Decoder,
    optimizers: Sequence[torch.optim.Optimizer],
    segments: Sequence[Sequence[Segment]],
    state: State | None,
    recipe: Recipe,
    progress: Progress = Progress(),  # noqa: B008 - never changed here
) -> tuple[dict[str, Any], State]:
    """One optimiser step on consecutive segments of every row; returns figures and the detached state.

    Figures are numbers but for "kinds", {kind: [right, asked]}. The step is left out where a figure, the loss or the
    gradient's norm among them, is not finite.
    """
    screened = model.screen is not None
    answers: list[tuple[str, bool]] = []  # kind, whether it was right
    losses, questions, along, tags = [], 0, [], 0
    written, opened, paid, read = 0.0, 0.0, 0.0, 0
    for rows in segments:
        tokens = torch.from_numpy(np.stack([segment.tokens for segment in rows])).long()
        tagged = any(segment.tags is not None for segment in rows)
        hidden, state = model(tokens, state, output=tagged)
        free = [np.zeros(len(segment.tokens), bool) if segment.free is None else segment.free for segment in rows]
        costly = torch.from_numpy(~np.stack(free))
        gates, screen = model.written(), model.screen.gates if screened else torch.zeros(1, 1)
        written, opened = written + float(gates.detach().sum()), opened + float(screen.detach().sum())
        if gates.requires_grad:  # a rule that writes every token has nothing to save
            paid = paid + (recipe.write_cost * gates * costly).sum() / len(rows)
        if costs_grow(progress, recipe):
            paid = paid + (recipe.screen_cost * screen * costly).sum() / len(rows)
        read += tokens.numel()
        asks = [(row, ask) for row, segment in enumerate(rows) for ask in segment.asks]
        if asks:
            loss, correct = ask_all(model, state, asks)
            losses.append(loss * len(asks))
            questions += len(asks)
            kinds = [AUXILIARY * ask.auxiliary + ask.kind for _, ask in asks]
            answers += zip(kinds, correct.tolist(), strict=True)
        if tagged:
            loss, number, scored = tag_all(model, hidden, [segment.tags for segment in rows])
            along.append(loss)
            tags += number
            answers += scored
    loss = progress.cost * paid + sum(losses) / max(questions, 1) + sum(along) / max(tags, 1)
    figures = {
        "asked": len(answers),
        "accuracy": sum(is_right for _, is_right in answers) / max(len(answers), 1),
        "loss": float(loss.detach()),
        "write_rate": written / read,
        **({"screen_rate": opened / read} if screened else {}),
    }
    if loss.requires_grad:
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        figures["gradient_norm"] = float(torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip))
        if all(map(math.isfinite, figures.values())):  # one wild step would end the model
            for optimizer in optimizers:
                optimizer.step()
    figures["kinds"] = {}
    for kind, is_right in answers:
        tally = figures["kinds"].setdefault(kind, [0, 0])
        tally[0] += is_right
        tally[1] += 1
    return figures, detach(state)


def count_skipped(progress: Progress, figures: dict[str, float]) -> None:
    """Counts a step that step() did not take; UserError for the MAX_SKIPPED-th in a row."""
    if not all(map(math.isfinite, figures.values())):
        progress.skipped += 1
        progress.skipped_in_a_row += 1
    elif "gradient_norm" in figures:  # without one nothing was asked, and nothing is known of the model
        progress.skipped_in_a_row = 0
    if progress.skipped_in_a_row >= MAX_SKIPPED:
        raise UserError(
            f"training diverged: in stage '{progress.stage}', after {progress.tokens:,} tokens and {progress.step:,} "
            f"steps, the loss or the gradient was not finite {MAX_SKIPPED} times in a row. Train into an empty folder "
            "with another --seed; for a memory of your own, `atlas-bench verify` says whether its state and gradients "
            "stay finite."
        )


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


def tag_all(model: Decoder, hidden: Tensor, rows: Sequence[Tags | None]) -> tuple[Tensor, int, list[tuple[str, bool]]]:
    """Answers along a segment, hidden [B, T, D]: their summed loss, their number, and of each that is scored (kind,
    whether it is right)."""
    untagged = np.full(hidden.shape[1], -1)
    targets = torch.from_numpy(np.stack([untagged if tags is None else tags.tokens for tags in rows])).long()
    asked = targets >= 0
    logits = model.logits(hidden[asked])
    right = torch.zeros_like(asked)
    right[asked] = logits.detach().argmax(-1) == targets[asked]
    scored = [
        (tags.kind, is_right)
        for tags, row in zip(rows, right.numpy(), strict=True)
        if tags is not None
        for is_right in row[tags.scored].tolist()
    ]
    return F.cross_entropy(logits, targets[asked], reduction="sum"), len(logits), scored


def make_optimizers(model: Decoder, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the linear maps of the blocks; AdamW for embeddings, gates, vectors and fast-weight beginnings."""
    linear = {id(module.weight) for module in model.blocks.modules() if isinstance(module, torch.nn.Linear)}
    matrices, others = [], []
    for name, parameter in model.named_parameters():
        matrix = id(parameter) in linear and ".memory.gate." not in name
        (matrices if matrix else others).append(parameter)
    return [
        Muon(matrices, lr=recipe.muon_lr),
        torch.optim.AdamW(others, lr=recipe.adam_lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def set_rates(optimizers: Sequence[torch.optim.Optimizer], recipe: Recipe, progress: Progress) -> None:
    """Warm-up; the less, the longer contexts are; falling through `mixed`; low and constant in `stream`."""
    factor = min(1.0, (progress.step + 1) / recipe.warmup_steps)
    if progress.stage == "mixed":
        done = progress.stage_tokens / recipe.mixed_tokens
        factor *= recipe.long_rate + done * (recipe.stream_rate - recipe.long_rate)
    elif progress.stage == "stream":
        factor *= recipe.stream_rate
    else:
        factor *= max(recipe.long_rate, min(1.0, 64 / progress.length) ** 0.5)
    for optimizer, rate in zip(optimizers, (recipe.muon_lr, recipe.adam_lr), strict=True):
        for group in optimizer.param_groups:
            group["lr"] = rate * factor


def costs_grow(progress: Progress, recipe: Recipe) -> bool:
    """Whether contexts are long enough for background to matter more than what is learnt of facts."""
    return progress.stage != "curriculum" or progress.length >= recipe.cost_length


def set_cost(progress: Progress, recipe: Recipe) -> None:
    """In long contexts writing costs more step by step while the answers are right, and less while they are not."""
    if not costs_grow(progress, recipe) or recipe.paced or not progress.kinds:
        return
    stands = sum(progress.kinds.values()) / len(progress.kinds) >= recipe.cost_at
    grown = progress.cost * (recipe.cost_growth if stands else 1 / recipe.cost_growth)
    progress.cost = min(max(grown, 1.0), recipe.most_cost)


def follow(average: Decoder, model: Decoder, keep: float) -> None:
    """average <- keep average + (1 - keep) model."""
    torch._foreach_lerp_(list(average.parameters()), [p.detach() for p in model.parameters()], 1 - keep)


@torch.inference_mode()
def open_shares(model: Decoder, background: np.ndarray, block: int = 4096) -> list[float]:
    """Share of background tokens [B, T] that open the screen (1 without one), then each layer's write gates.

    What is written there displaces facts, so it foretells the length at which a model begins to forget.
    """
    state, shares = None, []
    for start in range(0, background.shape[1], block):
        tokens = torch.from_numpy(background[:, start : start + block]).long()
        _, state = model(tokens, state)
        screen = 1.0 if model.screen is None else float((model.screen.gates > 0).float().mean())
        shares.append([screen] + [float(b.memory.open_rate) for b in model.blocks if b.memory is not None])
    return np.mean(shares, 0).tolist()


def transplant(model: Decoder, weights: dict[str, Tensor]) -> list[str]:
    """Copies the weights that fit by name and shape into the model; returns their names."""
    own = model.state_dict()
    taken = {name: x for name, x in weights.items() if name in own and own[name].shape == x.shape}
    model.load_state_dict({**own, **taken})
    return sorted(taken)


def detach(state: State) -> State:
    """The state without its past."""
    return [{k: {n: x.detach() for n, x in part.items()} for k, part in layer.items()} for layer in state]
