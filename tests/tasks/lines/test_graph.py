"""Graph walks: answers are those of a breadth-first search over the edges in the text, and F1 is that of two sets."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from atlas_bench.tasks.lines.graph import DEGREE, LARGEST, QUESTIONS, Graph
from tests.marks import sweep
from tests.tasks.asking import TOKENIZER, asked, samples, text

TASK = Graph()
(SAMPLE,) = samples(TASK, "parents", 400, 1)
by_subset = pytest.mark.parametrize("subset", TASK.subsets)
f1, exact = (TASK.rules("parents").scorers[f"graph/{name}"] for name in ("f1", "exact"))


def edges(read: str) -> list[tuple[str, str]]:
    """(source, target) of every line."""
    return re.findall(r"^ ([\w ]+) -> ([\w ]+)$", read, re.MULTILINE)


def truth(question: str, lines: list[tuple[str, str]]) -> set[str]:
    """The answer, by a search that goes one level at a time."""
    successors, parents = defaultdict(set), defaultdict(set)
    for source, target in lines:
        successors[source].add(target)
        parents[target].add(source)
    if wanted := re.fullmatch(r"\nWhich nodes are parents of ([\w ]+)\?", question):
        return parents[wanted[1]] - {wanted[1]}
    depth, start = re.fullmatch(
        r"\nWhich nodes are at depth (\d) of a breadth-first search from ([\w ]+)\?", question
    ).groups()
    distance, level = {start: 0}, [start]
    for steps in range(1, int(depth) + 1):
        level = {node for source in level for node in successors[source]} - distance.keys()
        distance |= dict.fromkeys(level, steps)
    return {node for node, steps in distance.items() if steps == int(depth)}


@sweep("subset", TASK.subsets, quick=["parents", "bfs-3"])
@settings(max_examples=12, deadline=None)
@given(length=st.integers(300, 30_000), seed=st.integers(0, 999))
@example(length=600_000, seed=0)  # names of three words
def test_the_answer_is_what_a_search_says(subset: str, length: int, seed: int) -> None:
    made = samples(TASK, subset, length, QUESTIONS, seed)
    lines = edges(text(made[0]))
    assert len(lines) == made[0].context.lines and len({asked(sample) for sample in made}) == QUESTIONS
    for sample in made:
        nodes = sample.targets[0].split(", ")
        assert set(nodes) == truth(asked(sample), lines) and 1 <= len(nodes) == len(set(nodes)) <= LARGEST
        assert sample.length == length


@by_subset
def test_the_lines_of_the_record_are_enough_for_the_answer_and_none_can_be_left_out_of_the_search(subset: str) -> None:
    for sample in samples(TASK, subset, 4000, 3 * QUESTIONS):
        lines, width = edges(text(sample)), sample.context.source.line.width
        numbers = [(at - len(sample.context.before)) // width for at in sample.meta["supporting"]]
        assert truth(asked(sample), [lines[i] for i in numbers]) == set(sample.targets[0].split(", "))
        node = re.findall(r"(?:from|of) ([\w ]+)\?", asked(sample))[0]
        near = [i for i, ends in enumerate(lines) if ends[subset == "parents"] == node]
        assert set(near) <= set(numbers)


def test_names_are_as_long_as_the_nodes_call_for_and_all_different() -> None:
    for length, words in ((400, 1), (1024, 1), (1100, 2), (20_000, 2), (600_000, 3)):
        (sample, *_) = samples(TASK, "parents", length, 1)
        source = sample.context.source
        assert source.nodes == sample.context.lines // DEGREE
        digits = source._digits(np.arange(source.nodes))
        assert digits.shape[1] == words and len(np.unique(digits, axis=0)) == source.nodes
        for i, name in source.names(range(0, source.nodes, 997)).items():
            assert TOKENIZER.encode(f" {name}") == source.vocabulary.keys.tokens[digits[i]].tolist()


def test_edges_are_even_over_the_nodes() -> None:
    (sample, *_) = samples(TASK, "parents", 200_000, 1)
    source = sample.context.source
    ends = source.ends(0, sample.context.lines)
    for column in (0, 1):  # of Poisson's distribution with mean 2
        degrees = Counter(np.bincount(ends[:, column], minlength=source.nodes).tolist())
        assert degrees[0] / source.nodes == pytest.approx(np.exp(-2), abs=0.015)
        assert degrees[2] / source.nodes == pytest.approx(2 * np.exp(-2), abs=0.015)
    assert abs(np.corrcoef(ends.T)[0, 1]) < 0.03


@given(st.sets(st.sampled_from("abcdefgh"), min_size=1), st.sets(st.sampled_from("abcdefgh")), st.booleans())
def test_f1_is_that_of_two_sets(wanted: set[str], named: set[str], bracketed: bool) -> None:
    sample = replace(SAMPLE, targets=(", ".join(sorted(wanted)),))
    answer = ", ".join(sorted(named))
    answer = f" [{answer}]." if bracketed else answer
    both = len(wanted & named)
    expected = 2 * both / (len(wanted) + len(named))
    assert f1(answer, sample) == pytest.approx(expected) and exact(answer, sample) == (wanted == named)


@pytest.mark.parametrize(
    "answer", ["stone river, cloud", " Cloud,  Stone  River\nwindow", "['stone river', \"cloud\"]"]
)
def test_a_list_may_be_written_in_many_ways(answer: str) -> None:
    sample = replace(SAMPLE, targets=("cloud, stone river",))
    assert exact(answer, sample) and not exact(f"{answer.partition(chr(10))[0]}, window", sample)


def test_no_answer_that_is_always_the_same_has_more_than_chance() -> None:
    """In the shortest contexts, where names are words: the best of any number of the likeliest names."""
    made = samples(TASK, "bfs-2", 400, 400)
    counts = Counter(name for sample in made for name in sample.targets[0].split(", "))
    others = samples(TASK, "bfs-2", 400, 400, seed=1)
    likeliest = [name for name, _ in counts.most_common(32)]
    for n in (1, 4, 32):
        for names in (likeliest[:n], sorted(counts)[:n]):
            mean = np.mean([f1(", ".join(names), sample) for sample in others])
            assert mean < TASK.rules("bfs-2").chance + 0.01


@by_subset
def test_lessons_ask_what_a_search_of_what_was_read_says(subset: str) -> None:
    lessons, asks = TASK.lessons((subset,), TOKENIZER, 0), 0
    for seed in range(5):
        read: list[int] = []
        for part in lessons.seeded(seed).stream(2048, 512):
            read += part.tokens.tolist()
            for ask in part.asks:
                question, prefill = TOKENIZER.decode(ask.question).split("?")
                answer = TOKENIZER.decode(ask.answer)
                assert prefill == " Nodes:" and answer[0] == " " and answer[-1] == "\n"
                known = edges(TOKENIZER.decode(read).rpartition("\n")[0] + "\n")
                assert set(answer.strip().split(", ")) == truth(f"{question}?", known)
                asks += 1
        assert len(read) == 2048
    assert asks >= 20
    for length in (8, 16, 64, 65):
        (part,) = TASK.lessons((subset,), TOKENIZER, 1).stream(length, length)
        assert len(part.tokens) == length
