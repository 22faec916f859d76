"""A document's tokens and sentence starts as one file of the cache, read through memory maps.

    write(path, ["One sentence.", "Another one."], tokenizer)
    page = load(path)                                # None where there is no such file, or not a whole one
    page.tokens[page.starts[1] : page.starts[2]]     # the second sentence

The file is a header of eight int64, the tokens, then the sentence starts. It is written under a temporary name and
renamed, so neither a kill nor a second process leaves half a file. The header records the file's size, so a file that
was cut short by other means is noticed.
"""

from __future__ import annotations

import glob
import os
import socket
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
import psutil

from atlas_bench.errors import MachineError, reason
from atlas_bench.types import Tokenizer

FORMAT = 1  # raise when the file layout or a splitting rule changes: old caches are then ignored
MIN_TOKENS = 10  # BABILong skips shorter sentences
BATCH = 1024  # sentences per encode_batch

_MAGIC = int.from_bytes(b"ATLASDOC", "little")
_HEADER = 64  # bytes: magic, format, token bytes, tokens, starts, file size, 0, 0


@dataclass(frozen=True, slots=True)
class Document:
    """Sentence i is tokens[starts[i]:starts[i + 1]]; len(starts) is the number of sentences + 1."""

    tokens: np.ndarray  # uint16 or uint32, mapped
    starts: np.ndarray  # int64, mapped


def cache_folder() -> Path:
    """$ATLAS_BENCH_CACHE, or ~/.cache/atlas-bench."""
    return Path(os.environ.get("ATLAS_BENCH_CACHE") or Path.home() / ".cache" / "atlas-bench")


def write(
    path: Path, sentences: Iterable[str], tokenizer: Tokenizer, *, limit: int | None = None, separator: str = " "
) -> None:
    """Tokenise separator + sentence for each into `path`, until `limit` tokens where one is given."""
    dtype = np.dtype(np.uint16 if tokenizer.vocab_size < 65536 else np.uint32)
    starts, total = array("q", [0]), 0
    with cached_file(path) as file:
        file.write(bytes(_HEADER))
        stream = iter(sentences)
        while (limit is None or total < limit) and (batch := list(islice(stream, BATCH))):
            kept: list[int] = []
            for ids in tokenizer.encode_batch([separator + sentence for sentence in batch]):
                if len(ids) >= MIN_TOKENS and (limit is None or total < limit):
                    kept += ids
                    total += len(ids)
                    starts.append(total)
            file.write(np.array(kept, dtype=dtype).tobytes())
        file.write(bytes(-total * dtype.itemsize % 8))  # starts begin on a multiple of 8
        file.write(starts.tobytes())
        size = file.tell()
        file.seek(0)
        header = [_MAGIC, FORMAT, dtype.itemsize, total, len(starts), size, 0, 0]
        file.write(np.array(header, dtype=np.int64).tobytes())


@contextmanager
def cached_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which becomes `path` in the cache as a whole; several processes may write the same one.

    Raises MachineError if the cache is read-only or full.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = _draft(path)
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # the name must never outlive the bytes
        os.replace(temporary, path)
    except OSError as error:
        raise MachineError(
            f"the cache of tokenised texts cannot be written in '{path.parent}': {reason(error)}. Make room, or set "
            "ATLAS_BENCH_CACHE to another folder."
        ) from None
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def _draft(path: Path) -> tuple[int, str]:
    """(descriptor, path) of a new file of this process beside `path`; those of killed processes are deleted."""
    mine = f"{path.stem}.{socket.gethostname()}."
    for left in path.parent.glob(f"{glob.escape(mine)}*.part"):
        number = left.name.removeprefix(mine).partition(".")[0]
        if number.isdigit() and not psutil.pid_exists(int(number)):
            left.unlink(missing_ok=True)
    return tempfile.mkstemp(dir=path.parent, prefix=f"{mine}{os.getpid()}.", suffix=".part")


def load(path: Path) -> Document | None:
    """The mapped document, or None if the file is missing, cut short or in another format."""
    try:
        size = path.stat().st_size
        if size < _HEADER:
            return None
        raw = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))  # plain view: memmap slices are slow
    except (FileNotFoundError, NotADirectoryError):
        return None
    magic, version, width, total, n_starts, recorded, *_ = raw[:_HEADER].view(np.int64).tolist()
    if (magic, version, recorded) != (_MAGIC, FORMAT, size) or width not in (2, 4):
        return None
    middle = _HEADER + -(-total * width // 8) * 8
    if middle + 8 * n_starts != size:
        return None
    tokens = raw[_HEADER : _HEADER + total * width].view(np.uint16 if width == 2 else np.uint32)
    return Document(tokens, raw[middle:].view(np.int64))
