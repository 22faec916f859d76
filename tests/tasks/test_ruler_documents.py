"""RULER's question answering, on small files of SQuAD's and HotpotQA's form."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_bench.errors import UserError
from atlas_bench.models.tokenizer import embedded
from atlas_bench.tasks.ruler import Ruler, data
from atlas_bench.tasks.ruler.documents import pool
from atlas_bench.types import Sample, TaskOptions

TOKENIZER = embedded()
RIVERS = ("Elbe", "Oder", "Rhine", "Weser", "Main", "Neckar")
SQUAD = {
    "version": "v2.0",
    "data": [
        {
            "title": river,
            "paragraphs": [
                {
                    "context": f"Mill {i} on the {river} was built in {1500 + 10 * i} by the monks of {river} {i}.",
                    "qas": [
                        {
                            "id": f"{river} {i}",
                            "question": f"When was mill {i} on the {river} built?",
                            "answers": [{"text": str(1500 + 10 * i)}, {"text": f"in {1500 + 10 * i}"}],
                            "is_impossible": False,
                        },
                        {"id": f"not {river} {i}", "question": "Why?", "answers": [], "is_impossible": True},
                    ],
                }
                for i in range(5)
            ],
        }
        for river in RIVERS
    ],
}
HOTPOTQA = [
    {
        "_id": str(i),
        "question": f"In which town was the builder of tower {i} born?",
        "answer": f"Town {i}",
        "supporting_facts": [[f"Tower {i}", 0], [f"Builder {i}", 1]],
        "context": [
            [f"Tower {i}", [f"Tower {i} is high.", f" Builder {i} built it."]],
            [f"Hill {i}", [f"Hill {i} is low."]],
            [f"Builder {i}", [f"Builder {i} was a mason.", f" He was born in Town {i}."]],
            ["Sea", ["The sea is far."]],  # a paragraph that all questions share
        ],
    }
    for i in range(40)
]
FILES = {"qa_1": SQUAD, "qa_2": HOTPOTQA}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Both files, under the names that RULER's download script gives them."""
    monkeypatch.setenv("ATLAS_BENCH_CACHE", str(tmp_path_factory.getbasetemp() / "ruler"))
    for subset, content in FILES.items():
        (tmp_path / data.SOURCES[subset].file).write_text(json.dumps(content))
    return str(tmp_path)


def samples(subset: str, length: int, n: int, folder: str, *, seed: int = 0) -> list[Sample]:
    task, options = Ruler(), TaskOptions(data=folder)
    task.check(subset, length, TOKENIZER, options)
    return list(task.samples(subset, length, n, seed, TOKENIZER, options))


def text(sample: Sample) -> str:
    return TOKENIZER.decode(sample.context.read(0, sample.context.length).tolist())


def shown(sample: Sample) -> list[str]:
    """The documents of a context, the last one perhaps cut."""
    told, *found = re.split(r"\n\nDocument (\d+):\n", text(sample))
    assert told.endswith("The following are given documents.")
    assert found[::2] == [str(i) for i in range(1, len(found) // 2 + 1)]
    return found[1::2]


@pytest.mark.parametrize("subset", FILES)
@pytest.mark.parametrize("length", [600, 4096, 65_536])
def test_exact_with_the_tokens_to_generate(folder: str, subset: str, length: int) -> None:
    for sample in samples(subset, length, 3, folder):
        read = len(sample.context.read(0, sample.context.length))
        assert read + len(sample.question) + len(sample.prefill) + 32 == length


def test_questions_come_in_the_order_of_the_file(folder: str) -> None:
    for seed in (0, 1):
        asked = [
            sample.meta["question"].split("Question: ")[1] for sample in samples("qa_1", 1000, 7, folder, seed=seed)
        ]
        assert asked == [f"When was mill {i} on the Elbe built?" for i in range(5)] + [
            f"When was mill {i} on the Oder built?" for i in range(2)
        ]
    (sample,) = samples("qa_1", 1000, 1, folder)
    assert sample.meta["references"] == ("1500", "in 1500") and sample.targets == ("1500, in 1500",)
    assert TOKENIZER.decode(sample.prefill) == " Answer:"
    assert TOKENIZER.decode(sample.question).startswith("\n\nAnswer the question based on the given documents. Only")


def test_squad_has_its_article_before_anything_else(folder: str) -> None:
    for length in (180, 240, 300, 360, 1000):
        for sample in samples("qa_1", length, 6, folder):
            river = re.search(r"on the (\w+) built", sample.meta["question"]).group(1)
            whole = shown(sample)[: sample.context.count - 1]
            assert sum(f"on the {river} was" in document for document in whole) == min(len(whole), 5)
    orders = {tuple(shown(sample)[:5]) for seed in range(4) for sample in samples("qa_1", 1000, 1, folder, seed=seed)}
    assert len(orders) == 4


def test_hotpotqa_has_all_its_paragraphs_and_two_that_answer(folder: str) -> None:
    for i, sample in enumerate(samples("qa_2", 800, 5, folder)):
        found = shown(sample)
        own = [f"{title}\n{''.join(sentences)}" for title, sentences in HOTPOTQA[i]["context"]]
        assert all(found.count(paragraph) == 1 for paragraph in own) and len(found) > 6
        places = [text(sample).index(paragraph) for paragraph in own]
        assert sorted(places) == sorted(map(place(sample), sample.meta["needle_positions"]))
        answering = [places[0], places[2]]  # the tower and its builder
        assert sorted(answering) == sorted(map(place(sample), sample.meta["supporting"]))
        assert sample.meta["facts"] == 4


def place(sample: Sample):
    """Characters before a token."""
    return lambda token: len(TOKENIZER.decode(sample.context.read(0, token).tolist()))


def test_the_pool_comes_again_when_it_is_used_up(folder: str) -> None:
    (sample,) = samples("qa_1", 20_000, 1, folder)
    found = shown(sample)
    counted = Counter(found[:-1])
    assert len(counted) == 30 and max(counted.values()) - min(counted.values()) <= 1 and min(counted.values()) > 5
    assert sample.meta["facts"] == 1  # its first occurrence


@given(st.integers(1, 60), st.data())
@settings(max_examples=60, deadline=None)
def test_every_paragraph_once_before_any_comes_again(size: int, draw: st.DataObject) -> None:
    numbers = draw.draw(st.permutations(range(size)))
    own, others = draw.draw(st.integers(1, min(size, 10))), draw.draw(st.integers(0, 10))
    asked = data.Asked("?", ("!",), tuple(numbers[:own]), (), tuple(numbers[own : own + others]))
    order = pool(asked, size, "any")(np.arange(3 * size)).tolist()
    assert order[:own] == list(asked.paragraphs)
    assert sorted(order[own : own + len(asked.others)]) == sorted(asked.others)
    for start in (0, size, 2 * size):
        assert sorted(order[start : start + size]) == list(range(size))
    assert order[size : 2 * size] == order[2 * size :]


@pytest.mark.slow
def test_ten_million_tokens(folder: str) -> None:
    (sample,) = samples("qa_2", 10_000_000, 1, folder)
    parts = [sample.context.read(start, start + 65_536) for start in range(0, sample.context.length, 40 * 65_536)]
    assert sample.context.length > 9_990_000 and all(len(part) == 65_536 for part in parts[:-1])
    assert "\nDocument 1" in TOKENIZER.decode(parts[2].tolist())


def test_questions_that_do_not_fit_are_left_out(folder: str) -> None:
    long = json.loads(json.dumps(HOTPOTQA[:3]))
    long[0]["context"][1][1] = ["A long hill. " * 200]
    Path(folder, "hotpotqa.json").write_text(json.dumps(long))
    assert [sample.targets[0] for sample in samples("qa_2", 600, 2, folder)] == ["Town 1", "Town 2"]
    with pytest.raises(UserError, match=r"n = 3 .* the 2 questions that fit in 600 .* --samples 2"):
        samples("qa_2", 600, 3, folder)
    assert [sample.targets[0] for sample in samples("qa_2", 2000, 3, folder)] == ["Town 0", "Town 1", "Town 2"]


@pytest.mark.parametrize("subset", FILES)
def test_the_least_length_is_exact(folder: str, subset: str) -> None:
    with pytest.raises(UserError, match=r"length 3 is too short .* Use --len \d+") as caught:
        samples(subset, 3, 1, folder)
    least = int(str(caught.value).split("--len ")[1].split()[0])
    (sample,) = samples(subset, least, 1, folder)
    assert len(shown(sample)) == sample.meta["facts"]  # nothing but the question's own, none cut
    with pytest.raises(UserError, match=f"Use --len {least} or more"):
        samples(subset, least - 1, 1, folder)


@pytest.mark.parametrize("subset", FILES)
def test_facts_stand_where_the_record_says(folder: str, subset: str) -> None:
    for sample in samples(subset, 3000, 4, folder):
        there = list(sample.context.facts())
        assert [at for at, _ in there] == list(sample.meta["needle_positions"])
        for at, tokens in there:
            assert sample.context.read(at, at + len(tokens)).tolist() == list(tokens)
    again = samples(subset, 3000, 2, folder)
    for one, two in pairwise(again):
        assert one.meta["plan_hash"] != two.meta["plan_hash"]


# where the data come from


def test_real_paragraphs_cannot_be_generated() -> None:
    for subset, file in (("qa_1", "squad.json"), ("qa_2", "hotpotqa.json")):
        with pytest.raises(UserError, match=rf"--data hub, or --data FOLDER with .* as {file}"):
            samples(subset, 4096, 1, "generated")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no file squad.json .* dev-v2.0.json"),
        ("{", "is no JSON"),
        ("[1]", "not in the form of SQuAD's"),
        ('{"data": []}', "no question with an answer"),
        ('{"data": [{"paragraphs": [{"context": "x"}]}]}', "KeyError: 'qas'"),
    ],
)
def test_a_file_that_is_not_squads_is_told(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "squad.json").write_text(content)
    with pytest.raises(UserError, match=message):
        samples("qa_1", 4096, 1, str(tmp_path))


def rows(subset: str) -> list[dict[str, Any]]:
    """The same questions as the hub's data sets have them."""
    if subset == "qa_1":
        return [
            {
                "title": article["title"],
                "context": paragraph["context"],
                "question": qa["question"],
                "answers": {"text": [answer["text"] for answer in qa["answers"]], "answer_start": []},
            }
            for article in SQUAD["data"]
            for paragraph in article["paragraphs"]
            for qa in paragraph["qas"]
        ]
    return [
        row
        | {
            "context": {"title": [t for t, _ in row["context"]], "sentences": [s for _, s in row["context"]]},
            "supporting_facts": {
                "title": [t for t, _ in row["supporting_facts"]],
                "sent_id": [n for _, n in row["supporting_facts"]],
            },
        }
        for row in HOTPOTQA
    ]


@pytest.mark.parametrize("subset", FILES)
def test_the_hub_gives_the_same_questions(folder: str, subset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(data.hub, "rows", lambda *name, split, advice: asked.append(name) or iter(rows(subset)))
    data._load.cache_clear()
    assert data.load(subset, "hub") == data.load(subset, folder)
    assert asked == [data.SOURCES[subset].hub]
    data._load.cache_clear()


def test_the_hub_without_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    data._load.cache_clear()
    with pytest.raises(UserError, match="pip install datasets"):
        data.load("qa_1", "hub")
