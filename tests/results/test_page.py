"""The leaderboard page: complete, harmless, small, readable in both modes."""

from __future__ import annotations

import dataclasses
import html
import re
import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atlas_bench.results import html as page
from atlas_bench.results import labels, store
from atlas_bench.results.html import build, chart
from atlas_bench.results.html.build import STEPS, step
from atlas_bench.results.html.facts import GROUPS
from atlas_bench.results.leaderboard import headed
from atlas_bench.results.record import Record, answer_row
from atlas_bench.results.reference import CAVEAT
from atlas_bench.units import format_length
from tests.records import NOTED
from tests.results.pages import ATTACK, NASTY, ROOT, board_of, embedded, hostile, unscripted

CSS = (ROOT / "atlas_bench/results/html/style.css").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def committed() -> str:
    """The page of the committed records of the embedded models."""
    return page.leaderboard(embedded(), published=True)


def detail(text: str, panel: int, row: int, length: int) -> str:
    """The text of a cell's detail, without tags."""
    found = text.split(f'id="p{panel}-{row}-{length}"', 1)[1].split("</details>", 1)[0]
    return html.unescape(re.sub(r"<[^>]*>", "", found))


def cells(text: str) -> list[str]:
    """The table cells of the page's heat maps, tags removed, measured rows alone."""
    tables = re.findall(r'<table class="heat sortable">.*?</table>', text, flags=re.DOTALL)
    rows = [row for table in tables for row in table.split('<tbody class="published">')[0].split("<td")[1:]]
    return [re.sub(r"<[^>]*>", " ", "<td" + row).strip() for row in rows]


# Colour


@given(st.floats(0, 0.99), st.floats(0, 1), st.floats(0, 1))
def test_the_ramp_is_anchored_at_chance(chance, a, b):
    assert step(chance, chance) == step(chance * a, chance) == 0
    assert step(1.0, chance) == STEPS
    low, high = sorted((a, b))
    assert 0 <= step(low, chance) <= step(high, chance) <= STEPS


def test_the_smallest_lead_over_chance_is_not_neutral():
    assert step(0.26, 0.25) == 1
    assert step(0.5, None) == STEPS / 2


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = (int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4))
    linear = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_every_text_can_be_read(mode):
    blocks = re.findall(r":root \{(.*?)\}", CSS, flags=re.DOTALL)
    colours = dict(re.findall(r"--(\w+): (#\w+)", blocks[["light", "dark"].index(mode)]))
    for i in range(STEPS + 1):
        assert contrast(colours[f"h{i}"], colours[f"t{i}"]) >= 4.5, i
    for text in ("ink", "soft", "accent"):
        assert contrast(colours[text], colours["paper"]) >= 4.5, text
    for i in range(chart.COLOURS):
        assert contrast(colours[f"s{i}"], colours["paper"]) >= 4.5, i  # more than the 3 that marks need
    steps = [luminance(colours[f"h{i}"]) for i in range(1, STEPS + 1)]
    assert steps == sorted(steps, reverse=mode == "light")


# Everything is there


numbers = st.fixed_dictionaries(
    {
        "seconds": st.floats(0.001, 1e6),
        "tokens_per_second": st.floats(0.1, 1e7),
        "state_bytes": st.integers(1, 10**12),
        "peak_rss_bytes": st.integers(1, 10**12),
        "parameters": st.integers(1, 10**12),
        "training_tokens": st.integers(1, 10**12),
        "tokens_read": st.integers(1, 10**12),
        "block": st.integers(1, 10**6),
        "batch": st.integers(1, 10**4),
        "chunk_size": st.integers(1, 10**4),
    }
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(numbers, st.integers(1, 10**6), st.floats(0, 1), st.floats(-100, 100))
def test_every_number_of_a_record_is_on_the_page(make, facts, n, share, metric):
    score = {"correct": round(n * share), "n": n}
    record = make(scores={"babilong/official": score}, metrics={"nats": metric}, answers=[], **facts)
    text = page.leaderboard(board_of([record]), published=False)
    said = detail(text, 0, 0, record.length)
    for name, value in facts.items():
        assert f"{name.replace('_', ' ')} {value}" in said
    assert f"{score['correct']}/{n} right" in said
    assert f"nats {metric}" in said
    shown = cells(text)[len(headed()) - 1]  # behind the columns; the model is a th
    assert f"{100 * score['correct'] / n:.1f}" in shown and f"n={n}" in shown


def test_every_field_of_a_record_has_its_place():
    told = {name for names in GROUPS.values() for name in names}
    elsewhere = {"task", "subset", "length", "model", "status"}  # the panel, the row, the column, the cell
    elsewhere |= {"scores", "scorer_version", "headline", "chance", "reason", "command", "answers"}  # of a part
    assert told | elsewhere == {field.name for field in dataclasses.fields(Record)}
    assert not told & elsewhere


def test_the_page_of_all_committed_records_is_small(committed):
    assert len(committed.encode()) < 500_000


@pytest.mark.parametrize("name", ["babilong.jsonl", "five.jsonl", "retention.jsonl"])
def test_the_committed_records_of_a_file_are_all_there(name):
    board = board_of(store.read(ROOT / "results" / name)[0])
    text = page.leaderboard(board, published=False)
    assert "left out" not in text
    for i, panel in enumerate(board.panels):
        for j, row in enumerate(panel.rows):
            for length, cell in row.cells.items():
                said = detail(text, i, j, length)
                for each in (*cell.counted, *cell.without):
                    record = each.record
                    for name in ("seconds", "tokens_per_second", "state_bytes", "peak_rss_bytes", "tokens_read"):
                        value = getattr(record, name)
                        assert value is None or f"{name.replace('_', ' ')} {value}" in said
                    for score in record.scores.values():
                        assert f"{score['correct']}/{score['n']}" in said
                    assert record.command in said and record.started in said


def test_a_record_that_counts_in_no_cell_is_told(make):
    few = make(samples=1, scores={"babilong/official": {"correct": 1, "n": 1}}, seconds=77.125)
    text = page.leaderboard(board_of([few, make()]), published=False)
    assert "count in no cell" in text
    assert "seconds 77.125" in text


def test_seeds_are_told_one_by_one_and_what_they_share_once(make):
    text = page.leaderboard(board_of([make(seed=0), make(seed=1, seconds=2.5)]), published=False)
    said = detail(text, 0, 0, 10_000_000)
    assert "seed 0: ok" in said and "seed 1: ok" in said and "seconds 2.5" in said
    assert "tokenizer key" not in said
    assert text.count("tokenizer key atlas-8k") == 1


# Statuses and marks


def test_statuses_are_words_with_marks_of_their_own(make, failed):
    words = ["oom", "timeout", "unsupported", "failed"]
    records = [make(length=500)] + [failed(word, f"because {word}", length=1000 + i) for i, word in enumerate(words)]
    text = page.leaderboard(board_of(records), published=False)
    for i, word in enumerate(words):
        assert (
            f'<td class="none {word}" data-at="{format_length(1000 + i)}"><a href="#p0-0-{1000 + i}">{word}</a>' in text
        )
        assert f"because {word}" in detail(text, 0, 0, 1000 + i)
    borders = re.findall(r"^\.(?:oom|timeout|unsupported|failed) \{ border: (\S+ \w+)", CSS, flags=re.MULTILINE)
    assert len(set(borders)) == 4


def test_a_cell_says_that_another_seed_failed_and_what_was_not_run(make, failed):
    records = [make(seed=0), failed("oom", "full", seed=1), make(model="other", length=1000)]
    found = cells(page.leaderboard(board_of(records), published=False))
    assert any("1 of 2 oom" in cell for cell in found)
    assert sum("·" in cell for cell in found) == 2


def test_shared_contexts_are_marked_and_explained(make):
    answers = [{**answer, "context": 0} for answer in make().answers]
    text = page.leaderboard(board_of([make(answers=answers)]), published=False)
    assert "n=2*" in text and "Questions share contexts, 1 in a cell" in text
    assert "share contexts" not in page.leaderboard(board_of([make()]), published=False)


@pytest.mark.parametrize(("changes", "mark"), NOTED)
def test_each_kind_of_note_is_marked_and_explained(make, changes, mark):
    text = page.leaderboard(board_of([make(**changes)]), published=False)
    assert f"n=2{mark}" in text and f"note {changes['note']}" in text
    told = {other: note.meaning in html.unescape(text) for other, note in labels.NOTES.items()}
    assert told == {other: other == mark for other in labels.NOTES}


def test_a_metric_that_is_no_score_stands_without_colour(make):
    record = make(scores={}, headline=None, metrics={"nats_per_token": 3.25}, answers=[])
    text = page.leaderboard(board_of([record]), published=False)
    assert '<td class="plain" data-at="10M"><a href="#p0-0-10000000"><bdi>nats per token 3.25</bdi></a>' in text


def test_depths_are_a_map(make):
    judged = {"headline": "n", "scores": {"n": {"correct": 5, "n": 10}}, "scorer_version": {"n": "1"}}
    answers = [
        answer_row(i, question="?", targets=["a"], answer="a", correct={"n": not i % 2}) | {"needle_depth": i % 2.0}
        for i in range(10)
    ]
    record = make(task="niah", subset="single", answers=answers, **judged)
    text = page.leaderboard(board_of([record]), published=False)
    assert "by needle depth" in text
    assert 'class="h10">100 (57-100)' in text and 'class="h0">0 (0-43)' in text


def test_losses_have_their_numbers(make):
    part = {"from": 0, "to": 512, "n": 1024, "streams": 2, "nats": 3.125, "low": 3.0, "high": 3.25, "accuracy": 0.375}
    record = make(task="loss", subset="text", scores={}, headline=None, answers=[], curve=[part])
    said = detail(page.leaderboard(board_of([record]), published=False), 0, 0, record.length)
    for number in ("n 1024", "nats 3.125", "low 3.0", "high 3.25", "accuracy 0.375"):
        assert number in said


# Published rows


def test_published_rows_stand_apart_and_can_be_left_out(make):
    board = board_of([make()])
    text = page.leaderboard(board, published=True)
    assert '<tbody class="published">' in text and html.escape(CAVEAT, quote=True).replace("&#x27;", "&#39;") in text
    assert '<input type="checkbox" id="published"' in text
    assert "ARMT 137M" in text and "Wikitext" in text
    without = page.leaderboard(board, published=False)
    assert "ARMT" not in without and "Wikitext" not in without and 'id="published"' not in without


def test_lengths_in_other_units_are_columns_of_their_own(make):
    board = board_of([make(task="ruler", subset="niah_single_1", length=length) for length in (4000, 4096)])
    head = page.leaderboard(board, published=True).split("<thead>")[1].split("<tbody>")[0]
    lengths = ["1Ki", "2Ki", "4K", "4Ki", "8Ki", "16Ki", "32Ki", "64Ki", "128Ki"]
    assert re.findall(r'<th scope="col">(\w+)', head)[-9:] == lengths


# Harmless


def test_hostile_text_is_shown_and_never_obeyed(make):
    text = unscripted(page.leaderboard(hostile(make), published=True, title=NASTY, command=NASTY), "leaderboard.js")
    assert html.escape(ATTACK) in text
    assert "<script" not in text and "<img" not in text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text)
    assert "\\u202e" in text and "\\x1b" in text and "\\ud800" in text
    assert len(text.encode()) < 500_000  # the 1 MB answer is cut
    tags = re.findall(r"<[a-z][^>]*>", text)
    assert {name for tag in tags for name in re.findall(r'\s(\w[\w:-]*)=', re.sub(r'"[^"]*"', "", tag))} <= {
        "lang", "charset", "http-equiv", "content", "name", "id", "class", "href", "scope", "colspan", "type", "role",
        "aria-label", "aria-labelledby", "tabindex", "style", "viewBox", "d", "x", "y", "width", "height", "transform",
        "clip-path", "data-at", "preserveAspectRatio", "autocomplete", "spellcheck", "aria-live",
    }  # fmt: skip
    places = re.findall(r'\shref="([^"]*)"', text)
    assert all(re.fullmatch(r"#[\w-]+|https://[\w./-]+", place) for place in places)
    styles = re.findall(r'style="([^"]*)"', text)
    assert all(re.fullmatch(r"[a-z0-9 ,.:;()-]*", style) for style in styles)


@given(st.text(st.characters(categories=["C", "L", "Z", "P"])))
def test_clean_text_can_always_be_written_and_shown(text):
    shown = page.clean(text)
    shown.encode()
    assert all(c.isprintable() or c in "\n\t" for c in shown)
    assert page.clean(shown) == shown


def test_ids_are_unique_and_links_lead_somewhere(committed):
    committed = unscripted(committed, "leaderboard.js")
    ids = re.findall(r'\sid="([^"]*)"', committed)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]*)"', committed)) <= set(ids)


def test_nothing_is_fetched_and_nothing_runs_but_its_script(committed):
    committed = unscripted(committed, "leaderboard.js")
    assert not re.search(r"\son\w+=|javascript:", committed)
    assert not re.search(r"<(script|link|iframe|object|embed|img|video|audio)\b|url\((?!#)|@import", committed)


# Small and fast enough


def test_a_board_too_large_for_its_details_keeps_its_heat_maps(make, monkeypatch):
    monkeypatch.setattr(build, "DETAILS", 159)
    board = board_of(make(model=f"model-{i}", length=1000 * 2**j) for i in range(20) for j in range(8))
    text = page.leaderboard(board, published=False)
    assert 'class="cell"' not in text and "Details of 160 cells are left out" in text
    assert sum("n=2" in cell for cell in cells(text)) == 160
    assert not re.findall(r'href="#p0-\d', text)


def test_figures_stop_at_their_share_of_the_page(make, monkeypatch):
    board = board_of(make(subset=f"qa{i}", length=length) for i in range(1, 9) for length in (1000, 2000))
    monkeypatch.setattr(build, "FIGURES", 7)
    text = page.leaderboard(board, published=False)
    assert text.count("<svg") == 7
    assert "No further figures" in text


def test_each_panel_has_its_first_figure_before_any_has_a_second(make, monkeypatch):
    models = ("atlas", "titans")
    board = board_of(
        make(subset=f"qa{i}", length=length, model=model)
        for i in range(1, 5)
        for length in (1000, 2000)
        for model in models
    )
    monkeypatch.setattr(build, "FIGURES", 6)
    text = page.leaderboard(board, published=False)
    drawn = [panel.count("<svg") for panel in text.split('<section class="panel"')[1:]]
    assert drawn == [2, 2, 1, 1]


def test_the_page_waits_for_neither_torch_nor_matplotlib():
    code = "import sys, atlas_bench.results.html; print({'torch', 'matplotlib', 'scipy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_the_same_records_make_the_same_page(make):
    records = [make(), make(length=1000), make(model="other"), make(task="loss", scores={}, metrics={"nats": 2.0})]
    records += [make(task="retention", subset="end", length=length) for length in (1000, 2000)]
    pages = {page.leaderboard(board_of(ordered), published=False) for ordered in (records, records[::-1])}
    assert len(pages) == 1


def test_no_records_make_a_page():
    assert "0 records" in page.leaderboard(board_of([]), published=False)


# Figures


@given(st.lists(st.floats(0, 300), min_size=1, max_size=20))
def test_names_never_touch_and_stay_inside(wanted):
    wanted = sorted(wanted)
    places = chart._spread(wanted, low=0, high=300)
    assert all(b - a >= chart._LINE - 1e-6 for a, b in pairwise(places))
    assert places[0] >= -1e-6 and places[-1] <= 300 + 1e-6


@given(st.lists(st.integers(0, 10), min_size=1, max_size=10, unique=True))
def test_names_with_room_stand_where_they_wish(slots):
    wanted = sorted(20.0 * slot for slot in slots)
    assert chart._spread(wanted, low=0, high=300) == wanted


def figure(*series: tuple[str, list[tuple[float, float]]], chance: float | None = None) -> chart.Figure:
    points = {name: [chart.Point(x, share, share, share) for x, share in of] for name, of in series}
    axis = chart.Axis("length", lambda x: format_length(round(x)))
    return chart.Figure("caption", [chart.Series(name, of) for name, of in points.items()], axis, chance)


def test_a_figure_takes_the_colours_of_the_page_and_has_a_title():
    drawn = figure((NASTY, [(1000, 0.5), (4000, 0.9)]), ("b", [(1000, 0.1)]), chance=0.25)
    svg = chart.chart(drawn, name="f0", title="A <title>")
    assert svg.startswith("<svg") and "<title" in svg and "A &lt;title&gt;" in svg and 'role="img"' in svg
    assert "stroke-dasharray:2 3" in svg and ">4K<" in svg
    assert not re.search(r"#[0-9a-f]{6}\b", svg)  # no colour of its own
    svg.encode()


def test_points_stand_where_their_numbers_say():
    svg = chart.chart(figure(("a", [(10, 0.0), (100, 1.0)])), name="f0", title="t")
    marks = [tuple(map(float, mark)) for mark in re.findall(r'<use href="[^"]*" x="([\d.]+)" y="([\d.]+)"', svg)]
    grid = sorted({float(y) for y in re.findall(r'<path class="rule" d="M[\d.]+ ([\d.]+)H', svg)})
    assert marks[0][1] == grid[-1] and marks[1][1] == grid[0]  # 0 % on the lowest line, 100 % on the highest
    assert marks[0][0] < marks[1][0]
