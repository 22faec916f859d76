"""The file format of checkpoints: named arrays and one JSON object, under a checksum, replaced as a whole.

    save(Path("cell.safetensors"), {"state": state}, {"tokens": 1000})
    arrays, values = load(Path("cell.safetensors"))           # raises Damaged unless every bit is as it was saved

A file is a safetensors file; `values` and the sha256 of everything stand in its metadata.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from atlas_bench.files.atomic import replacing


class Damaged(Exception):
    """The file does not hold what was saved; the message says how."""


def save(path: Path, arrays: Mapping[str, np.ndarray], values: Mapping[str, Any]) -> None:
    """Replace the file; a failed save leaves the older file unchanged and nothing beside it.

    Raises what safetensors and the system raise: a full disk is a SafetensorError there.
    """
    from safetensors.numpy import save_file

    arrays = {name: np.asarray(x, order="C") for name, x in arrays.items()}
    text = json.dumps(values)
    with replacing(path) as draft:
        save_file(arrays, draft, {"values": text, "sha256": _checksum(arrays, text)})


def load(path: Path) -> tuple[dict[str, np.ndarray], str]:
    """The arrays, and the JSON text of the values; raises Damaged if a bit differs from what was saved.

    Raises FileNotFoundError if there is no file, other OSErrors if it cannot be read.
    """
    from safetensors import safe_open

    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except OSError:
        raise
    except Exception as error:  # safetensors' own, or one of a name or shape that makes no sense
        raise Damaged(f"it is no whole safetensors file: {error}") from None
    if not {"values", "sha256"} <= metadata.keys():
        raise Damaged("it has no checksum: another program or an older atlas-bench has written it")
    if _checksum(arrays, metadata["values"]) != metadata["sha256"]:
        raise Damaged("its checksum is wrong: it has changed since it was saved")
    return arrays, metadata["values"]


def put_aside(path: Path) -> Path:
    """Rename a file that cannot be used to NAME.damaged, where nothing reads or replaces it; the new path."""
    aside = path.with_suffix(".damaged")
    os.replace(path, aside)
    return aside


def _checksum(arrays: Mapping[str, np.ndarray], text: str) -> str:
    """sha256 of the values and of the names, types, shapes and bytes of all arrays."""
    digest = hashlib.sha256(text.encode())
    for name, x in sorted(arrays.items()):
        digest.update(f"\0{name}\0{x.dtype}\0{x.shape}\0".encode())
        digest.update(x.reshape(-1).view(np.uint8))
    return digest.hexdigest()
