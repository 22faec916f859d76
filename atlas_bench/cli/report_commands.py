"""`report`, `show`, `score`, `merge`, `changes` and `push`: what records say."""

from __future__ import annotations

from types import SimpleNamespace

import typer

from atlas_bench import api, registry
from atlas_bench.cli import config, output
from atlas_bench.cli import options as opt
from atlas_bench.files import output_file

_report = SimpleNamespace(**api.defaults(api.report))


def _tasks(typed: list[str] | None) -> list[str]:
    """The tasks of a repeatable option, of which each may be a list with commas."""
    return registry.split_tasks(",".join(typed)) if typed else []


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

    With -o in a file, whose suffix says the form: .html is one page to open in a browser. --answers also writes every
    answer, as a separate page with filters.
    """
    from atlas_bench.results import report as results
    from atlas_bench.units import share_of

    output_file.check(out)
    output_file.check(answers, "--answers")
    form = results.chosen({"--json": "json" if as_json else None, f"--format {form}": form}, out)
    text, pages = results.with_answers(
        paths, answers, leaderboard=out if form == "html" else None, form=form, threshold=share_of(threshold),
        published=not no_published, tasks=_tasks(task),
        models=model or [], warn=output.warn, command=config.typed(),
    )  # fmt: skip
    for file, html in pages.items():
        output.write(file, html)
    if out:
        output.write(out, text)
    else:  # what goes into files is UTF-8, whatever the terminal's is
        typer.echo(text if form == "text" else text.encode("utf-8", "replace"), nl=False)


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

    question = remake.show(
        store.scan(paths, output.warn), index, task=task, length=length, model=model, seed=seed, data=data,
        background=background, prompt=prompt, samples=samples, weights=weights, tokenizer=tokenizer,
    )  # fmt: skip
    output.show(question, as_json, shown.lines)


def score(
    paths: opt.Records,
    scorer: opt.Scorer,
    out: opt.NewRecords,
    task: opt.Tasks = None,
    model: opt.Models = None,
    data: opt.ShownData = None,
    background: opt.ShownBackground = None,
    tokenizer: opt.ShownTokenizer = None,
    as_json: opt.Json = False,
) -> None:
    """Judge recorded answers by another scorer.

    Writes new records: the old ones with the new verdicts beside the old, and the record and scorer that they are of.
    No model runs. A file defines score(answer, sample), which gives True, False or a number from 0 to 1.
    """
    from atlas_bench.results import store
    from atlas_bench.running import rescore

    file, by = rescore.new_file(out), rescore.load(scorer)
    new = rescore.records(
        store.scan(paths, output.warn), by, tasks=_tasks(task),
        models=model or [], data=data, background=background, tokenizer=tokenizer, command=config.typed(),
        warn=output.warn,
    )  # fmt: skip
    output.show(rescore.write(new, file), as_json, rescore.lines)


def merge(folders: opt.Folders, out: opt.MergedFolder, as_json: opt.Json = False) -> None:
    """Put the records of shards together.

    They are then as one run would have written them. Cells that were not split are copied. The same command again
    writes only what is missing. Exit code: 0, 1 where something of a plan is missing, 2 for a mistake in the command.
    """
    from atlas_bench.running import merge as merging

    told = merging.merge(folders, out, warn=output.warn, command=config.typed())
    output.show(told, as_json, merging.lines)
    if told["missing"]:
        raise typer.Exit(1)


def changes(old: opt.Old, new: opt.New, page: opt.Page = None, as_json: opt.Json = False) -> None:
    """Tell what changed between two sets of records."""
    from atlas_bench.comparison import changes as command
    from atlas_bench.comparison.text import changes_lines

    output_file.check(page)
    changed = command.changes([old], [new], warn=output.warn)
    output.show(changed, as_json, changes_lines)
    if page:
        from atlas_bench.comparison.page import changes_html

        output.write(page, changes_html(changed))


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
    from atlas_bench.export import publish

    output.show(publish.write(paths, folder, to=to, name=name, warn=output.warn), as_json, publish.lines)
