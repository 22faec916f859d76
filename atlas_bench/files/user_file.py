"""A user's own Python file: executed under a name that holds its version, every mistake described in one sentence.

Only for a path that the user has typed: nothing that is read from disk may lead here.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import sys
import sysconfig
import tokenize
import traceback
from pathlib import Path
from types import ModuleType

from atlas_bench.errors import UserError
from atlas_bench.files import text_files
from atlas_bench.files.home import expanded

OURS = str(Path(__file__).parents[1]) + os.sep  # the folder of atlas_bench
NAME = r".*\.py(@[0-9a-f]+)?"  # a user's file, with or without its version


def execute(typed: str | Path, kind: str) -> tuple[str, ModuleType, bytes]:
    """(name, module, source) of a .py file, executed; the name is the file's with the first eight digits of its sha256.

    typed  'my_memory.py', or 'my_memory.py@1f2e3d4c', which takes no other version
    kind   "memory" or "task", for the messages

    Raises UserError for a file that is absent, has another version, does not parse or does not run.
    """
    file, version = re.fullmatch(r"(.*?)(?:@([0-9a-f]+))?", str(typed), re.DOTALL).groups()
    path = expanded(file)
    if path.suffix != ".py":
        raise UserError(f"{kind} file '{path}' is no .py file. Give the Python file that defines the {kind}.")
    try:
        source = path.read_bytes()
    except OSError as error:
        raise UserError(f"{kind} file '{path}' cannot be read: {error.strerror or error}. Check the path.") from None
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)  # what a first line may name
    except SyntaxError:
        encoding = None
    text_files.decode(source, path, encoding)  # Python itself lets wrong bytes pass in a comment
    digits = hashlib.sha256(source).hexdigest()[:8]
    if version and version != digits:
        raise UserError(f"{kind} file '{path}' is version {digits}, not {version}. Restore it, or name it without '@'.")
    module = ModuleType(f"atlas_bench_user_file_{digits}")
    module.__file__ = str(path.resolve())
    sys.modules[module.__name__] = module  # dataclasses and inspect look a class's module up
    try:
        exec(compile(source, module.__file__, "exec"), vars(module))
    except SyntaxError as error:
        where = f"line {error.lineno}: {(error.text or '').strip()}" if error.lineno else "no line known"
        raise UserError(f"{kind} file '{path}' is not Python: {error.msg} ({where}). Correct the line.") from None
    except (Exception, SystemExit) as error:
        raise UserError(f"{kind} file '{path}' cannot be run: {describe_error(error, path)}. Correct it.") from None
    return f"{path.name}@{digits}", module, source


def own_classes(module: ModuleType) -> list[type]:
    """Classes that the file itself defines, each once."""
    classes = [x for x in vars(module).values() if isinstance(x, type) and x.__module__ == module.__name__]
    return list(dict.fromkeys(classes))


def left_last(error: BaseException) -> str | None:
    """The last file that an error came through and that is neither ours nor an installed package's; None for none."""
    libraries = (OURS, *(sysconfig.get_path(kind) + os.sep for kind in ("stdlib", "platstdlib", "purelib", "platlib")))
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    own = (file for file in reversed(files) if os.path.isfile(file) and not file.startswith(libraries))
    return next(own, None)


def describe_error(error: BaseException, path: Path | str) -> str:
    """An error, with where it left the user's file: 'KeyError: 'M' (line 12 of my_memory.py: return state["M"])'.

    A method of our base class that should have been overridden is 'step() is missing'.
    """
    traced = traceback.extract_tb(error.__traceback__)
    if isinstance(error, NotImplementedError) and not error.args and traced and traced[-1].filename.startswith(OURS):
        return f"{traced[-1].name}() is missing"
    message = " ".join(str(error).split())
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    file = str(Path(path).resolve())
    frames = [f for f in traced if f.filename == file]
    if not frames:
        return text
    return f"{text} (line {frames[-1].lineno} of {Path(path).name}: {frames[-1].line})"
