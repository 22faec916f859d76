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

Click looks values up in that order by itself; here it is told which variable is whose, and what is in the file. Records
hold the command with all that a file or a variable added to it.
"""

from __future__ import annotations

import errno
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from atlas_bench.errors import UserError, clip, unknown, without_secrets
from atlas_bench.files import text_files

FILE = "atlas-bench.toml"
_SHOW, _PATH = "atlas_bench.show", "atlas_bench.path"  # in click's ctx.meta, which a command shares with its group
HEADS = (  # of a command's help
    "Arguments",
    "What is asked",
    "How models are run",
    "How models are trained",
    "What is written and printed",
    "Other",
)
_NUMBERS = {"integer": "a whole number, such as 20", "number": "a number, such as 20 or 0.5"}
_RESUMING = ("run", "compare", "probe", "train")
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO, errno.ENAMETOOLONG)


class Command(TyperCommand):
    """A command whose options have a variable each, and which shows its values instead where that is asked for."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for param in self.params:
            param.envvar, param.show_envvar = variable(self.name, _key(param)), False

    def format_options(self, ctx: typer.Context, formatter: Any) -> None:
        """The arguments, then the options under their heads."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            is_argument = param.param_type_name == "argument"
            if (row := param.get_help_record(ctx)) is not None:
                head = "Arguments" if is_argument else param.rich_help_panel or "Other"
                groups.setdefault(head, []).append((_label(param), row[1]) if is_argument else row)
        for head, rows in sorted(groups.items(), key=lambda item: HEADS.index(item[0])):
            with formatter.section(head):
                formatter.write_dl(rows)

    def format_epilog(self, ctx: typer.Context, formatter: Any) -> None:
        """The examples, line by line as they stand."""
        formatter.write(f"\n{self.epilog}\n" if self.epilog else "")

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        if ctx.meta.get(_SHOW):
            for param in self.params:
                param.required = False
        typed, _, order = self.make_parser(ctx).parse_args(list(args))
        for param in order:  # of a list in one word, nobody expects that the last holds
            twice = order.count(param) > 1 and not param.multiple and not ctx.resilient_parsing
            if twice and "[," in (param.metavar or ""):
                option = _label(param)
                raise UserError(f"{option} stands twice. Write it once, with commas: {option} {param.metavar}.")
            if "" in _listed(typed.get(param.name)):  # a folder of no name is the working folder, where all is mixed up
                raise UserError(f'{_label(param)} "" is empty. Give it a value.')
        try:
            rest = super().parse_args(ctx, args)
        except typer.BadParameter as error:
            param = error.param
            if param is None or error.param_hint:
                raise
            if not error.message:  # it is missing; of `push PATHS.. FOLDER` with one word, the second one
                words = [each for each in order if each.param_type_name == "argument" and typed.get(each.name)]
                error.param = words[-1] if param.nargs == -1 and words else param
                raise
            value, source = param.consume_value(ctx, typed)
            where = "" if source.name == "COMMANDLINE" else f" ({_origin(ctx, param, source.name)})"
            raise UserError(f"{_label(param)} {clip(_shown(value))}{where}{_why(error.message)}") from None
        except Exception as error:
            said = getattr(error, "message", "")
            if "unexpected extra argument" not in said:
                raise
            raise UserError(
                f"{said.rstrip('.')}. A list has commas and no blanks: babilong,niah or --len 4K,8K. "
                f"See `{ctx.command_path} --help`."
            ) from None
        for param in self.params:  # Python's integers have no end, numpy's and torch's have
            if any(type(value) is int and abs(value) >= 1 << 63 for value in _listed(ctx.params.get(param.name))):
                said = clip(_shown(ctx.params[param.name]))
                raise UserError(f"{_label(param)} is {said}. Give a number below 2**63.")
        return rest

    def invoke(self, ctx: typer.Context) -> Any:
        if ctx.meta.get(_SHOW):
            typer.echo(_as_json(ctx) if ctx.params.get("as_json") else "\n".join(_lines(ctx)))
            return None
        before = sys.argv
        sys.argv = [*before, *_added(ctx)]  # what a record calls its command needs neither file nor variable
        try:
            return super().invoke(ctx)
        finally:
            sys.argv = before


@contextmanager
def _mistakes_told(ctx: Any) -> Iterator[None]:
    """A user's mistake, or a package that is not there, is one message and exit code 2; Ctrl-C is 130."""
    try:
        yield
        return
    except UserError as error:
        message = str(error)
    except ImportError as error:
        package = (error.name or "").partition(".")[0].replace("_", "-")
        if package in ("", "atlas-bench"):
            raise
        missing = isinstance(error, ModuleNotFoundError)
        what = "is not installed" if missing else f"cannot be imported ({error})"
        message = f"{package} {what}, and `{ctx.info_name} {ctx.invoked_subcommand}` needs it: pip install {package}"
    except OSError as error:  # of a file that no code above has looked after; standard output's have no name
        if error.filename is None or error.errno not in _DISK:
            raise
        where = clip(str(error.filename))
        message = f"'{where}': {error.strerror}. Make room, or choose a place that can be read and written."
    except Exception as error:
        if not hasattr(error, "format_message"):  # click's own have it
            raise
        said, where = error.format_message().rstrip("."), getattr(error, "ctx", None)
        path = where.command_path if where else f"{ctx.command_path} {ctx.invoked_subcommand or ''}".strip()
        message = f"{said}{'' if said.endswith('?') else '.'} See `{path} --help`."
    except KeyboardInterrupt as stop:
        goes_on = " The same command goes on from the last checkpoint." * (ctx.invoked_subcommand in _RESUMING)
        typer.echo(str(stop) or f"stopped.{goes_on}", err=True)
        raise typer.Exit(130) from None
    from atlas_bench.results.labels import printable

    message = printable(without_secrets(message), ascii_only=False)  # it quotes what files and servers say
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(2)


class Commands(TyperGroup):
    """The group of the commands: every mistake is one message, and --print-config may stand anywhere."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args:
            return super().parse_args(ctx, args)  # prints the help
        if "--print-config" in args and "lm-eval" not in args:
            args = ["--print-config", *(word for word in args if word != "--print-config")]
        with _mistakes_told(ctx):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        with _mistakes_told(ctx):
            return super().invoke(ctx)


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
    ctx.meta[_SHOW], ctx.meta[_PATH] = show, path
    for name, command in commands.items():
        prefix, known = variable(name, ""), [param.envvar for param in command.params]
        for typed in sorted(os.environ):
            if typed.startswith(prefix) and typed not in known:
                raise unknown("variable", typed, known)


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
    values: dict[str, dict[str, Any]] = {}
    for table, keys in tables.items():
        if not isinstance(keys, dict):
            raise UserError(f"configuration '{path}': '{table}' stands in no table. Write it below [run] or another.")
        if table not in commands:
            raise UserError(f"configuration '{path}': {unknown('table', f'[{table}]', (f'[{n}]' for n in commands))}")
        params = {_key(param): param for param in commands[table].params}
        values[table] = {}
        for key, value in keys.items():
            where = f"{path}:{line_of(path, table, key) or '?'}: [{table}] {key}"
            param = params.get(key.replace("_", "-"))
            if param is None:
                raise UserError(f"{where}: {unknown('key', key, params)}")
            values[table][param.name] = _typed(value, param, where)
            if not trusted and not found_file.is_harmless(_key(param), value):
                raise UserError(
                    f"{where} is {_shown(value)}: a file that only lies here sets numbers, switches and names of"
                    f" atlas-bench's own, and no path, address or code. Type it, or name the file: --config {path}."
                )
    return values


def refuse(ctx: typer.Context, why: str, *names: str) -> None:
    """Raise UserError for the first of some parameters that was typed."""
    for param in ctx.command.params:
        if param.name in names and ctx.get_parameter_source(param.name).name == "COMMANDLINE":
            raise UserError(f"{_label(param)} {why}. Leave it out.")


def typed() -> str:
    """The command as a line that a shell takes, with what a file or a variable added to it."""
    from atlas_bench.running import resources

    return resources.command_line()


def variable(command: str | None, key: str) -> str:
    """The variable of an option: 'run', 'checkpoint-every' -> ATLAS_BENCH_RUN_CHECKPOINT_EVERY."""
    return f"ATLAS_BENCH_{command}_{key}".upper().replace("-", "_")


def line_of(path: Path, table: str, key: str) -> int | None:
    """The line of the file on which the key of the table stands; None where it is written in an unusual way."""
    here, written = None, "[-_]".join(re.escape(part) for part in re.split("[-_]", key))
    for number, line in enumerate(text_files.read(path).splitlines(), start=1):
        if head := re.match(r"\s*\[\s*([\w-]+)\s*\]", line):
            here = head[1]
        elif here == table and re.match(rf"\s*[\"']?{written}[\"']?\s*=", line):
            return number
    return None


def _typed(value: Any, param: Any, where: str) -> Any:
    """A value as if it had been typed, so that click judges it as it judges the command line's."""
    several = param.multiple or param.nargs == -1
    if "" in _listed(value):
        raise UserError(f'{where} is empty (""). Give it a value, or leave the line out.')
    if isinstance(value, dict) or (isinstance(value, list) and not several):
        raise UserError(f"{where} is {_shown(value)}; it takes one value.")
    if several:
        return [str(each) for each in _listed(value)]
    if isinstance(value, bool) and not getattr(param, "is_flag", False):
        return str(value).lower()
    return value if isinstance(value, bool) else str(value)


def _why(said: str) -> str:
    """Click's, pydantic's or our own words, to stand behind the value: ' should be a valid integer.'"""
    if said.startswith(" "):
        return said
    said = said.removeprefix("Value error, ").removesuffix(".").partition(", unable to")[0]
    advice = next((f" Write {words}." for kind, words in _NUMBERS.items() if said.endswith(f"valid {kind}")), "")
    return (
        f" should be{said.removeprefix('Input should be')}.{advice}"
        if said.startswith("Input should")
        else f": {said}."
    )


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _key(param: Any) -> str:
    """'len' of --len, 'task' of an argument: what a key of the file and the end of a variable are called."""
    return max(param.opts, key=len).lstrip("-").replace("_", "-")


def _label(param: Any) -> str:
    return max(param.opts, key=len) if param.param_type_name == "option" else param.metavar or param.name


def _origin(ctx: typer.Context, param: Any, source: str) -> str:
    """'command line', the variable, 'atlas-bench.toml:3' or 'default'."""
    if source == "DEFAULT_MAP":
        path, key = ctx.meta[_PATH], _key(param)
        line = line_of(path, ctx.info_name, key)
        return f"{path}:{line}" if line else str(path)
    return {"COMMANDLINE": "command line", "ENVIRONMENT": param.envvar}.get(source, "default")


def _values(ctx: typer.Context) -> Iterator[tuple[Any, Any, str]]:
    """(parameter, value, origin) of every parameter of the command."""
    for param in ctx.command.params:
        value, source = ctx.params[param.name], ctx.get_parameter_source(param.name).name
        yield param, list(value) if isinstance(value, tuple) else value, _origin(ctx, param, source)


def _added(ctx: typer.Context) -> list[str]:
    """What would have to be typed instead of the file and the variables."""
    words = []
    for param, value, origin in _values(ctx):
        if origin in ("command line", "default") or value is None:
            continue
        if isinstance(value, bool):
            words += [_label(param)] * value
        else:
            option = [_label(param)] if param.param_type_name == "option" else []
            words += [word for each in _listed(value) for word in (*option, str(each))]
    return words


def _lines(ctx: typer.Context) -> Iterator[str]:
    """The command's values as a configuration file, each with its origin; what has no value is commented out."""
    yield f"[{ctx.info_name}]"
    for param, value, origin in _values(ctx):
        empty = value is None or value == []
        said = f"# {_key(param)} =" if empty else f"{_key(param)} = {_shown(value)}"
        yield f"{said:<39} # {origin}"
    folder, origin = _cache()
    yield f"{f'# cache: {folder}':<39} # {origin}"


def _as_json(ctx: typer.Context) -> str:
    values = {_key(param): {"value": value, "origin": origin} for param, value, origin in _values(ctx)}
    folder, origin = _cache()
    cache = {"value": folder, "origin": origin}
    text = json.dumps({"command": ctx.info_name, "values": values, "cache": cache}, indent=2, default=str)
    return without_secrets(text)


def _cache() -> tuple[str, str]:
    """The folder of tokenised texts, which only a variable can change, and its origin."""
    from atlas_bench.tasks.corpora import cache_folder

    return str(cache_folder()), "ATLAS_BENCH_CACHE" if os.environ.get("ATLAS_BENCH_CACHE") else "default"


def _shown(value: Any) -> str:
    """A value as TOML has it, which JSON's texts, numbers and lists are; nothing in it steers a terminal."""
    said = without_secrets(json.dumps(value, ensure_ascii=False, default=str))
    escaped = (f"\\u{ord(c):04x}" if ord(c) < 1 << 16 else f"\\U{ord(c):08x}" for c in said)
    return "".join(c if c.isprintable() else code for c, code in zip(said, escaped, strict=True))
