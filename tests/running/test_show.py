"""`atlas-bench show`: a question made again from its record is the one that was asked, or one message says why not."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

import atlas_bench
from atlas_bench import registry
from atlas_bench.cli import show
from atlas_bench.errors import UserError
from atlas_bench.models.tokenizer import PRETRAINED
from atlas_bench.results import store
from atlas_bench.running import answers, remake
from atlas_bench.types import TaskOptions
from tests.command import call

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"
EXAMPLE = ROOT / "examples" / "my_task.py"
QA2 = {"--task": "babilong:qa2", "--len": 16_000, "--model": "atlas-nano", "--data": "generated"}


@pytest.fixture(scope="module")
def five():
    return store.read(RESULTS / "five.jsonl")[0]


@pytest.fixture(scope="module")
def qa2(five):
    """A committed record: 200 questions of babilong:qa2 at 16K."""
    return remake.choose(five, QA2)


def told(*words: str) -> str:
    """The one message of a command that ends with code 2."""
    result = call("show", *words)
    assert result.exit_code == 2 and not result.stdout, result.output
    return result.stderr.removeprefix("error: ")


# What is made again


@pytest.mark.parametrize("file", ["babilong.jsonl", "five.jsonl", "retention.jsonl", "recall", "probe", "atlas"])
def test_committed_records_are_made_again(file):
    """One record of each task, subset and length; those of data that are not here aside."""
    seen = set()
    for record in store.read_all(RESULTS / file)[0]:
        cell = record.task, record.subset, record.length
        if cell in seen or record.length > 100_000 or remake.CHOICES["--data"](record) == "FOLDER":
            continue
        seen.add(cell)
        index = min(7, len(record.answers) - 1)
        found, row = remake.remake(record, index), record.answers[index]
        assert found["targets"] == row["targets"] and found["answer"] == row["answer"]
        assert found["tokens"] <= max(record.length, found["tokens"] * (record.length == 0))
        assert found["facts"] and all(
            fact["text"] in found["context"] for fact in found["facts"] if len(fact["text"]) < 200
        )
    assert seen


def test_what_answers_is_shown_at_the_length_of_the_record(five):
    record = remake.choose(five, {**QA2, "--len": 1_000_000})
    found = remake.remake(record, 2)
    assert found["tokens"] == 1_000_000 and len(found["context"]) < 3000
    left_out = [int(n) for n in re.findall(r"\[\.\. (\d+) tokens \.\.\]", found["context"])]
    assert 999_000 < sum(left_out) < 1_000_000
    positions = {fact["position"] for fact in found["facts"]}
    assert set(record.answers[2]["needle_positions"]) & positions


def test_lines_say_all_of_it_in_80_columns(qa2, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    found = remake.remake(qa2, 3)
    text = "\n".join(show.lines(found))
    assert max(map(len, text.splitlines())) < 80
    flat = " ".join(text.split())
    assert "babilong:qa2 at 16K tokens, atlas-nano, seed 0: question 3 of 200" in flat
    assert " ".join(found["context"].split()) in flat and f"question {found['question']}" in flat
    assert f"right {found['targets'][0]} answer {found['answer']}" in flat
    word = "right" if qa2.answers[3]["correct"]["babilong/official"] else "wrong"
    assert f"verdict {word} by babilong/official" in flat


@pytest.mark.parametrize(("verdict", "said"), [(True, "right by s"), (0.0, "wrong by s"), (0.25, "25 % right by s")])
def test_verdicts_are_words(qa2, verdict, said):
    found = remake.remake(qa2, 0)
    assert said in "\n".join(show.lines({**found, "correct": {"s": verdict}}))


def test_a_question_that_was_not_answered_says_why(qa2):
    row = {**qa2.answers[0], "correct": {}, "answer": "", "failed": "error 500"}
    assert "none: error 500" in "\n".join(show.lines(remake.remake(replace(qa2, answers=[row]), 0)))
    stopped = replace(qa2, status="oom", reason="7 GB", answers=[], scores={})
    assert "none: the record is oom, 7 GB" in "\n".join(show.lines(remake.remake(stopped, 0)))


def test_what_steers_a_terminal_is_shown_harmlessly(qa2):
    rows = [{**qa2.answers[0], "answer": "\x1b[2J\u202ekitchen"}]
    text = "\n".join(show.lines(remake.remake(replace(qa2, model="\x1b[31m", answers=rows), 0)))
    assert "\x1b" not in text and "\u202e" not in text and r"\x1b[2J\u202ekitchen" in text


# The command


def test_the_command_prints_lines_or_data(here):
    words = ["show", str(RESULTS / "five.jsonl"), "3", "--task", "babilong:qa2", "--len", "16K", "--data", "generated"]
    result = call(*words, "--model", "atlas-nano")
    assert result.exit_code == 0 and "question 3 of 200" in result.stdout, result.output
    found = json.loads(call(*words, "--model", "atlas-nano", "--json").stdout)
    assert found["index"] == 3 and found["context"].split()[0] in result.stdout


def test_a_record_of_one_s_own_run(here):
    assert call("run", "mqar:8", "--len", "1K", "--samples", "2", "--model", "oracle", "-q").exit_code == 0
    result = call("show", "runs", "1")
    assert result.exit_code == 0 and "right by mqar/exact" in result.stdout, result.output


def test_from_python_the_same(here):
    found = atlas_bench.show(RESULTS / "retention.jsonl", 0, task="retention:along", length="100K")
    words = ["show", str(RESULTS / "retention.jsonl"), "0", "--task", "retention:along", "--len", "100K", "--json"]
    assert found == json.loads(call(*words).stdout)
    (record,) = atlas_bench.run("mqar:8", "1K", "oracle", samples=2, out=here / "runs")
    assert atlas_bench.show(record, 1)["answer"] == record.answers[1]["answer"]


def test_an_instruction_before_the_context_is_no_fact(here):
    asked = ["run", "ruler:niah_single_1", "--len", "1K", "--samples", "1", "--model", "oracle", "-q"]
    assert call(*asked).exit_code == 0
    found = json.loads(call("show", "runs", "0", "--json").stdout)
    assert found["context"].startswith("A special magic number") and [f["text"][:3] for f in found["facts"]] == ["One"]


def test_a_task_file_is_executed_only_where_it_is_typed(here, monkeypatch):
    (here / "my_task.py").write_text(EXAMPLE.read_text())
    monkeypatch.setattr(registry, "_TASK_FILES", {})
    asked = call("run", "./my_task.py:changed", "--len", "1K", "--samples", "2", "--model", "oracle", "-q")
    assert asked.exit_code == 0, asked.output
    monkeypatch.setattr(registry, "_TASK_FILES", {})
    assert "which is executed: --task ./my_task.py" in told("runs", "0")
    for typed in ("./my_task.py", "./my_task.py:changed"):
        result = call("show", "runs", "0", "--task", typed)
        assert result.exit_code == 0 and "pass key" in result.stdout.lower(), result.output
    (here / "my_task.py").write_text(EXAMPLE.read_text() + "# edited\n")
    assert "no record has --task" in told("runs", "0", "--task", "./my_task.py")


def test_several_records_are_told_apart_by_what_differs(here):
    five = str(RESULTS / "five.jsonl")
    said = told(five, "0", "--task", "babilong:qa2", "--model", "atlas-nano")
    assert "Choose one by --len (0, 1K" in said and "--data (FOLDER, generated)" in said and "--task" not in said
    assert "Did you mean 'babilong:qa2'?" in told(five, "0", "--task", "babilong:qa22")
    assert "no record has --len 17K" in told(five, "0", "--len", "17K")
    (here / "empty.jsonl").write_text("")
    assert "there is no record to show" in told("empty.jsonl", "0")
    said = told(five, "200", "--task", "babilong:qa2", "--len", "4K", "--model", "atlas-nano")
    assert "there is no question 200" in said and "a number from 0 to 199" in said


def test_the_latest_of_a_cell_s_records_is_shown(qa2):
    earlier = replace(qa2, answers=[{**qa2.answers[0], "answer": "earlier"}])
    assert remake.choose([earlier, qa2], {}) is qa2


# What cannot be made again


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task_version": "0"}, "of babilong version 0, and this atlas-bench has version 1, which makes other samples"),
        ({"corpus_key": "abc"}, "the background text of this record is not here any more: corpus_key was abc"),
        ({"data_hash": "simulator 0"}, "the task's data of this record is not here any more"),
        ({"seed": 1}, "cannot be made again: it would now be "),
        ({"task": "unheard-of"}, "unknown task 'unheard-of'"),
        ({"task": "lm-eval", "subset": "piqa"}, "'lm-eval:piqa' is lm-eval's"),
        ({"options": {"data": "no/such/folder"}}, "'no/such/folder'"),
        ({"options": {"prompt": "earlier-official"}}, "'earlier-official' is an earlier version's"),
        ({"options": {"colour": "red"}}, "options colour are unknown here"),
        ({"tokenizer_key": "feed", "model": "hf:org/m:chat=true"}, "in the tokens of 'org/m'"),
        ({"tokenizer_key": "feed", "endpoint": {"tokenizer": "org/t"}}, "in the tokens of 'org/t'"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_differs_is_one_message(qa2, changes, said):
    with pytest.raises(UserError, match=re.escape(said)):
        remake.remake(replace(qa2, **changes), 0)


@pytest.mark.parametrize(
    "changes", [{"targets": ["attic"]}, {"question": "Where is Waldo?"}, {"needle_positions": [7]}]
)
def test_a_row_of_another_sample_is_refused(qa2, changes):
    rows = [{**qa2.answers[0], **changes}]
    with pytest.raises(UserError, match="question 0 of this record cannot be made again"):
        remake.remake(replace(qa2, answers=rows), 0)


def test_a_template_before_the_context_moves_all_facts_alike(qa2):
    row = {**qa2.answers[0], "needle_positions": [at + 5 for at in qa2.answers[0]["needle_positions"]]}
    assert remake.remake(replace(qa2, answers=[row]), 0)["facts"]


def test_a_tokenizer_that_is_named_must_be_the_record_s(tmp_path):
    written = json.loads((PRETRAINED / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps(written))  # the same ids under another key, so other samples
    tokenizer = remake._from_file(str(tmp_path))
    (sample,) = registry.task("mqar").samples("8", 1000, 1, 0, tokenizer, TaskOptions())
    records = store.read_all(RESULTS / "recall")[0]
    record = replace(
        next(each for each in records if (each.subset, each.length) == ("8", 1000)),
        model="hf:org/m", tokenizer_key=tokenizer.key, answers=[answers.row_of(sample, "?", {})],
        **answers.sources_of(sample),
    )  # fmt: skip
    assert remake.remake(record, 0, tokenizer=str(tmp_path))["targets"] == list(sample.targets)
    with pytest.raises(UserError, match="--tokenizer"):
        remake.remake(record, 0)
    with pytest.raises(UserError, match=f"is not the record's: its key is {tokenizer.key}"):
        remake.remake(replace(record, tokenizer_key="feed"), 0, tokenizer=str(tmp_path / "tokenizer.json"))
    with pytest.raises(UserError, match="cannot be loaded"):
        remake.remake(record, 0, tokenizer=str(tmp_path / "nowhere"))
