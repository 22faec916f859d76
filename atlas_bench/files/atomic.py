"""Files that exist completely or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write a new file at; it then replaces `path`, and is deleted where anything fails.

    The draft has its own folder, because some libraries (safetensors) put temporary files beside it, and a kill would
    leave these behind. One process at a time: the next clears away what a killed one has left.
    """
    discard_draft(path)
    _drafts(path).mkdir(parents=True)
    temporary = _drafts(path) / path.name
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())  # the name must never outlive the bytes
        os.replace(temporary, path)
    finally:  # after Ctrl-C too: half a file would fill a disk that is full already
        discard_draft(path)


def discard_draft(path: Path) -> None:
    """Delete what replacing() has left of a file, if anything."""
    shutil.rmtree(_drafts(path), ignore_errors=True)


def _drafts(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")
