"""Every answer of every record as a page of its own, in parts where it would be too large for a browser.

    written = pages(records, name="answers.html", leaderboard="board.html")
    written.files["answers.html"], written.files["answers-2.html"]      # HTML of the parts
    written.links[cell_key(record)]                                     # 'answers-2.html#a-36ee4c73080682ca'

No answer is left out: a part ends with the record that fills it, and lists the others. A record's table stays closed
until it is asked for, so that a browser lays out what is read alone.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from markupsafe import Markup, escape

from atlas_bench.results.html.detail import Part, cell_parts
from atlas_bench.results.html.template import clean, render
from atlas_bench.results.naming import natural
from atlas_bench.results.panels import Cell
from atlas_bench.results.record import Record, cell_key, clip
from atlas_bench.results.summary import summary
from atlas_bench.units import format_length

PART_BYTES = 4_000_000  # after which a part ends
TEXT_CHARS = 2000  # of a question, an answer, the targets; a record keeps no more of each


@dataclass(frozen=True)
class Written:
    """The parts, and where each record is.

    files  name -> HTML, in their order
    links  cell_key -> address of the record's section
    """

    files: dict[str, str]
    links: dict[str, str]


@dataclass(frozen=True)
class Section:
    """One record as the page shows it."""

    key: str
    order: tuple[Any, ...]
    task: str
    length: int
    model: str
    answers: int
    html: Markup


def pages(
    records: Iterable[Record],
    *,
    name: str,
    folder: str = "",
    leaderboard: str = "",
    title: str = "Answers",
    command: str = "",
    part_bytes: int = PART_BYTES,
) -> Written:
    """All answers of some records, by task, length and model.

    name         of the first part's file; the others are numbered
    folder       address of the parts' folder as seen from the leaderboard, 'all/', '' where they stand beside it
    leaderboard  address of the page that shows the scores, '' for none
    command      what made it, for the foot of the page
    part_bytes   after which a part ends
    """
    sections = sorted((_section(record) for record in records), key=lambda section: section.order)
    parts = list(_parts(sections, part_bytes)) or [[]]
    names = [name, *(_numbered(name, number) for number in range(2, len(parts) + 1))]
    listed = [
        {"href": quote(file), "records": len(part), "answers": sum(each.answers for each in part), "of": _range(part)}
        for file, part in zip(names, parts, strict=True)
    ]
    files, links, seen = {}, {}, Counter[str]()
    for number, (file, part) in enumerate(zip(names, parts, strict=True)):
        shown = []
        for section in part:
            seen[section.key] += 1
            again = f"-{seen[section.key]}" if seen[section.key] > 1 else ""  # several records of one cell
            id = f"a-{section.key[:16]}{again}"
            links[section.key] = f"{folder}{quote(file)}#{id}"
            shown.append((id, section))
        choices = {
            "task": list(dict.fromkeys(section.task for section in part)),
            "length": sorted({section.length for section in part}),
            "model": sorted({section.model for section in part}, key=natural),
        }
        numbers = {kind: {value: i for i, value in enumerate(values)} for kind, values in choices.items()}
        files[file] = render(
            "answers.html.j2", script="answers.js", title=title, parts=listed, number=number, sections=shown,
            choices=choices, numbers=numbers, leaderboard=leaderboard, command=command,
        )  # fmt: skip
    return Written(files, links)


def _parts(sections: Iterable[Section], part_bytes: int) -> Iterator[list[Section]]:
    part: list[Section] = []
    size_bytes = 0
    for section in sections:
        part.append(section)
        size_bytes += len(section.html.encode())
        if size_bytes >= part_bytes:
            yield part
            part, size_bytes = [], 0
    if part:
        yield part


def _numbered(name: str, number: int) -> str:
    """('answers.html', 2) -> 'answers-2.html'"""
    path = PurePath(name)
    return f"{path.stem}-{number}{path.suffix}"


def _range(part: Sequence[Section]) -> str:
    """'babilong:qa1 at 0 to babilong:qa3 at 16K'"""
    if not part:
        return ""
    ends = [f"{each.task} at {format_length(each.length)}" for each in (part[0], part[-1])]
    return " to ".join(dict.fromkeys(ends))


def _section(record: Record) -> Section:
    task = f"{record.task}:{record.subset}" if record.subset else record.task
    found = summary(record)
    (part,) = cell_parts(Cell((found,), ()) if record.status == "ok" else Cell((), (found,)))
    html = render(
        "record.html.j2", part=part, show=_show(record, task), columns=_columns(record), rows=_rows(record),
        summary=_summary(record, task, part),
    )  # fmt: skip
    order = (record.task, natural(record.subset), record.length, natural(record.model), record.seed, record.ended or "")
    return Section(cell_key(record), order, task, record.length, record.model, len(record.answers), Markup(html))


def _summary(record: Record, task: str, part: Part) -> str:
    about = f"{clip(task, 120)} at {format_length(record.length)}, {clip(record.model, 120)}, seed {record.seed}"
    score = record.scores.get(record.headline or "")
    if record.status != "ok" or not score or not score["n"]:
        return f"{about}: {record.status}"
    return f"{about}: {score['correct']:g}/{score['n']} right, {100 * score['correct'] / score['n']:.1f} %"


def _show(record: Record, task: str) -> str:
    """The command that makes a question's surroundings again."""
    chosen = ["--task", task, "--len", format_length(record.length), "--model", record.model]
    chosen += ["--seed", str(record.seed), "--samples", str(record.samples)]
    chosen += ["--weights", record.weights_hash[:8]] if record.weights_hash else []
    return f"atlas-bench show RECORDS INDEX {shlex.join(chosen)}"


def _columns(record: Record) -> list[str]:
    measured = ["tokens since the fact"] if any("distance" in answer for answer in record.answers) else []
    return ["index", "verdict", *measured, "question", "right answer", "answer"]


def _rows(record: Record) -> Markup:
    """The table's rows; end tags are left out, as HTML lets them be: a page has a hundred thousand cells."""
    far = "tokens since the fact" in _columns(record)
    return Markup("\n".join(_row(answer, record.headline, far) for answer in record.answers))


def _row(answer: Mapping[str, Any], headline: str | None, far: bool) -> str:
    kind, verdict = _verdict(answer, headline)
    others = [
        f"{name}: {_word(score)}"
        for name, score in answer["correct"].items()
        if name != headline and score != answer["correct"].get(headline)
    ]
    said = answer["answer"] if "failed" not in answer else f"not answered: {answer['failed']}"
    cells = [
        str(answer["index"]),
        verdict,
        *([str(answer.get("distance", ""))] if far else []),
        answer["question"],
        " | ".join(map(str, answer["targets"])),
        said,
    ]
    written = [_escaped(text) for text in cells]
    if others:
        written[1] += f"<small>{_escaped(', '.join(others))}</small>"
    return f"<tr class={kind}><td>{'<td>'.join(written)}"


def _escaped(text: str) -> str:
    return str(escape(clean(clip(text, TEXT_CHARS))))


def _verdict(answer: Mapping[str, Any], headline: str | None) -> tuple[str, str]:
    """(class, words) of a row: what is no whole point is wrong to the filter, as it is to a report's examples."""
    if "failed" in answer:
        return "failed", "failed"
    score = answer["correct"].get(headline)
    if score is None:
        return "unjudged", ""
    return "right" if score >= 1 else "wrong", _word(score)


def _word(score: bool | float) -> str:
    if score in (0, 1):
        return "right" if score else "wrong"
    return f"{100 * score:.0f} % right"
