"""A memory from a user's own file: executed, its one class found, every mistake told in one sentence."""

from __future__ import annotations

import hashlib
import inspect
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from atlas_bench.errors import UserError
from atlas_bench.models.memory.base import Memory

NO_WRITE_GATE = "`gates` has no 'write', the gate that the base puts in front of step(); add \"write\": -0.6"


def load(path: Path, version: str | None = None) -> tuple[str, type[Memory], bytes]:
    """(name, class, source) of the memory that a .py file defines; the file is executed.

    The name is the file's with the first eight digits of its sha256: 'my_memory.py@1f2e3d4c'. Raises UserError
    for a file that is absent, has not the version (those digits) asked for, does not parse or run, or does not
    define exactly one memory.
    """
    if path.suffix != ".py":
        raise UserError(f"memory file '{path}' is no .py file. Give the Python file that defines the memory.")
    try:
        source = path.read_bytes()
    except OSError as error:
        raise UserError(f"memory file '{path}' cannot be read: {error.strerror or error}. Check the path.") from None
    digits = hashlib.sha256(source).hexdigest()[:8]
    if version and version != digits:
        raise UserError(f"memory file '{path}' is version {digits}, not {version}. Restore it, or name it without '@'.")
    name = f"{path.name}@{digits}"
    module = _execute(path, source, name)
    own = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, Memory) and value.__module__ == module.__name__
    ]
    own = list(dict.fromkeys(own))
    if not own:
        raise UserError(
            f"memory file '{path}' defines no memory. It needs one class derived from Memory, "
            "which `from atlas_bench.models.memory.base import Memory` gives."
        )
    if len(own) > 1:
        names = ", ".join(each.__name__ for each in own)
        raise UserError(f"memory file '{path}' defines {len(own)} memories ({names}). Keep one; import the others.")
    return name, own[0], source


def check_builds(spec: str, variant: type[Memory], options: Mapping[str, Any]) -> Memory:
    """A small memory of the variant; UserError where it cannot be built with these options."""
    try:
        return variant(32, 2, 16, **options)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"memory '{spec}' cannot be built: {told(error, inspect.getfile(variant))}.") from None


@torch.no_grad()
def check_runs(spec: str, memory: Memory) -> None:
    """Raise UserError, before hours of training, where a memory of width 32 cannot read four written tokens."""
    if "write" not in memory.gate:
        raise UserError(f"memory '{spec}' cannot be run: {NO_WRITE_GATE}.")
    try:
        memory.gate["write"].bias.fill_(3.0)  # open, or step() is never called
        memory(torch.randn(1, 4, 32))
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"memory '{spec}' cannot be run: {told(error, inspect.getfile(type(memory)))}. "
            f"`atlas-bench verify {spec}` checks it in full."
        ) from None


def told(error: BaseException, path: Path | str) -> str:
    """An error, with where it left the user's file: 'KeyError: 'M' (line 12 of my_memory.py: return state["M"])'.

    A method of the base that should have been overridden is 'step() is missing'.
    """
    traced = traceback.extract_tb(error.__traceback__)
    if isinstance(error, NotImplementedError) and traced[-1].filename == inspect.getfile(Memory):
        return f"{traced[-1].name}() is missing"
    said = " ".join(str(error).split())
    text = f"{type(error).__name__}: {said}" if said else type(error).__name__
    file = str(Path(path).resolve())
    frames = [f for f in traced if f.filename == file]
    if not frames:
        return text
    return f"{text} (line {frames[-1].lineno} of {Path(path).name}: {frames[-1].line})"


def _execute(path: Path, source: bytes, name: str) -> ModuleType:
    """The module of an executed file, under a name of its own."""
    file = str(path.resolve())
    module = ModuleType(f"atlas_bench_user_file_{name.partition('@')[2]}")
    module.__file__ = file
    sys.modules[module.__name__] = module  # dataclasses and inspect look a class's module up
    try:
        exec(compile(source, file, "exec"), vars(module))
    except SyntaxError as error:
        where = f"line {error.lineno}: {(error.text or '').strip()}" if error.lineno else "no line known"
        raise UserError(f"memory file '{path}' is not Python: {error.msg} ({where}). Correct the line.") from None
    except (Exception, SystemExit) as error:
        raise UserError(f"memory file '{path}' cannot be run: {told(error, path)}. Correct it.") from None
    return module
