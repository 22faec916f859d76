"""Our tasks in lm-eval's own runner: the same answers and scores as `atlas-bench run`, for any model as text."""

from __future__ import annotations

import json
import re
from functools import partial

import pytest
from lm_eval import simple_evaluate
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

from atlas_bench import registry
from atlas_bench.errors import UserError
from atlas_bench.lmeval import model as adapter
from atlas_bench.lmeval import tasks as ours
from atlas_bench.lmeval.model import AtlasLM
from atlas_bench.models import causal_lm
from atlas_bench.models.tokenizer import embedded
from atlas_bench.running import runner
from atlas_bench.running.evaluation import Cell, Evaluation
from atlas_bench.running.progress import Progress
from atlas_bench.tasks import corpora
from atlas_bench.tasks.texts import Tokens
from atlas_bench.types import Rules, Sample, Scorer
from tests.marks import sweep

NAME = "gated-deltanet-nano"
CELLS = {  # lm-eval's name -> task, subset, length, samples
    "atlas_babilong_qa1": ("babilong", "qa1", 1000, 8),
    "atlas_babilong_qa5": ("babilong", "qa5", 700, 6),
    "atlas_mqar_8": ("mqar", "8", 300, 10),
    "atlas_tiny": ("tiny", "", 200, 7),
}


class Tiny:
    """Three questions along each context, and answers that are made to begin with a word."""

    name, subsets, version, reads_text = "tiny", (), "7", False

    def rules(self, subset):
        scorer = Scorer(lambda answer, sample: len(answer) / (len(answer) + 5))
        return Rules({"tiny/length": scorer}, 0.0, 6, stop=("d",), questions_per_context=3)

    def check(self, subset, length, tokenizer, options):
        pass

    def samples(self, subset, length, n, seed, tokenizer, options):
        for i in range(n):
            if i % 3 == 0:
                words = tokenizer.encode(" John went to the garden. Mary moved to the office." * (i + 20))
                context = Tokens([words[: length - 4]])
            *question, mark = tokenizer.encode(" Where is John?")
            at = 50 * (i % 3 + 1) if i % 3 < 2 else None
            yield Sample(i, context, tuple(question), ("x",), prefill=(mark,), asked_at=at)

    def describe(self):
        return "tiny"


TINY = Tiny()


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path_factory):
    """Generated background in shards of 20K tokens; a task with nothing remembered from another corpus."""
    cache = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setattr(corpora, "generated", partial(corpora.generated, cache=cache, shard_tokens=20_000))
    monkeypatch.setattr("atlas_bench.tasks.babilong.BABILONG", type(registry.task("babilong"))())
    monkeypatch.setitem(registry.TASKS, "tiny", f"{__name__}:TINY")


def made(name: str, /, **metadata) -> ours.AtlasTask:
    task, subset, length, samples = CELLS[name]
    told = {"name": NAME, "length": length, "samples": samples} | metadata
    return ours.AtlasTask({"task": name, "cell": [task, subset], "metadata": told})


def evaluated(lm, task, **options):
    manager = TaskManager(include_defaults=False)
    return simple_evaluate(lm, tasks=[task], bootstrap_iters=0, task_manager=manager, **options)


class Wrapping:
    """A model with tokens of its own around every prompt; it answers what it has read."""

    name, tokenizer, wrap = "wrapping", embedded(), ((11, 12), (13,))

    def supports(self, length):
        return None

    def start(self, batch):
        return [()] * batch

    def feed(self, state, tokens):
        return [(*row, *more) for row, more in zip(state, tokens.tolist(), strict=True)]

    def row(self, state, index):
        return state[index : index + 1]

    def answer(self, state, question, max_tokens, stop=()):
        return " ".join(map(str, (*state[0], *question)))

    def state_bytes(self, state):
        return 8

    def pack(self, state):
        return {}

    def facts(self):
        return {}


class Echo(LM):
    """A model of somebody else's: it sees text, and always says the same."""

    def generate_until(self, requests):
        self.seen = [request.args for request in requests]
        return ["  kitchen "] * len(requests)

    loglikelihood = loglikelihood_rolling = None


@sweep("name", CELLS, quick=["atlas_babilong_qa1", "atlas_mqar_8"])
def test_lm_evals_runner_gets_the_answers_and_scores_of_ours(name, tmp_path):
    task, subset, length, samples = CELLS[name]
    model = adapter.opened(NAME)
    cell = Cell(task, subset, length, NAME, 3, samples)
    (record,) = runner.run([cell], {NAME: model}, tmp_path, runner.Settings(), Progress(quiet=True))
    lm = AtlasLM(model)
    results = evaluated(lm, made(name, seed=3))
    answers = [sample["filtered_resps"][0] for sample in results["samples"][name]]
    assert answers == [row["answer"] for row in record.answers] and (any(answers) or task == "mqar")
    for scorer, score in record.scores.items():
        assert results["results"][name][f"{scorer},none"] == pytest.approx(score["correct"] / score["n"], abs=1e-12)
    asked = sum(sample.length - sample.reads for sample in Evaluation(cell, registry.task(task), model).samples())
    assert lm.tokens_read + asked == record.tokens_read  # a context that samples share is read once
    assert results["versions"][name] == record.task_version


def test_a_models_own_tokens_are_around_the_prompt_and_counted(tmp_path, monkeypatch):
    model = Wrapping()
    monkeypatch.setitem(adapter._opened, "wrapping", model)
    cell = Cell("tiny", "", 200, "wrapping", 0, 5)
    (record,) = runner.run([cell], {"wrapping": model}, tmp_path, runner.Settings(), Progress(quiet=True))
    results = evaluated(AtlasLM(model), made("atlas_tiny", name="wrapping", samples=5))
    answers = [sample["filtered_resps"][0] for sample in results["samples"]["atlas_tiny"]]
    assert answers == [row["answer"] for row in record.answers]
    read = list(map(int, answers[2].split()))
    assert len(read) == 203 and read[:2] == [11, 12] and read[-2] == 13  # the prefill comes behind them
    assert results["samples"]["atlas_tiny"][2]["doc"]["length"] == 203
    text = results["samples"]["atlas_tiny"][2]["arguments"][0][0]
    assert embedded().encode(text) == [*read[2:-2], read[-1]]


def test_any_other_model_gets_the_text(small):
    task = made("atlas_babilong_qa1", samples=30)
    echo = Echo()
    results = evaluated(echo, task, limit=20)
    assert len(echo.seen) == 20
    cell = Cell("babilong", "qa1", 1000, NAME, 0, 20)
    samples = list(Evaluation(cell, registry.task("babilong"), adapter.opened(NAME)).samples())
    for (text, options), sample in zip(echo.seen, samples, strict=True):
        assert embedded().encode(text) == [*sample.context.read(0, sample.reads).tolist(), *sample.question]
        assert options == {"until": ["\n"], "max_gen_toks": 20, "do_sample": False, "temperature": 0.0}
        assert sample.meta["question"] in text[-40:]
    right = sum(sample.targets == ("kitchen",) for sample in samples)
    assert results["results"]["atlas_babilong_qa1"]["babilong/word,none"] == right / 20
    first = results["samples"]["atlas_babilong_qa1"][0]
    assert (first["doc"]["length"], first["doc"]["index"], first["target"]) == (1000, 0, samples[0].targets[0])
    json.dumps(first["doc"])


def test_what_lm_eval_adds_is_read_as_text():
    task, echo = made("atlas_babilong_qa1", samples=2), Echo()
    evaluated(echo, task, system_instruction="Be brief.")
    for text, _ in echo.seen:
        assert type(text) is str and text.startswith("Be brief.")
    lm = AtlasLM(adapter.opened(NAME))
    evaluated(lm, made("atlas_babilong_qa1", samples=2), system_instruction="Be brief.")
    assert lm.longest > 1000


def test_lengths_count_in_the_tokenizer_of_another_model(tmp_path):
    causal_lm.tokenizer().save_pretrained(tmp_path)
    for key in ("tokenizer", "pretrained"):
        told = {key: str(tmp_path), "length": "1K", "samples": 2}
        task = ours.AtlasTask({"task": "x", "cell": ["babilong", "qa1"], "metadata": told})
        assert [doc["length"] for doc in task.test_docs()] == [1000, 1000]


def test_lm_evals_cache_of_requests_is_left_alone(monkeypatch, tmp_path):
    monkeypatch.setattr("lm_eval.caching.cache.PATH", str(tmp_path))
    for length in (700, 800):  # lm-eval's key would be the same
        echo = Echo()
        evaluated(echo, made("atlas_babilong_qa1", length=length, samples=1), cache_requests=True)
        assert len(embedded().encode(echo.seen[0][0])) == length
    assert not list(tmp_path.iterdir())


def test_every_task_with_answers_is_visible(tmp_path):
    ours.write(tmp_path)
    manager = TaskManager(include_defaults=False, include_path=str(tmp_path), metadata={"name": NAME, "length": 700})
    expected = {name for name, _, _ in ours.names()}
    assert set(manager.all_subtasks) == expected >= set(CELLS) and "atlas_loss" not in manager.all_tags
    assert all(re.fullmatch(r"[\w.+-]+", name) for name in manager.all_tasks)  # no glob, comma or path
    assert manager.task_index["atlas_mqar"].tags == {name for name in expected if name.startswith("atlas_mqar_")}
    (task,) = manager.load(["atlas_babilong_qa1"])["tasks"].values()
    assert isinstance(task, ours.AtlasTask) and len(task.eval_docs) == 100


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"name": NAME}, r"task x has no length of its own\. Add --metadata length=16K"),
        (
            {"name": NAME, "length": "1M"},
            r"128Ki at most\. `atlas-bench run babilong:qa1 --len 1M --model NAME` streams",
        ),
        (
            {"name": NAME, "length": "5"},
            r"length 5 is too short for babilong:qa1.* Use --len \d+ or more\. In lm-eval such options go",
        ),
        ({"name": NAME, "length": "1K", "samples": "many"}, "--metadata samples is 'many', which is no whole number"),
        ({"name": "atlas-nanno", "length": "1K"}, "unknown model 'atlas-nanno'"),
        ({"length": "1K"}, "knows no tokenizer. Add --metadata tokenizer=NAME"),
        ({"length": "1K", "pretrained": "./nowhere"}, "tokenizer './nowhere' cannot be read"),
    ],
)
def test_mistakes_are_told_in_one_message(metadata, message):
    with pytest.raises(UserError, match=message):
        ours.AtlasTask({"task": "x", "cell": ["babilong", "qa1"], "metadata": metadata})
