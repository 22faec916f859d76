"""A run as it was asked for, checked and ready: what `atlas-bench run` and atlas_bench.run() share.

job = prepare("babilong:qa1", lengths="1K,16K", models="atlas-nano", ..)    # raises every mistake
job.estimate()                                                              # what it would take
records = job.run()                                                         # from here on files are written
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atlas_bench import registry, units
from atlas_bench.errors import UserError
from atlas_bench.files import output_folder, text_files
from atlas_bench.models import loading, specs
from atlas_bench.results.record import Record
from atlas_bench.running import announce, cluster, copies, estimate, plan, remote, runner, shards
from atlas_bench.running.evaluation import Cell
from atlas_bench.running.progress import Progress
from atlas_bench.running.settings import Settings
from atlas_bench.running.stopping import Width
from atlas_bench.types import Model, TaskOptions


@dataclass(frozen=True)
class Job:
    """Cells to run with these models into that folder, and lm-eval's tasks after them.

    theirs       names of lm-eval's tasks
    documents    of each of those, None for all
    num_fewshot  examples before each of their questions, None for their own number
    workers      of a cluster that are to ask; None: this process asks
    """

    cells: list[Cell]
    models: dict[str, Model]
    out: Path
    settings: Settings
    theirs: list[str]
    documents: int | None
    num_fewshot: int | None
    progress: Progress
    workers: cluster.Cluster | None = None

    def estimate(self) -> dict[str, Any]:
        """The estimate of estimate.py as plain data; nothing is run or written."""
        estimated = estimate.estimate(self.cells, self.models, self.out, self.settings, progress=self.progress)
        if any(cell.stop for cell in self.cells):
            note = "--until: a cell may end before its samples do; this is what all of them would take."
            estimated["notes"].append(note)
        estimated["notes"] += [f"lm-eval:{name} is not estimated." for name in self.theirs]
        return estimated

    def run(self) -> list[Record]:
        """Run what the folder has no record of yet; records of everything that was asked for.

        Raises runner.Interrupted on Ctrl-C, UserError if a record cannot be written.
        """
        if self.workers:
            return cluster.run(self.cells, self.models, self.out, self.settings, self.progress, self.workers)
        with self.settings.making():
            return self._run()

    def _run(self) -> list[Record]:
        if not self.progress.quiet:
            waiting = runner.missing(self.cells, self.models, self.out)
            for line in announce.lines(runner.evaluations_of(waiting, self.models), self.settings):
                self.progress.note(line)
        records = runner.run(self.cells, self.models, self.out, self.settings, self.progress)
        if self.theirs:
            from atlas_bench.lmeval import run as lm_eval

            records += lm_eval.run(
                self.theirs, self.models, self.out, limit=self.documents, num_fewshot=self.num_fewshot,
                progress=self.progress, command=self.settings.command,
            )  # fmt: skip
        return records


def prepare(
    task: str, *, lengths: str | int | Iterable[str | int] | None, models: Any, samples: plan.Samples,
    until: float | None, seeds: Iterable[int], data: str, background: str, prompt: str, encoding: str | None,
    num_fewshot: int | None, out: Path, batch: int | None, block: str | int | None, checkpoint_every: str | int,
    checkpoints: str | None, timeout: float | None, readers: int, threads: int | None, device: str | None,
    matmul_precision: str | None, code: Iterable[str | Path], canary: bool, debug: bool, shard: str | None, engine: str,
    progress: Progress, command: str | None = None,
) -> Job:  # fmt: skip
    """The job of what a user asks for; atlas_bench.run() explains the arguments.

    progress  shows what is loaded, and then how far the run has come
    command   that records name; None: what was typed

    Raises UserError for a mistake before anything is written.
    """
    asked, numbers = specs.typed(models), units.parse_samples(samples)  # first: these mistakes take no time to find
    ours, theirs = plan.split_lm_eval(task)
    wanted = plan.parse_tasks(ours) if ours else []
    split, (on_ray, address) = shard and units.parse_shard(shard), cluster.address_of(engine)
    _check_splits([f"shard {shard}"] * bool(shard) + [f"engine {engine}"] * on_ray, until, theirs)
    options = TaskOptions(data, background, prompt, encoding and text_files.known(encoding))
    settings = _settings(
        batch, block, checkpoint_every, timeout, readers, checkpoints=checkpoints, debug=debug, command=command
    )
    shots = None if num_fewshot is None else units.whole("num_fewshot", num_fewshot, least=0)
    if theirs and not ours and numbers.keys() - {None}:
        raise UserError(f"samples '{samples}': lm-eval's documents have no length to ask for. Give one number.")
    documents, stop = numbers.get(None), None if until is None else Width.of(until)
    asked_lengths = _lengths(lengths, numbers, is_ours=bool(ours))
    output_folder.check(out)
    for file in code:
        registry.name_file(file)
    if canary:
        from atlas_bench.models.endpoint import spec

        asked = spec.with_canary(asked)
    how = {"threads": units.few(threads), "device": device, "matmul_precision": matmul_precision}
    if on_ray:
        loaded, makings = _for_workers(asked, ours, code, progress.note, how)
    else:
        loaded, makings = loading.load_all(asked, say=progress.note, **how), {}
    cells = plan.make(
        wanted, lengths=asked_lengths, models=list(loaded),
        seeds=[units.whole("seed", seed, least=-units.SEEDS, most=units.SEEDS) for seed in seeds],
        samples=numbers, stop=stop, options=options,
    )  # fmt: skip
    plan.check_names(out, loaded)
    with settings.making():  # the first sample of a long cell takes most of the text that the run will read
        cells = plan.askable(cells, loaded, ours, progress.note)  # the last thing that can be the user's mistake
    cells = shards.of(cells, *split) if split else cells
    workers = cluster.Cluster(address, makings) if on_ray else None
    return Job(cells, loaded, out, settings, theirs, documents, shots, progress, workers)


def _lengths(
    lengths: str | int | Iterable[str | int] | None, numbers: dict[int | None, int], *, is_ours: bool
) -> list[int]:
    """The lengths that the user gave, or those of a first look, whose number of questions goes into `numbers`."""
    if lengths is None:
        numbers.setdefault(None, plan.FIRST_SAMPLES)
    found = list(plan.FIRST_LENGTHS) if lengths is None else units.parse_lengths(lengths)
    if is_ours:
        plan.questions(numbers, found)  # raises for a number whose length is not asked for
    return found


def _settings(
    batch: int | None, block: str | int | None, checkpoint_every: str | int, timeout: float | None, readers: int,
    checkpoints: str | None, **others: Any,
) -> Settings:  # fmt: skip
    """How cells are read, of what the user gave; UserError for what is no such number or URL."""
    if checkpoints:
        copies.at(checkpoints)  # raises for a URL that cannot be used
    return Settings(
        batch=None if batch is None else units.whole("batch", batch, least=1),
        block=None if block is None else units.parse_length(block),
        checkpoint_tokens=units.parse_length(checkpoint_every),
        timeout=None if timeout is None else units.amount("timeout", timeout),
        readers=units.whole("readers", readers, least=1),
        checkpoints=checkpoints,
        **others,
    )


def _for_workers(
    asked: Mapping[str, Any], tasks: str, code: Iterable[str | Path], say: Callable[[str], Any], how: Mapping[str, Any]
) -> tuple[dict[str, Model], dict[str, remote.Making]]:
    """The models as the driver of a cluster looks at them, on its CPU, and how workers make them."""
    loaded: dict[str, Model] = {}
    makings = {}
    for name, spec in asked.items():
        if not isinstance(spec, str):
            raise UserError(
                f"model '{name}' is an object of this process, and workers load models by name. Give a name or a "
                "folder, or leave engine out."
            )
        ((shown, model),) = loading.load_all({name: spec}, say=say, device="cpu").items()
        loaded[shown] = model
        makings[shown] = remote.Making(name, spec, tasks, tuple(map(str, code)), **how)
    return loaded, makings


def _check_splits(by: Sequence[str], until: float | None, theirs: Sequence[str]) -> None:
    """Raise UserError where parts could not be exactly one run together.

    by  what splits the run: 'shard 2/4', 'engine ray'
    """
    if len(by) > 1:
        raise UserError(f"{by[0]} and {by[1]} do not go together: each splits the whole run. Leave one out.")
    if by and until is not None:
        raise UserError(
            f"{by[0]} and until {until:g} do not go together: all answers of a cell decide when it stops, and a part "
            "has some of them. Leave one out."
        )
    if by and theirs:
        raise UserError(f"lm-eval:{theirs[0]} cannot be split, here by {by[0]}. Run it in its own command.")
