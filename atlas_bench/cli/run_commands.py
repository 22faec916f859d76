"""`run`, `compare` and `probe`: ask models, and show the results. Heavy imports stand inside the commands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import typer

from atlas_bench import api
from atlas_bench.cli import config, output
from atlas_bench.cli import options as opt
from atlas_bench.files import output_file

if TYPE_CHECKING:
    from atlas_bench.results.record import Record

# what the commands mean where nothing else is said: the API's defaults
_run, _compare = (SimpleNamespace(**api.defaults(function)) for function in (api.run, api.compare))


def run(
    ctx: typer.Context, task: opt.RunTask, lengths: opt.FirstLength = _run.lengths,
    models: opt.RunModels = [_run.models], samples: opt.RunSamples = _run.samples, until: opt.Until = _run.until,  # noqa: B006
    seeds: opt.Seeds = [_run.seeds], data: opt.Data = _run.data, background: opt.Background = _run.background,  # noqa: B006
    prompt: opt.Prompt = _run.prompt, encoding: opt.Encoding = _run.encoding,
    num_fewshot: opt.NumFewshot = _run.num_fewshot, shard: opt.Shard = _run.shard,
    engine: opt.Engine = _run.engine, out: opt.RecordsFolder = Path(_run.out), dry_run: opt.DryRun = False,
    as_json: opt.Json = False, batch: opt.Batch = _run.batch, block: opt.Block = _run.block,
    checkpoint_every: opt.CheckpointEvery = _run.checkpoint_every,
    checkpoints: opt.Checkpoints = _run.checkpoints, timeout: opt.Timeout = _run.timeout,
    readers: opt.Readers = _run.readers, threads: opt.Threads = _run.threads, device: opt.Device = _run.device,
    matmul_precision: opt.MatmulPrecision = _run.matmul_precision, code: opt.Code = [*_run.code],  # noqa: B006
    canary: opt.Canary = _run.canary, quiet: opt.Quiet = False, debug: opt.Debug = _run.debug,
) -> None:  # fmt: skip
    """Ask models about long contexts.

    Without --len it is a first look of less than a minute: 1K and 16K, 20 questions each. A repeated command runs only
    what is missing. Exit code: 0, 1 if a cell failed, timed out or had too little memory, 2 for a mistake in the
    command, 130 after Ctrl-C.
    """
    output.quieten(quiet)
    from atlas_bench import job
    from atlas_bench.results import store
    from atlas_bench.running import unread
    from atlas_bench.running.progress import Progress

    for why, names in unread.by_run(task):
        config.refuse(ctx, why, *names)
    asked = job.prepare(
        task, lengths=lengths, models=models, samples=samples, until=until, seeds=seeds, data=data,
        background=background, prompt=prompt, encoding=encoding, num_fewshot=num_fewshot, out=out, batch=batch,
        block=block, checkpoint_every=checkpoint_every, checkpoints=checkpoints, timeout=timeout, readers=readers,
        threads=threads, device=device, matmul_precision=matmul_precision, code=code, canary=canary, debug=debug,
        shard=shard, engine=engine, progress=Progress(quiet=quiet),
    )  # fmt: skip
    if dry_run:
        from atlas_bench.running import estimate_table

        return output.show(asked.estimate(), as_json, estimate_table.lines)
    records = asked.run()
    _print_records(records, as_json)
    if any(record.status in store.AGAIN for record in records):
        raise typer.Exit(1)


def compare(
    candidates: opt.Candidates,
    task: opt.Task,
    length: opt.Length,
    train: opt.Train = _compare.train,
    seeds: opt.TrainingSeeds = _compare.seeds,
    rates: opt.Rates = _compare.rates,
    init: opt.Init = _compare.init,
    samples: opt.Samples = _compare.samples,
    sequential: opt.Sequential = _compare.sequential,
    seed: opt.CompareSeed = _compare.seed,
    data: opt.Data = _compare.data,
    background: opt.Background = _compare.background,
    prompt: opt.Prompt = _compare.prompt,
    encoding: opt.Encoding = _compare.encoding,
    out: opt.CompareFolder = Path(_compare.out),
    page: opt.Page = None,
    jobs: opt.Jobs = _compare.jobs,
    dry_run: opt.DryRun = False,
    device: opt.Device = _compare.device,
    code: opt.Code = [*_compare.code],  # noqa: B006
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Compare memories or models on the same questions, in pairs.

    A candidate is a memory to be trained (titans, atlas:degree=1, ./my_memory.py, which is executed), attention
    alone (transformer, swa), or a trained model (atlas-nano, a folder). Without --train all are trained models.

    A repeated command runs only what is missing. Exit code: 0, 1 if something failed, 2 for a mistake in the
    command, 130 after Ctrl-C.
    """
    output.quieten(quiet)
    output.loading(quiet)
    from atlas_bench.comparison import compare as comparison
    from atlas_bench.comparison.text import compare_lines
    from atlas_bench.running.progress import Progress

    output_file.check(page)
    asked = comparison.prepare(
        candidates, task=task, lengths=length, out=out, init=init, samples=samples, sequential=sequential, seed=seed,
        train=train, seeds=seeds, rates=rates, data=data, background=background, prompt=prompt, encoding=encoding,
        jobs=jobs, device=device, code=code, progress=Progress(quiet=quiet),
    )  # fmt: skip
    if dry_run:
        from atlas_bench.running import estimate_table

        return output.show(asked.estimate(), as_json, estimate_table.lines)
    compared, well = asked.run()
    output.show(compared, as_json, compare_lines)
    if page:
        from atlas_bench.comparison.page import comparison_html

        output.write(page, comparison_html(compared))
    if not well:
        raise typer.Exit(1)


def probe(
    model: opt.ProbedModel,
    task: opt.Task = "babilong:qa1",
    length: opt.Length = "4K",
    reset: opt.Reset = None,
    samples: opt.Samples = 100,
    seed: opt.QuestionSeed = _run.seeds,
    data: opt.Data = _run.data,
    background: opt.Background = _run.background,
    prompt: opt.Prompt = _run.prompt,
    encoding: opt.Encoding = _run.encoding,
    out: opt.RecordsFolder = Path("probe"),
    threads: opt.Threads = _run.threads,
    device: opt.Device = _run.device,
    matmul_precision: opt.MatmulPrecision = _run.matmul_precision,
    code: opt.Code = [*_run.code],  # noqa: B006
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Take a trained model apart: what does each part contribute?

    The model answers the same questions as it is and with one part removed after training: an ingredient of its
    memory's rule, the memory of a layer, everything older than a distance, the screen, attention.

    A repeated command runs only what is missing. Exit code: 0, 1 if something failed, 2 for a mistake in the
    command, 130 after Ctrl-C.
    """
    output.quieten(quiet)
    output.loading(quiet)
    from atlas_bench.comparison import probe as command
    from atlas_bench.comparison.text import probe_lines
    from atlas_bench.running.progress import Progress

    comparison, well = command.main(
        model, task=task, lengths=length, reset=reset, out=out, samples=samples, seed=seed, data=data,
        background=background, prompt=prompt, encoding=encoding, threads=threads, device=device,
        matmul_precision=matmul_precision, code=code, progress=Progress(quiet=quiet),
    )  # fmt: skip
    output.show(comparison, as_json, probe_lines)
    if not well:
        raise typer.Exit(1)


def _print_records(records: Sequence[Record], as_json: bool) -> None:
    if as_json:
        typer.echo(f"[{', '.join(record.to_json() for record in records)}]")
        return
    from rich.console import Console

    from atlas_bench.running import run_table

    run_table.render(records, Console())
