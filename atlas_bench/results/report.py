"""Records -> a report as text for the terminal, Markdown, CSV, LaTeX, JSON, or one HTML page (docs/report.md).

report = main("results", form="md", tasks=["babilong:qa1"], threshold=0.9)
Path("report.md").write_text(report, encoding="utf-8")
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from atlas_bench.errors import UserError, did_you_mean, printable, unknown
from atlas_bench.results import html, reference, store
from atlas_bench.results.formats import data
from atlas_bench.results.formats.latex import latex
from atlas_bench.results.formats.markdown import markdown
from atlas_bench.results.formats.text import text
from atlas_bench.results.html import answers as answers_page
from atlas_bench.results.leaderboard import THRESHOLD, Leaderboard, make
from atlas_bench.results.naming import task_name
from atlas_bench.results.record import Record, Warn, clip
from atlas_bench.results.ruler_summary import TASKS as RULER_TASKS
from atlas_bench.results.summary import is_chosen, only, summaries

FORMS: dict[str, Callable[..., str]] = {
    "text": text, "md": markdown, "csv": data.table, "tex": latex, "json": data.nested, "html": html.leaderboard,
}  # fmt: skip
NAMES = {"markdown": "md", "latex": "tex"}  # other names of forms
SUFFIXES = {".txt": "text", ".htm": "html", **{f".{form}": form for form in FORMS if form != "text"}}


def main(
    source: store.Source,
    *,
    form: str = "text",
    threshold: float = THRESHOLD,
    published: bool = True,
    tasks: Sequence[str] = (),
    models: Sequence[str] = (),
    warn: Warn | None = None,
    title: str | None = None,
    command: str = "",
    answers: Mapping[str, str] | None = None,
) -> str:
    """The report as one text.

    source     files and folders of records, or records themselves
    form       one of FORMS, or of NAMES
    threshold  in 0..1, which the lower bound at an effective length reaches
    published  whether to show others' numbers beside the measured ones
    tasks      'babilong' or 'babilong:qa1'; empty: all
    models     as the records name them; empty: all
    warn       receives a message for every line that is no record
    title      of the report; by default each form's own
    command    that made the report, for its foot
    answers    cell_key -> address of its answers, which the HTML page links: see with_answers()

    Raises UserError for an unknown form, a threshold out of range, and where no record is left.
    """
    form = NAMES.get(form, form)
    if form not in FORMS:
        raise unknown("form", form, (*FORMS, *NAMES))
    if not 0 <= threshold <= 1:
        raise UserError(f"threshold {threshold:g} is no share. Give a number from 0 to 1; 0.8 is usual.")
    found = list(summaries(_given(source, warn or _ignore)))
    chosen = only(found, tasks=tasks, models=models)
    if not chosen:
        raise _nothing([each.record for each in found], tasks, models)
    board = make(chosen, threshold=threshold)
    named: dict[str, Any] = {"command": command} | ({"title": title} if title else {})
    if form == "html":
        return html.leaderboard(board, published=published, answers=answers, **named)
    return FORMS[form](board, _beside(board) if published else [], **named)


def with_answers(
    source: store.Source,
    file: Path | None,
    *,
    leaderboard: Path | None,
    tasks: Sequence[str] = (),
    models: Sequence[str] = (),
    warn: Warn | None = None,
    command: str = "",
    **options: Any,
) -> tuple[str, dict[Path, str]]:
    """(the report, file -> HTML of all answers); nothing is written.

    file         of the answers, None: no such page. Where one page would be too large the next parts are numbered:
                 answers.html, answers-2.html
    leaderboard  file of the report, where it is an HTML page: it and the answers then link to each other

    The other arguments are main()'s.
    """
    chosen: dict[str, Any] = {"tasks": tasks, "models": models, "command": command}
    if file is None:
        return main(source, warn=warn, **chosen, **options), {}
    if leaderboard is not None and file.resolve() == leaderboard.resolve():
        raise UserError(f"'{file}' would hold the report and the answers. Give the answers a file of their own.")
    records = list(_given(source, warn or _ignore))  # used twice: a report keeps no answers
    folder = "." if leaderboard is None else _address(file.parent, leaderboard.parent)
    written = answers_page.pages(
        (record for record in records if is_chosen(record, tasks, models)),
        name=file.name,
        folder="" if folder == "." else f"{folder}/",
        leaderboard=_address(leaderboard, file.parent) if leaderboard else "",
        command=command,
    )
    pages = {file.with_name(name): page for name, page in written.files.items()}
    return main(records, answers=written.links if leaderboard else None, **chosen, **options), pages


def _given(source: store.Source, warn: Warn) -> Iterator[Record]:
    """The records of a source, with a warning where some are parts of cells."""
    parts = 0
    for record in store.scan(source, warn):
        parts += record.part is not None
        yield record
    if parts:
        warn(
            f"{parts} record{'s are' if parts > 1 else ' is'} of some samples of a cell, by `run --shard`. "
            "`atlas-bench merge` puts the shards together."
        )


def _address(target: Path, folder: Path) -> str:
    """The address of a file or folder for links in a page in `folder`."""
    return quote(Path(os.path.relpath(target, folder)).as_posix())


def chosen(asked: Mapping[str, str | None], out: str | Path | None) -> str:
    """The form that options name, else that of the file's suffix, else text.

    asked  the option as typed -> the form that it names, None where it names none

    Raises UserError where they contradict each other, and where none names a form and the suffix is unknown.
    """
    suffix = None if out is None else SUFFIXES.get(Path(out).suffix.lower())
    forms = {option: NAMES.get(form, form) for option, form in {**asked, f"-o {out}": suffix}.items() if form}
    if len(set(forms.values())) > 1:
        named = " and ".join(f"'{option}' ({form})" for option, form in forms.items())
        raise UserError(f"{named} contradict each other. Leave one out.")
    return next(iter(forms.values()), None) or ("text" if out is None else form_of(out))


def form_of(path: str | Path) -> str:
    """The form that a file's suffix names: 'leaderboard.html' -> 'html'. Raises UserError for an unknown suffix."""
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        problem = f"has the suffix '{suffix}'" if suffix else "has no suffix"
        raise UserError(f"no form of report for '{path}': it {problem}. Known: {', '.join(sorted(SUFFIXES))}.")
    return SUFFIXES[suffix]


def _beside(board: Leaderboard) -> list[reference.Beside]:
    """What others published for the tasks of the board; RULER's mean too where all 13 tasks are there."""
    asked = {panel.name: (panel.task, panel.subset) for panel in board.panels}
    if {("ruler", subset) for subset in RULER_TASKS} <= {*asked.values()}:
        asked[f"ruler:{reference.MEAN_OF_13}"] = "ruler", reference.MEAN_OF_13
    return reference.beside(asked)


def _nothing(records: Sequence[Record], tasks: Sequence[str], models: Sequence[str]) -> UserError:
    """The error where no record is of the tasks and models that were asked for."""
    if not records:
        return UserError("no records to report. `atlas-bench run` writes them to runs/*.jsonl.")
    for kind, asked, there in (
        ("task", tasks, {name for record in records for name in (record.task, task_name(record))}),
        ("model", models, {record.model for record in records}),
    ):
        for name in asked:
            if name not in there:
                known = clip(", ".join(printable(each, True) for each in sorted(there)), 400)
                return UserError(f"no record of {kind} '{name}'.{did_you_mean(name, there)} There are: {known}.")
    return UserError(f"no record of {', '.join(models)} on {', '.join(tasks)}, though of each elsewhere.")


def _ignore(message: str) -> None:
    pass
