"""Copies of checkpoints on storage that other machines see: `run --checkpoints s3://bucket/run`.

A cell's files are written to the folder of records first, and copied after each write. A machine without the files
takes the copies: a worker that replaces a lost one goes on where that one was.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from atlas_bench.errors import UserError, reason
from atlas_bench.files.atomic import replacing


class Copies:
    """A folder of copies at a URL that fsspec knows: a path, file://, s3://, gs://, memory:// and others.

    Raises UserError for a URL that cannot be used here.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        self.url, self._made = url.rstrip("/"), False
        try:
            self._files, self._root = fsspec.core.url_to_fs(self.url)
        except ImportError as error:  # fsspec names the package: "Install s3fs to access S3"
            raise UserError(
                f"checkpoints '{url}': {error}. `pip install` that package, or mount the storage."
            ) from None
        except Exception as error:  # a protocol that fsspec does not know, or what its package raises
            raise UserError(
                f"checkpoints '{url}' cannot be used: {reason(error)}. Give a URL such as s3://bucket/run."
            ) from None

    def put(self, path: Path) -> None:
        """Copy a file there, under its name; raises OSError, with the URL in its text, where that fails."""
        to = self._at(path)
        try:
            if not self._made:
                self._files.makedirs(self._root, exist_ok=True)
                self._made = True
            self._files.put_file(str(path), f"{to}.new")  # a copy that is cut short replaces nothing
            self._files.mv(f"{to}.new", to)
        except Exception as error:  # of any package
            raise OSError(f"no copy at {self.url}: {reason(error)}") from None

    def get(self, path: Path) -> None:
        """Fetch the copy of a file that is not here; nothing where there is none. Raises OSError where that fails."""
        if path.exists():
            return
        try:
            self._files.invalidate_cache(self._root)
            if self._files.exists(self._at(path)):
                path.parent.mkdir(parents=True, exist_ok=True)
                with replacing(path) as draft:
                    self._files.get_file(self._at(path), str(draft))
        except Exception as error:
            raise OSError(f"no copy from {self.url}: {reason(error)}") from None

    def remove(self, path: Path) -> None:
        """Delete the copy of a file, where there is one; one that cannot be deleted stays."""
        with suppress(Exception):
            self._files.rm_file(self._at(path))

    def _at(self, path: Path) -> Any:
        return f"{self._root}/{path.name}"


@cache
def at(url: str) -> Copies:
    """The copies at a URL, connected once."""
    return Copies(url)
