"""Aggregation: the answers are those of a count over the text, and as likely as chance says."""

from __future__ import annotations

import re
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_bench.tasks.lines.aggregate import LABELS, MOST_COUNTED, SHARES, USERS, Aggregate
from tests.tasks.asking import TOKENIZER, asked, samples, text

TASK = Aggregate()
by_subset = pytest.mark.parametrize("subset", TASK.subsets)


def votes(read: str) -> list[tuple[str, str]]:
    """(user, label) of every line."""
    return re.findall(r"^ (\w+): (\w+)$", read, re.MULTILINE)


def truth(question: str, lines: list[tuple[str, str]]) -> str:
    """The answer to a question, by counting."""
    labels = Counter(label for _, label in lines)
    if wanted := re.fullmatch(r"\nHow many lines have the label (\w+)\?", question):
        return str(labels[wanted[1]])
    if wanted := re.fullmatch(r"\nWhich label is more common, (\w+) or (\w+)\?", question):
        return max(wanted.groups(), key=labels.__getitem__)
    if wanted := re.fullmatch(r"\nWhich label did (\w+) give most often\?", question):
        labels = Counter(label for user, label in lines if user == wanted[1])
    ranked = [label for label, _ in labels.most_common()]
    return ranked[-1] if question == "\nWhich label is the least common?" else ranked[0]


@by_subset
@settings(max_examples=25, deadline=None)
@given(length=st.integers(900, 30_000), seed=st.integers(0, 999))
def test_the_answer_is_what_counting_says(subset: str, length: int, seed: int) -> None:
    made = samples(TASK, subset, length, TASK.rules(subset).questions_per_context, seed)
    lines = votes(text(made[0]))
    assert len(lines) == made[0].context.lines and len({label for _, label in lines}) <= LABELS
    assert len({asked(sample) for sample in made}) == len(made)
    for sample in made:
        assert sample.targets == (truth(asked(sample), lines),) and sample.length == length


@pytest.mark.parametrize("subset", ["most", "least", "user"])
def test_no_other_label_is_as_common_as_the_answer(subset: str) -> None:
    for sample in samples(TASK, subset, 1000, 24):
        lines = votes(text(sample))
        if subset == "user":
            (user,) = re.findall(r"did (\w+) give", asked(sample))
            lines = [line for line in lines if line[0] == user]
        counts = Counter(label for _, label in lines)
        best = {"least": min}.get(subset, max)(counts.values())
        assert [label for label, n in counts.items() if n == best] == [sample.targets[0]]


def test_the_lines_of_the_record_are_those_that_count() -> None:
    for subset in TASK.subsets:
        for sample in samples(TASK, subset, 3000, 8):
            lines, width = votes(text(sample)), sample.context.source.line.width
            numbers = [(at - len(sample.context.before)) // width for at in sample.meta["supporting"]]
            if subset == "count":
                (label,) = re.findall(r"label (\w+)", asked(sample))
                assert numbers == [i for i, line in enumerate(lines) if line[1] == label]
                assert len(numbers) == int(sample.targets[0])
            else:
                users = re.findall(r"did (\w+) give", asked(sample)) or [user for user, _ in lines]
                hits = (i for i, (user, label) in enumerate(lines) if label == sample.targets[0] and user in users)
                assert numbers == [next(hits)]


@pytest.mark.parametrize(("subset", "choices"), [("most", 6), ("least", 6), ("more", 2), ("count", 16), ("user", 6)])
def test_every_answer_is_as_likely_as_chance_says(subset: str, choices: int) -> None:
    n = 640
    made = samples(TASK, subset, 900 if subset != "user" else 1500, n)
    targets = Counter(sample.targets[0] for sample in made)
    assert TASK.rules(subset).chance == 1 / choices
    if subset == "more":  # the first or the second of the two that the question names
        targets = Counter(asked(s).index(s.targets[0]) < asked(s).index(" or ") for s in made)
    assert len(targets) == choices
    assert max(targets.values()) / n < 1 / choices + 5 * (1 / choices / n) ** 0.5


def test_shares_are_as_written() -> None:
    (sample,) = samples(TASK, "most", 200_000, 1)
    counts = [n for _, n in Counter(label for _, label in votes(text(sample))).most_common()]
    expected = np.array(SHARES) / sum(SHARES) * sum(counts)
    assert np.abs(counts - expected).max() < 5 * expected.max() ** 0.5
    users = Counter(user for user, _ in votes(text(sample)))
    assert len(users) == USERS and max(users.values()) < 1.05 * min(users.values())


def test_each_user_has_a_most_common_label_of_its_own() -> None:
    made = samples(TASK, "user", 30_000, 5 * USERS)
    per_context = defaultdict(set)
    for i, sample in enumerate(made):
        per_context[i // USERS].add(sample.targets[0])
    assert all(len(labels) > 1 for labels in per_context.values())


def test_counts_are_up_to_sixteen_at_every_length() -> None:
    for length in (900, 100_000):
        targets = {int(sample.targets[0]) for sample in samples(TASK, "count", length, 200)}
        assert targets == set(range(1, MOST_COUNTED + 1))


def test_a_number_is_judged_as_a_number() -> None:
    sample = next(s for s in samples(TASK, "count", 900, 60) if s.targets == ("1",))
    only = TASK.rules("count").scorers["aggregate/only"]
    assert only(" 1", sample) and only("It is 1.", sample) and only("1\n2", sample)
    assert not any(only(answer, sample) for answer in ("12", "2", "1 or 2", "", "one"))


def test_a_label_named_in_the_question_earns_nothing_by_being_repeated() -> None:
    only = TASK.rules("more").scorers["aggregate/only"]
    for sample in samples(TASK, "more", 900, 5):
        both = re.findall(r"common, (\w+) or (\w+)\?", asked(sample))[0]
        assert [bool(only(label, sample)) for label in both].count(True) == 1
        assert not only(f"{both[0]} or {both[1]}", sample) and not only(asked(sample), sample)


@by_subset
def test_lessons_ask_what_counting_says_on_the_way(subset: str) -> None:
    lessons, asks = TASK.lessons((subset,), TOKENIZER, 0), 0
    for seed in range(6):
        read: list[int] = []
        for part in lessons.seeded(seed).stream(2048, 512):
            read += part.tokens.tolist()
            for ask in part.asks:
                question, prefill = TOKENIZER.decode(ask.question).split("?")
                assert prefill == " Answer:"
                assert TOKENIZER.decode(ask.answer) == f" {truth(f'{question}?', votes(TOKENIZER.decode(read)))}\n"
                asks += 1
        assert len(read) == 2048
    assert asks >= 12


def test_lessons_of_a_few_tokens_ask_nothing_that_is_not_there() -> None:
    for length in (8, 16, 64, 65):
        for seed in range(10):
            (part,) = TASK.lessons(TASK.subsets, TOKENIZER, seed).stream(length, length)
            assert len(part.tokens) == length


def test_lessons_are_no_evaluation() -> None:
    lessons = TASK.lessons(("most",), TOKENIZER, 0)
    (examination,) = lessons.examinations()
    contexts = [b"".join(s.tokens.tobytes() for s in each.stream(512, 512)) for each in (lessons, examination)]
    assert len({*contexts, samples(TASK, "most", 512, 1)[0].context.read(0, 512).tobytes()}) == 3
    one, two = (list(lessons.seeded(5).stream(512, 128)) for _ in range(2))
    assert all((a.tokens == b.tokens).all() and a.asks == b.asks for a, b in zip(one, two, strict=True))
