"""Ordinal recall: the n-th entry is the n-th in the text, whatever stands between, and every ordinal is asked."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_bench.tasks import corpora
from atlas_bench.tasks.codewords import WORDS
from atlas_bench.tasks.ordinal import NEEDLES, ORDINAL, Ordinal, ending
from tests.tasks.asking import TOKENIZER, asked, samples, small_shards, text

pytestmark = pytest.mark.usefixtures(small_shards.__name__)
TASK = Ordinal()  # remembers its corpus between the cases


def entries(read: str, book: str, place: str) -> list[str]:
    """The words of a log's entries, in order, by reading the text."""
    return re.findall(rf"A new entry in the {book} of the {place}: (\w+)\.", read)


def understood(question: str) -> tuple[int, str, str]:
    """(n, book, place) of a question."""
    n, book, place = re.fullmatch(r" What is the (\d+)[a-z]{2} entry in the (\w+) of the ([\w ]+)\?", question).groups()
    return int(n), book, place


@settings(max_examples=30, deadline=None)
@given(needles=st.sampled_from(NEEDLES), length=st.integers(3000, 60_000), seed=st.integers(0, 999))
def test_the_nth_entry_of_the_text_is_the_answer(needles: int, length: int, seed: int) -> None:
    made = samples(TASK, str(needles), length, needles, seed)
    asked_for = [understood(asked(sample)) for sample in made]
    assert {n for n, _, _ in asked_for} == set(range(1, needles + 1)) and len({log[1:] for log in asked_for}) == 1
    for sample, (n, book, place) in zip(made, asked_for, strict=True):
        found = entries(text(sample), book, place)
        assert len(found) == needles and sample.targets == (found[n - 1],)
        assert TOKENIZER.decode(sample.prefill) == f" The {n}{ending(n)} entry in the {book} of the {place} is"


@pytest.mark.parametrize("needles", NEEDLES)
def test_as_many_entries_differ_in_the_book_as_in_the_place(needles: int) -> None:
    (sample, *_) = samples(TASK, str(needles), 8000, needles)
    _, book, place = understood(asked(sample))
    others = re.findall(r"A new entry in the (\w+) of the ([\w ]+): (\w+)\.", text(sample))
    kinds = Counter((b == book, p == place) for b, p, _ in others)
    assert kinds == {(True, True): needles, (False, True): needles, (True, False): needles}
    assert len({word for _, _, word in others}) == 3 * needles == sample.meta["facts"]


def test_entries_stand_anywhere_in_a_random_order() -> None:
    """The mean depth of the n-th of n entries is that of order statistics, n / (n + 1) of the text."""
    for needles in (2, 8):
        firsts, lasts = [], []
        for seed in range(60):
            depths = sorted(s.meta["needle_depth"] for s in samples(TASK, str(needles), 20_000, needles, seed))
            firsts.append(depths[0])
            lasts.append(depths[-1])
        assert np.mean(firsts) == pytest.approx(1 / (needles + 1), abs=0.12)
        assert np.mean(lasts) == pytest.approx(needles / (needles + 1), abs=0.12)


def test_who_ignores_the_order_or_keeps_the_last_entry_is_right_once_in_the_needles() -> None:
    word = TASK.rules("8").scorers["ordinal/word"]
    for sample in samples(TASK, "8", 5000, 8):
        n, book, place = understood(asked(sample))
        found = entries(text(sample), book, place)
        assert [bool(word(guess, sample)) for guess in found] == [i == n for i in range(1, 9)]


def test_any_word_is_as_likely_as_any_other() -> None:
    drawn = [question.targets[0] for i in range(700) for question in ORDINAL.draw("8", "0", i, 1000)[0].questions]
    counts = [drawn.count(word) for word in WORDS]
    assert min(counts) > 25 and max(counts) < 95  # of 56 each; four and five standard deviations
    assert ORDINAL.rules("8").chance == 1 / len(WORDS)


def test_lessons_ask_for_the_nth_entry_on_the_way() -> None:
    lessons = TASK.lessons(("2", "8"), TOKENIZER, 0, [corpora.generated(TOKENIZER)])
    asks, ordinals = 0, set()
    for seed in range(8):
        read: list[int] = []
        for part in lessons.seeded(seed).stream(1024, 256):
            read += part.tokens.tolist()
            for ask in part.asks:
                question, prefill = TOKENIZER.decode(ask.question).split("?")
                n, book, place = understood(f"{question}?")
                assert entries(TOKENIZER.decode(read), book, place)[n - 1] == TOKENIZER.decode(ask.answer).strip()
                assert prefill.endswith(" is")
                asks, ordinals = asks + 1, ordinals | {n}
        assert len(read) == 1024
    assert asks > 30 and ordinals == set(range(1, 9))


def test_ordinals_are_written_as_in_english() -> None:
    written = [f"{n}{ending(n)}" for n in (1, 2, 3, 4, 10, 11, 12, 13, 20, 21, 22, 23, 31, 32, 111, 112)]
    assert " ".join(written) == "1st 2nd 3rd 4th 10th 11th 12th 13th 20th 21st 22nd 23rd 31st 32nd 111th 112th"
