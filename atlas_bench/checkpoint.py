"""How far one cell has come, and the file that it goes on from: a Point and the packed state, renamed into place."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from atlas_bench import __version__
from atlas_bench.types import Model


@dataclass(frozen=True)
class Point:
    """How far a cell has come: finished answers, and the streams being read with their state."""

    rows: tuple[dict[str, Any], ...] = ()
    plans: tuple[str, ...] = ()
    sources: dict[str, str] = field(default_factory=dict)
    tokens: int = 0  # of the samples answered; the streams' are streams * position
    streams: int = 0  # contexts being read
    asking: int = 0  # samples that will be asked about them
    position: int = 0
    state_bytes: int | None = None
    seconds: float = 0.0
    peak: int = 0
    started: str = ""
    code: str = __version__
    state: Any = None


class Checkpoint:
    """The file that one cell goes on from."""

    def __init__(self, folder: Path, key: str) -> None:
        self.path = folder / ".checkpoints" / f"{key}.safetensors"

    def save(self, point: Point, model: Model) -> None:
        """Replace the file by this point; whole or not at all."""
        from safetensors.numpy import save_file

        packed = {} if point.state is None else model.pack(point.state)
        told = json.dumps({name: value for name, value in vars(point).items() if name != "state"})
        temporary = self.path.with_suffix(".tmp")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        save_file({n: np.asarray(x, order="C") for n, x in packed.items()}, temporary, {"point": told})
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, self.path)

    def load(self, model: Model) -> Point | None:
        """The saved point with its state, None where there is none; raises where it cannot be used."""
        from safetensors import safe_open

        if not self.path.exists():
            return None
        with safe_open(self.path, framework="np") as file:
            told = json.loads(file.metadata()["point"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        told |= {"rows": tuple(told["rows"]), "plans": tuple(told["plans"])}
        if told["code"] != __version__:
            raise ValueError(f"it is of atlas-bench {told['code']}, this is {__version__}")
        return Point(**told, state=model.unpack(arrays) if told["streams"] else None)

    def remove(self) -> None:
        """Delete the file, and its folder with the last one."""
        for leftover in (self.path, self.path.with_suffix(".tmp")):
            leftover.unlink(missing_ok=True)
        with suppress(OSError):
            self.path.parent.rmdir()
