"""In-context learning: a reader who counts common words is always right, classes come in sessions, chance is chance."""

from __future__ import annotations

import re
from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_bench.tasks.lines.icl import CLASS_WORDS, SESSIONS, SHOWN, Icl
from atlas_bench.tasks.pairs import POOL
from tests.tasks.asking import TOKENIZER, asked, samples, text

TASK = Icl()
by_subset = pytest.mark.parametrize("subset", TASK.subsets)
LEAST = {"14": 1000, "77": 5000, "150": 10_000}


def examples(read: str) -> list[tuple[list[str], str]]:
    """(words, label) of every line."""
    return [
        (words.split(), label) for words, label in re.findall(rf"^((?: \w+){{{SHOWN}}}): (\w+)$", read, re.MULTILINE)
    ]


def classify(words: list[str], lines: list[tuple[list[str], str]]) -> str:
    """The label whose examples have most of the words."""
    vocabulary = defaultdict(set)
    for shown, label in lines:
        vocabulary[label] |= set(shown)
    return max(vocabulary, key=lambda label: len(vocabulary[label] & set(words)))


@by_subset
@settings(max_examples=5, deadline=None)
@given(more=st.integers(0, 20_000), seed=st.integers(0, 999))
def test_who_counts_common_words_is_always_right(subset: str, more: int, seed: int) -> None:
    made = samples(TASK, subset, LEAST[subset] + more, int(subset), seed)
    lines = examples(text(made[0]))
    assert len(lines) == made[0].context.lines and len({sample.targets for sample in made}) == int(subset)
    for sample in made:
        query = asked(sample)
        assert query[0] == " " and query[-1] == ":" and sample.length == LEAST[subset] + more
        words = query.strip(" :").split()
        assert len(set(words)) == SHOWN and (classify(words, lines),) == sample.targets


@by_subset
def test_the_record_names_the_last_example_of_the_class(subset: str) -> None:
    made = samples(TASK, subset, 2 * LEAST[subset], int(subset))
    lines, width = examples(text(made[0])), made[0].context.source.line.width
    for sample in made:
        (at,) = sample.meta["supporting"]
        number = (at - len(sample.context.before)) // width
        assert number == max(i for i, (_, label) in enumerate(lines) if label == sample.targets[0])


@by_subset
def test_every_session_has_its_own_classes(subset: str) -> None:
    (sample, *_) = samples(TASK, subset, 40_000, 1)
    lines, sessions = examples(text(sample)), SESSIONS[subset]
    per_session = [set() for _ in range(sessions)]
    for i, (_, label) in enumerate(lines):
        per_session[i * sessions // len(lines)].add(label)
    assert {len(labels) for labels in per_session} == {int(subset) // sessions}
    assert len(set.union(*per_session)) == int(subset)


def test_a_class_is_its_words_in_any_order_and_words_are_shared() -> None:
    (sample, *_) = samples(TASK, "77", 200_000, 1)
    shown = defaultdict(set)
    lines = examples(text(sample))
    for words, label in lines:
        shown[label] |= set(words)
        assert len(set(words)) == SHOWN
    assert {len(words) for words in shown.values()} == {CLASS_WORDS}
    owners = Counter(word for words in shown.values() for word in words)
    assert max(owners.values()) > 3
    assert len({tuple(words) for words, _ in lines}) > 0.9 * len(lines)
    assert len({label for _, label in lines} & set(owners)) == 0


def test_classes_of_a_session_are_equally_common() -> None:
    (sample, *_) = samples(TASK, "14", 100_000, 1)
    counts = Counter(label for _, label in examples(text(sample)))
    mean = sample.context.lines / 14
    assert max(abs(n - mean) for n in counts.values()) < 5 * mean**0.5


def test_any_label_is_as_likely_as_any_other() -> None:
    counts = Counter(s.targets[0] for seed in range(5) for s in samples(TASK, "14", 1000, 700, seed))
    n, chance = sum(counts.values()), TASK.rules("14").chance
    assert set(counts) <= set(samples(TASK, "14", 1000, 1)[0].meta["labels"]) and chance == 1 / POOL
    assert max(counts.values()) / n < chance + 6 * (chance / n) ** 0.5


def test_queries_come_in_random_order_and_as_lines_begin() -> None:
    made = samples(TASK, "14", 2000, 14)
    places = [sample.meta["supporting"][0] for sample in made]
    assert places != sorted(places)
    (line,) = [tokens for at, tokens in made[0].context.facts() if at == places[0]]
    assert len(line) == made[0].context.source.line.width
    assert line[SHOWN : SHOWN + 1] == made[0].question[SHOWN:] and len(made[0].question) == SHOWN + 1


@by_subset
def test_lessons_ask_what_counting_says(subset: str) -> None:
    lessons, asks = TASK.lessons((subset,), TOKENIZER, 0), 0
    for seed in range(4):
        read: list[int] = []
        for part in lessons.seeded(seed).stream(4096, 1024):
            read += part.tokens.tolist()
            lines = examples(TOKENIZER.decode(read).rpartition("\n")[0] + "\n")
            for ask in part.asks:
                words = TOKENIZER.decode(ask.question).strip(" :").split()
                assert f" {classify(words, lines)}\n" == TOKENIZER.decode(ask.answer)
                asks += 1
        assert len(read) == 4096
    assert asks > 100
    for length in (8, 16, 64, 65):
        (part,) = TASK.lessons((subset,), TOKENIZER, 1).stream(length, length)
        assert len(part.tokens) == length
