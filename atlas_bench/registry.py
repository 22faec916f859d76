"""Names to things, looked up lazily so that listing costs no import of torch."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from atlas_bench.errors import unknown

TASKS = {"babilong": "atlas_bench.tasks.babilong:BABILONG"}

# variant -> class; a memory's file is its equation. "none" leaves attention alone.
MEMORIES = {
    "none": None,
    "gated-deltanet": "atlas_bench.models.memory.gated_deltanet:GatedDeltaNet",
    "omeganet": "atlas_bench.models.memory.omeganet:OmegaNet",
    "titans": "atlas_bench.models.memory.titans:Titans",
    "atlas": "atlas_bench.models.memory.atlas:Atlas",
}

# Controls: what a perfect and an ignorant reader score. Trained models are found by models/loading.py.
MODELS = {
    "oracle": "atlas_bench.models.oracle:Oracle",
    "constant": "atlas_bench.models.constant:Constant",
}


def _load(path: str) -> Any:
    module, name = path.split(":")
    return getattr(import_module(module), name)


def task(name: str) -> Any:
    """The task of that name."""
    if name not in TASKS:
        raise unknown("task", name, TASKS)
    return _load(TASKS[name])


def memory(name: str) -> Any:
    """The memory class of that name, None for "none"."""
    if name not in MEMORIES:
        raise unknown("memory", name, MEMORIES)
    return _load(MEMORIES[name]) if MEMORIES[name] else None


def control(name: str) -> Any:
    """A new control model of that name."""
    return _load(MODELS[name])()
