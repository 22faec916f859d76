"""Records on disk: append-only JSON lines that survive a kill at any byte.

    append("results/mqar.jsonl", record)
    for record in scan(["results"], warn=print):        # one at a time, from every .jsonl file below
        record.model, record.scores

A line that is no record is told by file and line and left out; none stops the reading.
"""

from __future__ import annotations

import os
import sys
import tempfile
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from atlas_bench.errors import UserError
from atlas_bench.results.record import Record, Warn, cell_key, parse_object

if sys.platform != "win32":  # there one writer at a time is the user's care
    import fcntl

FINAL = ("ok", "unsupported")  # statuses of cells that need no second run,
AGAIN = ("failed", "oom", "timeout")  # and of those that the same command runs again

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


def scan(paths: Paths, warn: Warn) -> Iterator[Record]:
    """The records of files and of every .jsonl file below folders, in order of path, one at a time.

    paths  a file or folder, or several
    warn   is told, as "file:line: ...", of what is no record and left out, of unknown fields and of a torn last line;
           what is the same on many lines of a file once, with the first of them; of a file below a folder that
           cannot be read, too

    Raises UserError for a path that is not there, or a file named in it that cannot be read.
    """
    for path in [paths] if isinstance(paths, (str, Path)) else paths:
        if not os.path.isdir(path):
            yield from _records(path, warn)
            continue
        for file in _below(path, warn):
            try:
                yield from _records(file, warn)
            except UserError as error:
                warn(f"{error} File left out.")


def given(source: Source, warn: Warn) -> Iterator[Record]:
    """Records themselves, and those that scan() finds in files and folders, in the order given."""
    for one in [source] if isinstance(source, (str, Path, Record)) else source:
        if isinstance(one, Record):
            yield one
        else:
            yield from scan(one, warn)


def read(path: str | Path) -> tuple[list[Record], list[str]]:
    """(records, warnings) of one file; a line that is no record is skipped with a warning naming it.

    Raises UserError where the file cannot be read.
    """
    warnings: list[str] = []
    return list(_records(path, warnings.append)), warnings


def read_all(paths: Paths) -> tuple[list[Record], list[str]]:
    """(records, warnings) of all that `scan` finds, held at once."""
    warnings: list[str] = []
    return list(scan(paths, warnings.append)), warnings


def done(paths: Paths, *, warn: Warn | None = None) -> dict[str, Record]:
    """cell_key -> record of cells that need no second run: `ok` and `unsupported`.

    A folder that is not there yet has none; each reading warning is told to `warn`.
    """
    return {key: record for key, record in _latest_by_key(paths, warn).items() if record.status in FINAL}


class Followed:
    """The records of a folder, and what other processes append to them meanwhile.

    folder  of the records; need not be there yet
    warn    is given each warning of the first reading
    """

    def __init__(self, folder: str | Path, *, warn: Warn | None = None) -> None:
        self.folder = Path(folder)
        self._ends = {file.name: _end(file) for file in self.folder.glob("*.jsonl")}  # before reading, to miss none
        self._kept = _latest_by_key(self.folder, warn)
        self._unfinished = {key for key, record in self._kept.items() if record.status not in FINAL}

    def record(self, key: str, name: str, *, unfinished: bool = False) -> Record | None:
        """The record of that cell in folder/name which is final, or was appended since this process began; or None.

        unfinished  whether an older one that is not final will do
        """
        with suppress(OSError), open(self.folder / name, "rb") as file:
            file.seek(self._ends.get(name, 0))
            for line in file:
                if not line.endswith(b"\n"):  # another process is writing it, or was killed as it did
                    break
                self._ends[name] = self._ends.get(name, 0) + len(line)
                with suppress(UserError):
                    self._add(Record.from_json(line))
        return self._kept.get(key) if unfinished or key not in self._unfinished else None

    def _add(self, record: Record) -> None:
        key = cell_key(record)
        self._unfinished.discard(key)
        if record.status == "ok" or key not in self._kept or self._kept[key].status != "ok":
            self._kept[key] = record


def _latest_by_key(paths: Paths, warn: Warn | None) -> dict[str, Record]:
    """cell_key -> the record of latest(); none of a folder that is not there."""
    if isinstance(paths, (str, Path)) and not Path(paths).exists():
        return {}
    return _by_key(scan(paths, warn or (lambda message: None)))


def latest(records: Iterable[Record]) -> list[Record]:
    """One record per cell, in order of first appearance: an `ok` one before others, then the last."""
    return list(_by_key(records).values())


def _by_key(records: Iterable[Record]) -> dict[str, Record]:
    """cell_key -> the record of latest()."""
    kept: dict[str, Record] = {}
    for record in records:
        key = cell_key(record)
        if key not in kept or record.status == "ok" or kept[key].status != "ok":
            kept[key] = record
    return kept


def check_names(folder: Path, models: Mapping[str, Any]) -> None:
    """Raise UserError where the user's own name of a model stands for another one in the folder's records.

    models  name -> model; those with a `spec` were named by the user. Equal weights are the same model.
    """
    named = {name: model for name, model in models.items() if model.spec}
    if not named or not folder.exists():
        return
    for record in scan(folder, lambda message: None):
        if record.model not in named or record.model_spec == (model := named[record.model]).spec:
            continue
        if record.weights_hash is None or record.weights_hash != model.facts().get("weights_hash"):
            stands = record.model_spec or record.model
            raise UserError(
                f"the name '{record.model}' stands for '{stands}' in '{folder}', and now for '{model.spec}'. Give it "
                "another name, or another --out."
            )


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


def _below(folder: str | Path, warn: Warn) -> list[Path]:
    """Every .jsonl file below the folder, in order of path; a folder that cannot be read is told to `warn`."""

    def tell(error: OSError) -> None:
        warn(f"cannot read results '{error.filename}': {error.strerror or error}. Folder left out.")

    walked = os.walk(folder, onerror=tell)
    return sorted(Path(where, name) for where, _, names in walked for name in names if name.endswith(".jsonl"))


def _records(path: str | Path, warn: Warn) -> Iterator[Record]:
    """The records of one file, line by line; what is told of many lines is kept until the file is closed."""
    said: dict[str, list[int]] = {}  # text -> [first line, how many]

    def note(message: str) -> None:
        said.setdefault(message.removeprefix(f"{where}: "), [number, 0])[1] += 1

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
        for text, (first, count) in said.items():
            more = "" if count == 1 else f" The same on {count - 1:,} more line{'s' * (count > 2)}."
            warn(f"{path}:{first}: {text}{more}")


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


def _end(path: Path) -> int:
    """The offset behind the last line that ends in a newline."""
    with suppress(OSError), open(path, "rb") as file:
        offset, line = _last_line(file)
        return offset + len(line) * line.endswith(b"\n")
    return 0


def _is_whole(line: bytes) -> bool:
    """A JSON object: no proper prefix of one is one, so a torn line is never taken for a whole one."""
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
    """Hold the file's lock; closing the file gives it back, after a crash too."""
    if sys.platform != "win32":
        with suppress(OSError):  # a network file system without locks: append anyway
            fcntl.flock(file, fcntl.LOCK_EX)
    yield
