"""Options that would do nothing beside others: to take them without a word would be to say that they were applied."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from atlas_bench import registry
from atlas_bench.running import plan

Unread = tuple[str, tuple[str, ...]]  # (why, names of parameters)


def by_run(task: str) -> Iterator[Unread]:
    """What `run` does not read for these tasks."""
    ours, theirs = plan.split_lm_eval(task)
    if not ours:
        yield (
            "does nothing for lm-eval's tasks: they bring their own",
            ("lengths", "block", "batch", "readers", "timeout", "debug", "seeds", "data", "background", "prompt",
             "encoding", "checkpoint_every", "checkpoints", "until", "shard", "engine"),
        )  # fmt: skip
    if not theirs:
        yield f"is for lm-eval's tasks, and '{ours}' is none", ("num_fewshot",)


def by_train(placement: str, tasks: Sequence[str]) -> Iterator[Unread]:
    """What `train` does not read in this placement of the memory, and of these tasks."""
    if placement != "mac":
        yield f"does nothing in placement '{placement}': mac alone has segments", ("segment",)
    names = {text.partition(":")[0] for task in tasks for text in registry.split_tasks(task)}
    if names == {"loss"}:
        yield "does nothing for running text: its schedule is always fixed", ("fixed_schedule",)
    else:
        yield (
            f"is for running text alone, --task loss:text, and not for {', '.join(sorted(names))}",
            ("context", "batch", "shard_weights"),
        )
