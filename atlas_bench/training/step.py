"""One optimiser step: read segments, answer their questions, update the weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from atlas_bench.errors import UserError
from atlas_bench.models.decoder import Decoder, State
from atlas_bench.tasks.lessons import Ask, Segment, Tags
from atlas_bench.training.optimizers import Optimizers
from atlas_bench.training.processes import Processes
from atlas_bench.training.recipe import Progress, Recipe
from atlas_bench.training.schedule import AUXILIARY, costs_grow

MAX_SKIPPED = 20  # steps in a row that may be skipped before training has diverged


@dataclass
class Sums:
    """What a process adds to the figures of a step.

    loss      its part of the loss, which it can learn from or not
    written   sum over the tokens of their write gates, mean over layers and heads; opened: of the screen's gates
    tallies   kind -> [right, asked]
    """

    loss: float = 0.0
    learnable: bool = False
    written: float = 0.0
    opened: float = 0.0
    read: int = 0
    tallies: dict[str, list[int]] = field(default_factory=dict)

    def add(self, other: Sums) -> None:
        """Add another process's."""
        for name in ("loss", "written", "opened", "read"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.learnable = self.learnable or other.learnable
        for kind, (right, asked) in other.tallies.items():
            tally = self.tallies.setdefault(kind, [0, 0])
            tally[0] += right
            tally[1] += asked


def step(
    optimizers: Optimizers,
    segments: Sequence[Sequence[Segment]],
    state: State | None,
    recipe: Recipe,
    progress: Progress = Progress(),  # noqa: B008 - never changed here
) -> tuple[dict[str, Any], State | None]:
    """One optimiser step on consecutive segments of every row; returns figures and the detached state.

    Figures are numbers, except "kinds", {kind: [right, asked]}. The step is left out where a figure, the loss or the
    gradient's norm among them, is not finite.

    state  of the rows that this process reads; None at the beginning, and where it reads none

    All processes that share the training call this with the same segments.
    """
    model, processes = optimizers.model, optimizers.processes
    with processes.autocast():
        loss, own, state = _read(model, segments, state, recipe, progress, processes)
    total = Sums()
    for each in processes.gathered(own):
        total.add(each)
    right, asked = (sum(tally[i] for tally in total.tallies.values()) for i in (0, 1))
    figures = {
        "asked": asked,
        "accuracy": right / max(asked, 1),
        "loss": total.loss,
        "write_rate": total.written / total.read,
        **({"screen_rate": total.opened / total.read} if model.screen is not None else {}),
    }
    if total.learnable:
        _descend(loss, optimizers, recipe, figures)
    figures["kinds"] = total.tallies
    return figures, None if state is None else detach(state)


def _read(
    model: Decoder, segments: Sequence[Sequence[Segment]], state: State | None, recipe: Recipe, progress: Progress,
    processes: Processes,
) -> tuple[Tensor, Sums, State | None]:  # fmt: skip
    """This process's part of the loss, divided by what all rows hold: the sum over the processes is the loss."""
    every = [segment for rows in segments for segment in rows]
    questions = sum(len(segment.asks) for segment in every)
    tags = sum(int((segment.tags.tokens >= 0).sum()) for segment in every if segment.tags is not None)
    answers: list[tuple[str, bool]] = []  # kind, whether it was right
    losses, along, paid, sums = [], [], 0.0, Sums()
    for rows in segments:
        own = processes.own(rows)
        if not own:  # there are more processes than contexts
            break
        processes.read(processes.own(range(len(rows))), len(rows))
        tokens = token_rows(model, [segment.tokens for segment in own])
        tagged = any(segment.tags is not None for segment in own)
        hidden, state = model(tokens, state, output=tagged)
        paid = paid + _cost(model, own, recipe, progress, sums) / len(rows)
        sums.read += tokens.numel()
        if asks := [(row, ask) for row, segment in enumerate(rows) for ask in segment.asks]:
            loss, scored = _ask_own(model, state, asks, processes)
            losses.append(loss * len(asks))
            answers += scored
        if tagged:
            loss, _, scored = tag_all(model, hidden, [segment.tags for segment in own])
            along.append(loss)
            answers += scored
    loss = torch.as_tensor(progress.cost * paid + sum(losses) / max(questions, 1) + sum(along) / max(tags, 1))
    sums.loss, sums.learnable, sums.tallies = float(loss.detach()), loss.requires_grad, _tallies(answers)
    return loss, sums, state


def _cost(model: Decoder, rows: Sequence[Segment], recipe: Recipe, progress: Progress, sums: Sums) -> Tensor | float:
    """What the rows of the last call pay for writing and for opening the screen; sums are told how much they did."""
    free = [np.zeros(len(segment.tokens), bool) if segment.free is None else segment.free for segment in rows]
    costly = torch.from_numpy(~np.stack(free)).to(model.device)
    gates, paid = model.written(), 0.0
    screen = torch.zeros_like(gates) if model.screen is None else model.screen.gates
    sums.written += float(gates.detach().sum())
    sums.opened += float(screen.detach().sum())
    if gates.requires_grad:  # a rule that writes every token has nothing to save
        paid = paid + (recipe.write_cost * gates * costly).sum()
    if costs_grow(progress, recipe):
        paid = paid + (recipe.screen_cost * screen * costly).sum()
    return paid


def _ask_own(
    model: Decoder, state: State, asks: Sequence[tuple[int, Ask]], processes: Processes
) -> tuple[Tensor | float, list[tuple[str, bool]]]:
    """This process's part of the mean loss of questions to all rows; of each that it asked (kind, whether right)."""
    numbers = [i for i, (row, _) in enumerate(asks) if row % processes.size == processes.rank]
    own = [(asks[i][0] // processes.size, asks[i][1]) for i in numbers]
    width = max(len(ask.question) + len(ask.answer) for _, ask in asks) - 1
    processes.read(numbers or [0], len(asks))
    if not own:  # it asks all the same, so that the noise of later segments is the same
        with torch.no_grad():
            ask_all(model, state, [(0, asks[0][1])], width)
        return 0.0, []
    loss, correct = ask_all(model, state, own, width)
    share = sum(len(ask.answer) for _, ask in own) / sum(len(ask.answer) for _, ask in asks)
    kinds = [AUXILIARY * ask.auxiliary + ask.kind for _, ask in own]
    return loss * share, list(zip(kinds, correct.tolist(), strict=True))


def _descend(loss: Tensor, optimizers: Optimizers, recipe: Recipe, figures: dict[str, Any]) -> None:
    """Take the step, and note the gradient's norm; where a figure is not finite, one wild step would end the model."""
    optimizers.zero_grad()
    if loss.requires_grad:
        loss.backward()
    figures["gradient_norm"] = optimizers.clip(recipe.clip)
    if all(map(math.isfinite, figures.values())):
        optimizers.step()


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


def ask_all(
    model: Decoder, state: State, asks: Sequence[tuple[int, Ask]], width: int | None = None
) -> tuple[Tensor, Tensor]:
    """Loss of the answers and which were right; each question goes to a fork of its row's state.

    width  tokens that all are padded to; None: those of the longest
    """
    rows = torch.tensor([row for row, _ in asks])
    width = width or max(len(ask.question) + len(ask.answer) for _, ask in asks) - 1
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


def detach(state: State) -> State:
    """The state without its past."""
    return [{k: {n: x.detach() for n, x in part.items()} for k, part in layer.items()} for layer in state]
