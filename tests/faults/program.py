"""The real program as a child process, and what its records must be whatever befalls it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from atlas_bench.results import store
from atlas_bench.results.record import Record, cell_key, timeless

ROOT = Path(__file__).parents[2]
COUNTS = Counter()  # cells that were to have a record, those without one, those with two
PATIENCE = 180  # seconds for one command


class Program:
    """One run of `atlas-bench`; what it prints is read by threads, so that no pipe can fill and no disk is needed."""

    def __init__(self, *words: str, cwd: Path, env: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "atlas_bench", *words], cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, errors="replace",
            env=os.environ | {"PYTHONPATH": str(ROOT)} | dict(env or {}),
        )  # fmt: skip
        self._lines: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self._readers = [
            threading.Thread(target=lines.extend, args=(getattr(self.process, name),), daemon=True)
            for name, lines in self._lines.items()
        ]
        for reader in self._readers:
            reader.start()

    @property
    def said(self) -> str:
        """What it has said on stderr; all of it once it has ended."""
        return self._text("stderr")

    @property
    def printed(self) -> str:
        return self._text("stdout")

    def _text(self, name: str) -> str:
        if self.process.poll() is not None:
            for reader in self._readers:
                reader.join(10)
        return "".join(self._lines[name])

    def end(self) -> int:
        """Its exit code, when it has ended; a traceback is a fault of its own."""
        code = self.process.wait(PATIENCE)
        assert "Traceback" not in self.said, self.said
        return code

    def kill(self, after: float) -> bool:
        """SIGKILL after so many seconds; False where it had ended before."""
        try:
            self.process.wait(after)
        except subprocess.TimeoutExpired:
            self.process.kill()
        return self.process.wait(PATIENCE) == -signal.SIGKILL

    def until(self, there: Callable[[], object], said: str = "") -> None:
        """Wait for something that the program does and says."""
        end = time.monotonic() + PATIENCE
        while not (there() and said in self.said):
            assert self.process.poll() is None, f"it ended too soon: {self.said}"
            assert time.monotonic() < end, self.said
            time.sleep(0.002)

    def let_write(self, size: int | None) -> None:
        """No file may grow beyond so many bytes from now on, as on a full disk; None for any. Linux alone has this."""
        import resource

        try:
            _, hard = resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE)
            soft = hard if size is None else size
            resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (soft, hard))
        except ProcessLookupError:
            pass


def undisturbed(*words: str, cwd: Path) -> tuple[list[Record], float]:
    """The records of the command's --out folder where nothing goes wrong, and the seconds that it took."""
    out = words.index("--out") + 1
    for folder in ("warm", words[out]):  # the first one tokenises text that the others then find
        began = time.monotonic()
        program = Program(*words[:out], folder, *words[out + 1 :], cwd=cwd)
        assert program.end() == 0, program.said
    return list(_records(cwd / words[out])), time.monotonic() - began


def check(folder: Path, wanted: Iterable[Record]) -> None:
    """The folder has one `ok` record for each cell, equal to an undisturbed run's; nothing else is left."""
    found = [record for record in _records(folder) if record.status == "ok"]
    wanted = {cell_key(record): record for record in wanted}
    keys = Counter(cell_key(record) for record in found)
    COUNTS["cells"] += len(wanted)
    COUNTS["lost"] += len(wanted.keys() - keys.keys())
    COUNTS["doubled"] += sum(n - 1 for n in keys.values())
    assert keys == Counter(wanted.keys()), "a cell is lost or doubled"
    for record in found:
        assert timeless(record) == timeless(wanted[cell_key(record)])
    left = [path.name for path in folder.glob(".checkpoints/*") if path.suffix != ".damaged"]
    assert not left, "a checkpoint outlives its cell"


def flip(path: Path, dice: random.Random) -> None:
    """Flip one to four bits of a file."""
    raw = bytearray(path.read_bytes())
    for _ in range(dice.choice((1, 1, 2, 4))):
        raw[dice.randrange(len(raw))] ^= 1 << dice.randrange(8)
    path.write_bytes(raw)


def _records(folder: Path) -> Iterator[Record]:
    records, warnings = store.read_all(folder)
    assert not [warning for warning in warnings if "torn" not in warning], warnings
    yield from records
