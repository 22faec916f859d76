"""What every task promises, over every task in the registry and each of its subsets."""

from __future__ import annotations

import pickle
import random
import subprocess
import sys
import tracemalloc
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atlas_bench import registry
from atlas_bench.errors import UserError
from atlas_bench.models.tokenizer import embedded
from atlas_bench.tasks import corpora, prose
from atlas_bench.tasks.haystack import Pieces, Span
from atlas_bench.types import Sample, TaskOptions

CELLS = [(name, subset) for name in registry.TASKS for subset in registry.task(name).subsets]
LENGTHS = (1000, 4096, 16_001)
TOKENIZER = embedded()
every_cell = pytest.mark.parametrize(("name", "subset"), CELLS, ids=[f"{name}-{subset}" for name, subset in CELLS])


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Generated background in shards of 20K tokens."""
    monkeypatch.setattr(corpora, "generated", partial(corpora.generated, cache=cache, shard_tokens=20_000))


@pytest.fixture
def bounded(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Four documents of 50K tokens, drawn again and again, so that 10M tokens cost nothing to prepare."""

    def four(tokenizer: Any) -> corpora.Corpus:
        return corpora.Corpus(
            "four",
            tokenizer,
            prose.sentences,
            identity=["four"],
            document_identity=lambda i: ["four", i],
            n_documents=4,
            document_tokens=50_000,
            cache=cache,
        )

    monkeypatch.setattr(corpora, "generated", four)


def fitting(name: str, subset: str, length: int) -> int:
    """That length, or the least that the subset takes where it is longer."""
    try:
        registry.task(name).check(subset, length, TOKENIZER, TaskOptions())
    except UserError as error:
        return int(str(error).split("--len ")[1].split()[0])
    return length


def samples(name: str, subset: str, length: int, n: int, seed: int = 0) -> list[Sample]:
    task = type(registry.task(name))()  # fresh: nothing remembered from another test's corpus
    task.check(subset, length, TOKENIZER, TaskOptions())
    return list(task.samples(subset, length, n, seed, TOKENIZER, TaskOptions()))


def whole(sample: Sample) -> np.ndarray:
    return np.append(sample.context.read(0, sample.context.length), sample.question)


def facts(context: Any) -> list[tuple[int, tuple[int, ...]]]:
    """(position, tokens) of all that is not background."""
    if not isinstance(context, Pieces):
        return list(context.facts())
    found, at = [], 0
    for item in context.items:
        if isinstance(item, Span):
            at += item.stop - item.start
        else:
            found.append((at, item))
            at += len(item)
    return found


@every_cell
@pytest.mark.parametrize("length", LENGTHS)
def test_exactly_length_tokens(small: None, name: str, subset: str, length: int) -> None:
    length = fitting(name, subset, length)
    for sample in samples(name, subset, length, 4):
        assert sample.context.length + len(sample.question) == length == len(whole(sample))


@every_cell
def test_same_seed_same_tokens(small: None, name: str, subset: str) -> None:
    length = fitting(name, subset, 4000)
    one, two = (samples(name, subset, length, 3) for _ in range(2))
    other = samples(name, subset, length, 3, seed=1)
    for a, b, c in zip(one, two, other, strict=True):
        assert np.array_equal(whole(a), whole(b)) and (a.targets, a.meta) == (b.targets, b.meta)
        assert not np.array_equal(whole(a), whole(c))
    assert len({whole(sample).tobytes() for sample in one}) == 3


@every_cell
def test_sample_i_does_not_depend_on_n(small: None, name: str, subset: str) -> None:
    length = fitting(name, subset, 4000)
    for few, many in zip(samples(name, subset, length, 3), samples(name, subset, length, 20), strict=False):
        assert few.index == many.index and few.meta == many.meta
        assert np.array_equal(whole(few), whole(many))


@every_cell
def test_the_stream_does_not_depend_on_the_block(small: None, name: str, subset: str) -> None:
    context = samples(name, subset, fitting(name, subset, 16_001), 1)[0].context
    once = context.read(0, context.length)
    rng = random.Random(subset)
    for cuts in (range(0, context.length, 997), sorted(rng.sample(range(context.length), 50))):
        edges = [0, *cuts, context.length]
        parts = [context.read(start, stop) for start, stop in pairwise(edges)]
        assert np.array_equal(np.concatenate(parts), once)
        assert all(part.dtype == np.int32 for part in parts)


@every_cell
def test_every_fact_once_in_order_where_the_record_says(small: None, name: str, subset: str) -> None:
    for sample in samples(name, subset, fitting(name, subset, 4000), 4):
        there = facts(sample.context)
        places = [at for at, _ in there]
        assert places == sorted(set(places)) and len(places) == sample.meta["facts"] >= 1
        # the record names all facts, or the one of many that is asked for
        shared = getattr(registry.task(name), "questions_per_context", lambda subset: 1)(subset) > 1
        supporting, named = sample.meta["supporting"], sample.meta["needle_positions"]
        assert list(named) == (list(supporting) if shared else places)
        assert supporting and set(supporting) <= set(named) <= set(places)
        for at, tokens in there:
            assert sample.context.read(at, at + len(tokens)).tolist() == list(tokens)


@every_cell
def test_samples_in_a_row_share_their_context_as_the_task_says(small: None, name: str, subset: str) -> None:
    shared = getattr(registry.task(name), "questions_per_context", lambda subset: 1)(subset)
    n = min(2 * shared + 1, 300)
    made = samples(name, subset, fitting(name, subset, 4000), n)
    assert [sample.index for sample in made] == list(range(n))
    for one, two in pairwise(made):
        assert (one.context is two.context) == (two.index % shared > 0)
        assert one.question != two.question or one.context is not two.context


@every_cell
def test_the_target_scores_and_silence_does_not(small: None, name: str, subset: str) -> None:
    for sample in samples(name, subset, fitting(name, subset, 4000), 20):
        for scorer in registry.task(name).scorers.values():
            assert scorer(sample.targets[0], sample) is True
            assert scorer(f" {sample.targets[0]}\n", sample) is True
            assert scorer("", sample) is False


@every_cell
def test_a_length_that_does_not_fit_is_refused_with_one_that_does(small: None, name: str, subset: str) -> None:
    with pytest.raises(UserError, match=r"length 3 .* Use --len \d+") as caught:
        samples(name, subset, 3, 1)
    least = int(str(caught.value).split("--len ")[1].split()[0])
    (sample,) = samples(name, subset, least, 1)
    assert len(whole(sample)) == least
    with pytest.raises(UserError):
        samples(name, subset, least - 1, 1)


@every_cell
def test_ten_million_tokens_in_the_memory_of_a_block(bounded: None, name: str, subset: str) -> None:
    length, block = 10_000_000, 1 << 16
    samples(name, subset, 1_000_000, 1)  # makes the four documents
    tracemalloc.start()
    (sample,) = samples(name, subset, length, 1)
    total = 0
    for start in range(0, length, block):
        total += len(sample.context.read(start, start + block))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total + len(sample.question) == length
    assert peak < 4e6  # the plan, and a few blocks of int32
    plan = sample.context.items if isinstance(sample.context, Pieces) else sample.context
    assert len(pickle.dumps((plan, sample.question, sample.meta))) < 100_000


@pytest.mark.parametrize("name", registry.TASKS)
def test_names_versions_and_chance(name: str) -> None:
    task = registry.task(name)
    assert task.name == name and task.version and task.max_answer_tokens > 0
    assert all(0 <= task.chance(subset) < 1 for subset in task.subsets)
    text = task.describe()
    assert all(word in text for word in (*task.subsets, *task.scorers))


def test_tasks_do_not_import_torch() -> None:
    code = (
        "import sys; from atlas_bench import registry; [registry.task(name) for name in registry.TASKS];"
        "assert 'torch' not in sys.modules"
    )
    root = Path(registry.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr


def test_samples_are_made_when_asked_for(small: None) -> None:
    name, subset = CELLS[0]
    task = type(registry.task(name))()
    endless = task.samples(subset, 1000, 10**9, 0, TOKENIZER, TaskOptions())
    assert [sample.index for sample in islice(endless, 2)] == [0, 1]
