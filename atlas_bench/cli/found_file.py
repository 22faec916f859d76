"""The options that a found `atlas-bench.toml` may set: it lies in the working folder, perhaps in a repository just
cloned.

    is_harmless("samples", 200)             # True: a number says how much, and nothing more
    is_harmless("out", "../.bashrc")        # False: no path, no address, no name of code
    is_harmless("model", "hf:a/b")          # False: of names, those of atlas-bench's own alone

This is an allow-list: any other option can be typed, or set by a file that the user names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from atlas_bench import registry

# numbers, lengths, switches, and words that the command itself takes from a short list
_AMOUNTS_AND_CHOICES = {
    "len", "samples", "seed", "prompt", "num-fewshot", "dry-run", "json", "batch", "block", "checkpoint-every",
    "timeout", "readers", "threads", "device", "matmul-precision", "quiet", "debug", "format", "threshold",
    "no-published", "train", "jobs", "tokens", "attention-window", "layers", "placement", "persistent", "segment",
    "screen", "fixed-schedule", "no-examine", "to", "kind", "encoding", "canary", "reset",
    "seeds", "rates", "rate", "validate", "shard-weights", "until", "sequential", "size", "context",
}  # fmt: skip


def is_harmless(key: str, value: Any) -> bool:
    """Whether a found file may set that option ('checkpoint-every', as in --help) to that value, or to that list."""
    values = value if isinstance(value, list) else [value]
    words = [word.strip() for each in values for word in str(each).split(",")]
    if key in _AMOUNTS_AND_CHOICES:
        return all(re.fullmatch(r"[\w-]*|\d[\w.=]*", word) for word in words)
    names = _NAMES.get(key)
    if key == "task":
        words = registry.split_tasks(",".join(words))
    return names is not None and set(words) <= set(names(words))


def _tasks(words: Iterable[str]) -> list[str]:
    """Our own tasks and their subsets; no files and no tasks of lm-eval."""
    named = [(word, re.fullmatch(r"([\w-]+)(:[\w-]+)?", word)) for word in words]
    return [word for word, parts in named if parts and parts[1] in registry.TASKS]


def _models(words: Iterable[str]) -> list[str]:
    """The embedded models and the controls; another name may be a folder's."""
    from atlas_bench.models import specs

    return specs.names()


def _memories(words: Iterable[str]) -> list[str]:
    """Our own memories without options, since options are Python literals."""
    return [word for word in words if word in registry.MEMORIES]


def _candidates(words: Iterable[str]) -> list[str]:
    return [*_models(words), *registry.MEMORIES, "transformer", "swa"]


_NAMES: dict[str, Callable[[Iterable[str]], Iterable[str]]] = {  # option -> those of some words that it may be set to
    "task": _tasks,
    "model": _models,
    "memory": _memories,
    "candidates": _candidates,
    "init": _models,
    "data": lambda words: ("generated", "hub", "hub-1k"),
    "background": lambda words: ("generated", "pg19"),
}
