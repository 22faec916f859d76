"""Records on disk: append-only JSON lines that survive a kill at any byte.

    append("results/mqar.jsonl", record)
    for record in scan(["results"], warn=print):        # one at a time, from every .jsonl file below
        record.model, record.scores

A line that is no record is left out with a warning that names file and line.
"""

from __future__ import annotations

import os
import sys
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from atlas_bench.errors import UserError
from atlas_bench.results.record import Record, Warn, cell_key, parse_object

if sys.platform != "win32":  # on Windows the user must run one writer at a time
    import fcntl

FINAL = ("ok", "unsupported")  # statuses of cells that need no second run
AGAIN = ("failed", "oom", "timeout")  # statuses of cells that the same command runs again

Paths = str | Path | Iterable[str | Path]
Source = str | Path | Record | Iterable[str | Path | Record]  # of records


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


def scan(source: Source, warn: Warn) -> Iterator[Record]:
    """The records of files and of every .jsonl file below folders, in order of path, one at a time.

    source  a file or folder, or a record itself, or several
    warn    receives "file:line: ..." for what is no record, for unknown fields and for a torn last line, once for
            many lines with the same fault; and a message for a file below a folder that cannot be read

    Raises UserError for a path that does not exist, and for a named file that cannot be read.
    """
    for one in [source] if isinstance(source, (str, Path, Record)) else source:
        if isinstance(one, Record):
            yield one
        elif os.path.isdir(one):
            for file in _below(one, warn):
                try:
                    yield from _records(file, warn)
                except UserError as error:
                    warn(f"{error} File left out.")
        else:
            yield from _records(one, warn)


def read(path: str | Path) -> tuple[list[Record], list[str]]:
    """(records, warnings) of one file; raises UserError where it cannot be read."""
    warnings: list[str] = []
    return list(_records(path, warnings.append)), warnings


def read_all(paths: Paths) -> tuple[list[Record], list[str]]:
    """(records, warnings) of all that `scan` finds, in memory at once."""
    warnings: list[str] = []
    return list(scan(paths, warnings.append)), warnings


def done(paths: Paths, *, warn: Warn | None = None, unfinished: bool = False) -> dict[str, Record]:
    """cell_key -> record of the cells that need no second run; none for a folder that does not exist yet.

    warn        receives each warning of the reading
    unfinished  whether cells that need a second run are there, too
    """
    if isinstance(paths, (str, Path)) and not Path(paths).exists():
        return {}
    kept = _keep({}, scan(paths, warn or (lambda message: None)))
    return kept if unfinished else {key: record for key, record in kept.items() if record.status in FINAL}


class Followed:
    """The records of a folder, with those that other processes append meanwhile.

    folder  of the records; it need not exist yet
    warn    receives each warning of the first reading
    """

    def __init__(self, folder: str | Path, *, warn: Warn | None = None) -> None:
        self.folder = Path(folder)
        self._ends = {file.name: _end(file) for file in self.folder.glob("*.jsonl")}  # before reading, to miss nothing
        self._kept = done(self.folder, warn=warn, unfinished=True)
        self._unfinished = {key for key, record in self._kept.items() if record.status not in FINAL}

    def record(self, key: str, name: str, *, unfinished: bool = False) -> Record | None:
        """The record of that cell in folder/name which is final, or was appended since this process began; or None.

        unfinished  whether an older one that is not final will do
        """
        with suppress(OSError), open(self.folder / name, "rb") as file:
            file.seek(self._ends.get(name, 0))
            for line in file:
                if not line.endswith(b"\n"):  # another process is writing it, or was killed while writing
                    break
                self._ends[name] = self._ends.get(name, 0) + len(line)
                with suppress(UserError):
                    record = Record.from_json(line)
                    self._unfinished.discard(cell_key(record))
                    _keep(self._kept, [record])
        return self._kept.get(key) if unfinished or key not in self._unfinished else None


def latest(records: Iterable[Record]) -> list[Record]:
    """One record for each cell, in order of first appearance: an `ok` one before others, then the last."""
    return list(_keep({}, records).values())


def _keep(kept: dict[str, Record], records: Iterable[Record]) -> dict[str, Record]:
    """`kept` (cell_key -> record) with these records: the last of each cell, but an `ok` one before others."""
    for record in records:
        key = cell_key(record)
        if record.status == "ok" or key not in kept or kept[key].status != "ok":
            kept[key] = record
    return kept


def _below(folder: str | Path, warn: Warn) -> list[Path]:
    """Every .jsonl file below the folder, in order of path, with a warning for a folder that cannot be read."""

    def tell(error: OSError) -> None:
        warn(f"cannot read results '{error.filename}': {error.strerror or error}. Folder left out.")

    walked = os.walk(folder, onerror=tell)
    return sorted(Path(where, name) for where, _, names in walked for name in names if name.endswith(".jsonl"))


def _records(path: str | Path, warn: Warn) -> Iterator[Record]:
    """The records of one file, line by line; warnings come when the file is closed, equal ones once."""
    warnings: dict[str, list[int]] = {}  # text -> [first line, how many]

    def note(message: str) -> None:
        warnings.setdefault(message.removeprefix(f"{where}: "), [number, 0])[1] += 1

    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                where = f"{path}:{number}"
                if _is_blank(line):
                    continue
                try:
                    record = Record.from_json(line, where=where, warn=note)
                except UserError as error:
                    if file.peek(1) or _is_whole(line) or not line.lstrip(b"\xef\xbb\xbf").startswith(b"{"):
                        note(f"{error} Line skipped.")
                    else:
                        note(f"torn last line left out; the next run moves it to '{path}.torn'.")
                else:
                    yield record
    except FileNotFoundError:
        raise UserError(f"no results at '{path}'. Give a .jsonl file or a folder of them.") from None
    except OSError as error:
        raise UserError(f"cannot read results '{path}': {error.strerror or error}.") from error
    finally:
        for text, (first, count) in warnings.items():
            more = "" if count == 1 else f" The same on {count - 1:,} more line{'s' * (count > 2)}."
            warn(f"{path}:{first}: {text}{more}")


def _repair(file: BinaryIO, path: Path) -> bytes:
    """Move a torn last line away, and return the bytes to write before the next line."""
    offset, line = _last_line(file)
    if _is_blank(line) or _is_whole(line):
        return b"" if line.endswith(b"\n") or not line else b"\n"
    with open(f"{path}.torn", "ab") as torn:  # kept safely before it is cut off here
        torn.write(line.rstrip(b"\n") + b"\n")
        _sync(torn)
    file.truncate(offset)
    return b""


def _last_line(file: BinaryIO) -> tuple[int, bytes]:
    """(offset, bytes) of the last line with its newline, without reading the whole file."""
    start = size = file.seek(0, os.SEEK_END)
    window, tail = 1 << 16, b""
    while start > 0 and b"\n" not in tail[:-1]:
        start = max(0, size - window)
        file.seek(start)
        tail = file.read(size - start)
        window *= 2
    cut = tail[:-1].rfind(b"\n") + 1
    return start + cut, tail[cut:]


def _end(path: Path) -> int:
    """The offset behind the last line that ends in a newline."""
    with suppress(OSError), open(path, "rb") as file:
        offset, line = _last_line(file)
        return offset + len(line) * line.endswith(b"\n")
    return 0


def _is_whole(line: bytes) -> bool:
    """Whether a line is a JSON object; a torn line never is, because no proper prefix of an object is one."""
    try:
        parse_object(line, "")
    except UserError:
        return False
    return True


def _is_blank(line: bytes) -> bool:
    return not line.removeprefix(BOM_UTF8).strip()


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def _locked(file: BinaryIO) -> Iterator[None]:
    """Hold the file's lock; closing the file releases it, and so does a crash."""
    if sys.platform != "win32":
        with suppress(OSError):  # a network file system without locks: append anyway
            fcntl.flock(file, fcntl.LOCK_EX)
    yield
