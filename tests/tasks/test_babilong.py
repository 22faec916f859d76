"""BABILong: stories whole and in order, exact lengths, data without replacement, chance as measured."""

from __future__ import annotations

import random
import re
import sys
from collections import Counter
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest

from atlas_bench.errors import UserError
from atlas_bench.models.oracle import Oracle
from atlas_bench.models.tokenizer import embedded
from atlas_bench.running import runner
from atlas_bench.running.evaluation import Cell
from atlas_bench.running.progress import Progress
from atlas_bench.tasks import babi, babilong_data, corpora, prompts
from atlas_bench.tasks.babilong import COMMONEST, Babilong
from atlas_bench.types import Sample, TaskOptions, Tokenizer
from tests.registered import own_tasks
from tests.tasks.test_corpora import Letters

TOKENIZER = embedded()
GENERATED = TaskOptions()
needs_lm_eval = pytest.mark.skipif(find_spec("lm_eval") is None, reason="lm-eval is not installed")

BABI = """\
1 Mary moved to the bathroom.
2 John went to the hallway.
3 Where is Mary? \tbathroom\t1
4 Daniel went back to the hallway.
5 Sandra moved to the garden.
6 Where is Daniel? \thallway\t4
1 Sandra went to the kitchen.
2 Sandra moved to the office.
3 Where is Sandra? \toffice\t2
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setattr(corpora, "generated", partial(corpora.generated, cache=cache, shard_tokens=20_000))
    own_tasks(monkeypatch)


@pytest.fixture
def files(tmp_path: Path) -> TaskOptions:
    (tmp_path / "qa1_single-supporting-fact_test.txt").write_text(BABI)
    return TaskOptions(data=str(tmp_path))


def samples(subset: str, length: int, n: int, seed: int = 0, options: TaskOptions = GENERATED) -> list[Sample]:
    task = Babilong()
    task.check(subset, length, TOKENIZER, options)
    return list(task.samples(subset, length, n, seed, TOKENIZER, options))


def text(sample: Sample) -> str:
    return TOKENIZER.decode([*sample.context.read(0, sample.context.length).tolist(), *sample.question])


@pytest.mark.parametrize("subset", Babilong.subsets)
def test_the_facts_before_one_question_then_the_question(subset: str) -> None:
    for i, sample in enumerate(samples(subset, 16_000, 5, seed=3)):
        story = babi.simulate(subset, random.Random(f"babilong {subset} 3 {i}"))
        asked = [q for q in story.questions if q.text == sample.meta["question"]]
        counts = [q.after for q in asked]
        assert sample.meta["facts"] in counts
        question = asked[counts.index(sample.meta["facts"])]
        assert sample.targets == (question.answer,)
        made, at = text(sample), 0
        for fact in story.facts[: question.after]:
            at = made.index(f" {fact}", at) + len(fact)
        assert made.endswith(f" {question.text}") and made.count(" " + question.text) == 1
        where = sample.meta["needle_positions"]
        assert sample.meta["supporting"] == tuple(where[k] for k in question.supporting)


def test_supporting_facts_state_the_answer() -> None:
    for sample in samples("qa1", 2000, 20):
        (at,) = sample.meta["supporting"]
        fact = TOKENIZER.decode(sample.context.read(at, at + 20).tolist()).split(".")[0]
        person = sample.meta["question"].removeprefix("Where is ").rstrip("?")
        assert fact.startswith(f" {person} ") and fact.endswith(f" {sample.targets[0]}")


def test_the_same_question_at_every_length() -> None:
    for short, long in zip(samples("qa2", 4000, 8), samples("qa2", 16_000, 8), strict=True):
        if short.meta["facts"] == long.meta["facts"]:
            assert (short.meta["question"], short.targets) == (long.meta["question"], long.targets)
    assert len({s.meta["plan_hash"] for s in samples("qa2", 4000, 8) + samples("qa2", 4001, 8)}) == 16


def test_stories_too_long_are_drawn_again() -> None:
    assert all(sample.context.length + len(sample.question) == 700 for sample in samples("qa3", 700, 10))


def test_ten_tokens_are_too_few() -> None:
    with pytest.raises(UserError, match=r"length 10 is too short for babilong:qa1: .* 'bare' prompt"):
        samples("qa1", 10, 1)


def test_unknown_subset() -> None:
    with pytest.raises(UserError, match=r"no subset 'q1'\. Did you mean 'qa1'"):
        samples("q1", 1000, 1)


def test_meta_is_what_the_record_needs() -> None:
    (sample,) = samples("qa1", 1000, 1)
    assert set(sample.meta) == {
        *("question", "labels", "facts", "needle_positions", "supporting"),
        *("plan_hash", "corpus_key", "data_key", "prompt_hash"),
    }
    assert sample.meta["plan_hash"] == sample.context.digest()
    assert sample.meta["corpus_key"] == sample.context.corpus.key


def test_a_folder_gives_each_question_once(files: TaskOptions) -> None:
    found = samples("qa1", 500, 3, options=files)
    assert sorted((s.meta["question"], *s.targets, s.meta["facts"]) for s in found) == [
        ("Where is Daniel?", "hallway", 4),
        ("Where is Mary?", "bathroom", 2),
        ("Where is Sandra?", "office", 2),
    ]
    orders = {tuple(s.meta["question"] for s in samples("qa1", 500, 3, seed=seed, options=files)) for seed in range(12)}
    assert len(orders) > 1
    assert found[0].meta["data_key"] != samples("qa1", 500, 1)[0].meta["data_key"]


def test_a_folder_has_an_end(files: TaskOptions) -> None:
    with pytest.raises(UserError, match=r"n = 4 .* 3 questions .* --samples 3"):
        samples("qa1", 500, 4, options=files)


def test_a_folder_leaves_out_what_does_not_fit(files: TaskOptions) -> None:
    with pytest.raises(UserError) as caught:
        samples("qa1", 5, 1, options=files)
    least = int(str(caught.value).split("--len ")[1].split()[0])
    (sample,) = samples("qa1", least, 1, options=files)
    assert sample.meta["facts"] == 2
    with pytest.raises(UserError, match=r"n = 3 samples"):
        samples("qa1", least, 3, options=files)


def test_a_folder_without_the_subset(files: TaskOptions) -> None:
    with pytest.raises(UserError, match="qa2"):
        samples("qa2", 500, 1, options=files)


def test_background_from_books(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATLAS_BENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "book.txt").write_text("It was a cold night in the harbour and nobody was awake to see it. " * 30)
    (sample,) = samples("qa1", 600, 1, options=TaskOptions(background=str(tmp_path)))
    assert "nobody was awake" in text(sample)


@needs_lm_eval
def test_the_official_prompt_stands_around_the_context() -> None:
    (bare,) = samples("qa1", 1500, 1)
    (sample,) = samples("qa1", 1500, 1, options=TaskOptions(prompt="official"))
    made = text(sample)
    assert made.startswith("I will give you context") and re.search(r"\n\n<context>\n\S", made)
    assert made.endswith(f"\n</context>\n\nQuestion: {sample.meta['question']}")
    assert len(sample.question) + sample.context.length == 1500
    assert sample.meta["needle_positions"][0] >= len(TOKENIZER.encode(made.split("\n\n<context>\n")[0]))
    assert (sample.meta["question"], sample.targets) == (bare.meta["question"], bare.targets)
    assert sample.meta["prompt_hash"] != bare.meta["prompt_hash"]


@needs_lm_eval
@pytest.mark.parametrize("tokenizer", [TOKENIZER, Letters()], ids=["embedded", "letters"])
def test_no_blank_stands_between_the_official_prompt_and_the_text(tokenizer: Tokenizer) -> None:
    """Whether background or a fact comes first, and whatever the first word takes without its blank."""
    task, official = Babilong(), TaskOptions(prompt="official")
    before = prompts.load("official", "qa4").before
    with pytest.raises(UserError, match=r"Use --len \d+") as refused:
        task.check("qa4", 5, tokenizer, official)
    least = int(str(refused.value).split("--len ")[1].split()[0])
    facts_first = 0
    for length in (0, least, least + 1, least + 2, least + 40, 8000):
        for sample in task.samples("qa4", length, 12, 0, tokenizer, official):
            tokens = sample.context.read(0, sample.context.length).tolist()
            text = tokenizer.decode(tokens).removeprefix(before)
            assert len(text) < len(tokenizer.decode(tokens)) and text == text.lstrip()
            if length:  # a background of one or two tokens is left out where it would be a blank
                assert length - 2 * (length < least + 40) <= sample.length <= length
            fact = tokenizer.decode(tokens[sample.meta["needle_positions"][0] :]).lstrip()
            assert re.match(r"The [a-z]+ is (north|south|east|west) of ", fact)
            facts_first += text.startswith(fact)
    assert 12 < facts_first < 60


class Saying(Oracle):
    """Says the right answer as the examples of the official prompt do, behind a line break, and then goes on."""

    def answer(self, state, question, max_tokens, stop=("\n",)) -> str:
        assert max_tokens == 20
        said = f"\nAnswer: {super().answer(state, question, max_tokens, stop)}.\nQuestion: Where is the garden?"
        return said[: min((at for at in map(said.find, stop) if at >= 0), default=len(said))].strip()


@needs_lm_eval
@pytest.mark.parametrize("subset", ["qa1", "qa8"])
def test_the_official_prompt_comes_with_the_benchmarks_own_generation(subset: str, tmp_path: Path) -> None:
    """20 tokens and no stop text: in the runner, in the record and in what lm-eval is told."""
    cells = [Cell("babilong", subset, 3000, "saying", 0, 12, TaskOptions(prompt=p)) for p in ("bare", "official")]
    bare, own = runner.run(cells, {"saying": Saying()}, tmp_path, runner.Settings(), Progress(quiet=True))
    assert [record.options["prompt"] for record in (bare, own)] == ["bare", "official"]
    assert [record.protocol["max_answer_tokens"] for record in (bare, own)] == [20, 20]
    assert (bare.protocol["stop"], own.protocol["stop"]) == (["\n"], [])
    assert {name: score["correct"] for name, score in bare.scores.items()} == dict.fromkeys(bare.scores, 0)
    assert {name: score["correct"] for name, score in own.scores.items()} == dict.fromkeys(own.scores, 12)


RAIN = "Rain fell. " * 9000
ROWS = [
    {"input": f"{RAIN}Mary went to the {room}.", "question": "Where is Mary? ", "target": room}
    for room in ("office", "garden")
]


def test_the_hub_gives_its_own_contexts(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(babilong_data.hub, "rows", lambda *name, split, advice: asked.append((*name, split)) or ROWS)
    found = samples("qa1", 16_000, 2, options=TaskOptions(data="hub"))
    assert asked == [("RMT-team/babilong", "16k", "qa1")]
    for sample, row in zip(found, ROWS, strict=True):
        assert text(sample) == f" {row['input']} Where is Mary?"
        assert (sample.meta["question"], sample.targets) == ("Where is Mary?", (row["target"],))
    with pytest.raises(UserError, match=r"n = 3 .* the 2 of qa1 16k"):
        samples("qa1", 16_000, 3, options=TaskOptions(data="hub"))
    with pytest.raises(UserError, match=r"length 5K.*16k"):
        samples("qa1", 5000, 1, options=TaskOptions(data="hub"))


@needs_lm_eval
def test_the_hub_with_the_official_prompt_is_the_benchmarks_own_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(babilong_data.hub, "rows", lambda *name, split, advice: ROWS)
    before = prompts.load("official", "qa1").before
    for sample, row in zip(samples("qa1", 16_000, 2, options=TaskOptions("hub", prompt="official")), ROWS, strict=True):
        assert text(sample) == f"{before}{row['input']}\n</context>\n\nQuestion: Where is Mary?"


def test_what_the_hub_has_and_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(babilong_data.hub, "rows", lambda *name, split, advice: asked.append((*name, split)) or ROWS)
    samples("qa19", 0, 2, options=TaskOptions(data="hub"))
    samples("qa5", 128_000, 2, options=TaskOptions(data="hub-1k"))
    assert asked == [("RMT-team/babilong", "0k", "qa19"), ("RMT-team/babilong-1k-samples", "128k", "qa5")]
    with pytest.raises(UserError, match="qa19 at length 0 alone, longer ones for qa1 to qa10"):
        samples("qa19", 1000, 1, options=TaskOptions(data="hub"))
    with pytest.raises(UserError, match="no contexts of length 10M"):
        samples("qa1", 10_000_000, 1, options=TaskOptions(data="hub-1k"))


@pytest.mark.parametrize("subset", Babilong.subsets)
def test_length_0_is_the_facts_and_the_question_alone(subset: str) -> None:
    for sample in samples(subset, 0, 3):
        facts = sample.meta["facts"]
        assert len(sample.meta["needle_positions"]) == facts
        assert len(sample.context.items) == facts and sample.context.corpus.key == sample.meta["corpus_key"]
        assert text(sample).endswith(f" {sample.meta['question']}")


def test_the_hub_without_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match="pip install datasets"):
        samples("qa1", 1000, 1, options=TaskOptions(data="hub"))


@pytest.mark.parametrize("subset", Babilong.subsets)
def test_chance_is_the_share_of_the_commonest_answer(subset: str) -> None:
    rng = random.Random(f"chance {subset}")
    stories = [babi.simulate(subset, rng) for _ in range(400)]
    answers = Counter(question.answer for story in stories for question in story.questions)
    total = sum(answers.values())
    answer, share = COMMONEST[subset]
    error = 5 * (share * (1 - share) / total) ** 0.5
    assert abs(answers[answer] / total - share) < error
    assert max(answers.values()) / total < share + error


def test_describe_ends_with_an_example() -> None:
    text = Babilong().describe()
    assert "babilong/official" in text and "Where is" in text.splitlines()[-1] and "->" in text
