"""Cells spread over a Ray cluster: `run --engine ray[:ADDRESS]`.

    records = run(cells, models, Path("runs"), Settings(), Progress(), Cluster("auto", makings))

The driver cuts each cell into parts of some million tokens, Ray's workers ask them (remote.py), and the driver alone
writes: each part as it comes to .checkpoints/KEY.parts, each cell to the records once its parts are all there. A part
whose worker is lost is asked again by another one, from its last checkpoint where the folder is on shared storage.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from atlas_bench.errors import UserError, clip, needs, reason, unknown
from atlas_bench.files import locks
from atlas_bench.results import store
from atlas_bench.results.record import Record, cell_key
from atlas_bench.results.score import outcome
from atlas_bench.running import answers, estimate, merge, recording, remote, resources, runner
from atlas_bench.running.checkpoint import Checkpoint
from atlas_bench.running.evaluation import Cell, Evaluation, Part
from atlas_bench.running.progress import Progress
from atlas_bench.running.settings import Settings
from atlas_bench.types import Model, Status
from atlas_bench.units import format_bytes

PART = 8_000_000  # tokens of contexts in one part: some seconds to minutes of work, and 8 streams of 1M
TRIES = 3  # more, after a worker is lost
PATIENCE = 60.0  # seconds for workers to save their checkpoints after Ctrl-C


@dataclass(frozen=True)
class Cluster:
    """Where the workers are, and how they make the models.

    address  of the cluster; None: that of RAY_ADDRESS, else a new one on this machine
    makings  of each model, by the name that cells have for it
    """

    address: str | None
    makings: Mapping[str, remote.Making]


def address_of(engine: str) -> tuple[bool, str | None]:
    """(whether it is Ray, address of the cluster where one is named) of 'local', 'ray' or 'ray:ADDRESS'.

    Raises UserError for another engine, and where Ray is not installed.
    """
    name, _, address = engine.partition(":")
    if name not in ("local", "ray") or engine == "local:":
        raise unknown("engine", engine, ("local", "ray", "ray:ADDRESS"))
    if name == "ray":
        with needs("ray", extra="cluster", to="spread a run over a cluster", advice="`--shard` splits a run without."):
            import ray  # noqa: F401
    return name == "ray", address or None


@dataclass
class _Cell:
    """A cell on its way.

    blank   its record before it has run
    left    parts that are not there yet, by their first sample
    parts   records of those that are
    memory  bytes that a worker needs, None where that is not known
    """

    evaluation: Evaluation
    blank: Record
    checkpoint: Checkpoint
    left: dict[int, Cell]
    parts: list[Record] = field(default_factory=list)
    memory: int | None = None


def run(
    cells: Sequence[Cell], models: Mapping[str, Model], folder: Path, settings: Settings, progress: Progress,
    cluster: Cluster,
) -> list[Record]:  # fmt: skip
    """Run what `folder` has no record of yet on the cluster, appending to folder/<task>.jsonl; records of all cells.

    models  on the driver, which asks them nothing

    Raises Interrupted on Ctrl-C, and UserError where the cluster cannot be reached, its nodes differ in what decides
    the records, or these cannot be written.
    """
    settings = replace(settings, command=settings.command or resources.command_line())
    folder = folder.absolute()
    with _alone(folder, progress) as token:
        kept = store.Followed(folder, warn=progress.warn)
        records, waiting = {}, []
        for evaluation in runner.evaluations_of(cells, models):
            blank = recording.blank(evaluation)
            done = runner.final(evaluation, kept.record(cell_key(blank), f"{evaluation.cell.task}.jsonl"))
            if done:
                progress.note(f"{evaluation.title}: already in '{folder}', not run again")
                records[evaluation.cell] = done
            else:
                waiting.append(_planned(evaluation, blank, folder))
        if waiting:
            _estimate(waiting, models, folder, settings, progress)
            with _connected(cluster.address) as ray:
                driver = _Driver(ray, cluster, folder, token, settings, progress, kept, waiting)
                records |= driver.run()
    return [records[cell] for cell in cells]


@contextmanager
def _alone(folder: Path, progress: Progress) -> Iterator[str]:
    """One driver in the folder at a time; the token by which workers know that they see the same folder."""
    checkpoints = folder / ".checkpoints"
    with locks.held(checkpoints / "cluster.lock", f"the cluster's run in '{folder}'", wait=True, say=progress.warn):
        token = checkpoints / f"cluster-{secrets.token_hex(8)}"
        token.touch()
        try:
            yield f".checkpoints/{token.name}"
        finally:
            token.unlink(missing_ok=True)


def _planned(evaluation: Evaluation, blank: Record, folder: Path) -> _Cell:
    """The cell with its parts, less those that an earlier run has kept."""
    cell, together = evaluation.cell, evaluation.rules.questions_per_context
    size = max(1, PART // max(1, cell.length)) * together
    starts = range(0, cell.samples, size)
    left = {first: replace(cell, part=Part(first, min(first + size, cell.samples))) for first in starts}
    planned = _Cell(evaluation, blank, Checkpoint(folder, cell_key(blank)), left)
    if planned.checkpoint.parts.exists():
        for record in store.latest(store.read(planned.checkpoint.parts)[0]):
            part = record.part
            fits = part and part["first"] in left and left[part["first"]].asked.stop == part["stop"]
            if part and fits and record.status in store.FINAL and not merge.difference(blank, record):
                del left[part["first"]]
                planned.parts.append(record)
    return planned


def _estimate(
    waiting: Sequence[_Cell], models: Mapping[str, Model], folder: Path, settings: Settings, progress: Progress
) -> None:
    """Fill in the memory that workers need: for each model what --dry-run estimates for its longest cell."""
    longest: dict[str, Cell] = {}
    for planned in waiting:
        cell = planned.evaluation.cell
        longest[cell.model] = max(longest.get(cell.model, cell), cell, key=lambda cell: cell.length)
    rows = estimate.estimate(longest.values(), models, folder, settings, progress=progress)["cells"]
    memory = {row["model"]: row["memory_bytes"] for row in rows}
    for planned in waiting:
        planned.memory = memory[planned.evaluation.cell.model]


@contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    """The module ray, connected; a cluster that was begun here ends with the run."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    address = address or os.environ.get("RAY_ADDRESS")
    mine = not ray.is_initialized()
    if mine:
        here: dict[str, Any] = {} if address else {"include_dashboard": False}
        try:
            ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **here)
        except Exception as error:  # Ray raises anything, a bare Exception among it
            raise UserError(
                f"no Ray cluster at '{address or 'this machine'}': {clip(reason(error))}. `ray start --head` starts "
                "one and prints its address."
            ) from None
    try:
        yield ray
    finally:
        if mine:
            ray.shutdown()


class _Driver:
    """Gives out orders, takes in parts, and writes the records of cells whose parts are all there."""

    def __init__(
        self, ray: Any, cluster: Cluster, folder: Path, token: str, settings: Settings, progress: Progress,
        kept: store.Followed, waiting: Sequence[_Cell],
    ) -> None:  # fmt: skip
        self._ray, self._cluster, self._folder, self._token = ray, cluster, folder, token
        self._settings, self._progress, self._kept, self._waiting = settings, progress, kept, waiting
        self._task = ray.remote(remote.work)
        self._flying: dict[Any, tuple[_Cell, Cell, int | None]] = {}
        self._records: dict[Cell, Record] = {}
        self._batches: dict[tuple[str, int], int] = {}  # that fitted, of a model and a length where more did not
        self._told: set[str] = set()

    def run(self) -> dict[Cell, Record]:
        """The records of all cells that were waiting."""
        queue = deque(self._orders())
        self._begin()
        try:
            for planned in self._waiting:
                self._commit(planned)
            while queue or self._flying:
                while queue and len(self._flying) < 2 * self._has("CPU") + 8:  # few: later ones know of what fits
                    self._give(*queue.popleft())
                for ref in self._ray.wait(list(self._flying), timeout=1.0)[0]:
                    self._take(ref)
                self._show()
        except KeyboardInterrupt:
            raise self._stopped() from None
        finally:
            self._progress.stop()
        return self._records

    def _orders(self) -> Iterator[tuple[_Cell, Cell]]:
        """All parts, those of one model together: a worker keeps the last model."""
        for name in dict.fromkeys(planned.evaluation.cell.model for planned in self._waiting):
            for planned in self._waiting:
                if planned.evaluation.cell.model == name:
                    yield from ((planned, cell) for cell in planned.left.values())

    # Orders and replies ------------------------------------------------------------------------------------------

    def _give(self, planned: _Cell, cell: Cell, batch: int | None = None) -> None:
        batch = batch or self._batches.get((cell.model, cell.length), self._settings.batch)
        order = remote.Order(
            cell, self._cluster.makings[cell.model], replace(self._settings, batch=batch), str(self._folder),
            self._token, os.getcwd(),
        )  # fmt: skip
        task = self._task.options(name=replace(planned.evaluation, cell=cell).title, **self._needs(planned))
        self._flying[task.remote(order)] = planned, cell, batch

    def _needs(self, planned: _Cell) -> dict[str, Any]:
        """What a worker must have, for Ray; a warning where no node has it now."""
        making, model = self._cluster.makings[planned.evaluation.cell.model], planned.evaluation.model
        torch = not (model.is_control or model.is_remote)
        gpus = int(torch and (making.device == "cuda" or (making.device is None and self._has("GPU") > 0)))
        wanted = {"CPU": max(making.threads or 1, self._settings.readers), "GPU": gpus, "memory": planned.memory or 0}
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if not any(all(node.get(name, 0) >= amount for name, amount in wanted.items()) for node in nodes):
            self._warn(
                f"no node of the cluster has {wanted['CPU']} CPUs, {gpus} GPUs and {format_bytes(wanted['memory'])} "
                f"for {planned.evaluation.title} now; waiting for one. A smaller --batch needs less memory."
            )
        return {"num_cpus": wanted["CPU"], "num_gpus": gpus, "memory": wanted["memory"], "max_retries": TRIES}

    def _has(self, resource: str) -> int:
        return int(self._ray.cluster_resources().get(resource, 0))

    def _take(self, ref: Any) -> None:
        """Keep the part that has come, or ask it again with a smaller batch where memory was too little."""
        planned, cell, batch = self._flying.pop(ref)
        part = self._part(ref, planned, cell)
        if part.status == "oom":
            contexts, model = replace(planned.evaluation, cell=cell).contexts, planned.evaluation.model
            tried = part.batch or batch or self._settings.streams(contexts, cell.length, model)
            if tried > 1:
                self._batches[cell.model, cell.length] = tried // 2
                self._warn(f"{planned.evaluation.title}: too little memory for a batch of {tried}; now {tried // 2}")
                self._give(planned, cell, tried // 2)
                return
        if fault := merge.difference(planned.blank, part):
            raise UserError(f"{planned.evaluation.title}: a worker and this machine are not alike: {fault}.")
        store.append(planned.checkpoint.parts, part)
        del planned.left[cell.asked.start]
        planned.parts.append(part)
        self._commit(planned)

    def _part(self, ref: Any, planned: _Cell, cell: Cell) -> Record:
        """The record of a reply; where the worker was lost again and again, a failed one."""
        errors = self._ray.exceptions
        try:
            reply = self._ray.get(ref)
        except errors.RayTaskError as error:
            cause = clip(reason(error.cause if error.cause else error))
            raise UserError(
                f"{planned.evaluation.title}: a worker fails: {cause}. Install the same atlas-bench on each node."
            ) from None
        except errors.RayError as error:
            status: Status = "oom" if isinstance(error, errors.OutOfMemoryError) else "failed"
            why = f"its worker was lost {TRIES + 1} times, {type(error).__name__}"
            facts = Part(cell.asked.start, cell.asked.stop).facts() | {"plans": []}
            return replace(planned.blank, status=status, reason=why, part=facts)
        for warning in reply["warnings"]:
            self._warn(f"{reply['host']}: {warning.removeprefix('warning: ')}")
        if "error" in reply:
            raise UserError(f"{planned.evaluation.title}, on {reply['host']}: {reply['error']}")
        if not reply["shared"] and not self._settings.checkpoints:
            self._warn(
                f"{reply['host']} does not see '{self._folder}': a part that a lost worker was at begins again. "
                "Put --out on shared storage, or name some by --checkpoints."
            )
        return Record.from_json(reply["record"])

    # Records -----------------------------------------------------------------------------------------------------

    def _commit(self, planned: _Cell) -> None:
        """Write the cell's record where its parts are all there, and another process has written none meanwhile."""
        if planned.left:
            return
        evaluation, checkpoint = planned.evaluation, planned.checkpoint
        name = f"{evaluation.cell.task}.jsonl"
        parts = sorted(planned.parts, key=lambda part: part.part["first"] if part.part else 0)
        with locks.held(checkpoint.path.with_suffix(".lock"), evaluation.title, wait=True, say=self._progress.warn):
            record = runner.final(evaluation, self._kept.record(checkpoint.key, name))
            if record is None:
                record = merge.joined(parts, self._settings.command)
                store.append(self._folder / name, record)
                self._progress.note(f"{evaluation.title}: {outcome(record)}")
            if record.status == "ok":
                checkpoint.remove()
        self._records[evaluation.cell] = record

    def _stopped(self) -> runner.Interrupted:
        """Have the workers save their checkpoints, and keep what comes meanwhile."""
        self._progress.stop()
        self._progress.note(f"stopping {len(self._flying)} parts ..")
        for ref in self._flying:
            self._ray.cancel(ref)
        came, _ = self._ray.wait(list(self._flying), num_returns=len(self._flying), timeout=PATIENCE)
        for ref in came:
            with suppress(UserError, self._ray.exceptions.TaskCancelledError):
                self._take(ref)
        missing = sum(len(planned.left) for planned in self._waiting)
        return runner.Interrupted(
            f"stopped with {missing} parts of {len(self._waiting)} cells still to ask; what is there is kept in "
            f"'{self._folder}'. The same command goes on from there."
        )

    # Progress ----------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        samples = sum(planned.evaluation.cell.samples for planned in self._waiting)
        tokens = sum(_tokens(planned, planned.evaluation.cell) for planned in self._waiting)
        counts = {"cell": len(self._waiting), "node": sum(node["Alive"] for node in self._ray.nodes())}
        title = " on ".join(f"{n} {what}{'s' * (n != 1)}" for what, n in counts.items())
        self._progress.start(title, samples=samples, tokens=tokens, read=tokens - self._left())

    def _show(self) -> None:
        rows = [row for planned in self._waiting for part in planned.parts for row in part.answers]
        tokens = sum(_tokens(planned, planned.evaluation.cell) for planned in self._waiting)
        asking = sum(len(cell.asked) for _, cell, _ in self._flying.values())
        self._progress.show(
            read=tokens - self._left(), answered=len(rows), correct=answers.correct(rows), streams=asking
        )

    def _left(self) -> int:
        return sum(_tokens(planned, cell) for planned in self._waiting for cell in planned.left.values())

    def _warn(self, text: str) -> None:
        """Warn once: many workers say the same."""
        if text not in self._told:
            self._told.add(text)
            self._progress.warn(text)


def _tokens(planned: _Cell, cell: Cell) -> int:
    """Tokens of the contexts of a part, or of a cell."""
    return -(-len(cell.asked) // planned.evaluation.rules.questions_per_context) * cell.length
