"""The page in a real browser: from a file, with and without scripts, on a screen, a phone and paper."""

from __future__ import annotations

import struct

import pytest

from atlas_bench.results import html as page
from atlas_bench.results import report, store
from atlas_bench.results.leaderboard import headed
from atlas_bench.units import format_length
from tests.marks import sweep
from tests.results import pages
from tests.results.chromium import NAMES, Browser, find

pytestmark = pytest.mark.skipif(find() is None, reason=f"no browser on PATH ({', '.join(NAMES)})")

PAPER = 1040  # px that A4 across leaves between its margins


@pytest.fixture(scope="module")
def browser():
    with Browser(find()) as running:
        yield running


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "leaderboard.html"
    path.write_text(page.leaderboard(pages.embedded(), published=True, command="atlas-bench report"), encoding="utf-8")
    return path


def quiet(tab, file):
    """Nothing was asked for but the file, nothing complained, nothing opened, nothing is too wide."""
    assert tab.requests == [file.resolve().as_uri()]
    assert tab.troubles == []
    assert tab.dialogs == []
    assert tab.overflow() <= 0


@pytest.mark.parametrize("scripts", [True, False])
def test_the_browser_would_tell(browser, tmp_path, scripts):
    file = tmp_path / "bad.html"
    file.write_text(
        '<meta name="viewport" content="width=device-width"><div style="width: 3000px">wide</div><img src="none.png">'
        "<script>window.hacked = 1; console.error('oh'); alert('hello')</script>"
    )
    tab = browser.open(file, scripts=scripts)
    assert len(tab.requests) == 2 and tab.requests[1].endswith("none.png")
    assert tab.overflow() > 1000
    assert tab.dialogs == (["hello"] if scripts else [])
    assert any("oh" in trouble for trouble in tab.troubles) == scripts
    assert tab.evaluate("window.hacked") == (1 if scripts else None)


@sweep("dark", [False, True], quick=[False])
@pytest.mark.parametrize("scripts", [True, False])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_opens(browser, file, tmp_path, width, scripts, dark):
    tab = browser.open(file, width=width, scripts=scripts, dark=dark)
    quiet(tab, file)
    picture = tab.screenshot(tmp_path / "page.png", height=2000)
    assert struct.unpack(">II", picture[16:24]) == (width, 2000)
    assert tab.evaluate("getComputedStyle(document.documentElement).backgroundColor") == (
        "rgb(20, 23, 27)" if dark else "rgb(255, 255, 255)"
    )


def test_on_a_phone_a_figure_fits_and_its_names_stand_below_it(browser, file):
    """Where the screen is wide, they stand in its margin."""
    shown = """[...document.querySelectorAll('figure')].map(figure => {
        const scroll = figure.querySelector('.scroll'), names = figure.querySelectorAll('.names li');
        const texts = [...figure.querySelectorAll('svg g + text')].map(text => text.textContent);
        return [scroll.scrollWidth - scroll.clientWidth, [...names].every(each => each.offsetHeight > 0),
            [...names].every((each, i) => each.textContent.trim().endsWith(texts[i])), names.length == texts.length];
    })"""
    for width, below in ((390, True), (1280, False)):
        found = browser.open(file, width=width).evaluate(shown)
        assert found and all(each == [0, below, True, True] for each in found), (width, found)


def test_only_the_containers_scroll(browser, file):
    tab = browser.open(file, width=390)
    wide = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth)"
    assert tab.evaluate(f"{wide}.length") > 0
    assert tab.evaluate(f"{wide}.every(e => getComputedStyle(e).overflowX == 'auto' && e.tabIndex == 0)")


@pytest.mark.parametrize("scripts", [True, False])
def test_a_link_to_a_cell_opens_its_detail(browser, file, scripts):
    seen = "document.getElementById('p0-0-16000').checkVisibility()"
    assert browser.open(file, scripts=scripts).evaluate(seen) is False
    assert browser.open(file, scripts=scripts, part="#p0-0-16000").evaluate(seen) is True


# Sorting and filtering

ROWS = (
    "[...document.querySelector('.panel tbody').rows].filter(r => !r.hidden).map(r => r.querySelector('th').innerText)"
)
PANELS = "[...document.querySelectorAll('.panel')].filter(e => e.checkVisibility())"
SEEN = f"{PANELS}.map(e => e.querySelector('h2').innerText)"


def heading(column):
    """A script's expression for a heading of the first panel."""
    return f"document.querySelector('.panel thead').querySelectorAll('th')[{column}]"


@pytest.fixture
def scored(make, failed, tmp_path):
    """A page of five models in one panel, one without a score."""

    def judged(correct):
        return {"scores": {"babilong/official": {"correct": correct, "n": 200}}, "answers": []}

    rows = [make(model=f"m{i}", **judged(correct)) for i, correct in ((1, 180), (2, 18), (10, 200), (20, 20))]
    path = tmp_path / "scores.html"
    board = pages.board_of([*rows, failed("oom", "full", model="none")])
    path.write_text(page.leaderboard(board, published=False), encoding="utf-8")
    return path


def test_headings_sort_by_mouse_and_by_keyboard(browser, scored):
    tab = browser.open(scored)
    ranked = tab.evaluate(ROWS)
    tab.evaluate(f"{heading(1)}.querySelector('button').click()")
    assert tab.evaluate(ROWS) == ["m1", "m2", "m10", "m20", "none"]
    assert tab.evaluate(f"{heading(1)}.ariaSort") == "ascending"
    tab.evaluate(f"{heading(1)}.querySelector('button').focus()")
    tab.press("Enter", "\r")
    assert tab.evaluate(ROWS) == ["none", "m20", "m10", "m2", "m1"]
    assert tab.evaluate(f"{heading(1)}.ariaSort") == "descending"
    tab.press("Tab")  # to the next heading
    assert tab.evaluate(f"document.activeElement.parentElement === {heading(2)}")
    tab.press(" ", " ")
    assert tab.evaluate("document.querySelectorAll('.panel [aria-sort]').length") == 1
    tab.evaluate(f"{heading(0)}.querySelector('button').click()")
    ranks = tab.evaluate("[...document.querySelector('.panel tbody').rows].map(r => r.cells[0].innerText)")
    assert ranks == sorted(ranks, key=lambda rank: int(rank or 99))
    assert sorted(tab.evaluate(ROWS)) == sorted(ranked)
    quiet(tab, scored)


def test_scores_are_sorted_as_numbers_with_what_has_none_last(browser, scored):
    tab = browser.open(scored)
    for wanted in (["m10", "m1", "m20", "m2", "none"], ["m2", "m20", "m1", "m10", "none"]):
        tab.evaluate(f"{heading(len(headed()))}.querySelector('button').click()")
        assert tab.evaluate(ROWS) == wanted


def test_words_filter_tasks_and_models(browser, file):
    tab = browser.open(file)
    every = tab.evaluate(SEEN)

    def typed(text):
        tab.evaluate("document.querySelector('input[type=search]').value = ''")
        tab.evaluate("document.querySelector('input[type=search]').focus()")
        tab.call("Input.insertText", text=text) if text else tab.evaluate(
            "document.querySelector('input[type=search]').dispatchEvent(new Event('input'))"
        )
        return tab.evaluate("document.querySelector('.filter output').value")

    said = typed("retention DELTANET")
    assert tab.evaluate(SEEN) == [title for title in every if "retention" in title]
    assert all("deltanet" in row for row in tab.evaluate(ROWS.replace("'.panel", "'.panel:not([hidden])")))
    rows = tab.evaluate(
        "[...document.querySelectorAll('.panel tbody tr:has(td)')].filter(e => e.checkVisibility()).length"
    )
    assert said == f"{rows} rows in 2 panels"
    assert tab.evaluate("[...document.querySelectorAll('nav li')].filter(e => e.hidden).length") == len(every) - 2
    assert typed("nobody has this name") == "0 rows in 0 panels" and tab.evaluate(SEEN) == []
    assert typed("") == "" and tab.evaluate(SEEN) == every
    quiet(tab, file)


def test_without_scripts_there_is_no_control_that_does_nothing(browser, file):
    tab = browser.open(file, scripts=False)
    assert not tab.evaluate("document.querySelectorAll('button').length")
    assert not tab.evaluate("document.querySelector('input[type=search]').checkVisibility()")


def test_the_page_opens_at_its_leaderboard(browser, file):
    top = "document.querySelector('.panel tbody tr').getBoundingClientRect().top"
    assert browser.open(file).evaluate(top) < 700
    assert browser.open(file, width=390).evaluate(top) < 844  # a phone's height


@pytest.mark.parametrize("scripts", [True, False])
def test_a_phone_s_screen_shows_a_model_and_its_scores(browser, file, scripts):
    tab = browser.open(file, width=390, scripts=scripts)
    box = "(e => { const b = e.getBoundingClientRect(); return [b.left, b.right, b.bottom - b.top] })"
    rows = tab.evaluate(f"[...document.querySelectorAll('.panel tbody:not(.published) tr')].map({box})")
    assert rows and all(left >= 0 and right <= 390 and height < 700 for left, right, height in rows)
    inside = (
        "[...document.querySelectorAll('.panel tbody:not(.published) td[data-at]')].every(e => {"
        "const row = e.parentElement.getBoundingClientRect(), own = e.getBoundingClientRect();"
        "return own.left >= row.left - 1 && own.right <= row.right + 1 && e.scrollWidth <= e.clientWidth + 1;})"
    )
    assert tab.evaluate(inside)
    label = "getComputedStyle(document.querySelector('.panel td[data-at]'), '::before').content"
    assert tab.evaluate(label) in ("attr(data-at)", '"0"', '"1K"')


# The page of all answers


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    """A leaderboard and its answers: two tasks, two models."""
    folder = tmp_path_factory.mktemp("answers")
    text, files = report.with_answers(
        pages.ROOT / "results" / "retention.jsonl", folder / "answers.html", leaderboard=folder / "board.html",
        form="html", published=False,
    )  # fmt: skip
    for path, html in {folder / "board.html": text, **files}.items():
        path.write_text(html, encoding="utf-8")
    return folder


def test_a_cell_leads_to_its_answers_and_back(browser, answered):
    tab = browser.open(answered / "board.html")
    link = tab.evaluate("document.querySelector('.heat td a').href")
    file, _, id = link.partition("#")
    assert file == (answered / "answers.html").as_uri()
    opened = browser.open(answered / "answers.html", part=f"#{id}")
    assert opened.evaluate(f"document.getElementById('{id}').open")
    assert opened.evaluate("document.querySelector('header a').href") == (answered / "board.html").as_uri()


def test_answers_are_filtered(browser, answered):
    tab = browser.open(answered / "answers.html")
    said = "document.querySelector('output').value"
    shown = "[...document.querySelectorAll('details.record')].filter(e => !e.hidden).length"
    records = store.read(pages.ROOT / "results" / "retention.jsonl")[0]
    every = sum(len(record.answers) for record in records)
    assert tab.evaluate(said) == f"{every:,} answers in {len(records)} records"

    def choose(**values):
        for name, text in values.items():
            tab.evaluate(
                f"(s => {{ s.value = [...s.options].find(o => o.text === '{text}').value;"
                f"s.dispatchEvent(new Event('change', {{bubbles: true}})) }})(document.forms[0].elements['{name}'])"
            )
        return tab.evaluate(said)

    wrong = {
        record.length: sum(not row["correct"][record.headline] for row in record.answers)
        for record in records
        if record.subset == "end"
    }
    length, count = max(wrong.items(), key=lambda item: item[1])
    said_then = choose(task="retention:end", at=format_length(length), verdict="wrong")
    assert count > 1 and said_then == f"{count} answers in 1 record"
    tab.evaluate("document.querySelector('button[name=open]').click()")
    rows = "[...document.querySelectorAll('.answers tbody tr')].filter(e => e.checkVisibility())"
    assert tab.evaluate(f"{rows}.length") == count
    assert tab.evaluate(f"{rows}.every(e => e.cells[1].innerText.startsWith('wrong'))")
    assert choose(task="all", at="all", verdict="all") == f"{every:,} answers in {len(records)} records"
    assert tab.evaluate(shown) == len(records)
    quiet(tab, answered / "answers.html")


@sweep("width, scripts", [(1280, True), (390, True), (390, False)], quick=[(1280, True)])
def test_answers_that_mean_harm_do_nothing(browser, make, tmp_path, width, scripts):
    file = tmp_path / "answers.html"
    _, files = report.with_answers(pages.hostile_records(make), file, leaderboard=None, published=False)
    assert list(files) == [file]
    file.write_text(files[file], encoding="utf-8")
    tab = browser.open(file, width=width, scripts=scripts)
    tab.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
    quiet(tab, file)
    assert tab.evaluate("window.hacked") is None
    assert tab.evaluate("document.scripts.length + document.images.length") == 1


def test_others_rows_can_be_hidden(browser, file):
    tab = browser.open(file)
    seen = "[...document.querySelectorAll('tbody.published')].map(e => e.checkVisibility())"
    assert tab.evaluate(seen) and all(tab.evaluate(seen))
    before = tab.evaluate("document.querySelector('.heat').offsetWidth")
    tab.evaluate("document.getElementById('published').click()")
    assert not any(tab.evaluate(seen))
    assert tab.evaluate("document.querySelector('.heat').offsetWidth") < before  # and their columns with them


def test_on_paper_every_detail_is_open_and_nothing_is_cut(browser, file, tmp_path):
    tab = browser.open(file, media="print", width=PAPER)
    assert tab.evaluate("[...document.querySelectorAll('.cell')].every(e => e.checkVisibility())")
    assert tab.evaluate(
        "[...document.querySelectorAll('.scroll')].every(e => getComputedStyle(e).overflow == 'visible')"
    )
    assert tab.evaluate("getComputedStyle(document.querySelector('.h10')).backgroundColor") == "rgb(8, 73, 127)"
    assert tab.overflow() <= PAPER  # up to twice its width a page is made smaller until it fits
    printed = tab.pdf(tmp_path / "page.pdf")
    assert printed.startswith(b"%PDF") and len(printed) > 100_000
    quiet_but_width = (tab.requests, tab.troubles, tab.dialogs)
    assert quiet_but_width == ([file.resolve().as_uri()], [], [])


@pytest.mark.parametrize("width", [1280, 390])
def test_hostile_text_does_nothing(browser, make, tmp_path, width):
    file = tmp_path / "hostile.html"
    board = pages.hostile(make)
    file.write_text(page.leaderboard(board, published=True, title=pages.NASTY, command=pages.NASTY), encoding="utf-8")
    tab = browser.open(file, width=width)
    tab.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
    quiet(tab, file)
    assert tab.evaluate("window.hacked") is None
    assert tab.evaluate("document.scripts.length + document.images.length") == 1  # the page's own script
    assert tab.evaluate("document.querySelectorAll('th button').length") > 0  # which ran
