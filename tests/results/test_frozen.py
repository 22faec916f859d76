"""Every form of `report` has the numbers of the committed records, and they are those frozen in frozen/*.csv.

frozen/files.csv says how many lines of each file the numbers were made from: files are append-only, so records that are
added later change nothing here.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter, defaultdict
from html.parser import HTMLParser
from pathlib import Path

import pytest

from atlas_bench.results import report, store
from atlas_bench.units import format_length

ROOT = Path(__file__).parents[2]
FROZEN = Path(__file__).parent / "frozen"

Place = tuple[int, str, str]  # panel, model, length as it is written


def frozen(name: str) -> list[dict[str, str]]:
    with open(FROZEN / f"{name}.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def made():
    """Form -> the report of the records that were frozen."""
    lines = {row["file"]: int(row["lines"]) for row in frozen("files")}
    found = [record for name, count in lines.items() for record in store.read(ROOT / name)[0][:count]]
    assert len(found) == sum(lines.values())
    return {form: report.main(found, form=form) for form in report.FORMS}


def numbers(text: str) -> list[str]:
    return re.findall(r"\d+(?:\.\d+)?", text)


def expected() -> dict[Place, tuple[str, ...]]:
    """Per cent, ends of the interval and n of every cell that has a score."""
    return {
        (int(cell["panel"]), cell["model"], format_length(int(cell["length"]))): (
            cell["percent"], cell["low"], cell["high"], cell["n"],
        )
        for cell in frozen("cells") if cell["percent"]
    }  # fmt: skip


def scored(tables: list[list[list[str]]]) -> dict[Place, tuple[str, ...]]:
    """The same of tables: heads, then rows; the second column names the model."""
    return {
        (panel, row[1], head): tuple(numbers(text)[:4])
        for panel, (heads, *rows) in enumerate(tables)
        for row in rows
        for head, text in list(zip(heads, row, strict=True))[3:]
        if len(numbers(text)) >= 4
    }


def standing(tables: list[list[list[str]]]) -> dict[tuple[int, str], tuple[str, str]]:
    """(panel, model) -> rank and effective length of such tables."""
    return {
        (panel, row[1]): (row[0], re.sub("none|-", "", row[2]))
        for panel, (_, *rows) in enumerate(tables)
        for row in rows
    }


def expected_standing() -> dict[tuple[int, str], tuple[str, str]]:
    return {
        (int(cell["panel"]), cell["model"]): (cell["rank"], cell["effective"].strip("-")) for cell in frozen("cells")
    }


def breakdowns(few: bool = False) -> dict[tuple[str, str, str], str]:
    """(title, row, column) -> text; few: also of tables with fewer than 5 answers in every cell."""
    found = {(cell["title"], cell["row"], cell["column"]): cell["text"] for cell in frozen("breakdowns")}
    told = {place: text for place, text in found.items() if not re.search(r"n = ([1-4] to )?[1-4] a cell", place[0])}
    assert 0 < len(told) < len(found)
    return found if few else told


def cells_of(titled: list[tuple[str, list[list[str]]]]) -> dict[tuple[str, str, str], str]:
    """The same of (title, heads and rows)."""
    return {
        (title, row[0], head): text
        for title, (heads, *rows) in titled
        for row in rows
        for head, text in list(zip(heads, row, strict=True))[1:]
        if text
    }


# Markdown and LaTeX


def plain(markdown: str) -> str:
    text = re.sub(r"\\(.)", r"\1", markdown).replace("&#8203;", "")
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&").strip()


def markdown_tables(text: str) -> list[tuple[str, list[list[str]]]]:
    """(heading above it, heads and rows) of every table."""
    found, heading = [], ""
    for block in text.split("\n\n"):
        if block.startswith("#"):
            heading = plain(block.lstrip("# "))
        elif block.startswith("|"):
            head, _, *rows = block.splitlines()
            cells = [[plain(cell) for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in (head, *rows)]
            found.append((heading, cells))
    return found


def test_markdown(made):
    tables = markdown_tables(made["md"])
    panels = [cells for _, cells in tables if cells[0][:2] == ["rank", "model"]]
    assert scored(panels) == expected() and standing(panels) == expected_standing()
    found = cells_of(tables)
    assert {place: found.get(place) for place in breakdowns()} == breakdowns()


def test_latex(made):
    def untex(text: str) -> str:
        text = re.sub(r"\\shortstack\[r\]|\\scriptsize|\\\\", " ", text)
        return re.sub(r"\\([{}&%$#_])", r"\1", text).strip()

    panels = []
    for block in re.findall(r"\\toprule\n(.*?)\\bottomrule", made["tex"], flags=re.DOTALL):
        lines = [line.removesuffix(r"\\") for line in block.splitlines() if " & " in line]
        cells = [[untex(cell) for cell in re.split(r"(?<!\\)&", line)] for line in lines]
        if cells[0][0] == "rank":
            panels.append(cells)
    assert scored(panels) == expected() and standing(panels) == expected_standing()


# Text


def test_text(made):
    """Every number stands in its panel as often as it should: names may stand on lines of their own."""
    body = made["text"].split("\n- - -")[0]
    panels = [part for part in re.split(r"\n\n(?=[^\s\d][^\n]*\n  task version )", body) if "\n  task version " in part]
    wanted: dict[int, list[str]] = defaultdict(list)
    for (panel, _, _), (percent, low, high, n) in expected().items():
        wanted[panel] += [percent, f"{low}-{high}", f"n{n}"]
    assert len(panels) == len({cell["panel"] for cell in frozen("cells")})
    for number, part in enumerate(panels):
        table = part.split("\n\n", 1)[1].split("% by ")[0].split("Cells:")[0]
        found = Counter(re.findall(r"(?<=\s)(?:\d+\.\d|\d+-\d+|n\d+)(?=[*!#^?]*(?:\s|$))", table))
        missing, more = Counter(wanted[number]) - found, found - Counter(wanted[number])
        assert not missing, part.splitlines()[0]
        assert not [text for text in more if "." not in text], part.splitlines()[0]  # other columns have decimals
    flat = " ".join(body.split())
    for (title, _, _), value in breakdowns().items():
        assert title in flat and value in flat


# Data


def reference(row: dict[str, str]) -> tuple[str, ...]:
    """What tells one of others' numbers from another."""
    return tuple(row[name] for name in ("kind", "task", "subset", "model", "length"))


def test_csv(made):
    """Measured rows in their order; of others' numbers those that were there, since more are added."""
    kinds: dict[bool, list[dict[str, str]]] = {True: [], False: []}
    for row in csv.DictReader(io.StringIO(made["csv"])):
        kinds[row["kind"] == "measured"].append(row)
    theirs = defaultdict(list)  # two tables may have a number each of one model and length
    for row in kinds[False]:
        theirs[reference(row)].append(row)
    measured = [row for row in frozen("records") if row["kind"] == "measured"]
    assert len(kinds[True]) == len(measured)
    pairs = [*zip(kinds[True], measured, strict=True)]
    pairs += [(theirs[reference(row)].pop(0), row) for row in frozen("records") if row["kind"] != "measured"]
    for row, before in pairs:
        for name, value in before.items():
            try:
                assert float(row[name]) == pytest.approx(float(value), abs=1e-6), (name, before)
            except ValueError:
                assert row[name] == value, (name, before)


def test_json(made):
    told = json.loads(made["json"])
    found, standing = {}, {}
    for number, panel in enumerate(told["panels"]):
        for row in panel["rows"]:
            effective = row["effective_length"]
            shown = "" if effective is None else format_length(effective)
            standing[number, row["model"]] = ("" if row["rank"] is None else str(row["rank"]), shown)
            for cell in row["cells"]:
                if cell["n"]:
                    shares = (100 * cell["low"], 100 * cell["high"])
                    found[number, row["model"], format_length(cell["length"])] = (
                        f"{100 * cell['accuracy']:.1f}", *(f"{share:.0f}" for share in shares), str(cell["n"]),
                    )  # fmt: skip
    assert found == expected() and standing == expected_standing()
    grids = {
        (grid["title"], cell["row"], cell["column"]): cell["text"] for grid in told["grids"] for cell in grid["cells"]
    }
    assert {place: grids.get(place) for place in breakdowns(few=True)} == breakdowns(few=True)


# The page


class Tables(HTMLParser):
    """The tables of a page: class, caption, heads and rows, as texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str, list[list[str]]]] = []
        self.into: list[str] | None = None
        self.skip = 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag == "table":
            self.found.append((dict(attributes).get("class") or "", "", []))
        elif tag == "caption":
            self.into = [""]
        elif tag == "tr" and self.found:
            self.found[-1][2].append([])
        elif tag in ("td", "th") and self.found:
            self.found[-1][2][-1].append("")
            self.into = self.found[-1][2][-1]
        elif tag in ("small", "br") and self.into:
            self.into[-1] += " "

    def handle_endtag(self, tag):
        if tag == "caption":
            look, _, rows = self.found[-1]
            self.found[-1] = (look, " ".join(self.into[0].split()), rows)
        if tag in ("caption", "table"):
            self.into = None

    def handle_data(self, text):
        if self.into:
            self.into[-1] += text


def test_html(made):
    text = re.sub(r"<script\b.*?</script>", "", made["html"], flags=re.DOTALL)
    panels, titled = [], []
    for look, caption, rows in Tables(text).found:
        rows = [[" ".join(cell.split()) for cell in row] for row in rows]
        if "heat" not in look.split():
            continue
        if rows[0][0] == "rank":
            own = [row for row in rows if len(row) == len(rows[0]) and not re.search("(quoted|derived), ", row[1])]
            panels.append(own)
        else:
            titled.append((re.sub(r"; chance.*", "", caption), rows))
    assert scored(panels) == expected() and standing(panels) == expected_standing()
    found = cells_of(titled)
    assert {place: found.get(place) for place in breakdowns()} == breakdowns()
