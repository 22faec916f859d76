"""Thousands of cells under simulated failures, none lost and none doubled: `make soak`, or

    python -m tests.faults.soak --cells 10K --seed 0

One command first runs all cells undisturbed. Then the same cells are asked again by many commands, several at once in
one folder, some of them as shards that `merge` puts together. Each process meets faults that the seed decides (FAULTS,
and those of injected/sitecustomize.py), and the command is started again until every cell has its record. The folder
must then hold the undisturbed run's records, each once, and nothing else. The exit code is 1 where it does not.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from atlas_bench.results import store
from atlas_bench.results.record import Record, cell_key, timeless
from atlas_bench.units import parse_length
from tests.faults.program import ROOT, Program

TASKS, LENGTHS, MODELS = "niah:single,mqar:8,retention:along,ordinal:2,track:parity", "300,500", ("oracle", "constant")
EACH = 5 * 2 * 2  # cells of one seed
SHARDS = 3  # of every fifth command
HARMLESS = {0, 2, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, 130}  # 2: of a disk that failed, see _ended()


def full_disk(program: Program, dice: random.Random, folder: Path) -> None:
    """No file may grow beyond a size for a while: that of a line that does not fit, as a rule."""
    sizes = [file.stat().st_size for file in folder.glob("*.jsonl")]
    program.let_write(max(0, dice.choice([*sizes, 0]) + dice.randrange(-100, 4000)))
    time.sleep(dice.uniform(0.05, 1))
    program.let_write(None)


def killed_by(number: signal.Signals) -> Callable[[Program, random.Random, Path], None]:
    """A fault that sends this signal."""
    return lambda program, dice, folder: program.process.send_signal(number)


FAULTS = {
    "kill -9": killed_by(signal.SIGKILL),
    "SIGTERM": killed_by(signal.SIGTERM),
    "Ctrl-C": killed_by(signal.SIGINT),
    "full disk": full_disk,
}


class Failure(Exception):
    """A promise that was broken; the message names the cell or the file."""


@dataclass
class Command:
    """A command that is started until it ends well.

    words    of the command
    folder   that it writes to
    cells    that it asks
    starts   so far
    running  processes of it
    """

    words: tuple[str, ...]
    folder: Path
    cells: int
    starts: int = 0
    running: int = 0


@dataclass
class Soak:
    """One soak: its folder and seed, and what was injected so far.

    faulty  starts of a command that meet a fault; the later ones meet none but those inside
    """

    base: Path
    seed: int
    faulty: int
    injected: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, words: Sequence[str], number: int = 0, share: float = 0.0) -> Program:
        """Start a command.

        number  of the start, which decides the faults inside it (injected/sitecustomize.py); 0: it meets none
        share   of os.fsync calls that fail
        """
        env = {"OMP_NUM_THREADS": "1", "ATLAS_BENCH_CACHE": str(self.base / "cache")}
        if number:
            env |= {
                "PYTHONPATH": f"{ROOT / 'tests' / 'faults' / 'injected'}{os.pathsep}{ROOT}",
                "FAULTS_SEED": f"{self.seed} {number}", "FAULTS_LOG": str(self.base / "faults.log"),
                "FAULTS_CLOCK": "0.2", "FAULTS_DISK": str(share),
            }  # fmt: skip
        return Program(*words, cwd=self.base, env=env)

    # One start of a command ---------------------------------------------------------------------------------------

    def live(self, command: Command, number: int) -> bool:
        """Start the command and let it meet a fault; whether it has ended well."""
        dice = random.Random(f"{self.seed} start {number}")
        program = self.start(command.words, number, dice.choice((0, 1 / command.cells)))
        if command.starts <= self.faulty:
            kind = dice.choice(list(FAULTS))
            if self._wait(program, dice, command):
                FAULTS[kind](program, dice, command.folder)
                self.inject(kind)
        return self._ended(program, command)

    def inject(self, kind: str) -> None:
        with self.lock:
            self.injected[kind] += 1

    def _wait(self, program: Program, dice: random.Random, command: Command) -> bool:
        """Wait for the moment of the fault; False where the program has ended before."""
        if dice.random() < 0.2:
            moment, growth = time.monotonic() + dice.uniform(0, 3), 0
        else:
            moment, growth = time.monotonic(), dice.randrange(1, 1 + command.cells // 4)
        began = _lines(command.folder)
        while time.monotonic() < moment or _lines(command.folder) < began + growth:
            if program.process.poll() is not None:
                return False
            time.sleep(0.02)
        time.sleep(dice.uniform(0, 0.02))
        return program.process.poll() is None

    def _ended(self, program: Program, command: Command) -> bool:
        """Whether it has ended well; Failure where it has ended as no fault may end it."""
        code, said = program.process.wait(), program.said
        if "KeyboardInterrupt" in said and f"{ROOT}/atlas_bench/__main__.py" not in said:
            return False  # Python was starting, and our program had not begun
        wrong = [line for line in said.splitlines() if line.startswith("error: ")]
        if code not in HARMLESS or (code == 2 and len(wrong) != 1) or "Traceback" in said:
            raise Failure(f"exit code {code} of {' '.join(command.words)}: {said[-2000:]}")
        return code == 0

    def undisturbed(self, words: Sequence[str]) -> float:
        """Seconds of a command that meets no fault; Failure where it does not end well."""
        began = time.monotonic()
        program = self.start(words)
        if code := program.process.wait():
            raise Failure(f"exit code {code} of {words[0]} undisturbed: {program.said[-2000:]}")
        return time.monotonic() - began

    # All commands -------------------------------------------------------------------------------------------------

    def disturb(self, commands: list[Command], jobs: int) -> None:
        """Start the commands until all have ended well, so many at once, those in front first."""
        waiting, done = list(commands), set[int]()

        def work(worker: int) -> None:
            dice = random.Random(f"{self.seed} worker {worker}")
            while True:
                with self.lock:
                    left = [command for command in waiting if id(command) not in done]
                    if not left:
                        return
                    command = dice.choice(left[:2])
                    command.starts += 1
                    command.running += 1
                    self.starts += 1
                    number = self.starts
                well = self.live(command, number)
                with self.lock:
                    command.running -= 1
                    if well:
                        done.add(id(command))
                    else:
                        alone = not any(each.running for each in commands if each.folder == command.folder)
                        self._between(command, random.Random(f"{self.seed} between {number}"), alone)

        with ThreadPoolExecutor(jobs) as pool:
            for worker in [pool.submit(work, number) for number in range(jobs)]:
                worker.result()

    def _between(self, command: Command, dice: random.Random, alone: bool) -> None:
        """What else a death may leave: a record written in part, and where nobody is at work there, no folder."""
        files = [file for file in command.folder.glob("*.jsonl") if file.stat().st_size]
        if files and dice.random() < 0.3:
            with open(dice.choice(files), "r+b") as opened:
                fcntl.flock(opened, fcntl.LOCK_EX)  # as the writer that died
                line = opened.readline()
                opened.seek(0, os.SEEK_END)
                opened.write(line[: dice.randrange(1, len(line) - 1)])
            self.injected["torn last line"] += 1
        if "--shard" in command.words and alone and dice.random() < 0.4:
            shutil.rmtree(command.folder, ignore_errors=True)
            self.injected["lost node"] += 1


def _lines(folder: Path) -> int:
    """About how many records the folder holds, by its size."""
    return sum(file.stat().st_size for file in folder.glob("*.jsonl")) // 2400


def words(seeds: Sequence[int], out: str, *more: str) -> tuple[str, ...]:
    """The command that asks the cells of these seeds."""
    models = [word for name in MODELS for word in ("--model", name)]
    return (
        "run", TASKS, "--len", LENGTHS, *models, *(word for seed in seeds for word in ("--seed", str(seed))),
        "--samples", str(SHARDS), "--batch", "2", "--checkpoint-every", "200", "-q", "--out", out, *more,
    )  # fmt: skip


def commands(seeds: Sequence[int], group: int, base: Path) -> tuple[list[Command], list[Command]]:
    """(shards, what writes into the folder `runs` when these have ended) for these seeds, so many in a command."""
    shards, others = [], []
    for number, first in enumerate(range(0, len(seeds), group)):
        asked = seeds[first : first + group]
        if number % 5:
            others.append(Command(words(asked, "runs"), base / "runs", EACH * len(asked)))
            continue
        folders = [f"shard-{number}-{i}" for i in range(1, SHARDS + 1)]
        for i, folder in enumerate(folders, start=1):
            asks = words(asked, folder, "--shard", f"{i}/{SHARDS}")
            shards.append(Command(asks, base / folder, EACH * len(asked)))
        others.append(Command(("merge", *folders, "--out", "runs"), base / "runs", EACH * len(asked)))
    return shards, others


def check(folder: Path, wanted: Iterable[Record]) -> None:
    """Raise Failure unless the folder has each of these records once, and nothing else."""
    warnings: list[str] = []
    found = list(store.scan(folder, warnings.append))
    if wrong := [warning for warning in warnings if "torn last line left out" not in warning]:
        raise Failure(wrong[0])
    counts = Counter(cell_key(record) for record in found)
    answers = {cell_key(record): timeless(record) for record in found}
    for record in wanted:
        key, title = cell_key(record), f"{record.task} {record.length} {record.model} seed {record.seed}"
        if counts.pop(key, 0) != 1:
            raise Failure(f"{title}: {sum(cell_key(each) == key for each in found)} records")
        if answers[key] != timeless(record):
            raise Failure(f"{title}: its record is not that of the undisturbed run")
    if counts:
        raise Failure(f"{len(counts)} records of cells that nobody asked for")
    if left := [path for path in folder.rglob("*") if not path.name.endswith((".jsonl", ".jsonl.torn"))]:
        raise Failure(f"'{left[0]}' is left over")


def soak(cells: int, seed: int, jobs: int, base: Path, say: Callable[[str], Any]) -> Counter[str]:
    """Run the cells undisturbed and disturbed in the folder; how often each fault was injected. Raises Failure."""
    seeds = [*range(-(-cells // EACH))]
    run = Soak(base, seed, faulty=8 if len(seeds) > 100 else 2)
    say(f"seed {seed}: {EACH * len(seeds):,} cells")
    say(f"undisturbed: {run.undisturbed(words(seeds, 'plain')):.0f} s")
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    began = time.monotonic()
    shards, others = commands(seeds, max(1, min(25, len(seeds) // 5)), base)
    run.disturb(shards, jobs)
    run.disturb(others, jobs)
    say(f"disturbed: {time.monotonic() - began:.0f} s, {run.starts} starts")
    say(f"nothing left to do: {run.undisturbed(words(seeds, 'runs')):.0f} s")
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    say(f"report: {run.undisturbed(('report', 'runs')):.0f} s")
    run.injected.update((base / "faults.log").read_text().splitlines())
    for kind, count in sorted(run.injected.items()):
        say(f"{kind:<48}{count:>7}")
    check(base / "runs", store.scan(base / "plain", warn=say))
    if most > 1.5 * memory:
        raise Failure(f"a process took {most >> 10} MiB, undisturbed {memory >> 10} MiB")
    say(f"{EACH * len(seeds):,} cells: none lost, none doubled, none changed; at most {most >> 10} MiB in a process")
    return run.injected


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--cells", default="10K", help="rounded up to a multiple of 20 [10K]")
    parser.add_argument("--seed", type=int, default=0, help="decides the faults; when they come depends on the machine")
    parser.add_argument("--jobs", type=int, default=2, help="commands at once [2]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        try:
            soak(parse_length(options.cells), options.seed, options.jobs, Path(folder), partial(print, flush=True))
        except Failure as failure:
            print(f"FAILED: {failure}", flush=True)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
