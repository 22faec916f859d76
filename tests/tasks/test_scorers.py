"""Scorers against independent statements of their rules, and the official one's defects by name."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_bench.tasks import babi
from atlas_bench.tasks.scorers import LABELS, SCORERS, official, word
from atlas_bench.types import Sample

QUESTIONS = {
    "qa1": "Where is Mary?",
    "qa3": "Where was the apple before the kitchen?",
    "qa5": "Who did Jeff give the milk to?",
    "qa6": "Is John in the office?",
    "qa7": "How many objects is Mary carrying?",
    "qa8": "What is Daniel carrying?",
    "qa10": "Is Bill in the park?",
    "qa19": "How do you go from the office to the garden?",
    "qa20": "Where will Sumit go?",
}
TRAPS = [" ", ". ", "\n", "! ", " know", " not", "<context>", "<EXAMPLE>", "Question:", ", ", " and ", "The "]


def sample(target: str, subset: str, question: str | None = None) -> Sample:
    meta = {"question": question or QUESTIONS.get(subset, "Where is Mary?"), "labels": LABELS[subset]}
    return Sample(0, None, (), (target,), meta)


@pytest.mark.parametrize("before", ["", " ", "\n", "\n\n \n"])
@pytest.mark.parametrize("name", SCORERS)
def test_what_is_blank_before_an_answer_changes_no_verdict(name: str, before: str) -> None:
    asked = sample("garden", "qa1")
    for said in ("garden", "Answer: garden.", "Mary is in the garden", "Answer: garden. Mary is in the office."):
        assert SCORERS[name](before + said, asked) == 1
    assert SCORERS[name](f"{before}Answer: office.", asked) == 0


@st.composite
def cases(draw: st.DrawFn, subsets: tuple[str, ...] = tuple(QUESTIONS)) -> tuple[str, str, Sample]:
    """A subset, an answer made of labels and traps, and a sample that it answers."""
    subset = draw(st.sampled_from(subsets))
    target = draw(st.sampled_from(LABELS[subset]))
    if subset == "qa8" and draw(st.booleans()):
        target = ",".join(draw(st.permutations(LABELS["qa8"]))[:2])
    pieces = [*LABELS[subset], *map(str.upper, LABELS[subset]), *TRAPS]
    parts = draw(st.lists(st.sampled_from(pieces) | st.just(target) | st.text(max_size=3), max_size=6))
    return subset, "".join(parts), sample(target, subset)


def stated_official(answer: str, case: Sample) -> bool:
    text = answer.lower()
    for mark in (".", "<context>", "<example>"):
        at = text.find(mark)
        text = text if at < 0 else text[:at]
    question, target = case.meta["question"].lower(), case.targets[0].lower()
    left = [label for label in map(str.lower, case.meta["labels"]) if label in text and label not in question]
    return sorted(left) == (sorted(target.split(",")) if "," in target and len(target) > 3 else [target])


def stated_word(answer: str, case: Sample) -> bool:
    """For labels that are single words: compare lists of words."""
    sentence = re.split(r"[.!?\n]|<context>|<example>", answer.strip().lower())[0]
    sentence = re.split(r"\bquestion:", sentence)[0]
    said, asked = (set(re.findall(r"\w+", text)) for text in (sentence, case.meta["question"].lower()))
    wanted = set(case.targets[0].lower().split(","))
    return all(
        (label in wanted) == (label in said)
        for label in map(str.lower, case.meta["labels"])
        if label not in asked or label in wanted
    )


@given(cases())
def test_official_is_the_published_rule(case: tuple[str, str, Sample]) -> None:
    _, answer, question = case
    assert official(answer, question) == stated_official(answer, question)


@given(cases(tuple(s for s in QUESTIONS if s != "qa19")))
def test_word_compares_whole_words(case: tuple[str, str, Sample]) -> None:
    _, answer, question = case
    assert word(answer, question) == stated_word(answer, question)


@given(cases())
def test_the_target_is_right_and_silence_is_not(case: tuple[str, str, Sample]) -> None:
    subset, _, question = case
    target = question.targets[0]
    for name, scorer in SCORERS.items():
        asked = target.lower() in question.meta["question"].lower()  # no bAbI question names its answer
        if name == "babilong/word" or not (asked or (subset, target) == ("qa7", "none")):
            assert scorer(f" {target}", question), name
        assert not scorer("", question), name


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        (" office", True),
        ("The most recent location of Mary is office. She was in the garden before.", True),
        ("OFFICE", True),
        ("office or garden", False),
        ("garden", False),
        ("office<context>\ngarden", True),
        ("the <example> office", False),
        ("postoffice", True),
    ],
)
def test_official_on_qa1(answer: str, right: bool) -> None:
    assert official(answer, sample("office", "qa1")) is right


def test_labels_in_the_question_do_not_count() -> None:
    case = sample("garden", "qa3")
    for scorer in SCORERS.values():
        assert scorer("Before the kitchen the apple was in the garden.", case)
        assert not scorer("Before the kitchen the apple was in the office.", case)


def test_two_targets() -> None:
    case = sample("apple,milk", "qa8")
    for scorer in SCORERS.values():
        assert scorer("milk and apple", case)
        assert not scorer("milk", case)
        assert not scorer("milk, apple, football", case)


@pytest.mark.parametrize(
    ("subset", "target", "answer", "by_official"),
    [
        pytest.param("qa7", "none", "none", False, id="qa7: 'none' is never right, for it contains 'one'"),
        pytest.param("qa10", "maybe", "I do not know, maybe.", False, id="qa10: 'not' counts as no"),
        pytest.param("qa1", "office", "office\nWhere is John? garden", False, id="a new line goes on"),
    ],
)
def test_known_defects_that_word_has_not(subset: str, target: str, answer: str, by_official: bool) -> None:
    case = sample(target, subset)
    assert official(answer, case) is by_official
    assert word(answer, case)


def test_known_defect_qa6_know_counts_as_no() -> None:
    case = sample("no", "qa6")
    assert official("I don't know.", case)
    assert not word("I don't know.", case)


def test_tables_agree() -> None:
    assert set(LABELS) == {f"qa{i}" for i in range(1, 21)}
    assert list(SCORERS) == ["babilong/official", "babilong/word"]
    assert set(babi.SUBSETS) <= set(LABELS)
