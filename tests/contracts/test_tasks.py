"""What every task promises, over every task in the registry and each of its subsets."""

from __future__ import annotations

import hashlib
import json
import pickle
import random
import subprocess
import sys
import tempfile
import tracemalloc
from functools import cache as memoise
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atlas_bench import registry
from atlas_bench.errors import UserError
from atlas_bench.models.tokenizer import embedded
from atlas_bench.running import runner
from atlas_bench.running.evaluation import Cell
from atlas_bench.running.progress import Progress
from atlas_bench.stats.intervals import wilson
from atlas_bench.tasks import corpora
from atlas_bench.tasks.haystack import Pieces, Span
from atlas_bench.types import Rules, Sample, TaskOptions
from tests.marks import sweep
from tests.registered import own_tasks
from tests.tasks.test_recall import write_folder as write_recall
from tests.tasks.test_ruler_documents import HOTPOTQA, SQUAD

SOME = {  # of a family of like subsets, those that between them have all there is
    "recall": ("swde", "squad", "nq_1024", "drop-cut1000", "triviaqa-cut1000-twice", "fda-hidden"),
    "robust": ("contradict-4", "near-16", "poison-0", "poison-256", "update-16", "shift-4"),
}
CELLS = [(name, subset) for name in registry.TASKS for subset in SOME.get(name, registry.task(name).subsets)]
DOCUMENTS = ("recall", "ruler:qa_1", "ruler:qa_2")  # read documents that somebody else has published
NOTHING_STATED = ("mad:memorization",)  # the facts are in the weights
NEVER_RIGHT = {("babilong/official", "none")}  # "one" is a part of "none": a known defect of the published rule
LENGTHS = (1000, 4096, 16_001)
TOKENIZER = embedded()
GOLDEN = Path(__file__).with_name("samples.json")  # name:subset -> digest of three samples
FIRST, LAST = dict(reversed(CELLS)), dict(CELLS)  # task -> a subset
IDS = [f"{name}-{subset}" for name, subset in CELLS]
every_cell = sweep("name, subset", CELLS, quick=[*FIRST.items(), *LAST.items()], ids=IDS)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    make_small(monkeypatch, cache)


def make_small(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Made sentences in shards of 20K tokens."""
    endless = corpora.endless

    def smaller(*args: Any, **options: Any) -> corpora.Corpus:
        return endless(*args, **options | {"cache": cache, "shard_tokens": 20_000})

    monkeypatch.setattr(corpora, "endless", smaller)
    own_tasks(monkeypatch)


@pytest.fixture
def bounded(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Four documents of 50K tokens, drawn again and again, so that 10M tokens cost nothing to prepare."""

    def four(name: str, tokenizer: Any, sentences: Any, *, version: Any, separator: str = " ", **_: Any) -> Any:
        identity = ["four", name, version]
        return corpora.Corpus(
            name,
            tokenizer,
            sentences,
            identity=identity,
            document_identity=lambda i: [*identity, i],
            n_documents=4,
            document_tokens=50_000,
            separator=separator,
            cache=cache,
        )

    monkeypatch.setattr(corpora, "endless", four)


@memoise
def options(name: str, subset: str) -> TaskOptions:
    """The defaults, or a folder of small documents."""
    if name not in DOCUMENTS and f"{name}:{subset}" not in DOCUMENTS:
        return TaskOptions()
    folder = Path(tempfile.mkdtemp(prefix="atlas-bench-documents-"))
    write_recall(folder)
    (folder / "squad.json").write_text(json.dumps(SQUAD))
    (folder / "hotpotqa.json").write_text(json.dumps(HOTPOTQA))
    return TaskOptions(data=str(folder))


def fitting(name: str, subset: str, length: int) -> int:
    """That length, or the least that the subset takes where it is longer."""
    try:
        registry.task(name).check(subset, length, TOKENIZER, options(name, subset))
    except UserError as error:
        return int(str(error).split("--len ")[1].split()[0])
    return length


def rules(name: str, subset: str) -> Rules:
    return registry.task(name).rules(subset)


def samples(name: str, subset: str, length: int, n: int, seed: int = 0) -> list[Sample]:
    task = type(registry.task(name))()  # fresh: nothing remembered from another test's corpus
    task.check(subset, length, TOKENIZER, options(name, subset))
    return list(task.samples(subset, length, n, seed, TOKENIZER, options(name, subset)))


def is_exact(name: str) -> bool:
    """Whether a sample has the cell's length; where documents are given it has their own, and at most the cell's."""
    return getattr(registry.task(name), "exact_lengths", True)


def asked_of(name: str, subset: str, length: int) -> int:
    """Tokens of a prompt in a cell of that length."""
    kept = rules(name, subset)
    return length - kept.max_answer_tokens * kept.counts_answer


def whole(sample: Sample) -> np.ndarray:
    prompt = (*sample.question, *sample.prefill)
    return np.append(sample.context.read(0, sample.reads), np.array(prompt, dtype=np.int32))


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
@sweep("length", LENGTHS, quick=[1000, 16_001])
def test_exactly_length_tokens(small: None, name: str, subset: str, length: int) -> None:
    """Each prompt, or the last on its stream where others are asked on the way; where documents are given, at most."""
    length = fitting(name, subset, length)
    expected, shared = asked_of(name, subset, length), rules(name, subset).questions_per_context
    for sample in samples(name, subset, length, max(4, shared)):
        assert sample.length == len(whole(sample)) <= expected
        assert sample.reads <= sample.context.length
        if sample.index % shared == shared - 1 and is_exact(name):
            assert sample.length == expected


@every_cell
def test_same_seed_same_tokens(small: None, name: str, subset: str) -> None:
    length = fitting(name, subset, 4000)
    one, two = (samples(name, subset, length, 3) for _ in range(2))
    other = samples(name, subset, length, 3, seed=1)
    for a, b, c in zip(one, two, other, strict=True):
        assert np.array_equal(whole(a), whole(b)) and (a.targets, a.meta) == (b.targets, b.meta)
        assert not np.array_equal(whole(a), whole(c)) or (name in DOCUMENTS and not is_exact(name))  # the file's order
    assert len({whole(sample).tobytes() for sample in one}) == 3


@pytest.mark.parametrize(("name", "subset"), CELLS, ids=IDS)
def test_samples_stay_what_they_are(small: None, name: str, subset: str) -> None:
    """On every Python and machine: a changed digest makes every kept result another one's. A task's version says so."""
    kept = json.loads(GOLDEN.read_text()).get(f"{name}:{subset}")
    if kept is None:
        pytest.skip("new: `python -m tests.contracts.test_tasks` keeps its digest")
    assert digest_of(name, subset) == kept, (
        "the samples have changed: raise the task's version, and delete its rows of samples.json before `python -m "
        "tests.contracts.test_tasks`, which keeps the new digests"
    )


def digest_of(name: str, subset: str) -> str:
    made = samples(name, subset, fitting(name, subset, 2000), 3)
    told = [(whole(sample).tolist(), sample.targets, sample.reads) for sample in made]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


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
        if len(there) == sample.meta["facts"] + 1 and there[0][0] == 0:
            there, places = there[1:], places[1:]  # the prompt's own words come first
        assert places == sorted(set(places)) and len(places) == sample.meta["facts"]
        if not rules(name, subset).scorers or f"{name}:{subset}" in NOTHING_STATED:
            continue
        # the record names all facts, or the one of many that is asked for
        shared = rules(name, subset).questions_per_context > 1
        supporting, named = sample.meta["supporting"], sample.meta["needle_positions"]
        assert list(named) == (list(supporting) if shared else places)
        assert supporting and set(supporting) <= set(named) <= set(places)
        for at, tokens in there:
            assert sample.context.read(at, at + len(tokens)).tolist() == list(tokens)


@every_cell
def test_samples_in_a_row_share_their_context_as_the_task_says(small: None, name: str, subset: str) -> None:
    shared = rules(name, subset).questions_per_context
    n = min(2 * shared + 1, 300)
    made = samples(name, subset, fitting(name, subset, 4000), n)
    assert [sample.index for sample in made] == list(range(n))
    for one, two in pairwise(made):
        assert (one.context is two.context) == (two.index % shared > 0)
        assert (one.question, one.reads) != (two.question, two.reads) or one.context is not two.context


@every_cell
def test_the_target_scores_and_silence_does_not(small: None, name: str, subset: str) -> None:
    for sample in samples(name, subset, fitting(name, subset, 4000), 20):
        for scorer_name, scorer in rules(name, subset).scorers.items():
            assert scorer("", sample) == 0
            if (scorer_name, sample.targets[0]) not in NEVER_RIGHT:
                assert scorer(sample.targets[0], sample) == 1
                assert scorer(f" {sample.targets[0]}\n", sample) == 1


@every_cell
def test_a_length_that_does_not_fit_is_refused_with_one_that_does(small: None, name: str, subset: str) -> None:
    with pytest.raises(UserError, match=r"length 3 .* Use --len \d+") as caught:
        samples(name, subset, 3, 1)
    least = int(str(caught.value).split("--len ")[1].split()[0])
    (sample,) = samples(name, subset, least, 1)
    if is_exact(name) and rules(name, subset).questions_per_context == 1:
        assert len(whole(sample)) == asked_of(name, subset, least)
    with pytest.raises(UserError):
        samples(name, subset, least - 1, 1)


@sweep("name, subset", CELLS, quick=FIRST.items(), ids=IDS)
def test_ten_million_tokens_in_the_memory_of_a_block(bounded: None, name: str, subset: str) -> None:
    length, block = 10_000_000, 1 << 16
    samples(name, subset, 1_000_000, 1)  # makes the four documents
    for _ in range(2):  # all of the process is counted: once 9.8 MB for 2.2, for no known reason
        tracemalloc.start()
        (sample,) = samples(name, subset, length, 1)
        total = 0
        for start in range(0, length, block):
            total += len(sample.context.read(start, start + block))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        if peak < 4e6:
            break
    assert total == sample.context.length <= length
    if is_exact(name):
        assert length - total < 1000  # the question and the answer
    assert peak < 4e6  # the plan, and a few blocks of int32
    plan = sample.context.items if isinstance(sample.context, Pieces) else sample.context
    assert len(pickle.dumps((plan, sample.question, sample.meta))) < 100_000


@every_cell
def test_the_oracle_is_right_and_the_constant_model_ignorant(
    small: None, name: str, subset: str, tmp_path: Path
) -> None:
    """Through the real runner, in blocks that fit nothing."""
    kept = rules(name, subset)
    if not kept.scorers:
        pytest.skip("nothing is asked")
    n = 16 if options(name, subset) != TaskOptions() else max(48, min(2 * kept.questions_per_context, 300))
    length, chosen = fitting(name, subset, 2000), options(name, subset)
    models = {model: registry.control(model) for model in registry.MODELS}
    cells = [Cell(name, subset, length, model, 0, n, chosen) for model in models]
    settings = runner.Settings(block=333, batch=3)
    oracle, constant = runner.run(cells, models, tmp_path, settings, Progress(quiet=True))
    assert (oracle.status, constant.status) == ("ok", "ok"), (oracle.reason, constant.reason)
    for scorer, score in oracle.scores.items():
        lost = sum((scorer, row["targets"][0]) in NEVER_RIGHT for row in oracle.answers)
        assert score["correct"] == n - lost and score["n"] == n
        low, _ = wilson(constant.scores[scorer]["correct"], n, level=0.99999)
        assert low <= max(kept.chance, 1e-9)


@pytest.mark.parametrize("name", registry.TASKS)
def test_names_versions_and_chance(name: str) -> None:
    task = registry.task(name)
    assert task.name == name and task.version
    text = task.describe()
    for subset in task.subsets:
        kept = task.rules(subset)
        assert 0 <= kept.chance < 1 and all(scorer.version for scorer in kept.scorers.values())
        assert kept.max_answer_tokens > 0 or not kept.scorers
        assert all(word in text for word in (subset, *kept.scorers))


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


def main() -> None:
    """Keep the digests of subsets that have none yet; those that are kept change by hand alone."""
    kept = json.loads(GOLDEN.read_text())
    with pytest.MonkeyPatch.context() as monkeypatch, tempfile.TemporaryDirectory() as cache:
        make_small(monkeypatch, Path(cache))
        new = {f"{name}:{subset}": (name, subset) for name, subset in CELLS if f"{name}:{subset}" not in kept}
        kept |= {key: digest_of(*cell) for key, cell in new.items()}
    GOLDEN.write_text(json.dumps(kept, indent=1) + "\n")
    print(f"{GOLDEN}: {len(new)} new")


if __name__ == "__main__":
    main()
