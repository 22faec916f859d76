"""atlas-bench: how far does a sequence model really remember?

From Python: run, merge, load, report, show, score, compare, train. Each does what the command of its name does; see
api.py and docs/python.md.
"""

import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Before torch is imported: its threads sleep while they wait. Spinning ones lose four fifths of the speed as soon as
# anything else wants a core.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from atlas_bench.api import compare, list_models, list_tasks, load, merge, report, run, score, show, train
from atlas_bench.errors import UserError
from atlas_bench.types import Model

if TYPE_CHECKING:
    from atlas_bench.results.record import Record

__all__ = [
    "Model", "Record", "UserError", "__version__", "compare", "list_models", "list_tasks", "load", "merge", "report",
    "run", "score", "show", "train",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Record needs pydantic, so it is imported on first use."""
    if name != "Record":
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from atlas_bench.results.record import Record

    return Record
