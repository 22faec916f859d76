"""Names of tasks, reasons and metrics in every table.

task_name({"task": "babilong", "subset": "qa1"})        # 'babilong:qa1'
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from atlas_bench.results.record import Record, clip

NAME_CHARS, REASON_CHARS = 120, 400  # of foreign text, after which it is clipped


def natural(subset: str) -> list[tuple[int, str]]:
    """A sort key that puts 'qa2' before 'qa10', and '8' before '32'."""
    parts = re.split(r"(\d+)", subset)
    return [(len(part) if part.isdecimal() else 0, part) for part in parts]  # of two numbers the longer is greater


def task_name(of: Mapping[str, Any] | Record) -> str:
    """'babilong:qa1', or 'loss' for a task without subsets."""
    task, subset = (of.task, of.subset) if isinstance(of, Record) else (of["task"], of["subset"])
    return f"{task}:{subset}" if subset else task


def reason(of: Mapping[str, Any] | Record) -> str:
    """Why there is no score, in one short line."""
    text = of.reason if isinstance(of, Record) else of["reason"]
    return clip(" ".join(text.split()) or "no reason recorded", REASON_CHARS)


def metrics_text(metrics: Mapping[str, float | None]) -> str:
    """'nats_per_token 3.412, next_token_accuracy 0.3'."""
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items() if value is not None)


def chances(of: Iterable[tuple[str, float | None]]) -> str:
    """'Chance: 16.7 % (babilong:qa1, babilong:qa2); 50.0 % (track:s2).', or '' where none is known.

    of  pairs of a task and its chance, in order
    """
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for task, chance in of:
        if chance is not None:
            found[f"{100 * chance:.1f} %"][task] = None
    texts = "; ".join(f"{level} ({', '.join(tasks)})" for level, tasks in found.items())
    return f"Chance: {texts}." if texts else ""
