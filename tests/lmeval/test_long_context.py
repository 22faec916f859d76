"""lm-eval's long-context tasks through our bridge, on data in their own format in the working folder.

A folder that is named as the data set stands before the hub, so the tasks are lm-eval's own files to the letter. The
model reads the prompt and solves by rule; its right answers must score, and its wrong ones must not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import lm_eval
import numpy as np
import pandas as pd
import pytest
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

from atlas_bench.lmeval import results as theirs
from atlas_bench.lmeval import run
from atlas_bench.lmeval.model import AtlasLM
from atlas_bench.models import loading
from atlas_bench.models.tokenizer import embedded
from atlas_bench.running.progress import Progress
from atlas_bench.types import Model

TASKS = Path(lm_eval.__file__).parent / "tasks"
GRASS = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again. " * 30
EDGES = [("uvwx", "alke"), ("abcd", "uvwx"), ("abcd", "efgh"), ("efgh", "uvwx"), ("alke", "zyxw"), ("zyxw", "abcd")]


class Reader(Model):
    """Keeps all that it reads as tokens, and answers by a rule for the text."""

    name = "reader"

    def __init__(self, solve: Callable[[str], str]) -> None:
        self.tokenizer, self.solve = embedded(), solve

    def start(self, batch: int) -> Mapping[str, np.ndarray]:
        return {"tokens": np.empty((batch, 0), dtype=np.int32)}

    def feed(self, state: Mapping[str, np.ndarray], tokens: np.ndarray) -> Mapping[str, np.ndarray]:
        return {"tokens": np.concatenate([state["tokens"], tokens], axis=1)}

    def answer(self, state: Any, question: Sequence[int], max_tokens: int, stop: Sequence[str] = ("\n",)) -> str:
        return self.solve(self.tokenizer.decode([*state["tokens"][0].tolist(), *question]))

    def facts(self) -> dict[str, Any]:
        return {"weights_hash": "reader", "kernel": "none", "memory": "none", "device": "cpu", "parameters": 0}


def data(
    folder: Path,
    name: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    split: str,
    config: str = "default",
    also: Sequence[str] = (),
) -> None:
    """A data set as on the hub, with the same rows in each of its splits."""
    where = folder / name
    where.mkdir(parents=True, exist_ok=True)
    (where / f"{config}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    splits = [{"split": each, "path": f"{config}.jsonl"} for each in (split, *also)]
    files = {"config_name": config, "data_files": splits}
    (where / "README.md").write_text(f"---\n{json.dumps({'configs': [files]})}\n---\n")


def go(task: str, model: Model, folder: Path) -> Any:
    """The record of lm-eval's own file of a task, or of a task's name."""
    name = str(TASKS / f"{task}.yaml") if "/" in task else task
    (record,) = run.run([name], {model.name: model}, folder / "runs", progress=Progress(quiet=True))
    return record


def walk(text: str) -> str:
    """GraphWalks: the last operation, on the edges of the text."""
    edges = re.findall(r"^(\w+) -> (\w+)$", text, re.MULTILINE)
    node, depth = re.findall(r"BFS from node (\w+) with depth (\d)", text)[-1]
    level, seen = {node}, {node}
    for _ in range(int(depth)):
        level = {b for a, b in edges if a in level} - seen
        seen |= level
    return f"Depth by depth:\nFinal Answer: [{', '.join(sorted(level))}]"


def key(text: str) -> str:
    """The pass key, in English or Russian."""
    return re.findall(r"(?:pass key is|Ключ доступа) (\d+)", text)[0]


def route(text: str) -> str:
    """LongProc's path traversal: from the first city to the last, by the flights of the text."""
    flights = dict(re.findall(r"From (\w+), you can travel to (\w+)", text))
    city, goal = re.findall(r"from (\w+) to (\w+)\.", text)[-1]
    steps = []
    while city != goal:
        steps.append(f"From {city}, take a bus to {flights[city]}.")
        city = flights[city]
    return "<Route>\n" + "\n".join(steps) + "\n</Route>"


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")  # it knows folders by their names


@pytest.fixture(scope="module")
def nano():
    return loading.load("gated-deltanet-nano", device="cpu")


def graphwalks(folder: Path, file: str) -> None:
    listed = "\n".join(f"{a} -> {b}" for a, b in EDGES)
    asked = f"The graph has the following edges:\n{listed}\n\nOperation:\nPerform a BFS from node abcd with depth "
    rows = [(1, ["uvwx", "efgh"]), (2, ["alke"]), (2, ["alke", "abcd"])]  # the last answer is none
    (folder / "openai" / "graphwalks").mkdir(parents=True)
    table = [{"prompt": f"{asked}{depth}.", "answer_nodes": nodes, "problem_type": "bfs"} for depth, nodes in rows]
    pd.DataFrame(table).to_parquet(folder / "openai" / "graphwalks" / f"{file}.parquet")


@pytest.mark.parametrize(
    ("task", "file"),
    [
        ("graphwalks/graphwalks_128k", "graphwalks_128k_and_shorter"),
        ("graphwalks/graphwalks_1M", "graphwalks_256k_to_1mil"),
        pytest.param("graphwalks_1M", "graphwalks_256k_to_1mil", marks=pytest.mark.slow),  # by name: reads all tasks
    ],
)
def test_graphwalks(tmp_path, task, file):
    graphwalks(tmp_path, file)
    record = go(task, Reader(walk), tmp_path)
    assert record.status == "ok", record.reason
    assert record.scores["f1"] == record.scores["flexible_f1"] == {"correct": pytest.approx(2 + 2 / 3), "n": 3}
    assert record.subset == f"graphwalks_{'1M' if '1M' in task else '128k'}"


def infinitebench(folder: Path, split: str) -> None:
    codes = [("71432", "71432"), ("90125", "90125"), ("11111", "22222")]
    rows = [
        {
            "id": i,
            "context": f"{GRASS}The pass key is {code}. Remember it. {code} is the pass key. {GRASS}",
            "input": "What is the pass key?",
            "answer": [answer],
            "options": [],
        }
        for i, (code, answer) in enumerate(codes)
    ]
    data(folder, "xinrongzhang2022/InfiniteBench", rows, split=split)


def test_infinitebench_by_a_file_that_leaves_its_features_out(tmp_path):
    infinitebench(tmp_path, "passkey")
    mended = {"include": str(TASKS / "infinitebench" / "infinitebench_passkey.yaml"), "task": "passkey_mended"}
    (tmp_path / "passkey.yaml").write_text(json.dumps(mended | {"dataset_kwargs": {}}))
    record = go("passkey.yaml", Reader(key), tmp_path)
    assert record.status == "ok", record.reason
    assert record.scores == {"score": {"correct": 2, "n": 3}}


def test_infinitebench_as_it_is_does_not_load(tmp_path):
    """lm-eval 0.4.13 hands its features to datasets in a form that it does not take. When this fails, mend the page."""
    infinitebench(tmp_path, "passkey")
    record = go("infinitebench/infinitebench_passkey", Reader(key), tmp_path)
    assert record.status == "failed" and "'str' object has no attribute 'items'" in record.reason


def longproc(folder: Path) -> None:
    cities = ("Bern", "Rome", "Oslo", "Riga")
    told = "\n".join(f"From {a}, you can travel to {b} by bus." for a, b in pairwise(cities))
    steps = "\n".join(f"From {a}, take a bus to {b}." for a, b in pairwise(cities))
    rows = [
        {
            "input_prompt": f"{told}\nNow find the route from Bern to {goal}.",
            "reference_output": steps,
            "metadata": "{}",
        }
        for goal in ("Riga", "Oslo")  # the way to the second is shorter
    ]
    data(folder, "PrincetonPli/LongProc", rows, split="test", config="path_traversal_0.5k")


def test_longproc_is_not_run_without_consent(tmp_path):
    longproc(tmp_path)
    record = go("longproc/path_traversal_0.5k", Reader(route), tmp_path)
    assert record.status == "unsupported" and "--confirm_run_unsafe_code" in record.reason and not record.tokens_read


def test_longproc_with_consent(tmp_path):
    longproc(tmp_path)
    manager = TaskManager(include_defaults=False)
    (task,) = manager.load([str(TASKS / "longproc" / "path_traversal_0.5k.yaml")])["tasks"].values()
    lm = AtlasLM(Reader(route))
    results = simple_evaluate(lm, tasks=[task], confirm_run_unsafe_code=True, bootstrap_iters=0, task_manager=manager)
    found = theirs.read(results, "longproc_path_traversal_0.5k")["scores"]
    assert found["score"] == found["accuracy"] == {"correct": 1, "n": 2}
    assert found["extraction_rate"] == {"correct": 2, "n": 2}


def test_longbench2(tmp_path, nano):
    rows = [
        {"context": GRASS, "question": "What is green?", "choices": ["grass", "sky", "sun", "sea"], "answer": answer}
        for answer in "AAB"
    ]
    data(tmp_path, "recursal/longbench-v2", rows, split="train", config="graph_reasoning")
    record = go("longbench2/graph", nano, tmp_path)
    assert record.status == "ok", record.reason
    assert record.subset == "longbench2_graph" and record.scores["acc"]["n"] == 3 and record.chance == 0.6667


def test_paloma(tmp_path, nano):
    texts = [{"text": GRASS}, {"text": GRASS[:400]}]
    data(tmp_path, "allenai/paloma", texts, split="test", config="ptb", also=("val",))
    record = go("paloma/paloma_ptb", nano, tmp_path)
    assert record.status == "ok", record.reason
    assert record.scores == {} and set(record.metrics) >= {"word_perplexity", "byte_perplexity", "bits_per_byte"}


def test_libra(tmp_path):
    pytest.importorskip("pymorphy3", reason="LIBRA's scorer needs it")
    rows = [
        {
            "context": f"{GRASS}Ключ доступа {code}. {GRASS}",
            "input": "Какой ключ?",
            "positive_outputs": [answer],
            "length": length,
        }
        for code, answer, length in (("71432", "71432", "4p"), ("90125", "90125", "8p"), ("11111", "22222", "8p"))
    ]
    data(tmp_path, "ai-forever/LIBRA", rows, split="test", config="passkey")
    record = go("libra/passkey", Reader(key), tmp_path)
    assert record.status == "ok", record.reason
    assert record.metrics == {"libra_score,4p": 1.0, "libra_score,8p": 0.5}
