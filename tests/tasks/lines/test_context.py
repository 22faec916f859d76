"""The lazy context of lines: any part is that of the whole, lines stand where they are said to, and nothing is kept."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_bench.models.tokenizer import embedded
from atlas_bench.tasks.lines.context import NUMBERS, Lines, Template, chunks, drawn

TOKENIZER = embedded()
FILLER = 7
WRITTEN_DOWN = [[5599841837815857887, 15655913098571550255, 2880178291573394738, 573812481542357666]]  # of line 0


@dataclass(frozen=True)
class Numbered:
    """Line i has the words 1000 + 2 i and 1001 + 2 i."""

    line: Template
    key: str = "numbered"

    def words(self, first: int, last: int) -> np.ndarray:
        return 1000 + np.arange(2 * first, 2 * last).reshape(-1, 2)


@st.composite
def contexts(draw):
    parts = draw(st.sampled_from([(None, None), (None, ":", None, "\n"), (" from", None, " to", None, ".\n")]))
    before = draw(st.lists(st.integers(0, 99), max_size=9))
    length = len(before) + draw(st.integers(0, 300))
    return Lines(before, length, Numbered(Template(TOKENIZER, *parts)), facts=(), filler=FILLER)


def naive(context: Lines) -> list[int]:
    """All tokens, line by line."""
    tokens, line = context.before.tolist(), 0
    while len(tokens) + context.source.line.width <= context.length:
        row = context.source.line.row.copy()
        row[context.source.line.slots] = (1000 + 2 * line, 1001 + 2 * line)
        tokens += row.tolist()
        line += 1
    assert line == context.lines
    return tokens + [FILLER] * (context.length - len(tokens))


@given(contexts(), st.integers(-5, 400), st.integers(0, 400))
@settings(max_examples=300, deadline=None)
def test_any_part_is_that_of_the_whole(context: Lines, start: int, size: int) -> None:
    whole = naive(context)
    assert context.read(0, 10**9).tolist() == whole
    part = context.read(start, start + size)
    assert part.dtype == np.int32 and part.tolist() == whole[max(start, 0) : max(start + size, 0)]


@given(contexts(), st.integers(0, 400))
@settings(max_examples=100, deadline=None)
def test_lines_before_a_token_are_those_that_end_there(context: Lines, stop: int) -> None:
    ends = [context.place(i) + context.source.line.width for i in range(context.lines)]
    assert context.lines_before(stop) == sum(end <= stop for end in ends)


def test_facts_are_the_lines_that_answer() -> None:
    line = Template(TOKENIZER, None, ":", None, "\n")
    context = Lines([1, 2, 3], 500, Numbered(line), facts=(0, 4), filler=FILLER)
    for (at, tokens), number in zip(context.facts(), (0, 4), strict=True):
        assert at == 3 + number * line.width and context.read(at, at + line.width).tolist() == list(tokens)


def test_a_template_is_its_texts_around_the_words() -> None:
    words = TOKENIZER.encode(" river"), TOKENIZER.encode(" window")
    assert list(map(len, words)) == [1, 1]
    (line,) = Template(TOKENIZER, None, " ->", None, "\n").fill(np.array([[words[0][0], words[1][0]]]))
    assert TOKENIZER.decode(line.tolist()) == " river -> window\n"


def test_random_numbers_go_by_the_line_alone() -> None:
    whole = drawn(99, 0, 1000)
    assert whole.shape == (1000, NUMBERS) and len(np.unique(whole)) == 1000 * NUMBERS
    for first, last in ((0, 1), (17, 400), (999, 1000), (5, 5)):
        assert np.array_equal(drawn(99, first, last), whole[first:last])
    assert drawn(1, 0, 1).tolist() == WRITTEN_DOWN


def test_the_digest_says_whether_any_token_differs() -> None:
    plain = {"before": (1, 2), "length": 100, "parts": (None, ":", None), "key": "numbered", "filler": 7}
    other = {"before": (1, 3), "length": 101, "parts": (None, ".", None), "key": "another", "filler": 8}

    def digest(*, before, length, parts, key, filler, facts=()) -> str:
        source = Numbered(Template(TOKENIZER, *parts), key)
        return Lines(before, length, source, facts=facts, filler=filler).digest()

    assert len({digest(**plain), *(digest(**plain | {name: other[name]}) for name in other)}) == 6
    assert digest(**plain, facts=(3,)) == digest(**plain)


@pytest.mark.parametrize("lines", [0, 1, 16_384, 16_385, 50_000])
def test_chunks_are_all_lines_once(lines: int) -> None:
    assert [i for first, last in chunks(lines) for i in range(first, last)] == list(range(lines))


def test_ten_million_tokens_are_read_in_the_memory_of_a_block() -> None:
    context = Lines([1], 10_000_000, Numbered(Template(TOKENIZER, None, ":", None, "\n")), facts=(), filler=FILLER)
    tracemalloc.start()
    total = sum(len(context.read(at, at + 65_536)) for at in range(0, 10_000_000, 65_536))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == 10_000_000 and peak < 3e6
