"""Tasks that hide facts: exact lengths whatever the questions take, sharing, refusal, and the asking on the way."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_bench import registry
from atlas_bench.errors import UserError
from atlas_bench.models.tokenizer import embedded
from atlas_bench.tasks import corpora
from atlas_bench.tasks.haystack import Span
from atlas_bench.tasks.haystack_task import HaystackTask, Hidden, Question, contains
from atlas_bench.tasks.texts import Tokens
from atlas_bench.types import Rules, Sample, Scorer, TaskOptions
from tests.tasks.test_corpora import Letters

OPTIONS = TaskOptions()
fewer = settings(max_examples=40, deadline=None)


class Towns(HaystackTask):
    """Three facts; questions of different lengths, at the end and on the way, one with an answer prefix."""

    name = "towns"
    subsets = ("one", "three", "counted", "growing")

    def rules(self, subset: str) -> Rules:
        shared = 4 if subset == "three" else 1
        counts = subset == "counted"
        return Rules({"towns/contains": Scorer(contains)}, 0.0, 7, counts_answer=counts, questions_per_context=shared)

    def hide(self, subset: str, rng: random.Random, length: int) -> Hidden:
        codes = [str(int(rng.random() * 10 ** (1 + i % 3))) for i in range(3 + length // 50 * (subset == "growing"))]
        facts = tuple(f" Town {i} has code {code}." for i, code in enumerate(codes))
        last = Question(" Code of the last town?", (codes[-1],), (len(codes) - 1,), prefill=" It is")
        questions = (
            last,
            Question(" What, if you please, is the code of the very first of the towns?", (codes[0],), (0,)),
            Question(" Middle?", (codes[1],), (1,), distance=40, meta={"labels": ("x",)}),
            Question(" All?", (" ".join(codes),), tuple(range(len(codes)))),
        )
        if subset == "three":
            return Hidden(facts, questions, depths=(0, 0.5, 1), before="Read on:")
        return Hidden(facts, (last,), before="Read on:")


@pytest.fixture(scope="module", autouse=True)
def small(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Generated background in shards of 20K tokens."""
    with pytest.MonkeyPatch.context() as patch:
        cache = tmp_path_factory.mktemp("cache")
        patch.setattr(corpora, "generated", partial(corpora.generated, cache=cache, shard_tokens=20_000))
        yield


TOKENIZERS = {"embedded": embedded(), "letters": Letters()}
TASKS = {name: Towns() for name in TOKENIZERS}  # a task remembers its corpora: the cases of hypothesis share them
each_tokenizer = pytest.mark.parametrize("tokenizer", TOKENIZERS)


def made(tokenizer: str, subset: str, length: int, n: int, seed: int = 0) -> list[Sample]:
    task = TASKS[tokenizer]
    task.check(subset, length, TOKENIZERS[tokenizer], OPTIONS)
    return list(task.samples(subset, length, n, seed, TOKENIZERS[tokenizer], OPTIONS))


def refused(tokenizer: str, subset: str, length: int) -> int:
    with pytest.raises(UserError, match=rf"length {length} is too short for towns:{subset}.* Use --len \d+") as caught:
        made(tokenizer, subset, length, 1)
    return int(str(caught.value).split("--len ")[1].split()[0])


def prompt(sample: Sample) -> np.ndarray:
    return np.concatenate([sample.context.read(0, sample.reads), sample.question, sample.prefill]).astype(int)


@each_tokenizer
@fewer
@given(length=st.integers(400, 30_000), seed=st.integers(0, 999))
def test_every_sample_has_exactly_the_length(tokenizer, length, seed) -> None:
    for subset, spare in (("one", 0), ("counted", 7)):
        for sample in made(tokenizer, subset, length, 3, seed):
            assert len(prompt(sample)) == sample.length == length - spare
    for sample in made(tokenizer, "three", length, 6, seed):
        assert len(prompt(sample)) == sample.length
        on_the_way = "labels" in sample.meta and sample.meta["distance"] == 40
        assert sample.length < length if on_the_way else sample.length == length


@each_tokenizer
def test_questions_of_one_context_come_in_the_order_of_the_stream(tokenizer) -> None:
    samples = made(tokenizer, "three", 3000, 7)
    for first in (0, 4):
        context = samples[first : first + 4]
        assert len({id(sample.context) for sample in context}) == 1
        reads = [sample.reads for sample in context]
        assert reads == sorted(reads)
        assert len(context) < 4 or reads[-1] == context[0].context.length
    assert samples[0].context is not samples[4].context
    assert [sample.index for sample in samples] == list(range(7))


@each_tokenizer
def test_facts_stand_whole_before_the_question_where_the_record_says(tokenizer) -> None:
    encode = TOKENIZERS[tokenizer].encode
    for sample in made(tokenizer, "three", 3000, 4):
        before = len(encode("Read on:"))
        assert sample.context.read(0, before).tolist() == list(encode("Read on:"))
        assert sample.meta["needle_positions"] == sample.meta["supporting"]  # those that are asked for
        for at, code in zip(sample.meta["supporting"], sample.targets[0].split(), strict=True):
            text = TOKENIZERS[tokenizer].decode(sample.context.read(at, sample.reads).tolist())
            assert text.startswith(" Town ") and f" has code {code}." in text[:40]
        assert sample.meta["facts"] == 3 and sample.meta["asked_at"] == sample.reads
        if len(sample.meta["supporting"]) == 1:
            depth = {" Code": 1, " What": 0, " Midd": 0.5}[TOKENIZERS[tokenizer].decode(sample.question)[:5]]
            assert abs(sample.meta["needle_depth"] - depth) < 0.02


@each_tokenizer
def test_a_question_on_the_way_comes_exactly_its_distance_behind_its_fact(tokenizer) -> None:
    (sample,) = [s for s in made(tokenizer, "three", 3000, 4) if "labels" in s.meta]
    fact = TOKENIZERS[tokenizer].encode(f" Town 1 has code {sample.targets[0]}.")
    (at,) = sample.meta["supporting"]
    assert sample.reads == sample.asked_at == at + len(fact) + 40 and sample.meta["distance"] == 40


@each_tokenizer
@pytest.mark.parametrize("subset", Towns.subsets)
def test_the_least_length_is_exact(tokenizer, subset) -> None:
    least = refused(tokenizer, subset, 3)
    samples = made(tokenizer, subset, least, 12)  # those that take more are drawn again
    assert max(sample.length for sample in samples) == least - 7 * (subset == "counted")
    assert refused(tokenizer, subset, least - 1) == least


def test_what_never_fits_is_said() -> None:
    class Flood(Towns):
        name = "flood"

        def hide(self, subset: str, rng: random.Random, length: int) -> Hidden:
            return Hidden((" Town",) * (length + 1), (Question(" Which?", ("Town",), (0,)),))

    with pytest.raises(UserError, match="hides more than fits"):
        Flood().check("one", 10, TOKENIZERS["letters"], OPTIONS)


def test_a_question_before_its_fact_is_the_tasks_mistake() -> None:
    class Early(Towns):
        name = "early"

        def rules(self, subset: str) -> Rules:
            return replace(super().rules(subset), questions_per_context=2)

        def hide(self, subset: str, rng: random.Random, length: int) -> Hidden:
            end = Question(" Which?", ("Town",), (0,))
            return Hidden((" Town.",), (end, Question(" Which?", ("Town",), (0,), asked_at=100)), depths=(0.9,))

    with pytest.raises(ValueError, match="asked after 100 tokens is before its facts"):
        list(Early().samples("one", 1000, 1, 0, TOKENIZERS["letters"], OPTIONS))


def test_the_background_is_whole_sentences_but_for_the_last_before_a_question() -> None:
    for subset in ("one", "three"):
        for sample in made("embedded", subset, 5000, 4):
            spans = [item for item in sample.context.items if isinstance(item, Span)]
            cut = 0
            for span in spans:
                starts = sample.context.corpus.document(span.document).starts
                assert span.start in starts
                cut += span.stop not in starts
            assert cut <= (2 if subset == "three" else 1)  # the second: the few tokens behind the longest question


def test_equal_labels_give_equal_background() -> None:
    class Paired(Towns):
        name = "paired"

        def draw(self, subset: str, seed: str, number: int, length: int) -> tuple[Hidden, str]:
            hidden, label = super().draw(subset, seed, number // 2, length)
            last = Question(" Code of the last town?", hidden.questions[0].targets, (2 - number % 2,))
            return Hidden(hidden.facts[number % 2 :], (last,)), label

    first, second, third = Paired().samples("one", 3000, 3, 0, TOKENIZERS["embedded"], OPTIONS)
    starts = [next(item for item in s.context.items if isinstance(item, Span)) for s in (first, second, third)]
    assert (starts[0].document, starts[0].start) == (starts[1].document, starts[1].start)
    assert (starts[0].document, starts[0].start) != (starts[2].document, starts[2].start)
    assert first.targets == second.targets != third.targets and first.meta["facts"] == second.meta["facts"] + 1


def test_options_it_does_not_take_are_refused(tmp_path: Path) -> None:
    for option in ("data", "prompt"):
        with pytest.raises(UserError, match=f"towns has no --{option} 'hub'"):
            Towns().check("one", 1000, TOKENIZERS["letters"], TaskOptions(**{option: "hub"}))
    with pytest.raises(UserError, match=r"towns has no subset 'two'.*Known: one"):
        Towns().check("two", 1000, TOKENIZERS["letters"], OPTIONS)
    (tmp_path / "book.txt").write_text("It was a dark and stormy night in the town. " * 40)
    (sample,) = Towns().samples("one", 3000, 1, 0, TOKENIZERS["letters"], TaskOptions(background=str(tmp_path)))
    assert "stormy night" in TOKENIZERS["letters"].decode(sample.context.read(0, 3000).tolist())


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("48213", True),
        (" It is 48213, I think.\n", True),
        ("482131", False),
        ("1 48213", True),
        ("", False),
        ("4 8213", False),
    ],
)
def test_contains_reads_whole_words(answer: str, right: bool) -> None:
    assert contains(answer, Sample(0, Tokens([[1]]), (), ("48213",))) is right


def test_contains_does_not_mind_case_or_line_breaks() -> None:
    sample = Sample(0, Tokens([[1]]), (), ("Dolores Park (west)",))
    assert contains("in DOLORES\npark  (west).", sample) and not contains("Dolores Parks (west)", sample)


def test_the_example_is_short_and_asks_for_the_last_key() -> None:
    file = Path(__file__).parents[2] / "examples" / "my_task.py"
    assert len(file.read_text().splitlines()) < 60
    task, encode = registry.task(registry.name_task(file)), TOKENIZERS["embedded"].encode
    for subset, facts in (("kept", 1), ("changed", 2)):
        task.check(subset, 2000, TOKENIZERS["embedded"], OPTIONS)
        current, contained = (scorer for scorer in task.rules(subset).scorers.values())
        for sample in task.samples(subset, 2000, 20, 0, TOKENIZERS["embedded"], OPTIONS):
            (key,), earlier = sample.targets, sample.meta["earlier"]
            last = f" The pass key {'was changed: it is now' if earlier else 'is'} {key}."
            (at,) = sample.meta["supporting"]
            assert sample.context.read(at, at + len(encode(last))).tolist() == list(encode(last))
            assert sample.meta["facts"] == facts == len(earlier) + 1 and sample.length == 2000
            assert current(key, sample) and contained(f"{key}, not {earlier}", sample) and not current("", sample)
            assert current(f"{key}, not {' '.join(earlier)}", sample) == (not earlier)
            assert all(old[0] != key[0] for old in earlier)


def test_the_last_name_of_persistent_answer_is_taken_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="persistent_answer"):

        class Old(HaystackTask):
            lasting = True

    assert Old.persistent_answer and not HaystackTask.persistent_answer
