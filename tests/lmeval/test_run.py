"""lm-eval's tasks in our records: its own prompts and metrics on local data, what is missing, what goes wrong."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import lm_eval
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lm_eval.utils import hash_string

from atlas_bench.errors import UserError
from atlas_bench.lmeval import results as theirs
from atlas_bench.lmeval import run
from atlas_bench.lmeval.model import AtlasLM
from atlas_bench.models import loading
from atlas_bench.results import store
from atlas_bench.results.record import timeless
from atlas_bench.running import runner
from atlas_bench.running.progress import Progress

NAME = "gated-deltanet-nano"
TASKS = Path(lm_eval.__file__).parent / "tasks"
PEOPLE, ROOMS = ("Mary", "John", "Sandra", "Daniel", "Bill", "Fred"), ("garden", "kitchen", "office", "hallway")
DATA = {  # lm-eval's own task -> rows as its data set has them
    "arc/arc_easy": [
        {
            "id": str(i),
            "question": f"{name} went to the {ROOMS[i % 3]}. Where is {name}?",
            "choices": {"text": list(ROOMS), "label": list("ABCD")},
            "answerKey": "ABCD"[i % 3],
        }
        for i, name in enumerate(PEOPLE)
    ],
    "lambada/lambada_openai": [{"text": f"{name} went to the {ROOMS[i % 4]}"} for i, name in enumerate(PEOPLE)],
    "triviaqa/default": [
        {
            "question": f"Mary went to the {ROOMS[i]}. {name} went to the {ROOMS[-i]}. Where is {name}?",
            "answer": {"aliases": [ROOMS[-i].title(), "somewhere else"]},
        }
        for i, name in enumerate(PEOPLE[1:5])
    ],
    "wikitext/wikitext": [{"page": f"{name} went to the garden. " * 40} for name in PEOPLE[:3]],
}


@pytest.fixture(scope="module")
def nano():
    return loading.load(NAME, device="cpu")


def local(folder: Path, task: str, **more) -> str:
    """A YAML file: lm-eval's own task over rows in a local file."""
    name = f"{Path(task).name}_local"
    (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, DATA[task])))
    files = dict.fromkeys(("train", "validation", "test"), str(folder / f"{name}.jsonl"))
    told = {"include": str(TASKS / f"{task}.yaml"), "task": name, "dataset_path": "json", "dataset_name": None}
    told |= {"dataset_kwargs": {"data_files": files}} | more
    (folder / f"{name}.yaml").write_text(json.dumps(told))
    return str(folder / f"{name}.yaml")


def go(names, folder, model, **options):
    return run.run(names, {NAME: model}, folder, progress=Progress(quiet=True), **options)


@pytest.mark.slow
def test_each_kind_of_task_becomes_a_record_once(nano, tmp_path):
    names, out = [local(tmp_path, task) for task in DATA if "trivia" not in task], tmp_path / "runs"
    arc, lambada, wiki = go(names, out, nano)
    assert store.read(out / "lm-eval.jsonl") == ([arc, lambada, wiki], [])
    assert [record.status for record in (arc, lambada, wiki)] == ["ok"] * 3
    assert (arc.task, arc.subset, arc.length, arc.seed, arc.samples) == ("lm-eval", "arc_easy_local", 0, 1234, 0)
    assert (arc.task_version, arc.headline, arc.scorer_version["acc"]) == ("1.0", "acc", "1.0")
    assert arc.options == {"num_fewshot": 0, "file": hashlib.sha256(Path(names[0]).read_bytes()).hexdigest()[:8]}
    assert (arc.versions["lm_eval"], arc.weights_hash) == (lm_eval.__version__, nano.facts()["weights_hash"])
    assert arc.scores["acc"]["n"] == arc.scores["acc_norm"]["n"] == 6 and arc.chance == pytest.approx(1 / 3, abs=1e-3)
    assert lambada.scores["acc"]["n"] == 6 and lambada.metrics.keys() == {"perplexity", "perplexity_stderr"}
    assert lambada.chance is None
    assert wiki.scores == {} and wiki.answers == []
    assert wiki.metrics.keys() == {"word_perplexity", "byte_perplexity", "bits_per_byte"}
    assert min(record.tokens_read for record in (arc, lambada, wiki)) > 20 and arc.state_bytes > 0
    assert go(names, out, nano) == [arc, lambada, wiki]
    assert len(store.read(out / "lm-eval.jsonl")[0]) == 3 and not (out / ".checkpoints").exists()
    (few,) = go(names[:1], out, nano, num_fewshot=2, limit=4)
    assert (few.options["num_fewshot"], few.samples, few.scores["acc"]["n"]) == (2, 4, 4)
    told = json.loads(Path(names[0]).read_text()) | {"doc_to_text": "Say: {{question}}"}
    Path(names[0]).write_text(json.dumps(told))
    assert go(names[:1], out, nano) != [arc]  # another file, another task


def test_scores_are_those_of_the_models_own_likelihoods(nano, tmp_path):
    """Accuracy and perplexity again, from the tasks' definitions and plain likelihoods."""
    from lm_eval.api.instance import Instance

    names = [local(tmp_path, task) for task in DATA if "trivia" not in task]
    arc, lambada, wiki = go(names, tmp_path / "runs", nano)
    lm = AtlasLM(nano)

    def nats(context, continuation):
        return lm.loglikelihood([Instance("loglikelihood", {}, (context, continuation), 0)])[0]

    for row, told in zip(DATA["arc/arc_easy"], arc.answers, strict=True):
        said = [nats(f"Question: {row['question']}\nAnswer:", f" {room}")[0] for room in ROOMS]
        best = ROOMS[said.index(max(said))]
        assert (told["answer"], told["targets"]) == (best, [ROOMS["ABCD".index(row["answerKey"])]])
        assert told["correct"]["acc"] == (told["targets"] == [best])
    assert arc.scores["acc"]["correct"] == sum(row["correct"]["acc"] for row in arc.answers)
    likely = [
        nats(*row["text"].rsplit(" ", 1)[:1], " " + row["text"].rsplit(" ", 1)[1])
        for row in DATA["lambada/lambada_openai"]
    ]
    assert lambada.metrics["perplexity"] == pytest.approx(math.exp(-sum(x for x, _ in likely) / 6), rel=1e-3)
    assert [row["correct"]["acc"] for row in lambada.answers] == [greedy for _, greedy in likely]
    bits = sum(
        lm.loglikelihood_rolling([Instance("loglikelihood_rolling", {}, (row["page"].rstrip(),), 0)])[0]
        for row in DATA["wikitext/wikitext"]
    ) / -math.log(2)
    size = sum(len(row["page"].encode()) for row in DATA["wikitext/wikitext"])
    assert wiki.metrics["bits_per_byte"] == pytest.approx(bits / size, rel=0.01)


def test_answers_are_the_models_own(nano, tmp_path):
    (record,) = go([local(tmp_path, "triviaqa/default", doc_to_text="{{question}}")], tmp_path / "runs", nano)
    rows = DATA["triviaqa/default"]
    answers = [
        nano.answer(nano.start(1), nano.tokenizer.encode(row["question"]), 100, ("\n", ".", ",")) for row in rows
    ]
    assert [row["answer"] for row in record.answers] == answers
    right = [answer in map(str.lower, row["answer"]["aliases"]) for answer, row in zip(answers, rows, strict=True)]
    score = "exact_match,remove_whitespace"
    assert record.scores == {score: {"correct": sum(right), "n": 4}} and any(right)
    assert [row["correct"][score] for row in record.answers] == right and record.headline == score
    assert record.answers[0]["targets"] == rows[0]["answer"]["aliases"] and record.chance is None


@pytest.mark.slow
def test_a_stopped_task_goes_on_where_it_was(nano, tmp_path, monkeypatch):
    name, out = local(tmp_path, "arc/arc_easy"), tmp_path / "runs"
    (plain,) = go([name], tmp_path / "plain", nano)
    answered = []

    def stop(self, request, respond=AtlasLM._loglikelihood):
        if len(answered) == 15:
            raise KeyboardInterrupt
        answered.append(request)
        return respond(self, request)

    with monkeypatch.context() as patch, pytest.raises(runner.Interrupted, match="stopped lm-eval:arc_easy_local"):
        patch.setattr(AtlasLM, "_loglikelihood", stop)
        go([name], out, nano)
    assert not (out / "lm-eval.jsonl").exists() and list((out / ".checkpoints").iterdir())
    (record,) = go([name], out, nano)
    assert record.resumed and record.tokens_read < plain.tokens_read
    assert {**timeless(record), "tokens_read": 0} == {**timeless(plain), "tokens_read": 0}
    assert not (out / ".checkpoints").exists()


@pytest.mark.slow
def test_what_goes_wrong_is_the_records_status(nano, tmp_path, monkeypatch):
    absent = local(tmp_path, "wikitext/wikitext", dataset_path="atlas-bench/no-such-data", dataset_kwargs=None)
    fine = local(tmp_path, "arc/arc_easy")
    failed, ok = go([absent, fine], tmp_path / "runs", nano)
    assert (failed.status, ok.status, failed.scores) == ("failed", "ok", {})
    assert "no-such-data" in failed.reason and "come from the Hugging Face hub" in failed.reason
    monkeypatch.setattr(type(nano), "supports", lambda self, length: None if length < 10 else "it reads 9 tokens")
    (short,) = go([local(tmp_path, "lambada/lambada_openai")], tmp_path / "other", nano)
    assert short.status == "ok"
    (long,) = go([fine], tmp_path / "other", nano)
    assert long.status == "unsupported" and "document 0 of arc_easy_local" in long.reason
    assert go([fine], tmp_path / "other", nano)[0].status == "unsupported"
    monkeypatch.undo()
    assert go([fine], tmp_path / "other", nano)[0].status == "ok"  # judged again
    assert not (tmp_path / "other" / ".checkpoints").exists()
    again, _ = go([absent, fine], tmp_path / "runs", nano)
    assert again.status == "failed" and len(store.read(tmp_path / "runs" / "lm-eval.jsonl")[0]) == 3


def test_names_are_those_of_lm_eval(monkeypatch, nano, tmp_path):
    from lm_eval.tasks import TaskManager

    folders = [
        TASKS / name for name in ("arc", "piqa", "wikitext", "lambada", "hellaswag", "winogrande", "siqa", "super_glue")
    ]
    manager = TaskManager(include_defaults=False, include_path=folders)
    assert run._named(["papers" and name for name in run.PAPERS], manager) == list(run.PAPERS)
    assert run._named(["ai2_arc", "piqa", "arc_easy"], manager) == ["arc_challenge", "arc_easy", "piqa"]
    with pytest.raises(UserError, match=r"lm-eval has no task 'hellaswagg'\. Did you mean 'hellaswag'"):
        run._named(["hellaswagg"], manager)


@given(values=st.lists(st.sampled_from([0, 1, 0.0, 1.0, True, False]), min_size=1, max_size=200), higher=st.booleans())
def test_a_mean_of_verdicts_is_a_count(values, higher):
    mean = sum(values) / len(values)
    found = theirs.read(results(values, mean, higher), "t")
    scores, metrics = found["scores"], found["metrics"]
    if higher:
        assert scores == {"acc": {"correct": sum(values), "n": len(values)}} and not metrics
        assert type(scores["acc"]["correct"]) is int
    else:
        assert not scores and metrics == {"acc": mean}


@pytest.mark.parametrize(
    ("values", "total", "scores", "metrics"),
    [
        ([0.5, 1.0], 0.75, {"acc": {"correct": 1.5, "n": 2}}, {}),
        ([0.5, 1.0], 0.6, {}, {"acc": 0.6}),  # not their mean
        ([-1.0, -1.0], -1, {}, {}),  # not measured, as lm-eval's RULER says it
        ([(-3.0, 4), (-2.0, 4)], 3.49, {}, {"acc": 3.49}),
        ([(1, 0)], math.nan, {}, {}),
    ],
)
def test_what_is_no_count_is_a_metric(values, total, scores, metrics):
    found = theirs.read(results(values, total, True), "t")
    assert (found["scores"], found["metrics"]) == (scores, metrics)


def results(values, total, higher):
    """lm-eval's results of a generating task whose documents have these values."""
    samples = [
        {
            "doc_id": i, "target": "x", "arguments": [("prompt", {})], "filtered_resps": ["y"], "filter": "none",
            "metrics": ["acc"], "acc": value, "doc_hash": "d", "prompt_hash": "p", "target_hash": "t",
        }
        for i, value in enumerate(values)
    ]  # fmt: skip
    told = {"acc,none": total, "acc_stderr,none": "N/A"}
    return {
        "samples": {"t": samples},
        "results": {"t": told},
        "higher_is_better": {"t": {"acc": higher}},
        "versions": {"t": 1},
    }


def test_filters_and_hashes_are_lm_evals_own():
    both = results([1, 0], 0.5, True)
    strict = [{**sample, "filter": "strict", "acc": 0} for sample in both["samples"]["t"]]
    both["samples"]["t"] += strict
    both["results"]["t"] |= {"acc,strict": 0.0}
    found = theirs.read(both, "t", headline="acc,strict")
    assert found["scores"] == {"acc": {"correct": 1, "n": 2}, "acc,strict": {"correct": 0, "n": 2}}
    assert found["headline"] == "acc,strict" and found["data_hash"] == hash_string("dpt" * 4)
    assert [row["correct"] for row in found["answers"]] == [
        {"acc": True, "acc,strict": False},
        {"acc": False, "acc,strict": False},
    ]


def test_the_command_takes_lm_evals_tasks_beside_ours(tmp_path):
    from typer.testing import CliRunner

    from atlas_bench.cli.app import app

    file = local(tmp_path, "arc/arc_easy")
    words = ["run", f"lm-eval:{file}", "--model", "gated-deltanet-nano", "--samples", "3", "--out", str(tmp_path / "r")]
    result = CliRunner().invoke(app, [*words, "-q"])
    assert result.exit_code == 0, result.output
    (record,) = store.read_all(tmp_path / "r")[0]
    assert record.task == "lm-eval" and record.scores["acc"]["n"] == 3 and "lm-eval:" in result.stdout
    both = CliRunner().invoke(app, ["run", f"mqar:8,lm-eval:{file}", *words[2:], "--len", "256", "-q"])
    assert (both.exit_code == 0 and "not run again" in both.stderr + both.stdout) or both.exit_code == 0
    assert {kept.task for kept in store.read_all(tmp_path / "r")[0]} == {"lm-eval", "mqar"}
    for command, said in (
        ([f"lm-eval:{file}", "--model", "oracle"], "'oracle' is a control"),
        ([f"lm-eval:{file}", "--model", "gated-deltanet-nano", "--seed", "3"], "--seed does nothing for lm-eval"),
    ):
        refused = CliRunner().invoke(app, ["run", *command, "--out", str(tmp_path / "none")])
        assert refused.exit_code == 2 and said in refused.stderr and not (tmp_path / "none").exists()
