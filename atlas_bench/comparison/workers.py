"""Trainings in a few processes: each imports torch once, and trains one model after another.

reasons = train_all(planned, jobs=2, say=print)         # folder -> why, of those that failed
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import Any

from atlas_bench import registry
from atlas_bench.comparison.trainings import Training
from atlas_bench.files.atomic import replacing
from atlas_bench.models import loading

STOPPED = 130  # exit code after Ctrl-C
ENDED = "\0ended "  # cli/child.py prints it, with an exit code, after each command


def train_all(planned: Sequence[Training], *, jobs: int, say: Callable[[str], Any]) -> dict[Path, str]:
    """Train what is not trained yet, `jobs` at once; folder -> reason of those that failed.

    A training that was stopped goes on from its checkpoint; one that another process is at is waited for. On Ctrl-C
    those that run save a checkpoint, then this raises; a second Ctrl-C ends them at once, as does any other end of this
    process: cli/child.py.
    """
    workers = [_Worker() for _ in range(max(1, min(jobs, len(planned))))]
    idle: SimpleQueue[_Worker] = SimpleQueue()
    for worker in workers:
        idle.put(worker)

    def train(training: Training) -> str:
        worker = idle.get()
        try:
            return _train(training, worker, say)
        finally:
            idle.put(worker)

    with ThreadPoolExecutor(len(workers)) as pool:
        try:
            reasons = list(pool.map(train, planned))
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in workers:
                worker.interrupt()
            pool.shutdown()
            raise
        finally:
            for worker in workers:
                worker.end()
    return {training.folder: reason for training, reason in zip(planned, reasons, strict=True) if reason}


class _Worker:
    """A process that runs one command after another; it starts with the first one, and again after a kill."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None
        self.errors: Any = None
        self.interrupted, self.lock = False, Lock()

    def run(self, words: Sequence[str], say: Callable[[str], Any]) -> tuple[int, str]:
        """(exit code, last line on stderr) of a command; each line that it prints goes to `say`."""
        with self.lock:
            if self.interrupted:
                return STOPPED, ""
            process = self._running()
            begun = self.errors.seek(0, os.SEEK_END)
            assert process.stdin and process.stdout
            print(json.dumps(list(words)), file=process.stdin, flush=True)
        for line in process.stdout:
            if line.startswith(ENDED):
                code = int(line.removeprefix(ENDED))
                break
            say(line.rstrip())
        else:
            code = process.wait()
        self.errors.seek(begun)
        lines = [line.strip() for line in self.errors if line.strip()]
        return code, lines[-1] if lines else ""

    def interrupt(self) -> None:
        """Ctrl-C for the command that runs, and for each later one."""
        with self.lock:
            self.interrupted = True
            if self.process:
                self.process.send_signal(signal.SIGINT)

    def end(self) -> None:
        """End the process, whatever it is at; checkpoints are replaced as a whole, so any moment will do."""
        if self.process:
            self.process.terminate()
            with self.process:
                pass
            self.errors.close()

    def _running(self) -> subprocess.Popen[str]:
        if self.process is None or self.process.poll() is not None:
            self.errors = tempfile.TemporaryFile("a+")  # noqa: SIM115 - appended to by the child; closed by end()
            self.process = subprocess.Popen(  # -P: a file of the working folder, such as copy.py, is no module
                [sys.executable, "-P", "-m", "atlas_bench.cli.child"], text=True, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=self.errors, env=os.environ | {"PYTHONUNBUFFERED": "1"},
                process_group=0,  # a terminal's Ctrl-C would come beside that of interrupt()
            )  # fmt: skip
        return self.process


def _train(training: Training, worker: _Worker, say: Callable[[str], Any]) -> str:
    """Run one training; '' or why it failed."""
    if is_done(training):
        say(f"{training.title}: already trained, {training.folder}")
        return ""
    for file in filter(registry.is_file, (training.candidate.file, training.task)):
        _put(training.folder / file.partition("@")[0], registry.source_of(file))
    code, said = worker.run(training.words, lambda line: say(f"{training.title}: {line}"))
    if code in (STOPPED, -signal.SIGINT, -signal.SIGTERM):
        if said.startswith("stopped"):
            say(f"{training.title}: {said}")
        return "stopped"
    reason = (said.removeprefix("error: ") or f"it ended with code {code}") if code else ""
    if reason:
        say(f"{training.title}: training failed, {reason}")
    return reason


def is_done(training: Training) -> bool:
    """Whether the model is there, with all that its card is to state; the card is the last thing that is written."""
    if not (training.folder / loading.CARD).exists():
        return False
    return not training.validated or "validation" in (loading.card(str(training.folder)).get("final") or {})


def _put(path: Path, source: bytes) -> None:
    """Write a file that another process may be reading, unless it exists."""
    if not path.exists() or path.read_bytes() != source:
        with replacing(path) as draft:
            draft.write_bytes(source)
