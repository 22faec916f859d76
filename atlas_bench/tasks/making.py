"""Documents of a corpus made ahead by several processes: the cache is all that they share.

    with making.processes(4):
        making.make(corpus, [3, 4, 5, 6])         # each is in the cache now, or will be made when it is read

Generated text costs some half a second for a million tokens, and its documents do not depend on each other.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atlas_bench.tasks.corpora import Corpus

WORTH = 500_000  # tokens for which a process is begun: it takes as long to begin as to make half of them
_PROCESSES = ContextVar("processes", default=1)
_ALONE = "This process makes what is missing, one document after another."


@contextmanager
def processes(number: int) -> Iterator[None]:
    """Let make() use so many processes meanwhile, this one among them; 1 leaves it without effect."""
    before = _PROCESSES.set(number)
    try:
        yield
    finally:
        _PROCESSES.reset(before)


def make(corpus: Corpus, numbers: Sequence[int]) -> None:
    """Make the documents of these numbers that the cache lacks, in as many processes as processes() says.

    Each makes WORTH tokens at least. What cannot be made elsewhere, such as the text of a function that cannot be
    pickled, is left to Corpus.document(); a warning says so.
    """
    if _PROCESSES.get() < 2:
        return
    missing = [number for number in numbers if not corpus.path(number).exists()]
    n = min(_PROCESSES.get(), len(missing), len(missing) * (corpus.document_tokens or 0) // WORTH)
    if n < 2:
        return
    try:
        others = [pickle.dumps((corpus, missing[k::n])) for k in range(1, n)]
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        warnings.warn(f"'{corpus.name}' is not made by {n} processes: {error}. {_ALONE}", stacklevel=2)
        return
    _make(corpus, missing[0::n], others)


def _make(corpus: Corpus, own: Sequence[int], others: Sequence[bytes]) -> None:
    children = [_Child(asked) for asked in others]
    try:
        for number in own:
            corpus.document(number)
        if reasons := [reason for child in children if (reason := child.result())]:
            failed = f"{len(reasons)} of {len(children) + 1} processes failed to make '{corpus.name}'"
            warnings.warn(f"{failed}: {reasons[0]}. {_ALONE}", stacklevel=3)
    finally:
        for child in children:
            child.end()


class _Child:
    """A process that makes the documents of one pickled (corpus, numbers)."""

    def __init__(self, asked: bytes) -> None:
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - end() closes it
        with tempfile.TemporaryFile() as given:
            given.write(asked)
            given.seek(0)
            self.process = subprocess.Popen(  # -P: a file of the working folder, such as copy.py, is no module
                [sys.executable, "-P", "-m", "atlas_bench.tasks.making"], stdin=given, stdout=self.errors,
                stderr=self.errors, env=os.environ | {"TOKENIZERS_PARALLELISM": "false"},
            )  # fmt: skip

    def result(self) -> str:
        """Wait for it; why it failed, or nothing."""
        if not self.process.wait():
            return ""
        self.errors.seek(0)
        return (self.errors.read().strip().splitlines() or [f"exit code {self.process.returncode}"])[-1]

    def end(self) -> None:
        """Stop it, whatever it is at: a document becomes a file of the cache as a whole."""
        self.process.terminate()
        self.process.wait()
        self.errors.close()


def main() -> None:
    """Make what stdin asks for."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that half a file is removed
    corpus, numbers = pickle.load(sys.stdin.buffer)
    for number in numbers:
        corpus.document(number)


if __name__ == "__main__":
    main()
