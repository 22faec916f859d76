"""`score`: recorded answers judged anew, without a run, and without losing what was judged before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import atlas_bench
from atlas_bench import registry
from atlas_bench.cli.app import app
from atlas_bench.errors import UserError
from atlas_bench.results import store
from atlas_bench.results.record import Record, answer_row, record_hash, timeless
from atlas_bench.running import rescore
from atlas_bench.types import Scorer

QA1 = "babilong:qa1"
RECORDS = Path(__file__).parents[2] / "results" / "babilong.jsonl"
STRICT = "def score(answer, sample):\n    return answer == sample.targets[0]\n"
ASKED = sorted(set(registry.TASKS) - {"loss", "recall"})  # one asks nothing, the other needs documents
# of a task whose first subset does not fit where all the others have room, or says less
SUBSET = {"babilong": "qa2", "ruler": "niah_multivalue", "mqar": "8", "zoology": "iclr24-4", "retention": "end"}


@pytest.fixture
def records(tmp_path):
    """Three answers of a model that knows all, in tmp_path/runs."""
    return atlas_bench.run(QA1, 1000, "oracle", 3, out=tmp_path / "runs")


@pytest.fixture
def strict(tmp_path):
    file = tmp_path / "strict.py"
    file.write_text(STRICT)
    return file


def made(*answers: str, **changes) -> Record:
    rows = [
        answer_row(i, question="Where is Mary?", targets=["garden"], answer=answer, correct={"own/first": False})
        for i, answer in enumerate(answers)
    ]
    facts = {
        "status": "ok", "task": "own", "task_version": "1", "subset": "", "length": 1000, "model": "m", "seed": 0,
        "samples": len(rows), "scores": {"own/first": {"correct": 0, "n": len(rows)}}, "answers": rows,
        "scorer_version": {"own/first": "1"}, "headline": "own/first", "chance": 0.25,
    }  # fmt: skip
    return Record(**facts | changes)


def call(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.mark.parametrize("task", ASKED)
def test_our_scorers_give_recorded_answers_the_verdicts_that_they_had(task, tmp_path):
    subset = SUBSET.get(task) or registry.task(task).subsets[0]
    (record,) = atlas_bench.run(f"{task}:{subset}", 4096, "oracle", 2, out=tmp_path)
    assert record.status == "ok" and record.scores, record.reason
    for name in record.scores:
        (again,) = atlas_bench.score([record], name)
        assert again.answers == record.answers and again.scores == record.scores, name
        assert (again.headline, again.scorer_version) == (name, record.scorer_version)


def test_a_file_judges_beside_the_old_scores_and_the_record_says_from_where(records, strict, tmp_path):
    (old,) = records
    (new,) = atlas_bench.score(tmp_path / "runs", strict, out=tmp_path / "new.jsonl")
    assert new.scores == old.scores | {"strict.py": {"correct": 3, "n": 3}}
    assert new.scorer_version["strict.py"] == rescore.load(strict).scorer.version != "1"
    assert new.headline == "strict.py" and new.chance is None
    assert all(row["correct"]["strict.py"] is True and len(row["correct"]) == 3 for row in new.answers)
    (step,) = new.rescored
    assert (step["source"], step["scorer"], step["cut"]) == (record_hash(old), "strict.py", 0)
    assert step["command"].startswith("atlas_bench.score('") and (new.command, new.ended) == (old.command, old.ended)
    assert store.read(tmp_path / "new.jsonl") == ([new], [])
    kept = {"scores", "answers", "scorer_version", "headline", "chance", "rescored"}
    same = set(timeless(old)) - kept
    assert {name: timeless(new)[name] for name in same} == {name: timeless(old)[name] for name in same}


def test_another_version_of_a_scorer_leaves_the_earlier_score(records, strict):
    (first,) = atlas_bench.score(records, strict)
    strict.write_text(STRICT.replace("==", "!="))
    (second,) = atlas_bench.score([first], strict)
    before = first.scorer_version["strict.py"]
    assert second.scores["strict.py"] == {"correct": 0, "n": 3}
    assert second.scores[f"strict.py@{before}"] == {"correct": 3, "n": 3}
    assert all(row["correct"][f"strict.py@{before}"] for row in second.answers)
    assert [step["source"] for step in second.rescored] == [record_hash(records[0]), record_hash(first)]


def test_the_same_scorer_twice_changes_nothing_but_the_steps(records, strict):
    (first,) = atlas_bench.score(records, strict)
    (second,) = atlas_bench.score([first], strict)
    assert (second.scores, second.answers, second.scorer_version) == (first.scores, first.answers, first.scorer_version)


def test_a_function_or_a_scorer_judges_in_python(records):
    def half(answer, sample):
        return 0.5 if sample.meta["question"].startswith("Where") and len(sample.meta["labels"]) == 6 else 0.0

    (new,) = atlas_bench.score(records, half)
    assert new.scores["half"] == {"correct": 1.5, "n": 3} and new.scorer_version["half"] == "1"
    (new,) = atlas_bench.score(records, Scorer(half, version="7"))
    assert new.scorer_version["half"] == "7"


def test_a_cut_answer_is_judged_by_what_is_kept_and_the_record_says_so():
    seen = []
    with pytest.warns(UserWarning, match="1 of 2 answers judged by lambda on their first 2000 characters"):
        (new,) = atlas_bench.score([made("garden" * 500, "x [... 9 characters cut]")], lambda a, s: see(a, seen))
    assert seen == [("garden" * 500)[:2000], "x [... 9 characters cut]"]  # the second only looks like one
    assert new.rescored[0]["cut"] == 1 and "first 2000 characters" in new.note


def see(answer, seen):
    seen.append(answer)
    return True


def test_no_answer_has_no_verdict(strict):
    record = made("garden", "garden")
    record.answers[1].update(failed="HTTP 500", correct={})
    (new,) = atlas_bench.score([record], strict)
    assert new.scores["strict.py"] == {"correct": 1, "n": 1} and new.answers[1]["correct"] == {}


def test_records_without_answers_are_left_out_and_counted(strict, tmp_path):
    without = made(status="unsupported", scores={})
    with pytest.warns(UserWarning, match=r"left out, as they have no answers: 2 unsupported"):
        assert len(atlas_bench.score([without, made("garden"), without], strict, out=tmp_path / "new.jsonl")) == 1
    with pytest.raises(UserError, match=r"no record has answers to judge \(1 unsupported"):
        atlas_bench.score([without], strict)
    with pytest.raises(UserError, match=r"no record of --task mqar has answers to judge\."):
        atlas_bench.score([made("garden")], strict, task="mqar")


def test_what_a_row_lacks_and_cannot_be_made_again_is_one_message(strict):
    strict.write_text("def score(answer, sample):\n    return sample.meta['question'] in answer\n")
    record = made("garden", task="lm-eval", subset="piqa")
    assert len(atlas_bench.score([record], strict)) == 1  # the row has it
    record.answers[0]["question"] = "why " * 500 + " [... 77 characters cut]"
    with pytest.raises(UserError, match=r"scorer 'strict.py' needs more than the record of lm-eval:piqa 1K m has"):
        atlas_bench.score([record], strict)


def test_the_command_writes_a_new_file_that_report_takes_in_the_old_ones_place(records, strict, tmp_path):
    out = tmp_path / "new.jsonl"
    result = call("score", tmp_path / "runs", "--scorer", strict, "-o", out)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("babilong:qa1 1K oracle: strict.py 100.0 % (")
    assert "; before: babilong/official 100.0 % (" in result.stdout
    csv = call("report", tmp_path / "runs", out, "--format", "csv", "--no-published").stdout
    assert {"babilong/official", "babilong/word", "strict.py"} <= set(csv.replace("\n", ",").split(","))
    out.unlink()
    shown = json.loads(call("score", tmp_path / "runs", "--scorer", "babilong/word", "-o", out, "--json").stdout)
    assert shown[0]["score"]["correct"] == 3 and shown[0]["source"] == record_hash(records[0])


@pytest.mark.parametrize(
    ("scorer", "source", "said"),
    [
        ("babilong/wrd", None, "Did you mean 'babilong/word'?"),
        ("./nowhere.py", None, "scorer file 'nowhere.py' cannot be read"),
        ("./own.py", "def judge(answer, sample): return True\n", "'./own.py' defines no function score. Write def"),
        ("./own.py", "def score(answer, sample) return True\n", "scorer file 'own.py' is not Python"),
        ("./own.py", "def score(answer, sample):\n    return 2\n", "gave 2 for the answer"),
        (
            "./own.py",
            "def score(answer, sample):\n    return sample.meta['colour']\n",
            "fails on question 0 of babilong:qa1 1K oracle: KeyError: 'colour' (line 2 of own.py: return sample",
        ),
        (
            "./own.py",
            "def score(answer, sample):\n    return sample.color\n",
            "AttributeError: a sample has no 'color'",
        ),
    ],
)
def test_a_mistake_is_one_message_and_nothing_is_written(scorer, source, said, records, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if source:
        (tmp_path / "own.py").write_text(source)
    result = call("score", "runs", "--scorer", scorer, "-o", "new.jsonl")
    assert result.exit_code == 2 and not result.stdout and result.stderr.count("\n") == 1, result.output
    assert said in result.stderr
    assert not [path for path in tmp_path.iterdir() if "new.jsonl" in path.name]


def test_no_file_is_written_over_and_none_but_records(records, strict, tmp_path):
    before = (tmp_path / "runs" / "babilong.jsonl").read_bytes()
    for out, said in (
        (tmp_path / "runs" / "babilong.jsonl", "is there already"),
        (tmp_path / "new.csv", "ends in .jsonl"),
        (tmp_path / "no" / "new.jsonl", "is no folder"),
    ):
        result = call("score", tmp_path / "runs", "--scorer", strict, "-o", out)
        assert result.exit_code == 2 and said in result.stderr
    assert (tmp_path / "runs" / "babilong.jsonl").read_bytes() == before


def test_a_file_is_run_only_where_it_is_typed(strict, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trace = tmp_path / "ran"
    strict.write_text(f"open({str(trace)!r}, 'w').close()\n{STRICT}")
    record = made("garden", headline="strict.py", scores={"strict.py": {"correct": 0, "n": 1}})
    atlas_bench.score([record], lambda answer, sample: True)
    assert not trace.exists()
    atlas_bench.score([record], "strict.py")
    assert trace.exists()


def test_a_record_keeps_its_hash_when_a_later_version_reads_it():
    (record, *_), _ = store.read(RECORDS)
    line = json.loads(record.to_json())
    fewer = {name: value for name, value in line.items() if value or name in ("seed", "subset")}
    assert record_hash(Record.from_json(json.dumps(fewer))) == record_hash(record)
    assert record_hash(Record.from_json(json.dumps(line | {"seed": 1}))) != record_hash(record)
