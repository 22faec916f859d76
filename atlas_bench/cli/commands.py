"""The commands as click sees them: help under heads, values by configuration, one message for a mistake."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from atlas_bench.cli import origins, renamed
from atlas_bench.errors import UserError, clip, without_secrets

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
            param.envvar, param.show_envvar = origins.variables(self.name, param), False

    def format_options(self, ctx: typer.Context, formatter: Any) -> None:
        """The arguments, then the options under their heads."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            is_argument = param.param_type_name == "argument"
            if (row := param.get_help_record(ctx)) is not None:
                head = "Arguments" if is_argument else param.rich_help_panel or "Other"
                groups.setdefault(head, []).append((origins.label_of(param), row[1]) if is_argument else row)
        for head, rows in sorted(groups.items(), key=lambda item: HEADS.index(item[0])):
            with formatter.section(head):
                formatter.write_dl(rows)

    def format_epilog(self, ctx: typer.Context, formatter: Any) -> None:
        """The examples, line by line as they stand."""
        formatter.write(f"\n{self.epilog}\n" if self.epilog else "")

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        """Parse the words, and refuse what click would take and nobody can mean."""
        args = renamed.words(args)
        if ctx.meta.get(origins.SHOW):
            for param in self.params:
                param.required = False
        typed, _, order = self.make_parser(ctx).parse_args(list(args))
        self._check_typed(ctx, typed, order)
        try:
            rest = super().parse_args(ctx, args)
        except typer.BadParameter as error:
            raise _wrong_value(ctx, error, typed, order) from None
        except Exception as error:
            message = getattr(error, "message", "")
            if "unexpected extra argument" not in message:
                raise
            raise UserError(
                f"{message.rstrip('.')}. A list has commas and no blanks: babilong,niah or --len 4K,8K. "
                f"See `{ctx.command_path} --help`."
            ) from None
        for param in self.params:  # Python's integers have no end, numpy's and torch's have
            given = origins.listed(ctx.params.get(param.name))
            if any(type(value) is int and abs(value) >= 1 << 63 for value in given):
                shown = clip(origins.shown(ctx.params[param.name]))
                raise UserError(f"{origins.label_of(param)} is {shown}. Give a number below 2**63.")
        return rest

    def _check_typed(self, ctx: typer.Context, typed: Mapping[str, Any], order: Sequence[Any]) -> None:
        """Raise UserError for a list that is given twice, and for an empty value."""
        for param in order:  # of a list in one word, nobody expects that the last holds
            twice = order.count(param) > 1 and not param.multiple and not ctx.resilient_parsing
            option = origins.label_of(param)
            if twice and "[," in (param.metavar or ""):
                raise UserError(f"{option} stands twice. Write it once, with commas: {option} {param.metavar}.")
            if "" in origins.listed(typed.get(param.name)):  # a folder of no name would be the working folder
                raise UserError(f'{option} "" is empty. Give it a value.')

    def invoke(self, ctx: typer.Context) -> Any:
        if ctx.meta.get(origins.SHOW):
            typer.echo(origins.as_json(ctx) if ctx.params.get("as_json") else "\n".join(origins.lines(ctx)))
            return None
        before = sys.argv
        sys.argv = [*before, *origins.added(ctx)]  # what a record calls its command needs neither file nor variable
        try:
            return super().invoke(ctx)
        finally:
            sys.argv = before


@contextmanager
def _mistakes_shown(ctx: Any) -> Iterator[None]:
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
        text, where = error.format_message().rstrip("."), getattr(error, "ctx", None)
        option = getattr(error, "option_name", None)
        if any(option in param.opts for param in ctx.command.params):
            text = f"{option} stands before the command: `{ctx.command_path} {option} .. {ctx.invoked_subcommand}`"
        path = where.command_path if where else f"{ctx.command_path} {ctx.invoked_subcommand or ''}".strip()
        message = f"{text}{'' if text.endswith('?') else '.'} See `{path} --help`."
    except KeyboardInterrupt as stop:
        goes_on = " The same command does what is left to do." * (ctx.invoked_subcommand in _RESUMING)
        typer.echo(str(stop) or f"stopped.{goes_on}", err=True)
        raise typer.Exit(130) from None
    from atlas_bench.errors import printable

    message = printable(without_secrets(message), ascii_only=False)  # it quotes what files and servers say
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(2)


class Commands(TyperGroup):
    """The group of commands: a user's mistake gives one message, and --print-config may appear anywhere."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args:
            return super().parse_args(ctx, args)  # prints the help
        if "--print-config" in args and "lm-eval" not in args:
            args = ["--print-config", *(word for word in args if word != "--print-config")]
        with _mistakes_shown(ctx):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        with _mistakes_shown(ctx):
            return super().invoke(ctx)


def _wrong_value(
    ctx: typer.Context, error: typer.BadParameter, typed: Mapping[str, Any], order: Sequence[Any]
) -> Exception:
    """The error for a value that an option does not take: its origin, and what to write instead."""
    param = error.param
    if param is None or error.param_hint:
        return error
    if not error.message:  # it is missing; of `push PATHS.. FOLDER` with one word, the second one
        given = [other for other in order if other.param_type_name == "argument" and typed.get(other.name)]
        error.param = given[-1] if param.nargs == -1 and given else param
        return error
    value, source = param.consume_value(ctx, typed)
    where = "" if source.name == "COMMANDLINE" else f" ({origins.origin_of(ctx, param, source.name)})"
    return UserError(f"{origins.label_of(param)} {clip(origins.shown(value))}{where}{_why(error.message)}")


def _why(message: str) -> str:
    """The words of click, pydantic or ours that follow the value: ' should be a valid integer.'"""
    if message.startswith(" "):
        return message
    message = message.removeprefix("Value error, ").removesuffix(".").partition(", unable to")[0]
    advice = next((f" Write {words}." for kind, words in _NUMBERS.items() if message.endswith(f"valid {kind}")), "")
    return (
        f" should be{message.removeprefix('Input should be')}.{advice}"
        if message.startswith("Input should")
        else f": {message}."
    )
