"""The commands: parse, call, render. Everything heavy is imported inside them, so that --help is quick.

    from atlas_bench.cli.app import app
    app(["run", "babilong:qa1", "--len", "16K", "--samples", "20"])         # as `atlas-bench run ..` does it

A mistake is one message on stderr and exit code 2. With --json standard output is plain data and nothing else.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import typer

from atlas_bench import api
from atlas_bench.cli import config, output, score_command
from atlas_bench.cli import options as opt
from atlas_bench.errors import UserError
from atlas_bench.files import output_file

# what commands mean where nothing else is said: the API's defaults, in the types of the command line
_run, _report, _compare, _train = (
    SimpleNamespace(**api.defaults(f)) for f in (api.run, api.report, api.compare, api.train)
)

# plain help: rich's costs as much to import as all the rest
app = typer.Typer(
    cls=config.Commands,
    help="How far does a sequence model really remember?",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _examples(*commands: str) -> str:
    return "\n".join(("Examples:", *(f"  atlas-bench {command}" for command in commands)))


def main() -> None:
    """The console command."""
    with output.guarded():
        output.check_working_folder()
        if os.environ.get("_ATLAS_BENCH_COMPLETE") == "complete_bash":
            from atlas_bench.cli.completion import complete_in_bash

            complete_in_bash(app)
        else:
            app()


@app.callback()
def _before(
    ctx: typer.Context, version: opt.Version = False, file: opt.Config = None, show: opt.PrintConfig = False
) -> None:
    config.prepare(ctx, file, show=show)


@app.command(
    cls=config.Command,
    epilog=_examples(
        "run babilong",
        "run babilong:qa1 --len 16K,1M --model atlas-nano,omeganet-nano",
        "run niah --len 4K,64K --model small=hf:Qwen/Qwen2.5-0.5B",
        "run babilong:qa1 --len 1K,10M --samples 1K=500,10M=20",
    ),
)
def run(
    ctx: typer.Context,
    task: opt.RunTask,
    lengths: opt.FirstLength = _run.lengths,
    models: opt.RunModels = [_run.models],  # noqa: B006
    samples: opt.RunSamples = _run.samples,
    until: opt.Until = _run.until,
    seeds: opt.Seeds = [_run.seeds],  # noqa: B006
    data: opt.Data = _run.data,
    background: opt.Background = _run.background,
    prompt: opt.Prompt = _run.prompt,
    encoding: opt.Encoding = _run.encoding,
    num_fewshot: opt.NumFewshot = _run.num_fewshot,
    out: opt.RecordsFolder = Path(_run.out),
    dry_run: opt.DryRun = False,
    as_json: opt.Json = False,
    batch: opt.Batch = _run.batch,
    block: opt.Block = _run.block,
    checkpoint_every: opt.CheckpointEvery = _run.checkpoint_every,
    timeout: opt.Timeout = _run.timeout,
    threads: opt.Threads = _run.threads,
    device: opt.Device = _run.device,
    products: opt.Products = _run.products,
    code: opt.Code = [*_run.code],  # noqa: B006
    canary: opt.Canary = _run.canary,
    quiet: opt.Quiet = False,
    debug: opt.Debug = _run.debug,
) -> None:
    """Ask models about long contexts.

    Without --len it is a first look of less than a minute: 1K and 16K, 20 questions each. The same command again
    runs only what is missing. Exit code: 0, 1 where a cell failed, timed out or had too little memory, 2 for a mistake
    in the command, 130 after Ctrl-C.
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
        block=block, checkpoint_every=checkpoint_every, timeout=timeout, threads=threads, device=device,
        products=products, code=code, canary=canary, debug=debug, progress=Progress(quiet=quiet),
    )  # fmt: skip
    if dry_run:
        from atlas_bench.running import estimate_table

        return output.show(asked.estimate(), as_json, estimate_table.lines)
    records = asked.run()
    if as_json:
        typer.echo(f"[{', '.join(record.to_json() for record in records)}]")
    else:
        from rich.console import Console

        from atlas_bench.results.formats import run as table

        table.render(records, Console())
    if any(record.status in store.AGAIN for record in records):
        raise typer.Exit(1)


@app.command(
    cls=config.Command,
    epilog=_examples(
        "report runs",
        "report runs -o leaderboard.html",
        "report runs -o leaderboard.html --answers answers.html",
    ),
)
def report(
    paths: opt.Records,
    out: opt.ReportFile = None,
    answers: opt.AnswersFile = _report.answers,
    form: opt.Form = _report.format,
    threshold: opt.Threshold = _report.threshold,
    no_published: opt.NoPublished = not _report.published,
    task: opt.Tasks = None,
    model: opt.Models = None,
    as_json: opt.Json = False,
) -> None:
    """Show results, models x lengths: as a table or a page.

    With -o in a file, whose suffix says the form: .html is one page to open in a browser. With --answers every answer
    is written too, as a page of its own, with filters.
    """
    from atlas_bench.results import report as results
    from atlas_bench.units import share_of

    output_file.check(out)
    output_file.check(answers, "--answers")
    form = results.chosen({"--json": "json" if as_json else None, f"--format {form}": form}, out)
    text, pages = results.with_answers(
        paths, answers, leaderboard=out if form == "html" else None, form=form, threshold=share_of(threshold),
        published=not no_published, tasks=[each for typed in task or [] for each in typed.split(",")],
        models=model or [], warn=output.warn, command=config.typed(),
    )  # fmt: skip
    for file, html in pages.items():
        output.write(file, html)
    if out:
        output.write(out, text)
    else:  # what goes into files is UTF-8, whatever the terminal's is
        typer.echo(text if form == "text" else text.encode("utf-8", "replace"), nl=False)


@app.command(
    cls=config.Command,
    epilog=_examples(
        "show runs 3 --task babilong:qa2 --len 16K --model atlas-nano",
        "show runs/babilong.jsonl 0 --len 10M --json",
    ),
)
def show(
    paths: opt.Records,
    index: opt.Index,
    task: opt.ShownTask = None,
    length: opt.ShownLength = None,
    model: opt.ShownModel = None,
    seed: opt.ShownSeed = None,
    data: opt.ShownData = None,
    background: opt.ShownBackground = None,
    prompt: opt.ShownPrompt = None,
    samples: opt.ShownSamples = None,
    weights: opt.ShownWeights = None,
    tokenizer: opt.ShownTokenizer = None,
    as_json: opt.Json = False,
) -> None:
    """Show one question of a record, what surrounds it, and the answer.

    The context is made again from the record's own fields and checked against its row: the prompt's ends and the text
    around its facts are printed, with the number of tokens between them. The options choose one record of several.
    """
    from atlas_bench.cli import show as shown
    from atlas_bench.results import store
    from atlas_bench.running import remake

    found = remake.show(
        store.scan(paths, output.warn), index, task=task, length=length, model=model, seed=seed, data=data,
        background=background, prompt=prompt, samples=samples, weights=weights, tokenizer=tokenizer,
    )  # fmt: skip
    output.show(found, as_json, shown.lines)


app.command(
    cls=config.Command,
    epilog=_examples(
        "score runs --scorer ./my_scorer.py -o new.jsonl",
        "score runs --scorer babilong/word --task babilong -o new.jsonl",
    ),
)(score_command.score)


@app.command(
    cls=config.Command,
    epilog=_examples(
        "compare atlas-nano omeganet-nano --task babilong:qa1 --len 1K,4K",
        "compare titans ./my_memory.py --task mqar:8 --len 1K --train 2M",
        "compare titans atlas --task mqar:8 --len 1K --train 2M --seeds 3",
    ),
)
def compare(
    contenders: opt.Contenders,
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
    encoding: opt.Encoding = _compare.encoding,
    out: opt.CompareFolder = Path(_compare.out),
    page: opt.Page = None,
    jobs: opt.Jobs = _compare.jobs,
    code: opt.Code = [*_compare.code],  # noqa: B006
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Compare memories or models on the same questions, in pairs.

    A contender is a memory to be trained (titans, atlas:degree=1, ./my_memory.py, which is executed), attention
    alone (transformer, swa), or a trained model (atlas-nano, a folder). Without --train all are trained models.

    The same command again runs only what is missing. Exit code: 0, 1 where something failed, 2 for a mistake in the
    command, 130 after Ctrl-C.
    """
    output.quieten(quiet)
    output.loading(quiet)
    from atlas_bench.comparison import compare as comparison
    from atlas_bench.results.formats.pairs import compare_lines
    from atlas_bench.running.progress import Progress

    output_file.check(page)
    compared, well = comparison.main(
        contenders, task=task, lengths=length, out=out, init=init, samples=samples, sequential=sequential, seed=seed,
        train=train, seeds=seeds, rates=rates, data=data, background=background, encoding=encoding, jobs=jobs,
        code=code, progress=Progress(quiet=quiet),
    )  # fmt: skip
    output.show(compared, as_json, compare_lines)
    if page:
        from atlas_bench.results.html.pairs import comparison_html

        output.write(page, comparison_html(compared))
    if not well:
        raise typer.Exit(1)


@app.command(
    cls=config.Command,
    epilog=_examples(
        "probe atlas-nano",
        "probe ./my-model --task mqar:8 --len 1K,16K --reset 500",
    ),
)
def probe(
    model: opt.ProbedModel,
    task: opt.Task = "babilong:qa1",
    length: opt.Length = "4K",
    reset: opt.Reset = None,
    samples: opt.Samples = 100,
    seed: opt.QuestionSeed = _run.seeds,
    data: opt.Data = _run.data,
    background: opt.Background = _run.background,
    encoding: opt.Encoding = _run.encoding,
    out: opt.RecordsFolder = Path("probe"),
    threads: opt.Threads = _run.threads,
    device: opt.Device = _run.device,
    products: opt.Products = _run.products,
    code: opt.Code = [*_run.code],  # noqa: B006
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Take a trained model apart: what does each part contribute?

    The model answers the same questions whole and with one part taken away after training: an ingredient of its
    memory's rule, the memory of a layer, all older than a distance, the screen, attention.

    The same command again runs only what is missing. Exit code: 0, 1 where something failed, 2 for a mistake in the
    command, 130 after Ctrl-C.
    """
    output.quieten(quiet)
    output.loading(quiet)
    from atlas_bench.comparison import probe as command
    from atlas_bench.results.formats.pairs import probe_lines
    from atlas_bench.running.progress import Progress

    comparison, well = command.main(
        model, task=task, lengths=length, reset=reset, out=out, samples=samples, seed=seed, data=data,
        background=background, encoding=encoding, threads=threads, device=device, products=products, code=code,
        progress=Progress(quiet=quiet),
    )  # fmt: skip
    output.show(comparison, as_json, probe_lines)
    if not well:
        raise typer.Exit(1)


@app.command(
    cls=config.Command,
    epilog=_examples(
        "changes runs-before runs",
        "changes runs-before runs -o changes.html",
    ),
)
def changes(old: opt.Old, new: opt.New, page: opt.Page = None, as_json: opt.Json = False) -> None:
    """Tell what changed between two sets of records."""
    from atlas_bench.results import changes as results
    from atlas_bench.results.formats.pairs import changes_lines

    output_file.check(page)
    found = results.changes([old], [new], warn=output.warn)
    output.show(found, as_json, changes_lines)
    if page:
        from atlas_bench.results.html.pairs import changes_html

        output.write(page, changes_html(found))


@app.command(
    cls=config.Command,
    epilog=_examples(
        "train --memory titans --out my-titans --tokens 20M",
        "train --memory ./my_memory.py --task mqar:8 --out my-model",
    ),
)
def train(
    ctx: typer.Context,
    memory: opt.Memory,
    out: opt.ModelFolder,
    init: opt.Init = _train.init,
    tokens: opt.Tokens = _train.tokens,
    task: opt.Lessons = None,
    seed: opt.TrainSeed = _train.seed,
    background: opt.Backgrounds = None,
    encoding: opt.Encoding = _train.encoding,
    hold_out: opt.HoldOut = None,
    attention_window: opt.AttentionWindow = _train.attention_window,
    layers: opt.Layers = _train.layers,
    placement: opt.Placement = _train.placement,
    persistent: opt.Persistent = _train.persistent,
    screen: opt.Screen = _train.screen,
    segment: opt.Segment = _train.segment,
    paced: opt.Paced = _train.paced,
    rate: opt.Rate = _train.rate,
    validate: opt.Validate = _train.validate,
    threads: opt.Threads = _train.threads,
    no_examine: opt.NoExamine = not _train.examine,
    as_json: opt.Json = False,
) -> None:
    """Train a model by the one fixed recipe; the same command resumes."""
    from functools import partial

    output.loading()
    from atlas_bench.models import loading
    from atlas_bench.running import unread
    from atlas_bench.training import command

    for why, names in unread.by_train(placement):
        config.refuse(ctx, why, *names)
    command.main(
        memory=memory, out=out, init=init, tokens=tokens, task=task or [_train.task], seed=seed,
        background=background or [], encoding=encoding, hold_out=hold_out or [], attention_window=attention_window,
        layers=layers, placement=placement, persistent=persistent, screen=screen, segment=segment, paced=paced,
        rate=rate, validate=validate, threads=threads, examine=not no_examine, say=partial(typer.echo, err=as_json),
    )  # fmt: skip
    if as_json:
        typer.echo(json.dumps({"folder": str(out), "card": loading.card(str(out))}, indent=2))


@app.command(
    cls=config.Command,
    epilog=_examples(
        "verify ./my_memory.py",
        "verify omeganet:omega_window=4",
    ),
)
def verify(memory: opt.VerifiedMemory, as_json: opt.Json = False) -> None:
    """Check a memory: is it causal, is its state of one size, ..

    A .py file is executed. Exit code 1 where a contract is broken.
    """
    import textwrap

    output.loading(as_json)
    from atlas_bench import registry
    from atlas_bench.comparison import verify as contracts

    name, options = registry.typed_memory(memory, feed=False)
    variant = registry.memory(name)
    if variant is None:
        raise UserError(f"memory '{name}' is no memory: there is nothing to verify. See `atlas-bench list memories`.")
    found = []
    for contract, said in contracts.verify(variant, options):
        found.append({"contract": contract, "well": not contracts.is_broken(said), "said": said or "ok"})
        if not as_json:  # each as soon as it is known
            typer.echo(textwrap.fill(said or "ok", 79, initial_indent=f"{contract:<16}", subsequent_indent=" " * 16))
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    if not all(each["well"] for each in found):
        raise typer.Exit(1)


@app.command(
    "list",
    cls=config.Command,
    epilog=_examples(
        "list",
        "list memories",
    ),
)
def list_(kind: opt.Kind = None, as_json: opt.Json = False) -> None:
    """List tasks, models, memories and sizes, with one line on each."""
    from atlas_bench.cli import describe
    from atlas_bench.running import listing

    found = {each: listing.listing(each) for each in ([kind] if kind else listing.KINDS)}
    output.show(found, as_json, describe.listed)


@app.command(
    cls=config.Command,
    epilog=_examples(
        "describe babilong:qa2",
        "describe atlas-nano",
    ),
)
def describe(name: opt.Name, as_json: opt.Json = False) -> None:
    """Tell what a task asks, a memory computes, a model is made of.

    Of a task one real sample is shown, of a size what it costs with each memory.
    """
    from atlas_bench.cli import describe as about

    output.show(about.describe(name), as_json, about.lines)


@app.command(
    cls=config.Command,
    epilog=_examples(
        "doctor",
    ),
)
def doctor(as_json: opt.Json = False) -> None:
    """Tell what runs on this machine, and why no faster kernels do.

    Each is compared with its slow definition first; exit code 1 where one differs, or torch is not there.
    """
    from atlas_bench.cli import doctor as examination

    found = examination.examine()
    output.show(found, as_json, examination.lines)
    if not examination.well(found):
        raise typer.Exit(1)


@app.command(
    cls=config.Command,
    epilog=_examples(
        "push runs dataset",
        "push runs evals --to babilong-evals --name ORG/MODEL",
    ),
)
def push(
    paths: opt.Records,
    folder: opt.NewFolder,
    to: opt.To = "dataset",
    name: opt.Repository = None,
    as_json: opt.Json = False,
) -> None:
    """Make a folder to publish: a Hugging Face dataset, or BABILong's.

    Nothing is uploaded; the command that would is printed.
    """
    from atlas_bench.results.export import publish

    output.show(publish.write(paths, folder, to=to, name=name, warn=output.warn), as_json, publish.lines)


@app.command(
    cls=config.Command,
    epilog=_examples(
        "export atlas-nano folder",
    ),
)
def export(model: opt.TrainedModel, folder: opt.NewFolder, as_json: opt.Json = False) -> None:
    """Write a model as transformers has them."""
    output.loading()
    from transformers.utils import logging

    from atlas_bench.models import causal_lm

    logging.disable_progress_bar()  # one file of a few megabytes
    causal_lm.export(model, folder)
    found = {"folder": str(folder), "files": sorted(path.name for path in folder.iterdir())}
    output.show(found, as_json, lambda found: [f"{folder}: {', '.join(found['files'])}"])


@app.command(
    "lm-eval", add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
)
def lm_eval(ctx: typer.Context) -> None:
    """Call lm-eval's own command line; it knows our models and tasks."""
    from atlas_bench.lmeval import shim

    raise typer.Exit(shim.main(ctx.args))
