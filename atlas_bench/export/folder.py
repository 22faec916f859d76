"""A folder to publish: new, whole or not there."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from atlas_bench.errors import UserError, printable
from atlas_bench.results.record import clip


@contextmanager
def new_folder(folder: str | Path) -> Iterator[Path]:
    """A draft beside `folder` that takes its name when the block ends well, and is removed when it does not.

    Raises UserError for a folder that holds something, and for what the disk refuses.
    """
    folder = Path(folder).absolute()
    try:
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise UserError(f"'{folder}' exists and is not an empty folder. Name a new one: nothing is overwritten.")
        draft = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
        draft.mkdir(parents=True)
        try:
            yield draft
            if folder.exists():
                folder.rmdir()
            draft.rename(folder)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
    except OSError as error:
        raise UserError(f"cannot write '{folder}': {error.strerror or error}. Choose another folder.") from error


def files_below(folder: str | Path) -> list[Path]:
    """Every file below the folder, in order of path."""
    return sorted(path for path in Path(folder).rglob("*") if path.is_file())


def filled(template: str, **texts: object) -> str:
    """A Markdown template of this folder with its places filled."""
    return Path(__file__).with_name(template).read_text(encoding="utf-8").format(**texts)


def code(text: str, limit: int = 100) -> str:
    """Text of a record as Markdown code for one cell of a table: no markup, no control or bidi character acts."""
    shown = printable(clip(text, limit), ascii_only=False).replace("`", "'").replace("|", "\\|").strip()
    return f"`{shown}`" if shown else ""
