"""One optimiser step: read segments, answer their questions, update the weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from atlas_bench.errors import UserError
from atlas_bench.models.decoder import Decoder, State
from atlas_bench.tasks.lessons import Ask, Segment, Tags
from atlas_bench.training.muon import Muon
from atlas_bench.training.recipe import Progress, Recipe
from atlas_bench.training.schedule import AUXILIARY, costs_grow

MAX_SKIPPED = 20  # steps in a row that may be skipped before training has diverged


def step(
    model: Decoder,
    optimizers: Sequence[torch.optim.Optimizer],
    segments: Sequence[Sequence[Segment]],
    state: State | None,
    recipe: Recipe,
    progress: Progress = Progress(),  # noqa: B008 - never changed here
) -> tuple[dict[str, Any], State]:
    """One optimiser step on consecutive segments of every row; returns figures and the detached state.

    Figures are numbers, except "kinds", {kind: [right, asked]}. The step is left out where a figure, the loss or the
    gradient's norm among them, is not finite.
    """
    screened = model.screen is not None
    answers: list[tuple[str, bool]] = []  # kind, whether it was right
    losses, questions, along, tags = [], 0, [], 0
    written, opened, paid, read = 0.0, 0.0, 0.0, 0
    for rows in segments:
        tokens = token_rows(model, [segment.tokens for segment in rows])
        tagged = any(segment.tags is not None for segment in rows)
        hidden, state = model(tokens, state, output=tagged)
        free = [np.zeros(len(segment.tokens), bool) if segment.free is None else segment.free for segment in rows]
        costly = torch.from_numpy(~np.stack(free)).to(model.device)
        gates = model.written()
        screen = model.screen.gates if screened else torch.zeros_like(gates)
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
        _descend(loss, model, optimizers, recipe, figures)
    figures["kinds"] = _tallies(answers)
    return figures, detach(state)


def _descend(
    loss: Tensor, model: Decoder, optimizers: Sequence[torch.optim.Optimizer], recipe: Recipe, figures: dict[str, Any]
) -> None:
    """Take the step, and note the gradient's norm; where a figure is not finite, one wild step would end the model."""
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    loss.backward()
    figures["gradient_norm"] = float(torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip))
    if all(map(math.isfinite, figures.values())):
        for optimizer in optimizers:
            optimizer.step()


def _tallies(answers: Sequence[tuple[str, bool]]) -> dict[str, list[int]]:
    """{kind: [right, asked]}."""
    tallies: dict[str, list[int]] = {}
    for kind, is_right in answers:
        tally = tallies.setdefault(kind, [0, 0])
        tally[0] += is_right
        tally[1] += 1
    return tallies


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
    """Loss of the answers and which were right; each question goes to a fork of its row's state."""
    rows = torch.tensor([row for row, _ in asks])
    width = max(len(ask.question) + len(ask.answer) for _, ask in asks) - 1
    tokens = torch.zeros(len(asks), width, dtype=torch.long)
    targets = torch.full((len(asks), width), -100)
    for i, (_, ask) in enumerate(asks):
        both = ask.question + ask.answer
        tokens[i, : len(both) - 1] = torch.tensor(both[:-1])
        targets[i, len(ask.question) - 1 : len(both) - 1] = torch.tensor(ask.answer)
    rows, tokens, targets = (x.to(model.device) for x in (rows, tokens, targets))  # made whole, moved once
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
    targets = token_rows(model, [untagged if tags is None else tags.tokens for tags in rows])
    asked = targets >= 0
    logits = model.logits(hidden[asked])
    right = torch.zeros_like(asked)
    right[asked] = logits.detach().argmax(-1) == targets[asked]
    scored = [
        (tags.kind, is_right)
        for tags, row in zip(rows, right.cpu().numpy(), strict=True)
        if tags is not None
        for is_right in row[tags.scored].tolist()
    ]
    return F.cross_entropy(logits, targets[asked], reduction="sum"), len(logits), scored


def token_rows(model: Decoder, rows: Sequence[np.ndarray]) -> Tensor:
    """Token ids of as many rows as one tensor [B, T] where the model is."""
    return torch.from_numpy(np.stack(rows)).to(model.device, torch.long)


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


def follow(average: Decoder, model: Decoder, keep: float) -> None:
    """average <- keep average + (1 - keep) model."""
    torch._foreach_lerp_(list(average.parameters()), [p.detach() for p in model.parameters()], 1 - keep)


def detach(state: State) -> State:
    """The state without its past."""
    return [{k: {n: x.detach() for n, x in part.items()} for k, part in layer.items()} for layer in state]
