"""Files that are there as a whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write a new file at; it then replaces `path`, and is deleted where anything fails.

    One process at a time: the draft of a process that was killed is overwritten by the next.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = draft(path)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())  # the name must never outlive the bytes
        os.replace(temporary, path)
    except BaseException:  # Ctrl-C too: half a file would fill a disk that is full already
        temporary.unlink(missing_ok=True)
        raise


def draft(path: Path) -> Path:
    """Where replacing() writes."""
    return path.with_name(f".{path.name}.part")
