"""The values of a command's options, each with its origin: as a configuration file, as JSON, as words to type.

task = "babilong:qa1"                   # command line
model = ["atlas-nano"]                  # atlas-bench.toml:3
samples = 50                            # ATLAS_BENCH_RUN_SAMPLES
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from atlas_bench.cli import renamed
from atlas_bench.errors import without_secrets
from atlas_bench.files import text_files

SHOW, PATH = "atlas_bench.show", "atlas_bench.path"  # in click's ctx.meta, which a command shares with its group


def variable(command: str | None, key: str) -> str:
    """The variable of an option: 'run', 'checkpoint-every' -> ATLAS_BENCH_RUN_CHECKPOINT_EVERY."""
    return f"ATLAS_BENCH_{command}_{key}".upper().replace("-", "_")


def variables(command: str | None, param: Any) -> list[str]:
    """The variable of a parameter, and its variable under the old name."""
    return [variable(command, name) for name in renamed.names(key_of(param))]


def line_of(path: Path, table: str, key: str) -> int | None:
    """The line of the file that has the key of the table; None if it is written in an unusual way."""
    names = "|".join(renamed.names(key.replace("_", "-")))
    here, written = None, names.replace("-", "[-_]")
    for number, line in enumerate(text_files.read(path).splitlines(), start=1):
        if head := re.match(r"\s*\[\s*([\w-]+)\s*\]", line):
            here = head[1]
        elif here == table and re.match(rf"\s*[\"']?(?:{written})[\"']?\s*=", line):
            return number
    return None


def listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def key_of(param: Any) -> str:
    """'len' of --len, 'task' of an argument: what a key of the file and the end of a variable are called."""
    return max(param.opts, key=len).lstrip("-").replace("_", "-")


def label_of(param: Any) -> str:
    return max(param.opts, key=len) if param.param_type_name == "option" else param.metavar or param.name


def origin_of(ctx: typer.Context, param: Any, source: str) -> str:
    """'command line', the variable, 'atlas-bench.toml:3' or 'default'."""
    if source == "DEFAULT_MAP":
        path, key = ctx.meta[PATH], key_of(param)
        line = line_of(path, ctx.info_name, key)
        return f"{path}:{line}" if line else str(path)
    if source == "ENVIRONMENT":
        return next(name for name in param.envvar if os.environ.get(name))
    return "command line" if source == "COMMANDLINE" else "default"


def values_of(ctx: typer.Context) -> Iterator[tuple[Any, Any, str]]:
    """(parameter, value, origin) of every parameter of the command."""
    for param in ctx.command.params:
        value, source = ctx.params[param.name], ctx.get_parameter_source(param.name).name
        yield param, list(value) if isinstance(value, tuple) else value, origin_of(ctx, param, source)


def added(ctx: typer.Context) -> list[str]:
    """The words to type instead of the file and the variables."""
    words = []
    for param, value, origin in values_of(ctx):
        if origin in ("command line", "default") or value is None:
            continue
        if isinstance(value, bool):
            words += [label_of(param)] * value
        else:
            option = [label_of(param)] if param.param_type_name == "option" else []
            words += [word for item in listed(value) for word in (*option, str(item))]
    return words


def lines(ctx: typer.Context) -> Iterator[str]:
    """The command's values as a configuration file, each with its origin; options without a value are commented out."""
    yield f"[{ctx.info_name}]"
    for param, value, origin in values_of(ctx):
        empty = value is None or value == []
        line = f"# {key_of(param)} =" if empty else f"{key_of(param)} = {shown(value)}"
        yield f"{line:<39} # {origin}"
    folder, origin = _cache()
    yield f"{f'# cache: {folder}':<39} # {origin}"


def as_json(ctx: typer.Context) -> str:
    values = {key_of(param): {"value": value, "origin": origin} for param, value, origin in values_of(ctx)}
    folder, origin = _cache()
    cache = {"value": folder, "origin": origin}
    text = json.dumps({"command": ctx.info_name, "values": values, "cache": cache}, indent=2, default=str)
    return without_secrets(text)


def _cache() -> tuple[str, str]:
    """The folder of tokenised texts, which only a variable can change, and its origin."""
    from atlas_bench.tasks.token_file import cache_folder

    return str(cache_folder()), "ATLAS_BENCH_CACHE" if os.environ.get("ATLAS_BENCH_CACHE") else "default"


def shown(value: Any) -> str:
    """A value in TOML's syntax, by JSON's, which is the same for text, numbers and lists; control codes are escaped."""
    text = without_secrets(json.dumps(value, ensure_ascii=False, default=str))
    escaped = (f"\\u{ord(c):04x}" if ord(c) < 1 << 16 else f"\\U{ord(c):08x}" for c in text)
    return "".join(c if c.isprintable() else code for c, code in zip(text, escaped, strict=True))
