"""Options that had another name in the last version: that name works for one version more, with a note on stderr."""

from __future__ import annotations

from collections.abc import Sequence

import typer

RENAMED = {"products": "matmul-precision", "paced": "fixed-schedule", "contenders": "candidates"}  # old -> new


def names(name: str) -> list[str]:
    """The name of an option, and its old name."""
    return [name, *(old for old, new in RENAMED.items() if new == name)]


def key(name: str) -> str:
    """The name of an option today; a note where the old one is given."""
    if name not in RENAMED:
        return name
    typer.echo(f"note: --{name} is called --{RENAMED[name]} now; the old name goes with the next version.", err=True)
    return RENAMED[name]


def words(args: Sequence[str]) -> list[str]:
    """The words of a command line, options by the names of today."""
    renamed = []
    for word in args:
        option, equals, value = word.partition("=")
        renamed.append(f"--{key(option[2:])}{equals}{value}" if option[:2] == "--" and option[2:] in RENAMED else word)
    return renamed
