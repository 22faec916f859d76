"""Robustness: doses differ in nothing but the dose, the right answer is in no doubt, and shifts are as many as said."""

from __future__ import annotations

from itertools import islice, pairwise
from typing import Any

import numpy as np
import pytest

from atlas_bench.models.tokenizer import embedded
from atlas_bench.tasks import corpora, prose, token_file
from atlas_bench.tasks.codewords import WORDS
from atlas_bench.tasks.haystack import Span
from atlas_bench.tasks.robust import DOSES, SUBSETS, Robust, lines
from atlas_bench.types import Sample, TaskOptions

TOKENIZER = embedded()
TASK = Robust()
LENGTH = 8000  # every dose of sentences fits
KINDS = ("contradict", "near", "poison", "update")
doses = pytest.mark.parametrize(
    "subset", [subset for subset, (kind, dose) in SUBSETS.items() if kind in KINDS and dose]
)
shifts = pytest.mark.parametrize("dose", DOSES[1:])


@pytest.fixture(scope="module", autouse=True)
def small(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Generated text in shards of 50K tokens."""
    made, cache = corpora.endless, tmp_path_factory.mktemp("cache")

    def endless(*given: Any, **more: Any) -> corpora.Corpus:
        return made(*given, **{**more, "cache": cache, "shard_tokens": 50_000})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpora, "endless", endless)
        yield


def samples(subset: str, n: int = 3, length: int = LENGTH) -> list[Sample]:
    TASK.check(subset, length, TOKENIZER, TaskOptions())
    return list(TASK.samples(subset, length, n, 0, TOKENIZER, TaskOptions()))


def texts(sample: Sample) -> list[str]:
    return [TOKENIZER.decode(item) for item in sample.context.items if not isinstance(item, Span)]


def parts(sample: Sample) -> tuple[str, str, str]:
    """What is asked for, the right word, and the fact as it is stated at dose 0."""
    place = TOKENIZER.decode(sample.question).removeprefix(" What is the code word of the ").removesuffix("?")
    (code,) = sample.targets
    return place, code, f" The code word of the {place} is {code}."


def test_dose_0_is_the_same_for_every_kind() -> None:
    one, *others = (samples(f"{kind}-0") for kind in (*KINDS, "shift"))
    for other in others:
        for a, b in zip(one, other, strict=True):
            assert (a.meta["plan_hash"], a.question, a.targets) == (b.meta["plan_hash"], b.question, b.targets)
    assert [texts(sample) for sample in one] == [[parts(sample)[2]] for sample in one]
    assert len({sample.meta["plan_hash"] for sample in one}) == 3


@doses
def test_doses_differ_in_the_dose_alone(subset: str) -> None:
    dose = SUBSETS[subset][1]
    for sample, control in zip(samples(subset), samples("near-0"), strict=True):
        assert (sample.question, sample.prefill, sample.targets) == (control.question, control.prefill, control.targets)
        assert sample.meta["facts"] == len(texts(sample)) == dose + 1 and sample.length == LENGTH
        assert abs(sample.meta["needle_depth"] - control.meta["needle_depth"]) < 0.02
        begins = [next(item for item in s.context.items if isinstance(item, Span)) for s in (sample, control)]
        assert (begins[0].document, begins[0].start) == (begins[1].document, begins[1].start)


@doses
def test_the_right_answer_is_stated_once_and_by_the_fact_alone(subset: str) -> None:
    kind = SUBSETS[subset][0]
    for sample in samples(subset):
        place, code, fact = parts(sample)
        stated = f" The code word of the {place} is now {code}." if kind == "update" else fact
        assert [text for text in texts(sample) if code in text] == [stated]
        (at,) = sample.meta["supporting"]
        assert at == sample.meta["needle_positions"][texts(sample).index(stated)]
        assert all(sum(word in text for word in WORDS) == 1 for text in texts(sample))


@pytest.mark.parametrize("kind", KINDS)
def test_a_larger_dose_has_all_of_the_smaller_one(kind: str) -> None:
    """As sets: 'is' and 'is now' apart, for the first of the updates is another one."""
    subsets = [subset for subset in SUBSETS if SUBSETS[subset][0] == kind]
    for less, more in pairwise(subsets):
        for a, b in zip(samples(less), samples(more), strict=True):
            few, many = ({text.replace(" is now ", " is ") for text in texts(sample)} for sample in (a, b))
            assert few <= many


def test_contradictions_are_called_forged_and_come_after_the_fact() -> None:
    for sample in samples("contradict-16"):
        place, _, fact = parts(sample)
        first, *others = texts(sample)
        assert first == fact
        assert all(text.startswith(f" A forged notice claims that the code word of the {place} is") for text in others)


def test_near_places_differ_in_one_word_and_from_each_other() -> None:
    for sample in samples("near-64"):
        place, _, _ = parts(sample)
        places = [text.removeprefix(" The code word of the ").split(" is ")[0] for text in texts(sample)]
        assert len(set(places)) == 65
        changed = [sum(a != b for a, b in zip(other.split(), place.split(), strict=True)) for other in places]
        assert sorted(changed) == [0] + [1] * 64


def test_poison_is_one_block_around_the_fact_about_other_places() -> None:
    for subset in ("poison-4", "poison-256"):
        for sample in samples(subset):
            place, _, fact = parts(sample)
            items = [isinstance(item, Span) for item in sample.context.items]
            assert items.index(False) + len(texts(sample)) == len(items) - items[::-1].index(False)  # all in a row
            before = texts(sample).index(fact)
            assert before == (len(texts(sample)) - 1) // 2
            assert not any(word in text.split() for text in texts(sample) if text != fact for word in place.split())


def test_the_last_of_the_updates_holds() -> None:
    for sample in samples("update-16"):
        place, code, _ = parts(sample)
        first, *others = texts(sample)
        assert first.startswith(f" The code word of the {place} is ") and " now " not in first
        assert all(text.startswith(f" The code word of the {place} is now ") for text in others)
        assert others[-1].endswith(f" {code}.")


@shifts
def test_the_text_shifts_as_often_as_the_dose_says(dose: int) -> None:
    length = max(LENGTH, 201 * (dose + 2))
    for sample, control in zip(samples(f"shift-{dose}", 2, length), samples("shift-0", 2, length), strict=True):
        spans = [item for item in sample.context.items if isinstance(item, Span)]
        kinds = [span.document % 2 for span in spans]
        assert kinds[0] == 0 and sum(a != b for a, b in pairwise(kinds)) == dose
        assert sample.length == length and sample.targets == control.targets
        # what is still prose stands where it stood
        prose_tokens = np.zeros(length, dtype=bool)
        at = 0
        for item in sample.context.items:
            size = item.stop - item.start if isinstance(item, Span) else len(item)
            prose_tokens[at : at + size] = isinstance(item, Span) and item.document % 2 == 0
            at += size
        end = min(sample.meta["supporting"][0], control.meta["supporting"][0])
        same = sample.context.read(0, end) == control.context.read(0, end)
        assert same[prose_tokens[:end]].all() and 2 * same[~prose_tokens[:end]].sum() <= (~prose_tokens[:end]).sum()


def test_the_other_registers_are_no_prose_and_hold_no_word() -> None:
    made = list(islice(lines(3), 2000))
    assert made == list(islice(lines(3), 2000)) != list(islice(lines(4), 2000))
    assert not any(word in line for line in made for word in WORDS)
    assert not any("#" in line for line in made)
    vocabulary = {word for sentence in prose.document(0, 2000) for word in sentence.split()}
    shares = [sum(word in vocabulary for word in line.split()) / len(line.split()) for line in made]
    assert max(shares) < 0.5
    assert min(len(TOKENIZER.encode(f"\n{line}")) for line in made) >= token_file.MIN_TOKENS


def test_chance_is_the_share_of_one_word() -> None:
    targets = [TASK.draw("near-0", "0", i, LENGTH)[0].questions[0].targets[0] for i in range(3000)]
    counts = [targets.count(word) for word in WORDS]
    assert min(counts) >= 10 and max(counts) <= 60  # of 30 each
    assert {TASK.rules(subset).chance for subset in SUBSETS} == {1 / 100}
