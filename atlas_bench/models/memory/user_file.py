"""The memory of a user's file: we find its one class and try it, and report every mistake in one sentence."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from atlas_bench.errors import UserError
from atlas_bench.files import user_file
from atlas_bench.files.user_file import describe_error
from atlas_bench.models.memory.base import Memory
from atlas_bench.models.memory.surroundings import build

NO_WRITE_GATE = "`gates` has no 'write', the gate that the base puts in front of step(); add \"write\": -0.6"


def load(typed: str | Path) -> tuple[str, type[Memory], bytes]:
    """(name, class, source) of the memory that a .py file defines; the file is executed.

    Raises UserError if user_file.execute does, and for a file that does not define exactly one memory.
    """
    name, module, source = user_file.execute(typed, "memory")
    file = name.partition("@")[0]
    own = [each for each in user_file.own_classes(module) if issubclass(each, Memory)]
    if not own:
        raise UserError(
            f"memory file '{file}' defines no memory. It needs one class derived from Memory, "
            "which `from atlas_bench.models.memory.base import Memory` gives."
        )
    if len(own) > 1:
        names = ", ".join(each.__name__ for each in own)
        raise UserError(f"memory file '{file}' defines {len(own)} memories ({names}). Keep one; import the others.")
    return name, own[0], source


def check_builds(spec: str, variant: type[Memory], options: Mapping[str, Any]) -> Memory:
    """A small memory of the variant; UserError if it cannot be built with these options."""
    try:
        return build(variant, 32, 2, 16, options)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"memory '{spec}' cannot be built: {describe_error(error, inspect.getfile(variant))}."
        ) from None


@torch.no_grad()
def check_runs(spec: str, memory: Memory) -> None:
    """Raise UserError, before hours of training, if a memory of width 32 cannot read four written tokens."""
    if "write" not in memory.gates:
        raise UserError(f"memory '{spec}' cannot be run: {NO_WRITE_GATE}.")
    try:
        if memory.closes:
            memory.gate["write"].bias.fill_(3.0)  # open, or step() is never called
        memory(torch.randn(1, 4, 32))
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"memory '{spec}' cannot be run: {describe_error(error, inspect.getfile(type(memory)))}. "
            f"`atlas-bench verify {spec}` checks it in full."
        ) from None
