"""One process at a time: a lock that the kernel releases when its holder ends, in whatever way.

    with locks.held(folder / ".lock", "the folder", wait=True, say=print) as mine:
        ...                                                   # mine is False only where wait is False

A lock is flock(2) on a separate file, which its holder removes. Processes on other machines see it if the file system
supports flock, as NFS 4 and most cluster file systems do. Where it does not, and on Windows, nothing is locked: a
warning says so once per folder, and the user must not start two runs at once.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_UNLOCKABLE: set[Path] = set()  # folders of which the user has been warned


@contextmanager
def held(path: Path, what: str, *, wait: bool, say: Callable[[str], Any]) -> Iterator[bool]:
    """Hold the lock of that path, whose folder is made; yields False if another process does and `wait` is False.

    what  is locked, for the messages
    say   is given a message before waiting, and where nothing can be locked
    """
    try:
        file = _open(path, what, wait, say)
    except OSError as error:
        if path.parent not in _UNLOCKABLE:
            _UNLOCKABLE.add(path.parent)
            say(f"no lock in '{path.parent}' ({error.strerror or error}): do not run the same command twice at once.")
        yield True
        return
    if file is None:
        yield False
        return
    try:
        yield True
    finally:
        with suppress(OSError):  # before it is unlocked: see _open
            path.unlink()
        os.close(file)
        with suppress(OSError):  # not empty
            path.parent.rmdir()


def _open(path: Path, what: str, wait: bool, say: Callable[[str], Any]) -> int | None:
    """The locked file's descriptor; None if another process holds it; OSError if files cannot be locked."""
    if fcntl is None:
        raise OSError("this system has no flock")
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # the last holder has just removed the folder
            continue
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not wait:
                    os.close(file)
                    return None
                holder = os.pread(file, 100, 0).decode(errors="replace").strip() or "another process"
                say(f"{what}: {holder} is at work on it; waiting for its end.")
                fcntl.flock(file, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file), os.stat(path)):  # else its last holder has removed it meanwhile
                    os.ftruncate(file, 0)
                    with suppress(OSError):  # a full disk; who holds it is for a message only
                        os.pwrite(file, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
                    return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)
