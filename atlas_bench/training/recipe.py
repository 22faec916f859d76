"""The one fixed recipe by which every memory is trained, so that only the memory differs.

    curriculum  contexts of 64, 128, .. tokens, doubled when over the last steps even the kind of question that is
                answered worst passes `promote_at`, or after `stay_tokens`; for a comparison by tokens alone (`paced`)
    mixed       contexts of random length up to `longest`, while the learning rates fall
    stream      contexts up to `stream_length`; the state is passed on every `longest` tokens, the gradient is not

A context is read in segments. After each segment, everything known so far is asked, or each token has a target. Loss:
cross-entropy of the answers, the mean of those to questions and the mean of those along the segments; plus
`write_cost` for every token written, which closes the gates on background, and from contexts of `cost_length` on
`screen_cost` for every token that a screen lets through. From there both costs grow while the answers stay right.
If the lessons mark the tokens that state something, writing those is free.
Matrices are trained by Muon, everything else by AdamW; the model is the average of the weights over the last steps.
language() is the recipe for running text, `--task loss`: all contexts have one length, nothing is asked, and writing is
free. The rates are constant, then fall, then stay low for a short rest.

The data of a round depends on the seed, the round and the accuracy so far, all in the checkpoint, so a killed run
resumes at its last checkpoint as if it had never stopped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from atlas_bench.errors import UserError

STAGES = ("curriculum", "mixed", "stream")
SEGMENT = 512  # tokens of running text whose loss is one step
LEAST_LONGEST = 1024  # tokens of the longest contexts, and
LEAST_STEP = 512  # of a step, however small a fixed schedule's budget is


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run but the architecture; saved in the model's card."""

    version: str = "4"
    tasks: tuple[str, ...] = ("babilong:qa1",)
    seed: int = 0
    first_length: int = 64
    longest: int = 8192
    context: int = 0  # tokens of every context, whatever the stage; 0: as the stages have it
    segment: int = 512
    contexts: int = 8  # at least so many in a step,
    least_tokens: int = 2048  # at least that many tokens
    most_tokens: int = 16_384  # and at most so many
    promote_at: float = 0.9
    promote_steps: int = 40
    stay_tokens: int = 2_000_000  # at one length, at most
    paced: bool = False  # --fixed-schedule: lengths double by tokens spent, whatever is learnt
    patience: float = 0.6  # share of the curriculum's tokens that a fixed schedule spends on its first length
    curriculum_tokens: int = 12_000_000  # at most; the stage ends when `longest` is reached
    mixed_tokens: int = 6_000_000
    stream_tokens: int = 2_000_000
    stream_length: int = 65_536
    muon_lr: float = 0.006
    adam_lr: float = 3e-3
    long_rate: float = 0.3  # share of the rates from contexts of 512 tokens on; shorter ones by their root
    stream_rate: float = 0.05  # share of the rates at the end of `mixed`, and for all of `stream`
    warmup_steps: int = 50
    clip: float = 1.0
    average: float = 0.995  # share that the average of the weights keeps at a step
    write_cost: float = 8e-4  # loss for a costly token of a context that every head writes at full strength
    screen_cost: float = 2e-4  # loss for a costly token of a context that the screen lets through,
    cost_length: int = 256  # in contexts so long and longer. There
    cost_growth: float = 1.02  # both are multiplied by this at every step while accuracy
    cost_at: float = 0.95  # is that high, the mean over kinds of question, else divided by it,
    most_cost: float = 100.0  # up to so many times
    gate_noise: float = 1.0  # on write gates' logits from `mixed` on: a gate must open and close with a margin

    def within(self, tokens: int) -> Recipe:
        """The same recipe on a budget: each stage keeps its share; UserError if one is left without a token.

        A fixed schedule on less than the whole budget also shortens its contexts and makes its steps smaller, both by
        the root of the share: a hundredth of the budget in steps of full size would be a hundredth of the steps.
        """
        stages = {f"{stage}_tokens": getattr(self, f"{stage}_tokens") for stage in STAGES}
        total = sum(stages.values())
        budgets = {name: int(own * (tokens / total)) for name, own in stages.items()}
        stay = int(self.stay_tokens * (tokens / total))
        if not all(budgets.values()):
            raise UserError(
                f"a training budget of {tokens} tokens leaves one of the stages {', '.join(STAGES)} without a token. "
                f"Give {-(-total // min(stages.values()))} or more."
            )
        recipe = replace(self, **budgets, stay_tokens=stay)
        small = self.paced and not self.context and tokens < total
        return recipe._smaller(math.sqrt(tokens / total)) if small else recipe

    def _smaller(self, factor: float) -> Recipe:
        """The same recipe with lengths and steps that many times as large; lengths stay powers of two."""

        def power(length: int, least: int) -> int:
            return max(least, 1 << int(math.log2(length * factor)))

        return replace(
            self,
            longest=power(self.longest, LEAST_LONGEST),
            stream_length=power(self.stream_length, LEAST_LONGEST),
            contexts=max(2, round(self.contexts * factor)),
            least_tokens=max(LEAST_STEP, round(self.least_tokens * factor)),
            most_tokens=max(LEAST_STEP, round(self.most_tokens * factor)),
        )


def is_language(tasks: Iterable[str]) -> bool:
    """Whether training on these tasks is language modelling: running text and nothing else."""
    return set(tasks) == {"loss"}


def language(context: int = 4096, batch: int = 4, window: int = 16) -> Recipe:
    """The recipe for running text: `batch` contexts side by side, read in segments that pass on their state.

    The gradient stays within a segment (truncated backpropagation), which is at least as long as attention's window.

    context  tokens of one
    window   of attention, 0 for all of a context

    Raises UserError for a context that is no whole number of segments.
    """
    segment = min(context, max(SEGMENT, window)) if window else context
    if context % segment:
        raise UserError(f"context {context} is no multiple of {segment}, the tokens of a segment. Give one that is.")
    return Recipe(
        version="language-1", tasks=("loss:text",), first_length=segment, longest=segment, segment=segment,
        context=context, contexts=batch, least_tokens=0, most_tokens=batch * context, paced=True,
        curriculum_tokens=10_000_000, mixed_tokens=9_000_000, stream_tokens=1_000_000, stream_length=context,
        muon_lr=0.012, adam_lr=6e-3, long_rate=1.0, write_cost=0.0, screen_cost=0.0, gate_noise=0.0,
    )  # fmt: skip


@dataclass
class Progress:
    """The progress of a run; saved with each checkpoint."""

    stage: str = "curriculum"
    round: int = 0
    step: int = 0
    length: int = 64
    tokens: int = 0
    stage_tokens: int = 0
    skipped: int = 0  # steps left out because the loss or a gradient was not finite,
    skipped_in_a_row: int = 0  # and how many of them since the last step that was taken
    seconds: float = 0.0
    length_tokens: int = 0  # read at this length
    cost: float = 1.0  # factor of the write and the screen cost
    recent: list[dict[str, list[int]]] = field(default_factory=list)  # of the last steps, kind -> [right, asked]
    kinds: dict[str, float] = field(default_factory=dict)  # accuracy over them by kind, auxiliary ones left out
    open: list[float] = field(default_factory=list)  # share of clean background that opens the screen, each layer
    last: dict[str, float] = field(default_factory=dict)  # figures of the last step
    history: list[dict[str, Any]] = field(default_factory=list)
