"""What the README and the documents show is there and runs: Python examples, files and headings that links name."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from atlas_bench import registry
from atlas_bench.cli.app import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LINES = 100  # of the README at most


def headings(page: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_readme_is_short_and_its_example_runs(tmp_path, monkeypatch, capsys):
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.splitlines()) <= LINES
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(code, names)
    assert [record.status for record in names["records"]] == ["ok"]
    assert set(names["table"].n) == {5} and "babilong" in capsys.readouterr().out


def test_the_readme_names_every_task_and_memory():
    text = (ROOT / "README.md").read_text("utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    named = [set(re.findall(r"`([^`]+)`", line.split("|")[1])) for line in rows]
    tasks, memories = set(registry.TASKS), set(registry.MEMORIES) - {"none"}
    assert set().union(*named) - {"lm-eval:NAME", "./my_task.py"} == tasks | memories


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if target.startswith(("http:", "https:")):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in headings(file), f"{page.name} links to {target}"


def test_every_page_is_linked():
    linked = {
        target.partition("#")[0].rpartition("/")[2]
        for page in PAGES
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8"))
    }
    assert {page.name for page in PAGES if page.parent == ROOT / "docs"} <= linked


def commands() -> list[str]:
    """Every `atlas-bench run` of the README, without its comment."""
    text = (ROOT / "README.md").read_text("utf-8")
    return [line.partition(" #")[0].strip() for line in re.findall(r"^    atlas-bench (run .*)$", text, re.MULTILINE)]


@pytest.mark.slow
@pytest.mark.parametrize("command", commands())
def test_what_the_readme_runs_is_accepted(command, tmp_path):
    """With a control in the model's place: nothing about the command is refused."""
    words = shlex.split(command)
    if "--model" in words:
        words[words.index("--model") + 1] = "oracle"
    options = [*({"--dry-run"} - set(words)), "--out", str(tmp_path / "runs")]
    options += [] if "--samples" in words else ["--samples", "1"]
    done = CliRunner().invoke(app, [*words, *options])
    assert done.exit_code == 0, done.stderr
