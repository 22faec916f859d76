"""Where the values of a command's options come from: command line, ATLAS_BENCH_* variables, atlas-bench.toml, defaults.

    # atlas-bench.toml in the working folder: a table for each command, a key for each of its options
    [run]
    model = ["atlas-nano"]
    samples = 200

    $ ATLAS_BENCH_RUN_SAMPLES=50 atlas-bench --print-config run babilong:qa1 --len 16K
    [run]
    task = "babilong:qa1"                   # command line
    len = "16K"                             # command line
    model = ["atlas-nano"]                  # atlas-bench.toml:3
    samples = 50                            # ATLAS_BENCH_RUN_SAMPLES
    ...

Click looks values up in that order by itself; this module gives it the variables' names and the file's values. Records
hold the command with all that a file or a variable added to it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from atlas_bench.cli import origins, renamed
from atlas_bench.cli.commands import Command
from atlas_bench.errors import UserError, unknown
from atlas_bench.files import text_files

FILE = "atlas-bench.toml"


def prepare(ctx: typer.Context, file: Path | None, *, show: bool) -> None:
    """Give the group's commands the values of the file, its own or the working folder's; check the variables' names.

    show  the command is to print its values, and not to run

    Raises UserError for a file that cannot be read, an unknown table, key or variable.
    """
    commands = {name: command for name, command in ctx.command.commands.items() if isinstance(command, Command)}
    if show and ctx.invoked_subcommand not in commands:
        raise UserError(f"'{ctx.invoked_subcommand}' has no values to print. Name one of {', '.join(commands)}.")
    path = file or (Path(FILE) if Path(FILE).is_file() else None)
    if path:
        ctx.default_map = load(path, commands, trusted=file is not None)
    ctx.meta[origins.SHOW], ctx.meta[origins.PATH] = show, path
    for name, command in commands.items():
        prefix, known = origins.variable(name, ""), {}
        for param in command.params:
            known |= zip(param.envvar, renamed.names(origins.key_of(param)), strict=True)
        for typed in sorted(os.environ):
            if typed.startswith(prefix) and typed not in known:
                raise unknown("variable", typed, known)
            if typed in known:
                renamed.key(known[typed])  # a note, where that is an old name


def load(path: Path, commands: Mapping[str, Command], *, trusted: bool) -> dict[str, dict[str, Any]]:
    """The file's values as click's default_map: command -> parameter -> value.

    trusted  the user named the file; else it only lay there, and may set what is harmless: found_file.py

    Raises UserError naming file and key.
    """
    import tomllib

    from atlas_bench.cli import found_file

    try:
        tables = tomllib.loads(text_files.read(path))
    except OSError as error:
        raise UserError(f"configuration '{path}' cannot be read: {error.strerror or error}. Check the path.") from None
    except ValueError as error:
        raise UserError(f"configuration '{path}' is not TOML: {error}. Correct it.") from None
    chosen: dict[str, dict[str, Any]] = {}
    for table, keys in tables.items():
        if not isinstance(keys, dict):
            raise UserError(f"configuration '{path}': '{table}' stands in no table. Write it below [run] or another.")
        if table not in commands:
            raise UserError(f"configuration '{path}': {unknown('table', f'[{table}]', (f'[{n}]' for n in commands))}")
        params = {origins.key_of(param): param for param in commands[table].params}
        chosen[table] = {}
        for key, value in keys.items():
            where = f"{path}:{origins.line_of(path, table, key) or '?'}: [{table}] {key}"
            param = params.get(renamed.key(key.replace("_", "-")))
            if param is None:
                raise UserError(f"{where}: {unknown('key', key, params)}")
            chosen[table][param.name] = _typed(value, param, where)
            if not trusted and not found_file.is_harmless(origins.key_of(param), value):
                raise UserError(
                    f"{where} is {origins.shown(value)}: a file that only lies here sets numbers, switches and names of"
                    f" atlas-bench's own, and no path, address or code. Type it, or name the file: --config {path}."
                )
    return chosen


def refuse(ctx: typer.Context, why: str, *names: str) -> None:
    """Raise UserError for the first of some parameters that was typed."""
    for param in ctx.command.params:
        if param.name in names and ctx.get_parameter_source(param.name).name == "COMMANDLINE":
            raise UserError(f"{origins.label_of(param)} {why}. Leave it out.")


def typed() -> str:
    """The command as a line that a shell takes, with what a file or a variable added to it."""
    from atlas_bench.running import resources

    return resources.command_line()


def _typed(value: Any, param: Any, where: str) -> Any:
    """A value as if it had been typed, so that click checks it like the command line."""
    several = param.multiple or param.nargs == -1
    if "" in origins.listed(value):
        raise UserError(f'{where} is empty (""). Give it a value, or leave the line out.')
    if isinstance(value, dict) or (isinstance(value, list) and not several):
        raise UserError(f"{where} is {origins.shown(value)}; it takes one value.")
    if several:
        return [str(each) for each in origins.listed(value)]
    if isinstance(value, bool) and not getattr(param, "is_flag", False):
        return str(value).lower()
    return value if isinstance(value, bool) else str(value)
