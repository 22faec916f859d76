"""A report of records in any form: text for the terminal, Markdown, CSV, LaTeX, JSON, or one HTML page.

    report = main("results", form="md", tasks=["babilong:qa1"], threshold=0.9)
    Path("report.md").write_text(report, encoding="utf-8")

docs/report.md shows each form.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import quote

from atlas_bench.errors import UserError, did_you_mean, unknown
from atlas_bench.results import reference, store
from atlas_bench.results.leaderboard import THRESHOLD, Leaderboard, make
from atlas_bench.results.naming import printable
from atlas_bench.results.record import Record, Warn, clip
from atlas_bench.results.ruler_summary import TASKS as RULER_TASKS
from atlas_bench.results.summary import Summary, only, summaries

FORMS = {  # form -> (module, function), imported where it is asked for
    "text": ("formats.text", "text"),
    "md": ("formats.markdown", "markdown"),
    "csv": ("formats.data", "table"),
    "tex": ("formats.latex", "latex"),
    "json": ("formats.data", "nested"),
    "html": ("html", "leaderboard"),
}
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
    threshold  in 0..1: what the lower bound of an effective length reaches
    published  whether others' numbers stand beside the measured ones
    tasks      'babilong' or 'babilong:qa1'; of all where none is named
    models     as the records name them; all where none is named
    warn       is told of every line that is no record
    title      of the report; by default each form's own
    command    what was typed, for the foot
    answers    cell_key -> address of its answers, which the HTML page links: see with_answers()

    Raises UserError for an unknown form, a threshold out of range, and where no record is left.
    """
    form = NAMES.get(form, form)
    if form not in FORMS:
        raise unknown("form", form, (*FORMS, *NAMES))
    if not 0 <= threshold <= 1:
        raise UserError(f"threshold {threshold:g} is no share. Give a number from 0 to 1; 0.8 is usual.")
    board = make(_chosen(_given(source, warn or _ignore), tasks, models), threshold=threshold)
    named: dict[str, Any] = {"command": command} | ({"title": title} if title else {})
    return _written(board, form, published, named | ({"answers": answers} if form == "html" else {}))


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
    """(the report, file -> HTML of a page of all answers), in parts where one page would be too large.

    file         of the first part, None for no such page; the others are numbered: answers.html, answers-2.html
    leaderboard  file of the report where it is a page, to which the answers lead back, and it to them; else None

    The other arguments are main()'s. Nothing is written.
    """
    chosen: dict[str, Any] = {"tasks": tasks, "models": models, "command": command}
    if file is None:
        return main(source, warn=warn, **chosen, **options), {}
    if leaderboard is not None and file.resolve() == leaderboard.resolve():
        raise UserError(f"'{file}' would hold the report and the answers. Give the answers a file of their own.")
    if not isinstance(source, (str, Path, Record)):
        source = list(source)  # it is read twice: a report keeps no answers
    from atlas_bench.results.html import answers

    records = _asked_for(_given(source, warn or _ignore), tasks, models)
    if leaderboard is None:
        written = answers.pages(records, name=file.name, command=command)
    else:
        folder = _address(file.parent, leaderboard.parent)
        written = answers.pages(
            records, name=file.name, folder="" if folder == "." else f"{folder}/",
            leaderboard=_address(leaderboard, file.parent), command=command,
        )  # fmt: skip
    pages = {file.with_name(name): html for name, html in written.files.items()}
    return main(source, answers=written.links if leaderboard else None, **chosen, **options), pages


def _given(source: store.Source, warn: Warn) -> Iterator[Record]:
    """The records, and a warning where some are of parts of cells."""
    parts = 0
    for record in store.given(source, warn):
        parts += record.part is not None
        yield record
    if parts:
        warn(
            f"{parts} record{'s are' if parts > 1 else ' is'} of some samples of a cell, by `run --shard`. "
            "`atlas-bench merge` puts the shards together."
        )


def _address(target: Path, folder: Path) -> str:
    """How a page in the folder links to a file or folder."""
    return quote(Path(os.path.relpath(target, folder)).as_posix())


def _asked_for(records: Iterable[Record], tasks: Sequence[str], models: Sequence[str]) -> Iterator[Record]:
    for record in records:
        named = {record.task, f"{record.task}:{record.subset}"}
        if (not tasks or named & set(tasks)) and (not models or record.model in models):
            yield record


def chosen(asked: Mapping[str, str | None], out: str | Path | None) -> str:
    """The form that options ask for, else that of the file's suffix, else text.

    asked  the option as it was written -> its form, None where it asks for none

    Raises UserError where they contradict each other, and for a file of no form where no option names one.
    """
    suffix = None if out is None else SUFFIXES.get(Path(out).suffix.lower())
    forms = {option: NAMES.get(form, form) for option, form in {**asked, f"-o {out}": suffix}.items() if form}
    if len(set(forms.values())) > 1:
        said = " and ".join(f"'{option}' ({form})" for option, form in forms.items())
        raise UserError(f"{said} contradict each other. Leave one out.")
    return next(iter(forms.values()), None) or ("text" if out is None else form_of(out))


def form_of(path: str | Path) -> str:
    """The form that a file's suffix names: 'leaderboard.html' -> 'html'. Raises UserError for any other suffix."""
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        said = f"has the suffix '{suffix}'" if suffix else "has no suffix"
        raise UserError(f"no form of report for '{path}': it {said}. Known: {', '.join(sorted(SUFFIXES))}.")
    return SUFFIXES[suffix]


def _written(board: Leaderboard, form: str, published: bool, named: dict[str, Any]) -> str:
    module, function = FORMS[form]
    write: Callable[..., str] = getattr(import_module(f"atlas_bench.results.{module}"), function)
    if form == "html":
        return write(board, published=published, **named)
    asked = {panel.name: (panel.task, panel.subset) for panel in board.panels}
    if {("ruler", subset) for subset in RULER_TASKS} <= {*asked.values()}:  # the summary of all 13 tasks is there
        asked[f"ruler:{reference.MEAN_OF_13}"] = "ruler", reference.MEAN_OF_13
    return write(board, reference.beside(asked) if published else [], **named)


def _chosen(records: Iterable[Record], tasks: Sequence[str], models: Sequence[str]) -> list[Summary]:
    """Summaries of the records that were asked for, a UserError that says what there is where there are none."""
    seen: dict[str, set[str]] = {"task": set(), "model": set()}

    def noted() -> Iterator[Record]:
        for record in records:
            seen["task"] |= {record.task, f"{record.task}:{record.subset}"}
            seen["model"].add(record.model)
            yield record

    found = only(summaries(noted()), tasks=tasks, models=models)
    if not seen["task"]:
        raise UserError("no records to report. `atlas-bench run` writes them to runs/*.jsonl.")
    for kind, asked in (("task", tasks), ("model", models)):
        for name in asked:
            if name not in seen[kind]:
                known = clip(", ".join(printable(each, True) for each in sorted(seen[kind])), 400)
                raise UserError(f"no record of {kind} '{name}'.{did_you_mean(name, seen[kind])} There are: {known}.")
    if not found:
        raise UserError(f"no record of {', '.join(models)} on {', '.join(tasks)}, though of each elsewhere.")
    return found


def _ignore(message: str) -> None:
    pass
