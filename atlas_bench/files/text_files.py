"""Text that is read from files: UTF-8, or the encoding that the user names; anything else is refused, never replaced.

    read("atlas-bench.toml")                        # the whole text; a byte order mark is no part of it
    for block in blocks("book.txt", "latin-1"):     # a long one in pieces
        ...

Every file that a user may have written is read here: what a model is shown, and what decides how it is asked.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

from atlas_bench.errors import UserError, did_you_mean
from atlas_bench.files.home import expanded

BLOCK = 1 << 20  # characters
NAMES = ("utf-8", "latin-1", "cp1252", "utf-16", "shift_jis", "gb18030", "koi8-r")  # some of many, to suggest
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def known(encoding: str) -> str | None:
    """Python's name for a text encoding, None for UTF-8; UserError for one that Python does not know."""
    try:
        codec = codecs.lookup(encoding)
        "".encode(encoding)  # refuses codecs that turn bytes into bytes, such as hex
    except (LookupError, ValueError):
        raise UserError(
            f"encoding '{encoding}' is unknown to Python.{did_you_mean(encoding, NAMES)} It knows {', '.join(NAMES)}"
            " and others: https://docs.python.org/3/library/codecs.html#standard-encodings."
        ) from None
    return None if codec.name in ("utf-8", "utf-8-sig") else codec.name


def read(path: str | Path, encoding: str | None = None, *, choice: bool = False) -> str:
    """All of a file's text.

    encoding  None for UTF-8
    choice    whether the user may name the encoding with --encoding, which the message then says

    Raises UserError for bytes of another encoding, or a NUL; OSError as open() does.
    """
    return "".join(blocks(path, encoding, choice=choice))


def blocks(path: str | Path, encoding: str | None = None, *, choice: bool = False) -> Iterator[str]:
    """The text of a file in blocks of BLOCK characters; see read()."""
    length = 0
    try:
        with open(path, encoding=(encoding and known(encoding)) or "utf-8-sig") as file:
            while block := file.read(BLOCK):
                if (at := block.find("\0")) >= 0:
                    advice = _advice(choice, "utf-16-le, utf-16-be")
                    raise UserError(f"'{path}' has a NUL at character {length + at}, as no text has. {advice}")
                length += len(block)
                yield block
    except UnicodeError:
        raise _refused(path, encoding, choice) from None


def version(path: str | Path) -> tuple[tuple[str, int, int], ...]:
    """(name, size in bytes, time of change in ns) of a file, or of all files below a folder; () where nothing is.

    Equal as long as nothing is edited: what a process keeps of a user's files is kept under this as well.
    """
    root = expanded(path)
    files = sorted(root.rglob("*")) if root.is_dir() else [root]
    known = ((str(file), file.stat()) for file in files if file.is_file())
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in known)


def decode(data: bytes, where: str | Path, encoding: str | None = None, *, choice: bool = False) -> str:
    """The text of bytes that were read from a file, which an error message names; see read()."""
    try:
        return data.decode((encoding and known(encoding)) or "utf-8-sig")
    except UnicodeError as error:
        at = getattr(error, "start", 0)
        raise _undecodable(where, encoding, data[at : at + 1], at, data[:2], choice) from None


def _refused(path: str | Path, encoding: str | None, choice: bool) -> UserError:
    """The error for a file, read again for the first byte that does not decode."""
    decoder = codecs.getincrementaldecoder((encoding and known(encoding)) or "utf-8")()
    offset, begin = 0, b""
    with open(path, "rb") as file:
        while True:
            data = file.read(BLOCK)
            begin = begin or data[:2]
            try:
                decoder.decode(data, final=not data)
            except UnicodeError as error:
                wrong = getattr(error, "object", data)  # what was left of the block before, and this one
                start = getattr(error, "start", 0)
                at = offset + len(data) - len(wrong) + start
                return _undecodable(path, encoding, wrong[start : start + 1], at, begin, choice)
            offset += len(data)
            if not data:  # it has changed meanwhile
                return UserError(f"'{path}' changed while it was read. Run the command again.")


def _undecodable(
    where: str | Path, encoding: str | None, wrong: bytes, offset: int, begin: bytes, choice: bool
) -> UserError:
    byte = f"byte 0x{wrong.hex()} at offset {offset}" if wrong else f"its end, at offset {offset}"
    likely = "utf-16" if begin in _UTF_16 else "latin-1, cp1252, .."
    return UserError(f"'{where}' is not {encoding or 'UTF-8'} text ({byte}). {_advice(choice, likely)}")


def _advice(choice: bool, likely: str) -> str:
    return f"Add --encoding NAME ({likely}), or save it as UTF-8." if choice else "Save it as UTF-8."
