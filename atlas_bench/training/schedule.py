"""What the recipe decides from how far a training has come: lengths, stages, rates, the cost of writing."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence

import torch

from atlas_bench.training.recipe import STAGES, Progress, Recipe
from atlas_bench.units import format_count

AUXILIARY = "~"  # before the name of a kind that decides nothing
LEAST_ASKED = 20  # questions of a kind over the last steps, for its accuracy to count


def plan_round(recipe: Recipe, progress: Progress) -> tuple[int, int]:
    """Length and number of the contexts of the next round."""
    if recipe.context:
        return recipe.context, recipe.contexts
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
        if scheduled_length(recipe, progress) > progress.length if recipe.paced else passed:
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


def left(recipe: Recipe, progress: Progress) -> int:
    """Tokens still to train on; a curriculum that is not paced may end before, so that there it is an upper bound."""
    if progress.stage == "done":
        return 0
    following = STAGES[STAGES.index(progress.stage) :]
    return max(0, sum(getattr(recipe, f"{stage}_tokens") for stage in following) - progress.stage_tokens)


def budget(recipe: Recipe, progress: Progress) -> str:
    """Tokens of the whole training as text: '300.0K', or 'at most 20.0M' where what is learnt may shorten it."""
    open_ended = progress.stage == "curriculum" and not recipe.paced
    return "at most " * open_ended + format_count(progress.tokens + left(recipe, progress))


def scheduled_length(recipe: Recipe, progress: Progress) -> int:
    """The length in a fixed schedule: the first for `patience` of the tokens, then doubled at equal distances."""
    doublings = (recipe.longest // recipe.first_length).bit_length() - 1
    late = progress.stage_tokens / recipe.curriculum_tokens - recipe.patience
    done = 0 if late < 0 else 1 + int(late / (1 - recipe.patience) * doublings)
    return recipe.first_length << min(done, doublings)


def set_rates(optimizers: Sequence[torch.optim.Optimizer], recipe: Recipe, progress: Progress) -> None:
    """Set the rates: warm-up first, lower for longer contexts, falling during `mixed`, low and constant in `stream`."""
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
    """Whether contexts are long enough for background to matter more than facts."""
    return progress.stage != "curriculum" or progress.length >= recipe.cost_length


def set_cost(progress: Progress, recipe: Recipe) -> None:
    """In long contexts the cost of writing rises while the answers are right, and falls while they are not."""
    if not costs_grow(progress, recipe) or recipe.paced or not progress.kinds:
        return
    stands = sum(progress.kinds.values()) / len(progress.kinds) >= recipe.cost_at
    grown = progress.cost * (recipe.cost_growth if stands else 1 / recipe.cost_growth)
    progress.cost = min(max(grown, 1.0), recipe.most_cost)
