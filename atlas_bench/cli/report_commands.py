"""`report`, `changes` and `push`: what records say."""

from __future__ import annotations

from types import SimpleNamespace

import typer

from atlas_bench import api
from atlas_bench.cli import config, output
from atlas_bench.cli import options as opt
from atlas_bench.files import output_file

_report = SimpleNamespace(**api.defaults(api.report))


def report(
    paths: opt.Records,
    out: opt.ReportFile = None,
    form: opt.Form = _report.format,
    threshold: opt.Threshold = _report.threshold,
    no_published: opt.NoPublished = not _report.published,
    task: opt.Tasks = None,
    model: opt.Models = None,
    as_json: opt.Json = False,
) -> None:
    """Show results, models x lengths: as a table or a page.

    With -o in a file, whose suffix says the form: .html is one page to open in a browser.
    """
    from atlas_bench.results import report as results
    from atlas_bench.units import share_of

    output_file.check(out)
    form = results.chosen({"--json": "json" if as_json else None, f"--format {form}": form}, out)
    text = results.main(
        paths, form=form, threshold=share_of(threshold), published=not no_published, models=model or [],
        tasks=[name for typed in task or [] for name in typed.split(",")], warn=output.warn, command=config.typed(),
    )  # fmt: skip
    if out:
        output.write(out, text)
    else:  # what goes into files is UTF-8, whatever the terminal's is
        typer.echo(text if form == "text" else text.encode("utf-8", "replace"), nl=False)


def changes(old: opt.Old, new: opt.New, page: opt.Page = None, as_json: opt.Json = False) -> None:
    """Tell what changed between two sets of records."""
    from atlas_bench.results import changes as results

    output_file.check(page)
    changed = results.changes([old], [new], warn=output.warn)
    output.show(changed, as_json, results.lines)
    if page:
        from atlas_bench.results.compare_page import changes_html

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
    from atlas_bench.results import publish

    output.show(publish.write(paths, folder, to=to, name=name, warn=output.warn), as_json, publish.lines)
