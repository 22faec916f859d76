"""RULER's lists and what they stand on: the computed shuffle, the tokenised phrases, the lazy listing."""

from __future__ import annotations

import pickle
import re
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from math import pi
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atlas_bench.errors import UserError
from atlas_bench.models.tokenizer import embedded
from atlas_bench.tasks.ruler import Ruler, lists, words
from atlas_bench.tasks.ruler.listing import Items, Listing
from atlas_bench.tasks.ruler.phrases import Phrases
from atlas_bench.tasks.ruler.shuffle import permute, round_keys
from atlas_bench.types import Sample, TaskOptions

TOKENIZER = embedded()
patient = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Bytes:
    """A token for every byte: quick, and no two texts run together."""

    key, vocab_size = "bytes", 256

    def __init__(self) -> None:
        self.encoded = 0

    def encode(self, text: str) -> list[int]:
        self.encoded += 1
        return list(text.encode())

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [self.encode(text) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(ids).decode(errors="replace")


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.getbasetemp() / "ruler"
    monkeypatch.setenv("ATLAS_BENCH_CACHE", str(folder))
    return folder


def samples(subset: str, length: int, n: int, *, seed: int = 0, tokenizer=TOKENIZER) -> list[Sample]:
    task = Ruler()
    task.check(subset, length, tokenizer, TaskOptions())
    return list(task.samples(subset, length, n, seed, tokenizer, TaskOptions()))


def text(sample: Sample, tokenizer=TOKENIZER) -> str:
    return tokenizer.decode(sample.context.read(0, sample.context.length).tolist())


# shuffle


@given(st.integers(1, 5000), st.text(max_size=5))
@patient
def test_every_item_once(size: int, label: str) -> None:
    order = permute(np.arange(size), size, round_keys(label))
    assert np.array_equal(np.sort(order), np.arange(size)) and order.dtype == np.int64


@given(st.integers(2, 10**15), st.data())
@patient
def test_a_place_has_its_item_whoever_else_is_asked_for(size: int, data: st.DataObject) -> None:
    keys = round_keys("any")
    places = data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=20, unique=True))
    together = permute(np.array(places), size, keys)
    assert together.tolist() == [int(permute(np.array([place]), size, keys)[0]) for place in places]
    assert len(set(together.tolist())) == len(places) and 0 <= together.min() <= together.max() < size


def test_every_order_is_as_likely_as_any_other() -> None:
    orders = Counter(tuple(permute(np.arange(4), 4, round_keys(f"order {i}")).tolist()) for i in range(4800))
    assert len(orders) == 24  # 200 expected of each, give or take 14
    assert all(130 < often < 270 for often in orders.values())


def test_neighbours_are_scattered() -> None:
    order = permute(np.arange(100_000), 100_000, round_keys("scattered"))
    steps = np.abs(np.diff(order))
    assert abs(steps.mean() / 100_000 - 1 / 3) < 0.01  # two random places are a third of the way apart
    assert abs(np.corrcoef(np.arange(100_000), order)[0, 1]) < 0.02


# phrases


def test_texts_are_tokenised_once_and_then_mapped() -> None:
    tokenizer = Bytes()

    def made(start: int, stop: int) -> list[str]:
        return [f" {i}" * (i % 4) for i in range(start, stop)]

    first = Phrases("test texts", tokenizer, made, per_shard=100)
    which = np.array([250, 3, 99, 100, 3, 0, 777])
    expected = [tokenizer.encode(made(i, i + 1)[0]) for i in which]
    assert first.sizes(which).tolist() == [len(ids) for ids in expected]
    out, places = np.zeros(sum(map(len, expected)), dtype=np.int32), np.cumsum([0, *map(len, expected)])[:-1]
    first.put(out, places, which)
    assert out.tolist() == [token for ids in expected for token in ids]
    assert first.tokens(250) == tuple(expected[0]) and first.tokens(0) == ()
    before = tokenizer.encoded
    again = Phrases("test texts", tokenizer, made, per_shard=100)
    assert again.sizes(which).tolist() == first.sizes(which).tolist()
    assert tokenizer.encoded == before
    assert Phrases("other texts", tokenizer, made).key != first.key


def test_texts_may_end_within_a_shard() -> None:
    few = ["one", "three"]
    phrases = Phrases("test few", Bytes(), lambda start, stop: few[start:stop], per_shard=100)
    assert phrases.sizes(np.array([0, 1])).tolist() == [3, 5] and phrases.tokens(1) == tuple(b"three")


def test_a_shard_cut_off_while_it_is_written_is_no_shard(cache: Path) -> None:
    def failing(start: int, stop: int) -> list[str]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Phrases("test cut", Bytes(), failing).tokens(0)
    assert Phrases("test cut", Bytes(), lambda start, stop: ["whole"] * (stop - start)).tokens(0) == tuple(b"whole")
    assert not list((cache / "phrases").glob("*.part"))


# listings


def listing(tokens: int, *, labels: bool = True, seed: str = "test") -> Listing:
    """Items 1. a 2. bb 3. ccc .. whose bodies are 7 words, each as long as its number."""
    numbers = Phrases("test labels", Bytes(), lambda start, stop: [f" {i}." for i in range(start, stop)], per_shard=500)
    bodies = Phrases(
        "test bodies", Bytes(), lambda start, stop: [f" {'abcdefg'[i] * i}" for i in range(start, min(stop, 7))]
    )
    return Listing(
        tuple(b"before"), tokens, Items(numbers if labels else None, bodies, lambda i: i % 7), seed=seed, answers=(2, 5)
    )


@given(st.integers(0, 40_000), st.booleans(), st.data())
@patient
def test_any_range_is_read_as_if_it_were_whole(tokens: int, labels: bool, data: st.DataObject) -> None:
    made = listing(tokens, labels=labels)
    whole = made.read(0, made.length)
    assert len(whole) == made.length == tokens + 6 and whole.dtype == np.int32
    edges = sorted(data.draw(st.lists(st.integers(0, made.length), max_size=8)))
    parts = [made.read(start, stop) for start, stop in pairwise([0, *edges, made.length])]
    assert np.array_equal(np.concatenate(parts), whole)
    assert np.array_equal(made.read(-5, made.length + 5), whole) and not len(made.read(made.length, made.length + 9))


@given(st.integers(200, 60_000))
@patient
def test_items_in_their_order_all_of_them_and_the_last_one_cut(tokens: int) -> None:
    made = listing(tokens)
    shown = bytes(made.read(0, made.length).tolist()).decode()
    assert shown.startswith("before 0.")
    items = re.findall(r" (\d+)\. ([a-g]*)", shown + " ")
    assert [int(number) for number, _ in items] == list(range(len(items)))
    assert len(items) <= made.count <= len(items) + 1  # of the last one not even the number may be there
    bodies = Counter(len(body) for _, body in items[: made.count - 1])
    assert bodies == Counter(i % 7 for i in range(made.count - 1))
    last = f" {made.count - 1}. {'abcdefg'[(made.count - 1) % 7] * ((made.count - 1) % 7)}"
    assert any(shown.endswith(last[:end]) for end in range(1, len(last) + 1))


def test_facts_are_where_the_answers_first_stand() -> None:
    made = listing(5000)
    shown = bytes(made.read(0, made.length).tolist())
    expected = sorted((shown.index(f". {body} ".encode()) + 1, tuple(f" {body}".encode())) for body in ("cc", "fffff"))
    assert list(made.facts()) == expected


def test_the_seed_alone_decides_the_order() -> None:
    one, two, other = listing(5000), listing(5000), listing(5000, seed="other")
    assert one.digest() == two.digest() != other.digest()
    assert np.array_equal(one.read(0, 5000), two.read(0, 5000)) and not np.array_equal(
        one.read(0, 5000), other.read(0, 5000)
    )
    assert listing(4999).digest() != one.digest()


# cwe


def listed(text: str, count: int) -> list[str]:
    """The first words of a numbered list; of the next, nothing or a cut number may follow."""
    found = re.split(r"(?:^| )\d+\. ", text)[1 : count + 1]
    assert len(found) == count
    return [*found[:-1], re.sub(r" \d+\.?$", "", found[-1])]


@pytest.mark.parametrize(
    ("length", "common", "others", "example"),
    [(2000, 6, 1, (10 * 3 + 10, 20)), (4096, 30, 3, (10 * 10 + 30 * 3, 40)), (20_000, 30, 3, (10 * 10 + 30 * 3, 40))],
)
def test_ten_words_are_common(length: int, common: int, others: int, example: tuple[int, int]) -> None:
    for sample in samples("cwe", length, 3):
        shown, asked = text(sample).split(lists.CWE_BEFORE)[1:]
        numbers = [int(number) for number in re.findall(r"(\d+)\. ", asked)]
        assert numbers == list(range(1, len(numbers) + 1))
        counted = Counter(listed(asked, sample.context.count - 1))
        top = counted.most_common(10)
        assert {word for word, _ in top} == set(sample.meta["references"]) <= set(words.dictionary())
        assert all(often == common for _, often in top)
        rest = Counter({word: often for word, often in counted.items() if word not in sample.meta["references"]})
        assert set(rest) <= set(words.dictionary()) and max(rest.values()) == others
        assert sum(often < others for often in rest.values()) <= 1  # the word at which the list ends
        example_list, answered = shown.split(lists.CWE_QUESTION + lists.CWE_ANSWER)
        words_shown = Counter(listed(example_list, example[0]))
        assert (sum(words_shown.values()), len(words_shown)) == example
        best = {word for word, _ in words_shown.most_common(10)}
        assert best == set(listed(answered.strip(), 10))


def test_beyond_the_dictionary_words_are_coined_and_the_answers_are_not() -> None:
    (sample,) = samples("cwe", 600_000, 1, tokenizer=Bytes())
    asked = text(sample, Bytes()).split(lists.CWE_BEFORE)[2]
    counted = Counter(listed(asked, sample.context.count - 1))
    coined = set(counted) - set(words.dictionary())
    assert len(coined) > 1000 and all(re.fullmatch(r"([a-z][aeiou]){3}k", word) for word in coined)
    assert len(set(counted) & set(words.dictionary())) == 8169
    assert {word for word, often in counted.items() if often > 3} == set(sample.meta["references"])
    assert set(sample.meta["references"]) <= set(words.dictionary())


# fwe


@pytest.mark.parametrize("length", [300, 1000, 4096, 50_000])
def test_words_stand_as_often_as_the_zeta_distribution_has_it(length: int) -> None:
    for sample in samples("fwe", length, 3):
        shown = text(sample).split("coded words. ", 1)[1].split(" ")
        counted = Counter(shown)
        dots = counted.pop("...")
        counted = Counter({word: often for word, often in counted.items() if word.strip(".")})  # the last may be cut
        assert all(re.fullmatch("[a-z]{6}", word) for word in counted)
        often = sorted(counted.values(), reverse=True)
        assert tuple(word for word, _ in counted.most_common(3)) == sample.meta["references"]
        assert often[2] > often[3] if len(often) > 3 else True
        vocabulary = (length - 50) // 50

        def published(n: int, vocabulary: int = vocabulary) -> list[int]:
            return [int(n * k**-2 / (pi**2 / 6)) for k in range(1, vocabulary + 1)]

        near = range(int(often[0] * 4 * pi**2 / 6), int((often[0] + 1) * 4 * pi**2 / 6) + 1)
        fits = [n for n in near if [c for c in published(n)[1:] if c] == often]
        assert fits and published(fits[0])[0] <= dots <= published(fits[-1])[0] + 10  # hardly more noise than that


def test_the_answers_are_never_tied() -> None:
    for n in [*range(lists.FWE_LEAST_WORDS, 2000), 10**5, 10**7]:
        often = lists.counts(n, 6).tolist()
        assert often[1] > often[2] > often[3] > often[4], n
    often = lists.counts(lists.FWE_LEAST_WORDS - 1, 6).tolist()
    assert often[3] == often[4]


# both


@pytest.mark.parametrize("subset", ["cwe", "fwe"])
@pytest.mark.parametrize("length", [1333, 4096, 8192, 131_072])
def test_exact_with_the_tokens_to_generate(subset: str, length: int) -> None:
    for sample in samples(subset, length, 2):
        read = len(sample.context.read(0, sample.context.length))
        assert read + len(sample.question) + len(sample.prefill) + Ruler().rules(subset).max_answer_tokens == length


@pytest.mark.parametrize("subset", ["cwe", "fwe"])
@pytest.mark.parametrize("tokenizer", [TOKENIZER, Bytes()], ids=["bpe", "bytes"])
def test_the_least_length_is_exact(subset: str, tokenizer) -> None:
    with pytest.raises(UserError, match=r"length 3 is too short .* Use --len \d+") as caught:
        samples(subset, 3, 1, tokenizer=tokenizer)
    least = int(str(caught.value).split("--len ")[1].split()[0])
    for sample in samples(subset, least, 5, tokenizer=tokenizer):
        shown = text(sample, tokenizer)
        assert all(word in shown for word in sample.meta["references"])
    with pytest.raises(UserError, match=f"Use --len {least} or more"):
        samples(subset, least - 1, 1, tokenizer=tokenizer)


@pytest.mark.parametrize("subset", ["cwe", "fwe"])
def test_samples_differ_and_do_not_depend_on_each_other(subset: str) -> None:
    few, many, other = samples(subset, 4096, 2), samples(subset, 4096, 4), samples(subset, 4096, 2, seed=1)
    assert [sample.meta for sample in few] == [sample.meta for sample in many[:2]]
    assert len({text(sample) for sample in [*many, *other]}) == 6
    longer = samples(subset, 20_000, 1)[0]
    assert longer.meta["references"] == few[0].meta["references"]  # the same words at every length


@pytest.mark.slow
@pytest.mark.parametrize("subset", ["cwe", "fwe"])
def test_ten_million_tokens_are_a_small_plan(subset: str) -> None:
    length, tokenizer = 10_000_000, Bytes()
    samples(subset, length, 1, tokenizer=tokenizer)  # tokenises what it needs
    tracemalloc.start()
    (sample,) = samples(subset, length, 1, tokenizer=tokenizer)
    blocks = [len(sample.context.read(start, start + (1 << 16))) for start in range(0, length, 10 << 16)]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert set(blocks[:-1]) == {1 << 16} and peak < 4e6
    assert sample.length + Ruler().rules(subset).max_answer_tokens == length
    assert len(pickle.dumps((sample.context, sample.question, sample.meta))) < 100_000
