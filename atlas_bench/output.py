"""What the commands print and write: standard output as far as it takes it, files as a whole.

with guarded():                                         # round a whole command
    show({"cells": 3}, as_json, lambda found: [f"{found['cells']} cells"])
    write(Path("page.html"), html)                      # 'page.html: 85 KiB' on stderr
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import typer

from atlas_bench.errors import UserError


@contextmanager
def guarded() -> Iterator[None]:
    """Print what standard output cannot say as escapes; end in one message where it takes no more, and on Ctrl-C.

    A closed pipe (`| head`) ends the command in silence.
    """
    out = sys.stdout  # None where it was closed: then nobody listens
    if hasattr(out, "reconfigure"):
        out.reconfigure(errors="backslashreplace")
    try:
        try:
            yield
        finally:
            print(end="", flush=True)
    except KeyboardInterrupt:
        typer.echo("stopped.", err=True)
        raise SystemExit(130) from None
    except OSError as error:
        try:
            print(flush=True)
        except OSError as again:  # so it was standard output, and not another file
            os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())  # Python flushes once more as it ends
            if again.errno != errno.EPIPE:
                typer.echo(f"error: cannot write standard output: {again.strerror}.", err=True)
            raise SystemExit(1) from None
        raise error


def quieten(quiet: bool) -> None:
    """With -q, the bars of other libraries too: they ask the environment, before they are imported."""
    if quiet:
        os.environ |= {"TQDM_DISABLE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error"}


def loading(quiet: bool = False) -> None:
    """A line for who sits before a terminal while torch is imported, which takes seconds on a slow machine."""
    if not quiet and sys.stderr.isatty():
        typer.echo("loading torch ..", err=True)


def check_working_folder() -> None:
    """End in one message where the folder that the command is called in has been deleted: no path would hold."""
    try:
        os.getcwd()
    except OSError as error:
        typer.echo(f"error: the working folder: {error.strerror}. Change to one that is there.", err=True)
        raise SystemExit(2) from None


def show(found: Any, as_json: bool, lines: Callable[[Any], Iterable[str]]) -> None:
    """Print plain data, as JSON or as the lines made of it."""
    typer.echo(json.dumps(found, indent=2, default=str) if as_json else "\n".join(lines(found)))


def warn(message: str) -> None:
    """Tell a warning on stderr, where nothing in it steers the terminal."""
    from atlas_bench.results.table import printable

    typer.echo(f"warning: {printable(message, ascii_only=False)}", err=True)


def check(file: Path | None) -> None:
    """Raise UserError where the file could not be written: before the work that it is to hold."""
    if file and not (folder := _target(file).parent).is_dir():
        raise UserError(f"'{file}' cannot be written: '{folder}' is no folder. Choose another with -o.")


def write(file: Path, text: str, *, quiet: bool = False) -> None:
    """All of the file or nothing of it, where a link points to; a word about it on stderr, unless quiet.

    A device or a pipe, such as /dev/stdout, is written into. Raises UserError where that fails.
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
    if not quiet:
        typer.echo(f"{file}: {len(data) / 1024:.0f} KiB", err=True)


def _stays(file: Path) -> bool:
    """Whether a file is added to, not replaced: what is no regular one, and standard output, wherever it goes."""
    if not file.exists():
        return False
    with suppress(OSError):  # it was closed
        if os.path.samestat(file.stat(), os.fstat(1)):
            return True
    return not file.is_file()


def _target(file: Path) -> Path:
    """What a link points to, be it there or not; another file itself."""
    return Path(os.path.realpath(file)) if file.is_symlink() else file


def _replace(file: Path, data: bytes) -> None:
    draft = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        draft.write_bytes(data)
        draft.replace(file)
    finally:
        with suppress(OSError):
            draft.unlink()
