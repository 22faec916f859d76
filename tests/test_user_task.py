"""A task of a user's own file: run, described, trained on and compared by its path; every mistake one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from atlas_bench import registry
from atlas_bench.errors import UserError
from atlas_bench.models import loading
from atlas_bench.results import store
from tests.command import call

EXAMPLE = Path(__file__).parents[1] / "examples" / "my_task.py"
TWO = "\n\nclass A(PassKey):\n    pass\n\n\nclass B(PassKey):\n    pass\n"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_TASK_FILES", {})
    (tmp_path / "my_task.py").write_text(EXAMPLE.read_text())
    return tmp_path


def test_the_example_is_short_and_runs_by_its_path(here):
    assert len(EXAMPLE.read_text().splitlines()) < 60
    words = ["run", "./my_task.py:changed", "--len", "1K,3K", "--model", "oracle", "--samples", "4", "-q"]
    result = call(*words)
    assert result.exit_code == 0, result.output
    records, warnings = store.read_all(here / "runs")
    assert [record.scores["passkey/current"] for record in records] == [{"correct": 4, "n": 4}] * 2 and not warnings
    assert {record.task for record in records} == {registry.name_task("my_task.py")} and "changed" in result.stdout
    again = call(*words[:-1])
    assert again.stderr.count("not run again") == 2
    (here / "my_task.py").write_text(EXAMPLE.read_text() + "# edited\n")
    assert call(*words).exit_code == 0  # another version, another task
    assert len({record.task for record in store.read_all(here / "runs")[0]}) == 2
    assert "pass key" in call("describe", "./my_task.py").stdout


@pytest.mark.slow
def test_it_is_trained_on_and_compared(here):
    (here / "books").mkdir()
    story = "The old man of the sea went down to the harbour, and it was a long way to go. "
    (here / "books" / "sea.txt").write_text(story * 300)
    words = ["compare", "gated-deltanet", "linear-attention", "--task", "./my_task.py:kept", "--len", "512"]
    result = call(*words, "--train", "1K", "--samples", "4", "--background", "books", "--json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["rows"]
    assert [row["status"] for row in rows] == ["ok", "ok"] and rows[0]["task"].startswith("my_task.py@")
    (folder,) = here.glob("compare/models/gated-deltanet-*")
    assert (folder / "my_task.py").read_text() == EXAMPLE.read_text()
    assert loading.taught(loading.card(str(folder))) == {rows[0]["task"]}


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("x = 1\n", "defines no task. It needs one class derived from HaystackTask"),
        (
            EXAMPLE.read_text() + "\n\nclass A(PassKey):\n    pass\n\n\nclass B(PassKey):\n    pass\n",
            r"2 tasks \(A, B\)",
        ),
        (
            EXAMPLE.read_text().replace("Scorer(contains)}", "contains}"),
            "rules.'kept'. fails: .*/contains' is no",
        ),
        (EXAMPLE.read_text().replace("chance=1 / 90_000", "chance=5"), "0 <= chance < 1"),
        (EXAMPLE.read_text().replace('("kept", "changed")', '("kept")'), "subsets is the text 'kept'"),
        (EXAMPLE.read_text().replace("class PassKey(HaystackTask)", "class PassKey(Haystack)"), "NameError.*line"),
        (EXAMPLE.read_text() + "def (:\n", "is not Python: .*line 5"),
        ("class Half:\n    def rules(self, s): ...\n    def samples(self): ...\n", "Half has no name and no subsets"),
        (
            "class T:\n    rules = samples = 1\n    def __init__(self):\n        self.a = {}['b']\n",
            r"T\(\) fails: KeyErr",
        ),
    ],
)
def test_a_mistake_is_told_in_one_sentence(here, source, said):
    (here / "my_task.py").write_text(source)
    with pytest.raises(UserError, match=said):
        registry.name_task("my_task.py")
    result = call("run", "./my_task.py", "--len", "1K")
    assert result.exit_code == 2 and result.stderr.startswith("error: task file 'my_task.py'"), result.output
    assert "Traceback" not in result.stderr and not (here / "runs").exists()


NO_SCORERS = EXAMPLE.read_text().replace("return Rules(scorers,", "return Rules({},")


def test_a_task_without_hide_or_scorers_is_told_so(here):
    (here / "my_task.py").write_text(EXAMPLE.read_text().replace("def hide(", "def hidden("))
    result = call("run", "./my_task.py", "--len", "1K")
    assert result.exit_code == 2 and "makes no sample of 1000 tokens: hide() is missing." in result.stderr
    (here / "my_task.py").write_text(NO_SCORERS)
    result = call("run", "./my_task.py", "--len", "1K")
    assert result.exit_code == 2 and "rules('kept') has no scorers, so nothing would judge" in result.stderr
    (here / "my_task.py").write_text(EXAMPLE.read_text().replace("def describe(", "def description("))
    assert "has no describe(). Let it return the text" in call("describe", "./my_task.py").stderr


@pytest.mark.parametrize(
    ("drawn", "differs"),
    [
        ("rng.random() * 10_000", "targets ('"),
        ("int(rng.random() * 9)", "targets ('"),
        ("HIDDEN", "other tokens among the first|plan_hash"),
    ],
)
def test_a_task_that_draws_from_another_generator_fails_its_cell(here, drawn, differs):
    text = EXAMPLE.read_text()
    if drawn == "HIDDEN":
        text = text.replace("(stated,)", "(stated, f' Never mind {random.random()}.')").replace("len(facts) - 1,", "0,")
    else:
        text = text.replace(drawn, drawn.replace("rng", "random"))
    assert text != EXAMPLE.read_text()
    (here / "my_task.py").write_text(text)
    result = call("run", "./my_task.py:kept", "--len", "1K", "--model", "oracle", "--samples", "8", "-q")
    shown = " ".join(result.stdout.split())
    assert result.exit_code == 1 and "makes another sample from the same seed" in shown
    assert any(each in shown for each in differs.split("|")) and "rng that hide() is given" in shown
    assert [record.status for record in store.read_all(here / "runs")[0]] == ["failed"]


def test_a_task_that_makes_no_sample_is_told_with_the_line(here):
    (here / "my_task.py").write_text(EXAMPLE.read_text().replace("supporting=(len(facts) - 1,)", "supporting=(9,)"))
    result = call("run", "./my_task.py", "--len", "1K")
    assert result.exit_code == 2 and "makes no sample" in result.stderr, result.output
    text = EXAMPLE.read_text().replace('targets=(new if subset == "changed" else old,)', "targets=(old)")
    (here / "my_task.py").write_text(text)
    assert "targets is the text" in call("run", "./my_task.py", "--len", "1K").stderr
    (here / "my_task.py").write_text(EXAMPLE.read_text().replace("(question,))", "(question, question))"))
    assert "gave 2 questions, and rules() says 1" in call("run", "./my_task.py", "--len", "1K").stderr
    (here / "my_task.py").write_text(EXAMPLE.read_text().replace("old, new = (", "old, new = 1 / 0, ("))
    result = call("run", "./my_task.py", "--len", "1K")
    assert "ZeroDivisionError" in result.stderr and "line " in result.stderr and not (here / "runs").exists()


@pytest.mark.parametrize("said", ["2.0", "None", "float('nan')", "'yes'"])
def test_a_scorer_that_gives_no_share_fails_its_cell(here, said):
    text = EXAMPLE.read_text().replace("return contains(", f"return {said} if answer else contains(")
    (here / "my_task.py").write_text(text)
    result = call("run", "./my_task.py:kept", "--len", "1K", "--model", "oracle", "--samples", "2", "-q")
    assert result.exit_code == 1 and "the scorer current gave" in " ".join(result.stdout.split())
    assert store.read_all(here / "runs")[1] == []


def test_only_a_path_that_was_typed_is_run(here):
    name = registry.name_task("my_task.py")
    assert registry.task(name).name == name and registry.source_of(name) == EXAMPLE.read_bytes()
    with pytest.raises(UserError, match="is version"):
        registry.name_task("my_task.py@00000000")
    with pytest.raises(UserError, match="unknown task 'other"):
        registry.task("other.py@1f2e3d4c")
