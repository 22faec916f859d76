"""The Python API: the commands' results, defaults and messages, for names, folders and objects of the user's own."""

from __future__ import annotations

import inspect
import pkgutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import atlas_bench
from atlas_bench import api
from atlas_bench.cli.app import app
from atlas_bench.models.tokenizer import embedded
from atlas_bench.results import store
from atlas_bench.results.leaderboard import COLUMNS
from atlas_bench.results.record import timeless

ROOT = Path(__file__).parents[1]
RETENTION = ROOT / "results" / "retention.jsonl"


class Silent(atlas_bench.Model):
    """Counts what it reads, and has nothing to say."""

    name, tokenizer = "silent", embedded()

    def __init__(self):
        self.read = 0

    def start(self, batch):
        return {"n": np.zeros(batch, np.int64)}

    def feed(self, state, tokens):
        self.read += tokens.size
        return {"n": state["n"] + tokens.shape[1]}

    def answer(self, state, question, max_tokens, stop=("\n",)):
        return ""


def typed(*words: str):
    """What the command prints, with its exit code."""
    return CliRunner().invoke(app, list(words))


def test_importing_it_imports_nothing_heavy():
    code = (
        "import sys, atlas_bench\n"
        "heavy = {'numpy', 'pandas', 'pydantic', 'rich', 'scipy', 'tokenizers', 'torch', 'transformers', 'typer'}\n"
        "print(sorted(heavy & set(sys.modules)), atlas_bench.run.__name__, atlas_bench.Model.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[] run Model\n"


def test_no_function_has_the_name_of_a_module_which_would_replace_it_once_imported():
    modules = {each.name for each in pkgutil.iter_modules(atlas_bench.__path__)}
    assert not modules & set(atlas_bench.__all__)
    assert (Path(atlas_bench.__file__).parent / "py.typed").exists()


@pytest.mark.parametrize("name", ["run", "report", "score", "merge", "compare", "train"])
def test_the_command_and_the_function_have_the_same_names_and_defaults(name):
    usual = inspect.signature(getattr(atlas_bench, name)).parameters
    command = typer.main.get_command(app).commands[name]
    others = {  # of one of the two alone, or the other way round
        *("as_json", "canary", "config", "debug", "dry_run", "page", "print_config", "quiet"),
        *("form", "format", "no_published", "published", "no_examine", "examine", "paths", "records"),
    }
    own = {{"length": "lengths"}.get(each.name, each.name): each for each in command.params}
    assert (set(own) ^ set(usual)) <= others
    for shared in set(own) & set(usual) - {"quiet"}:
        default, param = usual[shared].default, own[shared]
        if param.required or param.default is None:
            assert default in (inspect.Parameter.empty, None, (), "babilong:qa1"), shared  # "" of a list is left to it
        else:
            said = param.default if isinstance(param.default, (list, tuple)) else [param.default]
            given = list(default) if isinstance(default, tuple) else [default]
            assert list(map(str, said)) == list(map(str, given)), shared


def test_run_takes_names_objects_and_mappings_and_returns_what_the_command_writes(tmp_path, capsys):
    mine = Silent()
    records = atlas_bench.run(
        ["mqar:8", "mqar:8-spread"], lengths=[300, "400"], models=["oracle", mine], samples=3, out=tmp_path / "a"
    )
    assert {(r.subset, r.length, r.model, r.status, r.scores["mqar/exact"]["correct"]) for r in records} == {
        (subset, length, model, "ok", right)
        for subset in ("8", "8-spread")
        for length in (300, 400)
        for model, right in (("oracle", 3), ("silent", 0))
    }
    assert records[0].command == (
        "atlas_bench.run(['mqar:8', 'mqar:8-spread'], lengths=[300, '400'], models=['oracle', Silent], samples=3, "
        f"out='{tmp_path / 'a'}')"
    )
    words = ["--len", "300,400", "--model", "oracle", "--samples", "3", "--out", str(tmp_path / "b"), "--quiet"]
    assert typed("run", "mqar:8,mqar:8-spread", *words).exit_code == 0
    told = store.read(tmp_path / "b" / "mqar.jsonl")[0]
    assert list(map(timeless, told)) == [timeless(r) for r in records if r.model == "oracle"]
    named = atlas_bench.run("mqar:8", 300, {"mine": mine, "best": "oracle"}, 3, out=tmp_path / "a")
    assert [(r.model, r.model_spec) for r in named] == [("mine", None), ("best", "oracle")]
    assert "warning" not in capsys.readouterr().err


def test_the_same_call_runs_nothing_and_says_so_of_a_model_that_may_have_changed(tmp_path, capsys):
    class Hashed(Silent):
        def facts(self):
            return {"weights_hash": "1"}

    for model, warned in ((Silent(), True), (Hashed(), False)):
        first = atlas_bench.run("mqar:8", 300, model, 2, out=tmp_path / type(model).__name__)
        read = model.read
        assert atlas_bench.run("mqar:8", 300, model, 2, out=tmp_path / type(model).__name__) == first
        assert model.read == read
        said = capsys.readouterr()
        assert not said.out and ("no weights_hash" in said.err) is warned


def test_an_object_without_the_base_class_is_a_model_or_one_message(tmp_path):
    class Half:
        name, tokenizer = "half", embedded()

        def start(self, batch):
            return {}

    class Whole(Half):
        def feed(self, state, tokens):
            return state

        def answer(self, state, question, max_tokens, stop=("\n",)):
            return "x"

    assert atlas_bench.run("mqar:8", 300, Whole(), 2, out=tmp_path)[0].status == "ok"
    with pytest.raises(atlas_bench.UserError, match=r"model Half has no feed, answer\. .* atlas_bench\.Model"):
        atlas_bench.run("mqar:8", 300, Half(), 2, out=tmp_path)
    with pytest.raises(atlas_bench.UserError, match=r"model Whole is a class\. Pass an object of it: Whole\(\)"):
        atlas_bench.run("mqar:8", 300, Whole, 2, out=tmp_path)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"task": "mqer:8"}, ["mqer:8"]),
        ({"models": "atlas-nan"}, ["mqar:8", "--model", "atlas-nan"]),
        ({"models": ["a=oracle", "a=constant"]}, ["mqar:8", "--model", "a=oracle", "--model", "a=constant"]),
        ({"lengths": 10}, ["mqar:8", "--len", "10"]),
        ({"background": "pg19"}, ["mqar:8", "--background", "pg19"]),
        ({"num_fewshot": 2}, ["mqar:8", "--num-fewshot", "2"]),
        ({"code": "nothere.py"}, ["mqar:8", "--code", "nothere.py"]),
        ({"canary": True}, ["mqar:8", "--canary"]),
    ],
    ids=str,
)
def test_a_mistake_is_the_command_s_message(tmp_path, given, words):
    usual = {"task": "mqar:8", "models": "oracle", "out": tmp_path / "runs"}
    words = [*words, *(["--model", "oracle"] if "--model" not in words else []), "--out", str(tmp_path / "runs")]
    with pytest.raises(atlas_bench.UserError) as error:
        atlas_bench.run(**usual | given)
    said = typed("run", *words).stderr.removeprefix("error: ").strip()
    assert str(error.value).replace("num_fewshot", "--num-fewshot") == said
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"samples": 0}, "samples is 0. Give a whole number from 1 up."),
        ({"samples": "x"}, "samples 'x': 'x' is no whole number from 1 up"),
        ({"seeds": [0, 1 << 40]}, "seed is 1099511627776. Give a whole number from -2147483647"),
        ({"seeds": []}, "no seed is given"),
        ({"lengths": []}, "no length is given"),
        ({"lengths": 1.5}, "length '1.5' is no whole number"),
        ({"models": []}, "no model is named"),
        ({"models": {"a b": "oracle"}}, "'a b' is no name for a model"),
        ({"batch": 0}, "batch is 0."),
        ({"block": 0}, "length '0'"),
        ({"timeout": "soon"}, "timeout is 'soon'. Give a number from 0 up."),
        ({"timeout": float("nan")}, "timeout is nan."),
        ({"task": "lm-eval:piqa", "num_fewshot": -1}, "num_fewshot is -1."),
        ({"threads": 10**6}, "is too many for the"),
        ({"models": "swa-nano", "device": "gpu"}, "unknown device 'gpu'. Did you mean 'cpu'?"),
        ({"prompt": "offical"}, "Did you mean 'official'?"),
        ({"encoding": "utf8x", "data": "."}, "Did you mean 'utf-8'?"),
        ({"task": "lm-eval:piqa", "seeds": 1}, "seeds does nothing for lm-eval's tasks"),
    ],
    ids=str,
)
def test_what_the_command_line_would_not_let_pass_is_a_message_too(tmp_path, given, said):
    with pytest.raises(atlas_bench.UserError) as error:
        atlas_bench.run(**{"task": "babilong:qa1", "models": "oracle", "out": tmp_path / "runs"} | given)
    assert said in str(error.value) and not (tmp_path / "runs").exists()


@pytest.mark.parametrize("edited", ["background", "data"])
def test_files_edited_between_two_calls_are_read_anew(tmp_path, edited):
    background, data = tmp_path / "books", tmp_path / "stories"
    for folder in (background, data):
        folder.mkdir()
    text, story = background / "book.txt", data / "qa1_test.txt"
    sentence = "The {} keeper walked along the long stone wall until the evening came. "
    text.write_text(sentence.format("lighthouse") * 300)
    facts = "1 Mary moved to the {0}.\n2 John went to the hallway.\n3 Where is Mary? \t{0}\t1\n"
    story.write_text(facts.format("kitchen"))

    def key() -> tuple[str | None, str | None]:
        (record,) = atlas_bench.run(
            "babilong:qa1", 500, "oracle", 1, background=background, data=data, out=tmp_path / "runs"
        )  # fmt: skip
        assert record.status == "ok", record.reason
        return record.corpus_key, record.data_hash

    before = key()
    if edited == "background":
        text.write_text(sentence.format("forest") * 300)
    else:
        story.write_text(facts.format("garden"))
    after = key()
    assert [a != b for a, b in zip(before, after, strict=True)] == [edited == "background", edited == "data"]


def test_load_has_a_row_for_each_record_and_scorer(tmp_path):
    records = atlas_bench.run("mqar:8,niah:single", 600, ["oracle", Silent()], 4, out=tmp_path)
    table = atlas_bench.load(tmp_path)
    assert list(table) == list(COLUMNS) and len(table) == sum(len(r.scores) for r in records)
    row = table[(table.model == "oracle") & (table.task == "niah") & table.headline].iloc[0]
    assert (row.correct, row.n, row.accuracy, row.low, row.high) == (4, 4, 1.0, pytest.approx(0.5101, abs=1e-4), 1.0)
    assert row.length == 600 and row.background == "generated" and row.tokens_per_second > 0
    assert list(table.groupby("task").headline.sum()) == [2, 2]
    files = [tmp_path / "mqar.jsonl", str(tmp_path / "niah.jsonl")]
    for source in (records, files, [*files, tmp_path]):  # a record that is named twice counts once
        assert len(atlas_bench.load(source)) == len(table)
    assert atlas_bench.load(files).equals(table)
    shared = table[(table.task == "mqar") & (table.model == "oracle")].iloc[0]  # four questions on one context
    assert (shared.n, shared.contexts, shared.low, shared.high) == (4, 1, 0, 1)


def test_load_leaves_missing_what_a_record_does_not_have(tmp_path):
    (record,) = atlas_bench.run("mqar:8", 300, "oracle", 2, out=tmp_path / "runs")
    failed = replace(record, seed=5, status="failed", reason="why", scores={}, parameters=None, seconds=None)
    table = atlas_bench.load([failed])
    assert len(table) == 1 and table.loc[0, ["status", "reason"]].tolist() == ["failed", "why"]
    assert table.loc[0, ["n", "accuracy", "parameters", "seconds"]].isna().all()
    loss = atlas_bench.load([replace(record, scores={}, headline=None, metrics={"nats_per_token": 2.5})])
    assert loss.nats_per_token[0] == 2.5 and loss.scorer.isna()[0] and loss.headline[0]
    (tmp_path / "empty").mkdir()
    assert list(atlas_bench.load(tmp_path / "empty")) == list(COLUMNS)
    with pytest.raises(atlas_bench.UserError, match="no results at"):
        atlas_bench.load(tmp_path / "nothere")
    (tmp_path / "bad.jsonl").write_text('{"task": 1}\n' + record.to_json() + "\n")
    with pytest.warns(UserWarning, match=r"bad\.jsonl:1: .* Line skipped"):
        assert len(atlas_bench.load(tmp_path / "bad.jsonl")) == 1


def test_the_committed_records_load_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = atlas_bench.load(ROOT / "results")
    assert len(table) > 200 and table.task.nunique() > 2 and table.accuracy.between(table.low, table.high).sum() > 150


@pytest.mark.parametrize(("form", "typed_as"), [("text", "text"), ("markdown", "md"), ("csv", "csv"), ("latex", "tex")])
def test_report_is_the_command_s(tmp_path, form, typed_as):
    printed = typed("report", str(RETENTION), "--format", typed_as, "--no-published").output
    text = atlas_bench.report(RETENTION, format=form, published=False, out=tmp_path / "file")
    assert text.rpartition("Made by")[0] == printed.rpartition("Made by")[0]
    assert (tmp_path / "file").read_text() == text
    records = list(store.scan(RETENTION, print))
    again = atlas_bench.report(records, typed_as, published=False)
    assert again.rpartition("Made by")[0] == text.rpartition("Made by")[0]


def test_report_s_mistakes(tmp_path):
    for given, said in (
        ({"format": "pdf"}, "unknown form 'pdf'"),
        ({"threshold": 0.8}, "Write 80 for 80 %"),
        ({"threshold": 800}, "from 0 to 100"),
        ({"model": "titan"}, "no record of model 'titan'"),
        ({"format": "csv", "out": tmp_path / "x.md"}, "contradict each other"),
        ({"out": tmp_path / "nothere" / "x.md"}, "is no folder"),
    ):
        with pytest.raises(atlas_bench.UserError) as error:
            atlas_bench.report(RETENTION, **given)
        assert said in str(error.value)
    assert not list(tmp_path.iterdir())


def test_compare_takes_objects(tmp_path):
    compared = atlas_bench.compare(["oracle", Silent()], "mqar:8", 300, samples=80, out=tmp_path)
    assert compared["baseline"] == "oracle" and compared["candidates"] == ["oracle", "silent"]
    assert [row["versus"] and row["versus"]["verdict"] for row in compared["rows"]] == [None, "worse"]
    records = store.read(tmp_path / "mqar.jsonl")[0]
    assert records[0].command.startswith("atlas_bench.compare(['oracle', Silent], 'mqar:8', 300, samples=80")
    with pytest.raises(atlas_bench.UserError, match="candidate 'silent' is named twice, as 'Silent' and 'Silent'"):
        atlas_bench.compare([Silent(), Silent()], "mqar:8", 300, out=tmp_path)


def test_train_refuses_what_it_would_not_read(tmp_path):
    for given, said in (
        ({"segment": 8}, "segment does nothing in placement 'behind'"),
        ({"memory": "titan"}, "Did you mean 'titans'?"),
        ({"threads": 10**6}, "is too many for the"),
        ({"tokens": "20Q"}, "Write 512, 16K"),
    ):
        with pytest.raises(atlas_bench.UserError) as error:
            atlas_bench.train(**{"memory": "none", "out": tmp_path / "m", "task": "mqar:8"} | given)
        assert said in str(error.value)
    assert not list(tmp_path.iterdir())


def test_what_there_is():
    assert "atlas-nano" in atlas_bench.list_models() and "babilong" in atlas_bench.list_tasks()
    assert api.defaults(atlas_bench.compare)["samples"] == 200
