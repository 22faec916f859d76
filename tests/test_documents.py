"""What the documents show, done literally: a memory and a task in a copy of the tree, and every example in Python."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from atlas_bench.results import leaderboard as frame

ROOT = Path(__file__).parents[1]
COPIED = ("atlas_bench", "benchmarks", "docs", "examples", "results", "studies", "tests", "README.md", "pyproject.toml")


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """The tree with what docs/add-a-memory.md and docs/add-a-task.md show, in files and rows as they say."""
    tree = tmp_path_factory.mktemp("tree")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, tree / name)
    for page, folder, table in (("memory", "models/memory", "MEMORIES"), ("task", "tasks", "TASKS")):
        text = (ROOT / "docs" / f"add-a-{page}.md").read_text()
        code = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
        words = " ".join(text.split())
        (row,) = re.findall(rf"`{table}` in `atlas_bench/registry.py` gets a row, `(.*?)`", words)
        file = row.split(":")[1].strip(' "').rpartition(".")[2]  # the module that the row names
        last = "".join(f"\n\n{line}\n" for line in re.findall(r"`(PASSKEY = PassKey\(\))`", text))
        (tree / "atlas_bench" / folder / f"{file}.py").write_text(code + last)
        registry = tree / "atlas_bench" / "registry.py"
        with_row = re.compile(rf"^{table} = {{\n(.*?)^}}", re.MULTILINE | re.DOTALL)
        registry.write_text(with_row.sub(rf"{table} = {{\n\1    {row},\n}}", registry.read_text()))
    return tree


def call(tree: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(tree)}
    return subprocess.run([sys.executable, *words], cwd=tree, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_the_page_on_python_runs_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs" / "python.md").read_text()
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(code, names)
    assert {row["model"]: row["status"] for row in names["compared"]["rows"]} == dict.fromkeys(
        ("gated-deltanet-nano", "last-place"), "ok"
    )
    assert [record.status for record in names["records"]] == ["ok"] and Path("board.csv").exists()
    said = capsys.readouterr()
    assert "warning" not in said.err and "mine" in said.out


def test_the_page_on_python_has_every_column():
    kinds = {frame.TEXT: "text", frame.COUNT: "whole number", frame.NUMBER: "number", frame.FLAG: "yes or no"}
    rows = [f"| `{name}` | {kinds[each.dtype]} | {each.meaning} |" for name, each in frame.COLUMNS.items()]
    assert "\n".join(rows) in (ROOT / "docs" / "python.md").read_text()


def test_both_are_there_by_name(copy):
    done = call(copy, "-m", "atlas_bench", "list")
    assert done.returncode == 0 and "\nmy-memory\t" in done.stdout and "\npasskey\t" in done.stdout, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("options", ["", ":printed=true"])
def test_the_rule_that_is_linear_in_a_matrix_keeps_every_contract(tmp_path, options):
    page = (ROOT / "docs" / "add-a-memory.md").read_text()
    _, code = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "linear.py").write_text(code)
    done = call(ROOT, "-m", "atlas_bench", "verify", f"{tmp_path / 'linear.py'}{options}")
    assert done.returncode == 0 and "closed form     ok" in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        [
            "tests/contracts/test_memories.py",
            "tests/models/test_lm.py",
            "tests/models/test_sizes.py",
            "-k",
            "my-memory",
        ],
        ["tests/contracts/test_tasks.py", "-k", "passkey or golden or import or made_when or too_many"],
        ["tests/cli/test_describe.py", "-k", "listing or my-memory or passkey or equation"],
        ["tests/test_imports.py", "-k", "my_memory or my_task or controls"],
    ],
    ids=lambda words: words[0],
)
def test_the_contracts_hold_with_a_memory_and_a_task_added_by_the_documents(copy, words):
    done = call(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words)
    assert done.returncode == 0 and " failed" not in done.stdout, done.stdout[-3000:]
