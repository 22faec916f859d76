"""All answers of all records as an HTML page, in parts where one page would be too large for a browser.

    written = pages(records, name="answers.html", leaderboard="board.html")
    written.files["answers.html"], written.files["answers-2.html"]      # HTML of the parts
    written.links[cell_key(record)]                                     # 'answers-2.html#a-36ee4c73080682ca'

No answer is left out: a part ends with the record that fills it, and lists the other parts. A record is closed until
the reader opens it, so that a browser lays out only what is read.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import PurePath
from typing import Any, NamedTuple
from urllib.parse import quote

from markupsafe import Markup

from atlas_bench.results.html.facts import facts, scores
from atlas_bench.results.html.template import clean, render
from atlas_bench.results.naming import natural, task_name
from atlas_bench.results.record import Record, cell_key, clip
from atlas_bench.results.score import outcome
from atlas_bench.results.summary import summary
from atlas_bench.units import format_length

PART_BYTES = 4_000_000  # after which a part ends
TEXT_CHARS = 2000  # of a question, an answer, the targets; a record keeps no more of each


class Written(NamedTuple):
    """The parts of the page, and the address of each record.

    files  name -> HTML, in their order
    links  cell_key -> address of the record's section
    """

    files: dict[str, str]
    links: dict[str, str]


class Section(NamedTuple):
    """One record, the number of its answers, and its HTML; the record itself is without answers."""

    record: Record
    answers: int
    html: Markup

    @property
    def task(self) -> str:
        return task_name(self.record)


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

    name         file of the first part; the others are numbered
    folder       address of the parts' folder, as seen from the leaderboard: 'all/', '' for the same folder
    leaderboard  address of the page that shows the scores, '' for none
    command      that made the page, for its foot
    part_bytes   size after which a part ends
    """
    parts = list(_parts(sorted(map(_section, records), key=_order), part_bytes)) or [[]]
    path = PurePath(name)
    names = [name, *(f"{path.stem}-{number}{path.suffix}" for number in range(2, len(parts) + 1))]
    listed = [
        {"href": quote(file), "records": len(part), "answers": sum(each.answers for each in part), "of": _range(part)}
        for file, part in zip(names, parts, strict=True)
    ]
    files, links, seen = {}, {}, Counter[str]()
    for number, (file, part) in enumerate(zip(names, parts, strict=True)):
        ids = []
        for section in part:
            key = cell_key(section.record)
            seen[key] += 1
            again = f"-{seen[key]}" if seen[key] > 1 else ""  # several records of one cell
            ids.append(f"a-{key[:16]}{again}")
            links[key] = f"{folder}{quote(file)}#{ids[-1]}"
        files[file] = render(
            "answers.html.j2", script="answers.js", title=title, parts=listed, number=number,
            sections=list(zip(ids, part, strict=True)), tasks=list(dict.fromkeys(each.task for each in part)),
            lengths=sorted({each.record.length for each in part}),
            models=sorted({each.record.model for each in part}, key=natural), leaderboard=leaderboard, command=command,
        )  # fmt: skip
    return Written(files, links)


def _order(section: Section) -> tuple[Any, ...]:
    record = section.record
    return (
        record.task, natural(record.subset), record.length, natural(record.model), record.seed, record.ended or "",
    )  # fmt: skip


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


def _range(part: Sequence[Section]) -> str:
    """'babilong:qa1 at 0 to babilong:qa3 at 16K'"""
    ends = [f"{each.task} at {format_length(each.record.length)}" for each in (*part[:1], *part[-1:])]
    return " to ".join(dict.fromkeys(ends))


def _section(record: Record) -> Section:
    found, task, length = summary(record), task_name(record), format_length(record.length)
    far = any("distance" in answer for answer in record.answers)
    ended = record.status if record.status != "ok" else outcome(record)
    html = render(
        "record.html.j2", each=found, facts=facts, scores=scores, show=_show(record, task),
        columns=["index", "verdict", *["tokens since the fact"] * far, "question", "right answer", "answer"],
        rows=Markup("\n".join(_row(answer, record.headline, far) for answer in record.answers)),
        summary=f"{clip(task, 120)} at {length}, {clip(record.model, 120)}, seed {record.seed}: {ended}",
    )  # fmt: skip
    return Section(found.record, len(record.answers), Markup(html))


def _show(record: Record, task: str) -> str:
    """The command that shows the text around a question."""
    chosen = ["--task", task, "--len", format_length(record.length), "--model", record.model]
    chosen += ["--seed", str(record.seed), "--samples", str(record.samples)]
    chosen += ["--weights", record.weights_hash[:8]] if record.weights_hash else []
    return f"atlas-bench show RECORDS INDEX {shlex.join(chosen)}"


def _row(answer: Mapping[str, Any], headline: str | None, far: bool) -> str:
    """A row of the table, without end tags: HTML needs none, and a page has a hundred thousand cells."""
    kind, verdict = _verdict(answer, headline)
    others = [
        f"{name}: {_word(score)}"
        for name, score in answer["correct"].items()
        if name != headline and score != answer["correct"].get(headline)
    ]
    text = answer["answer"] if "failed" not in answer else f"not answered: {answer['failed']}"
    texts = [answer["question"], " | ".join(map(str, answer["targets"])), text]
    index, verdict, *cells = map(
        _escaped, [str(answer["index"]), verdict, *[str(answer.get("distance", ""))] * far, *texts]
    )
    small = f"<small>{_escaped(', '.join(others))}</small>" if others else ""
    return f"<tr class={kind}><td>{index}<td>{verdict}{small}<td>{'<td>'.join(cells)}"


def _escaped(text: str) -> str:
    return escape(clean(clip(text, TEXT_CHARS)), quote=False)


def _verdict(answer: Mapping[str, Any], headline: str | None) -> tuple[str, str]:
    """(class, words) of a row; a partly right answer has the class 'wrong', as in a report's examples."""
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
