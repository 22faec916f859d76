"""Run cells and append their records; a kill loses at most one checkpoint interval, and no paid answer.

    records = run(cells, models, Path("runs"), Settings(), Progress())

What happens inside one cell is attempt.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from atlas_bench import registry
from atlas_bench.files import locks
from atlas_bench.models.adapted import as_model
from atlas_bench.results import score, store
from atlas_bench.results.record import Record, cell_key
from atlas_bench.running import recording
from atlas_bench.running.attempt import Attempt
from atlas_bench.running.checkpoint import Checkpoint
from atlas_bench.running.evaluation import Cell, Evaluation, prompt_advice
from atlas_bench.running.progress import Progress
from atlas_bench.running.settings import Settings
from atlas_bench.types import Model


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, after the checkpoint was saved; the message says where and how to go on."""


def run(
    cells: Iterable[Cell], models: Mapping[str, Model], folder: Path, settings: Settings, progress: Progress
) -> list[Record]:
    """Run what `folder` has no record of yet, appending to folder/<task>.jsonl; records of all the cells.

    Several processes may run the same cells in one folder: they share the work. A cell that another process works on
    comes last, and then its record is the other's.

    Raises Interrupted on Ctrl-C, and UserError if a record cannot be written or an object is not a model.
    """
    cells, models = list(cells), {name: as_model(model, name=name) for name, model in models.items()}
    evaluations = evaluations_of(cells, models)
    if advice := prompt_advice(cells, models):
        progress.warn(f"{advice}.")
    kept = store.Followed(folder, warn=progress.warn)
    records: dict[Cell, Record] = {}
    for wait in (False, True):
        for evaluation in evaluations:
            cell = evaluation.cell
            if cell not in records and (record := _settle(evaluation, kept, wait, settings, progress)):
                records[cell] = record
    return [records[evaluation.cell] for evaluation in evaluations]


def evaluations_of(cells: Iterable[Cell], models: Mapping[str, Model]) -> list[Evaluation]:
    """The cells with the tasks and models that they name."""
    return [Evaluation(cell, registry.task(cell.task), models[cell.model]) for cell in cells]


def missing(cells: Iterable[Cell], models: Mapping[str, Model], folder: Path) -> list[Cell]:
    """The cells that run() would run: those of which the folder has no final record."""
    done = store.done(folder)
    return [
        evaluation.cell
        for evaluation in evaluations_of(cells, models)
        if final(evaluation, done.get(cell_key(recording.blank(evaluation)))) is None
    ]


def run_cell(
    evaluation: Evaluation, folder: Path, settings: Settings, progress: Progress, *, blank: Record | None = None
) -> Record:
    """Run one cell from its last checkpoint on, append its record and return it; see attempted()."""
    file = folder / f"{evaluation.cell.task}.jsonl"
    return attempted(evaluation, folder, settings, progress, keep=partial(store.append, file), blank=blank)


def attempted(
    evaluation: Evaluation, folder: Path, settings: Settings, progress: Progress, *, keep: Callable[[Record], Any],
    blank: Record | None = None,
) -> Record:  # fmt: skip
    """Run one cell from its last checkpoint on, and return its record.

    folder  that the checkpoint is in
    keep    is given the record before the checkpoint is deleted
    blank   recording.blank() of the evaluation, where the caller has it

    Whatever goes wrong inside a task or model becomes the record's status and reason. Raises Interrupted on Ctrl-C, and
    UserError if the record cannot be written or the machine fails.
    """
    blank = blank or recording.blank(evaluation)
    attempt = Attempt(evaluation, Checkpoint(folder, cell_key(blank), settings.checkpoints), settings, progress)
    try:
        status, reason = attempt.run()
    except KeyboardInterrupt:
        raise Interrupted(attempt.stopped()) from None
    record = recording.ended(
        evaluation, blank, attempt.timed(), status, reason,
        suffices=attempt.suffices(), block=attempt.block, batch=attempt.batch,
        parallel=settings.parallel(evaluation.model, asks=bool(evaluation.rules.scorers)), resumed=attempt.resumed,
        command=settings.command,
    )  # fmt: skip
    keep(record)
    attempt.close(status)
    progress.note(f"{evaluation.title}: {score.outcome(record)}")
    return record


def _settle(
    evaluation: Evaluation, kept: store.Followed, wait: bool, settings: Settings, progress: Progress
) -> Record | None:
    """The cell's record, from the folder or new; None if another process works on it and `wait` is False."""
    title, blank = evaluation.title, recording.blank(evaluation)
    key = cell_key(blank)

    def already() -> Record | None:
        record = final(evaluation, kept.record(key, f"{evaluation.cell.task}.jsonl"))
        if record and _may_have_changed(evaluation.model):
            progress.warn(
                f"{title}: taken from '{kept.folder}', not run again. This model's facts() have no weights_hash, so a "
                "record of another model of its name looks the same: give it one, another name or another folder."
            )
        elif record:
            progress.note(f"{title}: already in '{kept.folder}', not run again")
        return record

    checkpoint = Checkpoint(kept.folder, key, settings.checkpoints)
    lock = checkpoint.path.with_suffix(".lock")
    if record := already():
        if record.status == "ok" and checkpoint.path.parent.exists():  # a kill may have come after the record
            with locks.held(lock, title, wait=False, say=progress.warn) as mine:  # its lock is left then, too
                if mine:
                    checkpoint.remove()
        return record
    with locks.held(lock, title, wait=wait, say=progress.warn) as mine:
        if not mine:
            progress.note(f"{title}: another process is at work on it; left for later")
            return None
        return already() or run_cell(evaluation, kept.folder, settings, progress, blank=blank)


def final(evaluation: Evaluation, record: Record | None) -> Record | None:
    """The record, where its cell need not be run again; one may be supported by now, with another limit or memory."""
    if record and record.status == "unsupported" and not evaluation.unsupported():
        return None
    return record


def _may_have_changed(model: Model) -> bool:
    """Whether records cannot distinguish two models of this name: a user's object without a hash of its weights."""
    return not (model.facts().get("weights_hash") or model.is_remote or model.is_control)
