"""What a worker of a cluster does: ask one part of a cell, with a model that it loads by name.

    reply = work(Order(cell, Making("atlas-nano", "atlas-nano"), settings, "/shared/runs", "seen", "/home/me"))
    Record.from_json(reply["record"]).part              # the cell's own

Nothing here knows of Ray. A part goes on from the last checkpoint in the folder of records where the worker sees it, on
shared storage, or from its copy at `--checkpoints`, and begins anew elsewhere.
"""

from __future__ import annotations

import io
import os
import socket
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from atlas_bench import registry
from atlas_bench.errors import UserError
from atlas_bench.files import locks
from atlas_bench.models import loading
from atlas_bench.results.record import cell_key
from atlas_bench.running import plan, recording, runner
from atlas_bench.running.checkpoint import Checkpoint
from atlas_bench.running.evaluation import Cell, Evaluation
from atlas_bench.running.progress import Progress
from atlas_bench.running.settings import Settings
from atlas_bench.types import Model


@dataclass(frozen=True)
class Making:
    """How a worker makes a model and a task: names and files, as the user typed them.

    name, spec  what records call the model, and what is loaded
    tasks       as typed: files among them are executed
    code        files of memories, which are executed

    The others are those of loading.load().
    """

    name: str
    spec: str
    tasks: str = ""
    code: tuple[str, ...] = ()
    threads: int | None = None
    device: str | None = None
    matmul_precision: str | None = None


@dataclass(frozen=True)
class Order:
    """One part of a cell to be asked.

    folder   of the records, as the driver calls it
    token    a file among its checkpoints, by which a worker knows that it sees the same folder
    working  the driver's working folder, from which typed paths lead on
    """

    cell: Cell
    making: Making
    settings: Settings
    folder: str
    token: str
    working: str


_LOADED: dict[Making, Model] = {}  # the last model of this process: the next order is most often of the same one


def work(order: Order) -> dict[str, Any]:
    """Ask the part; plain data: "record" as JSON or "error" for the user, "shared", "host" and "warnings".

    Whatever goes wrong in the model is the record's status. KeyboardInterrupt passes, when the checkpoint is saved.
    """
    said = io.StringIO()
    reply: dict[str, Any] = {"host": socket.gethostname(), "shared": Path(order.folder, order.token).exists()}
    try:
        with ExitStack() as stack:
            shared = Path(order.folder) if reply["shared"] else None
            folder = shared or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="atlas-bench-part-")))
            reply["record"] = _ask(order, folder, Progress(quiet=True, console=Console(file=said, width=1000)))
    except UserError as error:
        reply["error"] = str(error)
    return reply | {"warnings": said.getvalue().splitlines()}


def _ask(order: Order, folder: Path, progress: Progress) -> str:
    """The part's record as JSON. The process that lost the part may still be ending: its lock is waited for."""
    if os.path.isdir(order.working):
        os.chdir(order.working)
    evaluation = Evaluation(order.cell, _task(order), _model(order.making))
    with order.settings.making():
        blank = recording.blank(evaluation)
        lock = Checkpoint(folder, cell_key(blank)).path.with_suffix(".lock")
        with locks.held(lock, evaluation.title, wait=True, say=progress.warn):
            record = runner.attempted(
                evaluation, folder, order.settings, progress, keep=lambda record: None, blank=blank
            )
    return record.to_json()


def _task(order: Order) -> Any:
    if registry.is_file(order.cell.task):
        plan.parse_tasks(order.making.tasks)
    return registry.task(order.cell.task)


def _model(making: Making) -> Model:
    if making not in _LOADED:
        _LOADED.clear()  # first: two may not fit
        for file in making.code:
            registry.name_file(file)
        options: dict[str, Any] = {
            "threads": making.threads,
            "device": making.device,
            "matmul_precision": making.matmul_precision,
        }
        _LOADED[making] = next(iter(loading.load_all({making.name: making.spec}, **options).values()))
    return _LOADED[making]
