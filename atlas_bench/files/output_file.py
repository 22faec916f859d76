"""The file that a command writes: checked before the work, replaced as a whole, through links and into devices.

check(Path("page.html"))                    # before the records are read
write(Path("page.html"), html)              # 87040, its bytes
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from atlas_bench.errors import UserError


def check(file: Path | None, option: str = "-o") -> None:
    """Raise UserError if the file of an option could not be written: before the work that it is to hold."""
    if file and not (folder := _target(file).parent).is_dir():
        raise UserError(f"'{file}' cannot be written: '{folder}' is no folder. Choose another with {option}.")


def write(file: Path, text: str) -> int:
    """Write the file completely or not at all, to the target of a link; return its size in bytes.

    A device or a pipe, such as /dev/stdout, is appended to. Raises UserError if that fails.
    """
    data = text.encode("utf-8", "replace")  # half a surrogate pair is no text
    try:
        if _stays(file):
            with file.open("ab") as stream:
                stream.write(data)
        else:
            _replace(_target(file), data)
    except OSError as error:
        raise UserError(f"'{file}' cannot be written: {error.strerror or error}. Choose another with -o.") from None
    return len(data)


def _stays(file: Path) -> bool:
    """Whether writing appends instead of replacing: for anything but a regular file, and for standard output."""
    if not file.exists():
        return False
    with suppress(OSError):  # it was closed
        if os.path.samestat(file.stat(), os.fstat(1)):
            return True
    return not file.is_file()


def _target(file: Path) -> Path:
    """The target of a link, whether it exists or not; any other file itself."""
    return Path(os.path.realpath(file)) if file.is_symlink() else file


def _replace(file: Path, data: bytes) -> None:
    draft = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        draft.write_bytes(data)
        draft.replace(file)
    finally:
        with suppress(OSError):
            draft.unlink()
