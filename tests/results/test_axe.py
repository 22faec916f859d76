"""The pages as axe-core judges them: contrast, names, roles, keyboard. Runs where axe-core is there.

pip install --no-deps axe-playwright-python     # brings axe.min.js (MPL-2.0), and nothing else of it is used
"""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import pytest

from atlas_bench.comparison.changes import changes
from atlas_bench.comparison.page import changes_html
from atlas_bench.results import report, store
from tests.results.chromium import Browser, find
from tests.results.pages import ROOT, hostile_records

PACKAGES = ("axe_playwright_python", "axe_core_python")
ASK = """
axe.run(document, {resultTypes: ["violations"]}).then(found => JSON.stringify(found.violations.map(
    each => [each.id, each.help, each.nodes.map(node => node.html.slice(0, 200)).slice(0, 3)])))
"""


def axe() -> Path | None:
    """axe.min.js: where ATLAS_BENCH_AXE says, or in an installed package."""
    if "ATLAS_BENCH_AXE" in os.environ:
        return Path(os.environ["ATLAS_BENCH_AXE"])
    specs = filter(None, map(importlib.util.find_spec, PACKAGES))
    return next((Path(spec.origin).with_name("axe.min.js") for spec in specs), None)


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find() is None, reason="no Chromium"),
    pytest.mark.skipif(axe() is None, reason="no axe-core: pip install --no-deps axe-playwright-python"),
]


@pytest.fixture(scope="module")
def browser():
    with Browser(find()) as running:
        yield running


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Every kind of page: leaderboards with and without answers, their answers, changes."""
    folder = tmp_path_factory.mktemp("axe")
    retention = ROOT / "results" / "retention.jsonl"
    few = [record for record in store.read(retention)[0] if record.samples < 50]
    made = {folder / "alone.html": report.main(retention, form="html")}
    text, parts = report.with_answers(few, folder / "answers.html", leaderboard=folder / "board.html", form="html")
    made |= {folder / "board.html": text, **parts}
    made[folder / "changes.html"] = changes_html(changes([retention], [retention]))
    for path, html in made.items():
        path.write_text(html, encoding="utf-8")
    return folder


def violations(tab) -> list:
    tab.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    tab.evaluate(axe().read_text(encoding="utf-8") + ";null")
    return json.loads(tab.evaluate(ASK))


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", ["alone", "board", "answers", "changes"])
def test_axe_finds_nothing(browser, files, name, width, dark):
    assert violations(browser.open(files / f"{name}.html", width=width, dark=dark)) == []


def test_axe_would_tell(browser, tmp_path):
    file = tmp_path / "bad.html"
    file.write_text('<!doctype html><title>x</title><input><p style="color: #ccc; background: #fff">faint</p>')
    assert {"label", "color-contrast", "html-has-lang"} <= {id for id, *_ in violations(browser.open(file))}


def test_axe_finds_nothing_where_texts_mean_harm(browser, make, tmp_path):
    file = tmp_path / "hostile.html"
    _, pages = report.with_answers(hostile_records(make)[:3], file, leaderboard=None)
    file.write_text(pages[file], encoding="utf-8")
    assert violations(browser.open(file)) == []
