"""Records on disk: append-only JSON lines that survive a kill at any byte."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from atlas_bench.errors import UserError
from atlas_bench.results.record import Record, Warn, cell_key, parse_object

try:
    import fcntl
except ImportError:  # Windows: one writer at a time is then the user's care
    fcntl = None

Paths = str | Path | Iterable[str | Path]


def append(path: str | Path, record: Record) -> None:
    """Add one record's line: locked, flushed and synced; a torn last line is first moved to `<path>.torn`.

    Raises UserError where the file cannot be written (no permission, disk full).
    """
    path = Path(path)
    line = record.to_json().encode() + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a+b") as file, _locked(file):
            separator = _repair(file, path)
            file.write(separator + line)
            _sync(file)
    except OSError as error:
        raise UserError(f"cannot write the record to '{path}': {error.strerror or error}.") from error


def read(path: str | Path) -> tuple[list[Record], list[str]]:
    """(records, warnings) of one file; a line that is no record is skipped with a warning naming it.

    Raises UserError where the file cannot be read.
    """
    records: list[Record] = []
    warnings: list[str] = []
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except OSError as error:
        raise UserError(f"cannot read results '{path}': {error.strerror or error}.") from error
    if not lines[-1]:
        lines.pop()  # what follows the last newline
    for number, line in enumerate(lines, start=1):
        if _is_blank(line):
            continue
        where = f"{path}:{number}"
        if number == len(lines) and not _is_whole(line):
            warnings.append(f"{where}: torn last line left out; the next run moves it to '{path}.torn'.")
            continue
        try:
            records.append(Record.from_json(line, where=where, warn=warnings.append))
        except UserError as error:
            warnings.append(f"{error} Line skipped.")
    return records, warnings


def read_all(paths: Paths) -> tuple[list[Record], list[str]]:
    """(records, warnings) of files and of every .jsonl file below folders, in order of path."""
    records: list[Record] = []
    warnings: list[str] = []
    for path in [paths] if isinstance(paths, (str, Path)) else paths:
        path = Path(path)
        if not path.exists():
            raise UserError(f"no results at '{path}'. Give a .jsonl file or a folder of them.")
        for file in sorted(path.rglob("*.jsonl")) if path.is_dir() else [path]:
            more, noted = read(file)
            records += more
            warnings += noted
    return records, warnings


def done(paths: Paths, *, warn: Warn | None = None) -> dict[str, Record]:
    """cell_key -> record of cells that need no second run: `ok` and `unsupported`.

    A folder that is not there yet has none; each reading warning is told to `warn`.
    """
    if isinstance(paths, (str, Path)) and not Path(paths).exists():
        return {}
    records, warnings = read_all(paths)
    if warn:
        for message in warnings:
            warn(message)
    return {cell_key(record): record for record in latest(records) if record.status in ("ok", "unsupported")}


def latest(records: Iterable[Record]) -> list[Record]:
    """One record per cell, in order of first appearance: an `ok` one before others, then the last."""
    kept: dict[str, Record] = {}
    for record in records:
        key = cell_key(record)
        if key not in kept or record.status == "ok" or kept[key].status != "ok":
            kept[key] = record
    return list(kept.values())


def check_writable(folder: str | Path) -> None:
    """Raise UserError where records could not be kept in `folder`; leaves no trace, makes no folder."""
    folder = Path(folder)
    ancestor = folder.absolute()
    try:
        while not ancestor.exists():
            ancestor = ancestor.parent
        if not ancestor.is_dir():
            raise UserError(f"results folder '{folder}': '{ancestor}' is a file. Choose another folder.")
        with tempfile.TemporaryFile(dir=ancestor):  # permission bits say too little: root, read-only mounts
            pass
        sealed = [file for file in folder.glob("*.jsonl") if not os.access(file, os.W_OK)]
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"results folder '{folder}' is not writable: {reason}. Choose another.") from error
    if sealed:
        raise UserError(f"results file '{sealed[0]}' is not writable. Make it writable or choose a folder.")


def _repair(file: BinaryIO, path: Path) -> bytes:
    """Move a torn last line away; what must be written before the next line."""
    offset, line = _last_line(file)
    if _is_blank(line) or _is_whole(line):
        return b"" if line.endswith(b"\n") or not line else b"\n"
    with open(f"{path}.torn", "ab") as torn:  # kept safely before it is cut off here
        torn.write(line.rstrip(b"\n") + b"\n")
        _sync(torn)
    file.truncate(offset)
    return b""


def _last_line(file: BinaryIO) -> tuple[int, bytes]:
    """(offset, bytes) of the last line, newline included, without reading the whole file."""
    start = size = file.seek(0, os.SEEK_END)
    window, tail = 1 << 16, b""
    while start > 0 and b"\n" not in tail[:-1]:
        start = max(0, size - window)
        file.seek(start)
        tail = file.read(size - start)
        window *= 2
    cut = tail[:-1].rfind(b"\n") + 1
    return start + cut, tail[cut:]


def _is_whole(line: bytes) -> bool:
    """A JSON object: no proper prefix of one is one, so a torn line is never taken for a whole one."""
    try:
        parse_object(line, "")
    except UserError:
        return False
    return True


def _is_blank(line: bytes) -> bool:
    return not line.strip()


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def _locked(file: BinaryIO) -> Iterator[None]:
    """Hold the file's lock; closing the file gives it back, after a crash too."""
    if fcntl is not None:
        with suppress(OSError):  # a network file system without locks: append anyway
            fcntl.flock(file, fcntl.LOCK_EX)
    yield
