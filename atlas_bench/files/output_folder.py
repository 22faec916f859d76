"""The folder that a command writes into: checked before the work."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from atlas_bench.errors import UserError


def check(folder: str | Path) -> None:
    """Raise UserError where a command could not write into `folder`; it makes no file and no folder."""
    folder = Path(folder)
    ancestor = folder.absolute()
    try:
        while not ancestor.exists():
            ancestor = ancestor.parent
        if not ancestor.is_dir():
            raise UserError(f"folder '{folder}': '{ancestor}' is a file. Choose another folder.")
        with tempfile.TemporaryFile(dir=ancestor):  # permission bits say too little: root, read-only mounts
            pass
        sealed = [file for file in folder.glob("*.jsonl") if not os.access(file, os.W_OK)]
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"folder '{folder}' is not writable: {reason}. Choose another.") from error
    if sealed:
        raise UserError(f"file '{sealed[0]}' is not writable. Make it writable, or choose another folder.")
