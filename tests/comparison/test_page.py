"""Comparisons and changes as pages: every number is there, a drawing says what the numbers say, nothing is obeyed."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_bench.comparison.changes import changes
from atlas_bench.comparison.page import changes_html, comparison_html, place, reach
from atlas_bench.comparison.paired import compare
from atlas_bench.results import store
from atlas_bench.results.record import Record
from atlas_bench.units import format_count
from tests.comparison.test_changes import cell, found, lost
from tests.results import chromium

RESULTS = Path(__file__).parents[2] / "results"
HOSTILE = '<script>alert(1)</script>"\x1b[31m\u202e\ud800' + "x" * 10_000
VOID = {"meta", "br", "input", "circle", "path"}


class Words(HTMLParser):
    """The words of a page as they are read, and the tags that hold them; raises where tags do not close in turn."""

    def __init__(self, html: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words += data.split()

    @property
    def text(self) -> str:
        return " ".join(self.words)


@pytest.fixture(scope="module")
def comparison():
    return compare(store.read_all(RESULTS / "compare" / "mqar.jsonl")[0])


@pytest.fixture(scope="module")
def changed():
    """A set of every verdict, one cell only in each, and hostile names and reasons."""
    right, half = [True] * 12, [True, False] * 6
    pairs = [
        (cell(right), cell([False] * 12)),
        (cell([False] * 12), cell(right)),
        (cell(right), cell(right, plan_hash=HOSTILE)),
        (cell(right), lost("oom", HOSTILE, samples=12)),
        (cell(half), cell(half, weights_hash="feed")),
        (lost("failed", "no luck"), lost("failed", HOSTILE)),
    ]
    sides = (
        [Record(**{**vars(pair[i]), "seed": seed, "model": HOSTILE}) for seed, pair in enumerate(pairs)]
        for i in range(2)
    )
    old, new = sides
    return found([*old, cell(right, model="before")], [*new, cell(right, length=4_000_000, model="after")])


def test_every_number_of_a_comparison_is_on_its_page(comparison):
    text = Words(comparison_html(comparison)).text.replace("−", "-")
    for row in comparison["rows"]:
        assert f"{100 * row['accuracy']:.1f} {100 * row['low']:.1f}–{100 * row['high']:.1f}, n={row['n']}" in text
        if versus := row["versus"]:
            points = [f"{100 * versus[part]:+.1f}" for part in ("difference", "low", "high")]
            p = f"{versus['p_holm']:.3f}" if versus["p_holm"] >= 0.001 else "<.001"
            assert f"{points[0]} {points[1]} to {points[2]} ▼ {versus['verdict']} p {p}" in text
    for cost in comparison["costs"]:
        assert f"{cost['parameters']:,}" in text and f"{cost['training_tokens']:,}" in text
        assert format_count(cost["tokens_per_second"]) in text
    assert all(warning in text for warning in comparison["warnings"]) and "25 contexts" in text
    assert "mqar/exact version 1" in text and "Holm-corrected over 10 comparisons" in text and "chance 0.2 %" in text


def test_every_change_is_on_its_page(changed):
    text = Words(changes_html(changed)).text
    for title in ("▼ worse (1)", "▲ better (1)", "not comparable (1)", "other status (1)", "not separable (1)"):
        assert title in text
    assert "100.0 75.8–100.0, n=12 0.0 0.0–24.2, n=12" in text and "−100.0 −100.0 to −100.0 0.001" in text
    assert "babilong:qa1, before, seed 0, samples 12: 16K" in text
    assert "babilong:qa1, after, seed 0, samples 12: 4M" in text
    assert "ok → oom" in text and "12 right → wrong" in text and "other weights; no other answer" in text


def test_only_what_is_told_apart_has_a_colour(comparison, changed):
    rows = [tag for tag in Words(comparison_html(comparison)).tags if tag[0] == "tr"]
    coloured = [attrs["class"] for _, attrs in rows if attrs.get("class") in ("better", "worse")]
    verdicts = [row["versus"]["verdict"] for row in comparison["rows"] if row["versus"]]
    assert coloured == [verdict for verdict in verdicts if verdict in ("better", "worse")] != []
    html = changes_html(changed)
    assert len(re.findall('<tr class="better">', html)) == len(re.findall('<tr class="worse">', html)) == 1


def test_a_baseline_a_failure_and_a_metric_have_words_and_no_drawing():
    loss = cell(
        [], headline=None, scores={}, scorer_version={}, task="loss", subset="", metrics={"nats_per_token": 3.4123}
    )
    records = [cell([True] * 2), lost("timeout", "after 10 s", model="b"), loss]
    html = comparison_html(compare(records, ["atlas", "b"]))
    text = Words(html).text
    assert "n=2 baseline" in text and "timeout : ok → timeout. after 10 s" in text and "nats_per_token 3.412" in text
    assert 'class="bar"' not in html
    assert "Costs" in Words(comparison_html(compare([]))).text


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0, 1))
def test_a_drawing_is_true(mean, below, above):
    """The dot lies in its interval, on the side of zero that the sign says, and nothing leaves the drawing."""
    low, high = max(-1.0, mean - below), min(1.0, mean + above)
    versus = {"difference": mean, "low": low, "high": high, "p": 0.5, "p_holm": 0.5, "verdict": "not separable"}
    points = reach([versus, None, {"note": "not comparable"}])
    bar = {"at": place(mean, points), "low": place(low, points), "high": place(high, points)}
    assert 0 < bar["low"] <= bar["at"] <= bar["high"] < 160
    assert (bar["at"] - 80) * mean >= 0
    assert bar["at"] - 80 == pytest.approx(100 * mean / points * 74, abs=0.06)


def test_drawings_have_a_text_and_stay_svg(comparison):
    drawings = re.findall(r"<svg.*?</svg>", comparison_html(comparison), re.DOTALL)
    titles = [ElementTree.fromstring(drawing).findtext("title") for drawing in drawings]
    assert len(titles) == 1 + comparison["comparisons"]
    assert titles[0] == "From −100 to +100 points" and re.fullmatch(r"−8.* points, 95 % interval −.* to −.*", titles[1])


def test_what_records_say_is_shown_and_not_obeyed(changed):
    records = [cell([True] * 6, model=HOSTILE), cell([False] * 6, model="b" + HOSTILE), lost("oom", HOSTILE, model="c")]
    comparison = compare(records)
    comparison["training"] = HOSTILE
    for html in (comparison_html(comparison), changes_html(changed)):
        page = Words(html)
        assert "script" not in [tag for tag, _ in page.tags] and "<script>alert(1)</script>" in page.text
        assert html.encode() and not set(html) & {"\x1b", "\u202e", "\ud800"} and "\\u202e" in html
        assert not [
            name for _, attrs in page.tags for name in attrs if name.startswith("on") or name in ("src", "href")
        ]
        assert len(html) < 60_000


@pytest.fixture(scope="module")
def browser():
    path = chromium.find()
    if path is None:
        pytest.skip("no Chromium here")
    with chromium.Browser(path) as running:
        yield running


@pytest.mark.parametrize(
    "how",
    [{"width": 1280}, {"width": 390}, {"width": 390, "dark": True, "scripts": False}, {"media": "print", "width": 700}],
)
def test_pages_fit_any_window_and_ask_for_nothing(browser, comparison, changed, tmp_path, how):
    for name, html in (("compare", comparison_html(comparison)), ("changes", changes_html(changed))):
        path = tmp_path / f"{name}.html"
        path.write_text(html, encoding="utf-8")
        page = browser.open(path, **how)
        assert page.overflow() <= 0
        assert (page.troubles, page.dialogs, page.requests) == ([], [], [path.as_uri()])


def test_the_page_of_two_committed_sets_says_what_their_text_says():
    """bf16 products answer as fp32 does, question by question."""
    products = changes(RESULTS / "products" / "fp32.jsonl", RESULTS / "products" / "bf16.jsonl")
    text = Words(changes_html(products)).text
    assert "4 cells in both: 0 worse, 0 better, 4 identical" in text and "products fp32 → bf16 (4 cells)" in text
