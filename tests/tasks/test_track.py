"""State tracking: each stream and its answers against a loop of Python that knows nothing of how they are made."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_bench.errors import UserError
from atlas_bench.models.tokenizer import embedded
from atlas_bench.tasks.pairs import vocabulary
from atlas_bench.tasks.track import ASKED, KINDS, LEAST, SUBSETS, TRACK
from atlas_bench.tasks.track_streams import BLOCK, NONE, Stack
from atlas_bench.types import Sample, TaskOptions

TOKENIZER = embedded()
WORDS = vocabulary(TOKENIZER)
SUMS = {"parity": 2, "mod3": 3, "mod5": 5, "mod7": 7}
GROUPS = {"s3": 3, "s4": 4, "s5": 5, "a5": 5}
SHORT = 3000  # tokens that a loop replays at once


def make(subset: str, length: int, label: str = "test"):
    return SUBSETS[subset].make(WORDS, length, label)


def samples(subset: str, length: int, n: int, seed: int = 0) -> list[Sample]:
    return list(TRACK.samples(subset, length, n, seed, TOKENIZER, TaskOptions()))


def symbols_of(tokens: np.ndarray) -> list[int]:
    """Numbers of the words that are read."""
    number = {token: i for i, token in enumerate(WORDS.keys.tokens.tolist())}
    return [number[token] for token in tokens.tolist()]


# The truths: symbols -> the answer after each of them, None where there is none --------------------------------------


def swaps(permutation: tuple[int, ...]) -> int:
    """Transpositions that sort it, by selection."""
    items, count = list(permutation), 0
    for i in range(len(items)):
        j = items.index(i)
        if j != i:
            items[i], items[j], count = items[j], items[i], count + 1
    return count


def replay_sums(symbols: list[int], modulus: int) -> list[int | None]:
    total, answers = 0, []
    for symbol in symbols:
        assert 0 <= symbol < modulus
        total = (total + symbol) % modulus
        answers.append(total)
    return answers


def replay_group(symbols: list[int], subset: str) -> list[int | None]:
    """Things in places are moved, permutation after permutation; the answer is which permutation did it all."""
    elements = [p for p in permutations(range(GROUPS[subset])) if subset[0] == "s" or swaps(p) % 2 == 0]
    goes_to, answers = tuple(range(GROUPS[subset])), []
    for symbol in symbols:
        goes_to = tuple(elements[symbol][place] for place in goes_to)
        answers.append(elements.index(goes_to))
    return answers


def replay_stack(symbols: list[int], depth: int, shown: bool) -> list[int | None]:
    stack: list[int] = []
    answers: list[int | None] = []
    for symbol in symbols:
        if symbol < KINDS:
            stack.append(symbol)
        else:
            popped = stack.pop()
            assert symbol == KINDS + (popped if shown else 0)
        assert len(stack) <= depth
        answers.append(stack[-1] if stack else None)
    return answers


def replay_counts(symbols: list[int]) -> list[int | None]:
    """A counter up at a, down at b; a new string may begin at zero alone."""
    count, last, answers = 0, 1, []
    for symbol in symbols:
        assert symbol in (0, 1) and (symbol == 0 or count > 0) and (symbol == 1 or last == 0 or count == 0)
        count, last = count + (1 if symbol == 0 else -1), symbol
        answers.append(None if symbol == 0 else int(count > 0))
    return answers


def replay_palindromes(symbols: list[int]) -> list[int | None]:
    """Pushed until the mark, popped behind it."""
    stack: list[int] = []
    behind, answers = False, []
    for symbol in symbols:
        if symbol == KINDS:
            assert stack and not behind
            behind = True
        elif behind and stack:
            assert stack.pop() == symbol
        else:
            behind = False
            stack.append(symbol)
        answers.append(stack[-1] if behind and stack else None)
    return answers


def replay(subset: str, symbols: list[int]) -> list[int | None]:
    if subset in SUMS:
        return replay_sums(symbols, SUMS[subset])
    if subset in GROUPS:
        return replay_group(symbols, subset)
    if subset in ("dyck", "stack"):
        return replay_stack(symbols, *{"dyck": (5, True), "stack": (16, False)}[subset])
    return {"anbn": replay_counts, "palindrome": replay_palindromes}[subset](symbols)


def known(answers: np.ndarray) -> list[int | None]:
    return [None if answer == NONE else answer for answer in answers.tolist()]


# Streams against the truths -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subset", SUBSETS)
@given(length=st.integers(LEAST, SHORT), label=st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_the_answers_are_what_a_loop_finds(subset, length, label):
    stream = make(subset, length, f"loop {label}")
    symbols = symbols_of(stream.read(0, length))
    expected = replay(subset, symbols)
    assert len(symbols) == length and known(stream.answers(0, length)) == expected
    scored = stream.scored(0, length)
    assert any(scored) and all(expected[place] is not None or subset != "anbn" for place in np.flatnonzero(scored))


@pytest.mark.parametrize("subset", ["mod7", "s5", "dyck", "stack"])
def test_far_in_a_stream_too(subset):
    """Behind many blocks of sums, and read from there alone."""
    length = 12 * BLOCK + 77
    stream = make(subset, length)
    expected = replay(subset, symbols_of(stream.read(0, length)))
    for start in (5 * BLOCK - 3, 11 * BLOCK, length - 50):
        fresh = make(subset, length)
        assert known(fresh.answers(start, start + 50)) == expected[start : start + 50]


def test_parity_at_the_end_of_ten_million_tokens():
    stream, ones = make("parity", 10_000_000), 0
    for start in range(0, 10_000_000, 1 << 20):
        ones += int((stream.read(start, start + (1 << 20)) == WORDS.keys.tokens[1]).sum())
    assert stream.answers(9_999_999, 10_000_000).tolist() == [ones % 2]


@pytest.mark.parametrize("subset", SUBSETS)
@given(cuts=st.lists(st.integers(0, SHORT), max_size=8), label=st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_any_split_is_the_same(subset, cuts, label):
    stream, edges = make(subset, SHORT, f"split {label}"), sorted({0, SHORT, *cuts})
    for part in (stream.read, stream.symbols, stream.answers, stream.scored):
        whole = part(0, SHORT)
        assert np.array_equal(np.concatenate([part(a, b) for a, b in pairwise(edges)]), whole)


@pytest.mark.parametrize("subset", [*SUMS, *GROUPS, "dyck", "stack"])
def test_a_longer_stream_begins_as_a_shorter_one(subset):
    assert np.array_equal(make(subset, 1_000_000).read(0, 5000), make(subset, 5000).read(0, 5000))


@pytest.mark.parametrize("subset", [*SUMS, *GROUPS])
def test_the_symbols_of_a_group_are_uniform_and_so_are_pairs_of_them(subset):
    """As in the word problem, though it is the states that are drawn: chi-squared within six deviations."""
    n, length = SUBSETS[subset].answers, 400_000
    symbols = make(subset, length).symbols(0, length)
    pairs = symbols[:-1] * n + symbols[1:]
    for values, kinds in ((symbols, n), (pairs, n * n)):
        expected = len(values) / kinds
        chi_squared = ((np.bincount(values, minlength=kinds) - expected) ** 2 / expected).sum()
        assert abs(chi_squared - (kinds - 1)) < 6 * (2 * kinds) ** 0.5


def test_the_walk_of_a_stack_is_fair_between_its_bounds():
    """At every height between them as many pushes as pops, within five standard errors; the ends are reflected."""
    heights = Stack(WORDS, 300_000, "fair", kinds=KINDS, depth=5, shown=True).heights(0, 300_000)
    for height in range(6):
        ups = np.diff(heights)[heights[:-1] == height] > 0
        if height in (0, 5):
            assert ups.all() if height == 0 else not ups.any()
        else:
            assert ups.mean() == pytest.approx(0.5, abs=5 * (0.25 / len(ups)) ** 0.5)


@pytest.mark.parametrize("subset", ["anbn", "palindrome"])
def test_sizes_of_strings_are_even_over_their_logarithm(subset):
    sizes = np.concatenate([make(subset, 1_000_000, f"sizes {i}").sizes for i in range(60)])
    assert sizes.min() >= 2 and sizes.max() <= 1_000_000 // 16
    share = (sizes < (2 * 62_501) ** 0.5).mean()  # below the middle of 2 and 62,501
    assert share == pytest.approx(0.5, abs=5 * (0.25 / len(sizes)) ** 0.5)


# Samples --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subset", SUBSETS)
def test_a_place_is_asked_by_its_own_token(subset):
    for length in (LEAST, SHORT):
        made = samples(subset, length, 3 * ASKED)
        for stream in (made[:ASKED], made[ASKED : 2 * ASKED], made[2 * ASKED :]):
            tokens = stream[0].context.read(0, length)
            expected = replay(subset, symbols_of(tokens))
            assert len({sample.asked_at for sample in stream}) == ASKED
            for sample in stream:
                place = sample.asked_at
                assert sample.context is stream[0].context and sample.question == (int(tokens[place]),)
                assert sample.targets == (WORDS.values.words[expected[place]],)
                assert sample.meta["labels"] == WORDS.values.words[: SUBSETS[subset].answers]
                (needed,) = sample.meta["supporting"]
                assert sample.meta["distance"] == place - needed >= 0


@pytest.mark.parametrize("subset", [*SUMS, *GROUPS])
def test_a_group_is_asked_in_every_tenth_and_at_the_very_end(subset):
    assert [sample.asked_at for sample in samples(subset, 1000, ASKED)] == list(range(99, 1000, 100))


def test_a_stack_is_asked_after_pops_for_what_was_pushed_there():
    for subset in ("dyck", "stack"):
        for sample in samples(subset, SHORT, 10 * ASKED):
            symbols = symbols_of(sample.context.read(0, sample.asked_at + 1))
            assert symbols[-1] >= KINDS and sample.meta["distance"] > 0
            assert sample.targets[0] == WORDS.values.words[symbols[sample.meta["supporting"][0]]]


@pytest.mark.parametrize("subset", SUBSETS)
def test_no_answer_is_likelier_than_chance(subset):
    targets = Counter(sample.targets[0] for seed in range(2) for sample in samples(subset, 500, 400, seed))
    n, chance = sum(targets.values()), TRACK.rules(subset).chance
    assert set(targets) <= set(WORDS.values.words[: SUBSETS[subset].answers])
    assert max(targets.values()) / n < chance + 6 * (chance / n) ** 0.5


def test_the_last_b_and_the_one_before_are_asked():
    for sample in samples("anbn", SHORT, 10 * ASKED):
        symbols = symbols_of(sample.context.read(0, sample.asked_at + 1))
        count = sum(1 if symbol == 0 else -1 for symbol in symbols)
        assert count in (0, 1) and sample.targets[0] == WORDS.values.words[count]
        start = sample.meta["supporting"][0]
        assert symbols[start] == 0 and (start == 0 or symbols[start - 1] == 1)


def test_a_palindrome_needs_the_symbol_in_the_mirror():
    for sample in samples("palindrome", SHORT, 10 * ASKED):
        (needed,) = sample.meta["supporting"]
        assert sample.targets[0] == WORDS.values.words[symbols_of(sample.context.read(needed, needed + 1))[0]]


def test_the_tokens_are_the_same_on_every_machine():
    text = TOKENIZER.decode(make("s5", 100, "written down").read(0, 5).tolist())
    assert text == " lies office move nat sett"


@pytest.mark.parametrize(
    ("subset", "length", "options", "said"),
    [
        ("parity", 39, {}, r"length 39 is too short for track:parity: 10 places .* Use --len 40 or more"),
        ("s6", 1000, {}, r"no subset 's6'\. Did you mean 's"),
        ("s5", 1000, {"background": "pg19"}, r"track has no --background 'pg19'"),
    ],
)
def test_what_cannot_be_asked_is_refused(subset, length, options, said):
    with pytest.raises(UserError, match=said):
        TRACK.check(subset, length, TOKENIZER, TaskOptions(**options))


# Lessons --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subset", SUBSETS)
def test_lessons_supervise_every_token_with_the_truth(subset):
    lessons = TRACK.lessons([subset], TOKENIZER, 0).seeded(3)
    for length, segment in ((64, 64), (512, 100)):
        segments = list(lessons.stream(length, segment))
        tokens = np.concatenate([part.tokens for part in segments])
        tags = np.concatenate([part.tags.tokens for part in segments])
        scored = np.concatenate([part.tags.scored for part in segments])
        expected = [-1 if each is None else WORDS.values.tokens[each] for each in replay(subset, symbols_of(tokens))]
        assert tags.tolist() == expected and (tags[scored] >= 0).all() and scored.any()
        assert all(part.tags.kind == subset and not part.asks for part in segments)
        free = np.concatenate([part.free for part in segments]).tolist()
        assert free == [subset not in (*SUMS, *GROUPS) or symbol != 0 for symbol in symbols_of(tokens)]


def test_lessons_are_no_evaluation_and_follow_their_seed():
    lessons = TRACK.lessons(["s5", "parity"], TOKENIZER, 0)
    (examination,) = lessons.examinations()

    def drawn(source, seed):
        return [(part.tags.kind, *part.tokens.tolist()) for part in source.seeded(seed).stream(256, 64)]

    made = [tuple(drawn(lessons, seed)) for seed in range(40)]
    assert len(set(made)) == 40 and {parts[0][0] for parts in made} == {"s5", "parity"}
    assert drawn(lessons, 5) == list(made[5])
    assert tuple(drawn(examination, 5)) not in made
    asked = {("s5", *s.context.read(0, 64).tolist()) for seed in range(5) for s in samples("s5", 256, 80, seed)}
    assert not asked & {parts[0] for parts in made}
