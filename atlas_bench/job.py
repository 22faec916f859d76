"""A run as it was asked for, checked and ready: what `atlas-bench run` and atlas_bench.run() share.

job = prepare("babilong:qa1", lengths="1K,16K", models="atlas-nano", ..)    # raises every mistake
job.estimate()                                                              # what it would take
records = job.run()                                                         # from here on files are written
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atlas_bench import registry, units
from atlas_bench.errors import UserError
from atlas_bench.files import text_files
from atlas_bench.models import loading, specs
from atlas_bench.results import store
from atlas_bench.results.record import Record
from atlas_bench.running import announce, estimate, plan, runner, shards
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
    """

    cells: list[Cell]
    models: dict[str, Model]
    out: Path
    settings: Settings
    theirs: list[str]
    documents: int | None
    num_fewshot: int | None
    progress: Progress

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
        with self.settings.making():
            return self._run()

    def _run(self) -> list[Record]:
        if not self.progress.quiet:
            waiting = runner.missing(self.cells, self.models, self.out)
            for line in announce.lines(waiting, self.models, self.settings):
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
    timeout: float | None, readers: int, threads: int | None, device: str | None, matmul_precision: str | None,
    code: Iterable[str | Path], canary: bool, debug: bool, shard: str | None, progress: Progress,
    command: str | None = None,
) -> Job:  # fmt: skip
    """The job of what a user asks for; atlas_bench.run() explains the arguments.

    progress  shows what is loaded, and then how far the run has come
    command   that records name; None: what was typed

    Raises UserError for a mistake before anything is written.
    """
    asked, numbers = specs.typed(models), units.parse_samples(samples)  # first: these mistakes take no time to find
    ours, theirs = plan.split_lm_eval(task)
    wanted = plan.parse_tasks(ours) if ours else []
    split = shard and units.parse_shard(shard)
    _check_splits(shard, until, theirs)
    options = TaskOptions(data, background, prompt, encoding and text_files.known(encoding))
    settings = Settings(
        batch=None if batch is None else units.whole("batch", batch, least=1),
        block=None if block is None else units.parse_length(block),
        checkpoint_tokens=units.parse_length(checkpoint_every),
        timeout=None if timeout is None else units.amount("timeout", timeout),
        readers=units.whole("readers", readers, least=1),
        debug=debug,
        command=command,
    )
    shots = None if num_fewshot is None else units.whole("num_fewshot", num_fewshot, least=0)
    if theirs and not ours and numbers.keys() - {None}:
        raise UserError(f"samples '{samples}': lm-eval's documents have no length to ask for. Give one number.")
    documents = numbers.get(None)
    if lengths is None:
        numbers.setdefault(None, plan.FIRST_SAMPLES)
    stop = None if until is None else Width.of(until)
    asked_lengths = list(plan.FIRST_LENGTHS) if lengths is None else units.parse_lengths(lengths)
    if ours:
        plan.questions(numbers, asked_lengths)
    store.check_writable(out)
    for file in code:
        registry.name_file(file)
    if canary:
        from atlas_bench.models.endpoint import spec

        asked = spec.with_canary(asked)
    loaded = loading.load_all(
        asked, say=progress.note, threads=units.few(threads), device=device, matmul_precision=matmul_precision
    )
    cells = plan.make(
        wanted, lengths=asked_lengths, models=list(loaded),
        seeds=[units.whole("seed", seed, least=-units.SEEDS, most=units.SEEDS) for seed in seeds],
        samples=numbers, stop=stop, options=options,
    )  # fmt: skip
    if split:
        cells = shards.of(cells, *split)
    store.check_names(out, loaded)
    plan.check(cells, loaded)  # the last thing that can be the user's mistake
    return Job(cells, loaded, out, settings, theirs, documents, shots, progress)


def _check_splits(shard: str | None, until: float | None, theirs: Sequence[str]) -> None:
    """Raise UserError where a shard could not be exactly its part of one run."""
    if shard and until is not None:
        raise UserError(
            f"shard {shard} and until {until:g} do not go together: all answers of a cell decide when it stops, and "
            "a shard has some of them. Leave one out."
        )
    if shard and theirs:
        raise UserError(f"lm-eval:{theirs[0]} cannot be split, here by shard {shard}. Run it in its own command.")
