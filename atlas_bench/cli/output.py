"""Output of the commands: results on standard output, notes and warnings on stderr.

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
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from atlas_bench.files import output_file


@contextmanager
def guarded() -> Iterator[None]:
    """Print characters that standard output cannot encode as escapes; end with one message when it is closed, and on
    Ctrl-C.

    A closed pipe (`| head`) ends the command without a message.
    """
    out = sys.stdout  # None if it was closed: then nobody listens
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
    """Print a line on a terminal while torch is imported, which takes seconds on a slow machine."""
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
    from atlas_bench.errors import printable

    typer.echo(f"warning: {printable(message, ascii_only=False)}", err=True)


def write(file: Path, text: str) -> None:
    """Write the file completely or not at all, and print its size on stderr. Raises UserError if that fails."""
    size_bytes = output_file.write(file, text)
    typer.echo(f"{file}: {size_bytes / 1024:.0f} KiB", err=True)
