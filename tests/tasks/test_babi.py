"""The simulators of qa1..qa5: right by a solver that only reads sentences, and distributed as the real files.

Where the real files deviate from the simulators, each found by these tests or while measuring:
  qa5  2 of 380 "What did A give to B?" have a later gift of another object from A to B, which a reader would
       answer with; never simulated.
  qa3  4 of 739 moments at which a question could have been asked passed without one; here none do.
  qa5  "What did A give to B?" is 37 % of the questions; here one in three (p = 0.03, taken as chance).
  qa5  a gift right after a gift goes back to the giver 365 times of 377, here 92 in 100; and within two or
       three facts of a gift another object is given half as often as here. No rule for either was found.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import random
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_bench.errors import UserError
from atlas_bench.tasks import babi

FOLDER = Path(os.environ.get("ATLAS_BENCH_BABI") or Path(__file__).resolve().parents[3] / "shared/data/babi")
SIMULATED = {"qa1": 1500, "qa2": 1200, "qa3": 700, "qa4": 1500, "qa5": 1200}  # stories, for comparisons

EVERYTHING = {*babi.PEOPLE, *babi.GIVERS, *babi.PLACES, *babi.OBJECTS}

needs_files = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"no real bAbI files in {FOLDER}; set ATLAS_BENCH_BABI to their folder"
)
subsets = pytest.mark.parametrize("subset", babi.SUBSETS)


@pytest.fixture(scope="module")
def real() -> dict[str, list[babi.Story]]:
    return babi.load_folder(FOLDER)


@pytest.fixture(scope="module")
def simulated() -> dict[str, list[babi.Story]]:
    return {subset: stories(subset, count) for subset, count in SIMULATED.items()}


def stories(subset: str, count: int, seed: int = 0) -> list[babi.Story]:
    rng = random.Random(seed)
    return [babi.simulate(subset, rng) for _ in range(count)]


# ---- a solver that knows English, and nothing of the simulator

MOVE = re.compile(r"(\w+) (?:went|went back|moved|journeyed|travelled) to the (\w+)\.")
GET = re.compile(r"(\w+) (?:got|took|grabbed|picked up) the (\w+)(?: there)?\.")
DROP = re.compile(r"(\w+) (?:dropped|left|discarded|put down) the (\w+)(?: there)?\.")
GIVE = re.compile(r"(\w+) (?:gave|handed|passed) the (\w+) to (\w+)\.")
SIDE = re.compile(r"The (\w+) is (north|south|east|west) of the (\w+)\.")
BACK = {"north": "south", "south": "north", "east": "west", "west": "east"}


def solve(facts: tuple[str, ...], question: str) -> str | None:
    """The answer by the facts alone; None where they do not tell."""
    path: dict[str, list[str | None]] = {}  # where people and things have been
    holder: dict[str, str] = {}
    gifts: list[tuple[str, str, str]] = []
    beside: dict[tuple[str, str], str] = {}
    for fact in facts:
        if m := MOVE.fullmatch(fact):
            for name in (m[1], *(thing for thing, who in holder.items() if who == m[1])):
                path.setdefault(name, []).append(m[2])
        elif m := GET.fullmatch(fact):
            holder[m[2]] = m[1]
            path.setdefault(m[2], []).append(path.get(m[1], [None])[-1])
        elif m := DROP.fullmatch(fact):
            if m[2] not in holder:  # nobody told how it was got: it has been along all the way
                path[m[2]] = list(path.get(m[1], [None]))
            holder.pop(m[2], None)
        elif m := GIVE.fullmatch(fact):
            gifts.append((m[1], m[2], m[3]))
            holder[m[2]] = m[3]
        elif m := SIDE.fullmatch(fact):
            beside[m[2], m[3]] = m[1]
            beside[BACK[m[2]], m[1]] = m[3]
        else:
            raise AssertionError(f"not a sentence of qa1..qa5: {fact}")

    def gift(**want: str) -> tuple[str, str, str]:
        named = (dict(zip(("giver", "thing", "taker"), g, strict=True)) for g in reversed(gifts))
        return next((tuple(g.values()) for g in named if want.items() <= g.items()), ("", "", ""))

    if m := re.fullmatch(r"Where is (?:the )?(\w+)\?", question):
        return path.get(m[1], [None])[-1]
    if m := re.fullmatch(r"Where was the (\w+) before the (\w+)\?", question):
        been = path[m[1]]
        at = max(i for i, place in enumerate(been) if place == m[2])
        return been[at - 1] if at else None
    if m := re.fullmatch(r"What is (\w+) of the (\w+)\?", question):
        return beside.get((m[1], m[2]))
    if m := re.fullmatch(r"What is the (\w+) (\w+) of\?", question):
        return beside.get((BACK[m[2]], m[1]))
    if m := re.fullmatch(r"What did (\w+) give to (\w+)\?", question):
        return gift(giver=m[1], taker=m[2])[1]
    if m := re.fullmatch(r"Who did (\w+) give the (\w+) to\?", question):
        return gift(giver=m[1], thing=m[2])[2]
    if m := re.fullmatch(r"Who received the (\w+)\?", question):
        return gift(thing=m[1])[2]
    if m := re.fullmatch(r"Who gave the (\w+)\?", question):
        return gift(thing=m[1])[0]
    if m := re.fullmatch(r"Who gave the (\w+) to (\w+)\?", question):
        return gift(thing=m[1], taker=m[2])[0]
    raise AssertionError(f"not a question of qa1..qa5: {question}")


def support_only(story: babi.Story, question: babi.Question) -> tuple[str, ...]:
    return tuple(story.facts[i] for i in sorted(question.supporting))


@subsets
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**64))
def test_every_simulated_answer_is_right_and_its_support_enough(subset: str, seed: int) -> None:
    story = babi.simulate(subset, random.Random(seed))
    assert story == babi.simulate(subset, random.Random(seed))
    for question in story.questions:
        assert max(question.supporting) < question.after <= len(story.facts)
        assert question.answer in babi.LABELS[subset]
        assert solve(story.facts[: question.after], question.text) == question.answer
        assert solve(support_only(story, question), question.text) == question.answer
    words = set(re.findall(r"\w+", " ".join((*story.facts, *(q.text for q in story.questions)))))
    assert words & EVERYTHING <= set(babi.NAMES[subset])


@subsets
def test_a_missing_supporting_fact_leaves_no_answer(subset: str) -> None:
    """The support is not only enough but needed: without any of it the rest of the support tells less."""
    for story in stories(subset, 30):
        for question in story.questions:
            for left_out in question.supporting:
                rest = tuple(story.facts[i] for i in sorted(question.supporting) if i != left_out)
                with contextlib.suppress(KeyError, ValueError):  # not even mentioned in the rest
                    assert solve(rest, question.text) != question.answer


@needs_files
@subsets
def test_the_solver_answers_the_real_stories(subset: str, real: dict[str, list[babi.Story]]) -> None:
    wrong = []
    for story in real[subset]:
        for question in story.questions:
            assert solve(support_only(story, question), question.text) == question.answer
            if solve(story.facts[: question.after], question.text) != question.answer:
                wrong.append(question.text)
    asked = sum(len(story.questions) for story in real[subset])
    assert all(text.startswith("What did ") for text in wrong)  # only qa5 asks this; see the module's text
    assert len(wrong) <= 0.005 * asked


def test_the_bytes_of_a_seed_never_change() -> None:
    """Published numbers rest on these stories: a change here is a new version of the task."""
    told = "\n".join(f"{story.facts} {story.questions}" for name in babi.SUBSETS for story in stories(name, 20, 7))
    assert hashlib.sha256(told.encode()).hexdigest()[:16] == "0d8062ed784d1b32"


# ---- the same language


def form(text: str, subset: str) -> str:
    for kind, names in (("P", babi.GIVERS + babi.PEOPLE), ("L", babi.PLACES), ("O", babi.OBJECTS)):
        text = re.sub(rf"\b({'|'.join(names)})\b", kind, text)
    return text


def sentences(story: babi.Story) -> tuple[str, ...]:
    return (*story.facts, *(question.text for question in story.questions))


@needs_files
@subsets
def test_sentence_forms_and_names_are_those_of_the_real_files(subset, real, simulated) -> None:
    mine = {form(text, subset) for story in simulated[subset] for text in sentences(story)}
    theirs = {form(text, subset) for story in real[subset] for text in sentences(story)}
    assert mine == theirs
    words = {word for story in real[subset] for text in sentences(story) for word in re.findall(r"\w+", text)}
    assert set(babi.NAMES[subset]) <= words
    assert {q.answer for story in real[subset] for q in story.questions} == set(babi.LABELS[subset])


# ---- the same distribution


def same_distribution(ours: list, theirs: list) -> float:
    """p of the two-sample chi-square test; cells expected under 5 times are put together."""
    if not ours and not theirs:  # qa4 has one question a story, so nothing between two
        return 1.0
    a, b = Counter(ours), Counter(theirs)
    least = 5 * (len(ours) + len(theirs)) / min(len(ours), len(theirs))
    cells = [(a[key], b[key]) for key in {**a, **b} if a[key] + b[key] >= least]
    rest = (len(ours) - sum(x for x, _ in cells), len(theirs) - sum(y for _, y in cells))
    cells += [rest] if sum(rest) else []
    if len(cells) < 2:
        return 1.0
    share = len(ours) / (len(ours) + len(theirs))
    chi2 = sum((x - share * (x + y)) ** 2 / (share * (1 - share) * (x + y)) for x, y in cells)
    # Wilson and Hilferty's normal approximation of the chi-square tail
    free = len(cells) - 1
    z = ((chi2 / free) ** (1 / 3) - (1 - 2 / (9 * free))) / math.sqrt(2 / (9 * free))
    return 0.5 * math.erfc(z / math.sqrt(2))


def kind(fact: str) -> str:
    return next(name for name, rule in RULES.items() if rule.fullmatch(fact))


RULES = {"go": MOVE, "get": GET, "drop": DROP, "give": GIVE, "side": SIDE}

# Each turns a story into the values to compare. Only one answer of a story counts: its five are not
# independent (an object that lies still is asked about again and again).
MEASURES = {
    "answer": lambda s, subset: [s.questions[-1].answer],
    "kind of fact": lambda s, subset: [kind(fact) for fact in s.facts],
    "sentence form": lambda s, subset: [form(fact, subset) for fact in s.facts],
    "question form": lambda s, subset: [form(s.questions[-1].text, subset)],
    "person": lambda s, subset: [fact.split()[0] for fact in s.facts],
    "names that come again": lambda s, subset: [recurrence(s.facts[:2])],
    "two facts on end": lambda s, subset: [
        (kind(a), kind(b), a.split()[0] == b.split()[0]) for a, b in zip(s.facts, s.facts[1:], strict=False)
    ],
    "facts before the first question": lambda s, subset: [bin_of(s.questions[0].after)],
    "facts between questions": lambda s, subset: [
        bin_of(b.after - a.after) for a, b in zip(s.questions, s.questions[1:], strict=False)
    ],
    "distance of the nearest support": lambda s, subset: [q.after - max(q.supporting) for q in s.questions],
    "distance of the first support": lambda s, subset: [q.after - q.supporting[0] for q in s.questions],
    "distance of the farthest support": lambda s, subset: [bin_of(q.after - min(q.supporting)) for q in s.questions],
}


def recurrence(facts: tuple[str, ...]) -> tuple[int, ...]:
    """Which names of the facts are the same, e.g. (0, 1, 2, 1): the second and the fourth."""
    names = [word for word in re.findall(r"\w+", " ".join(facts)) if word in EVERYTHING]
    return tuple(names.index(name) for name in names)


def bin_of(count: int) -> int:
    """Exact up to 12, then in steps of a quarter octave: long tails have few stories in each length."""
    return count if count <= 12 else 100 + int(4 * math.log2(count))


def p_values(subset: str, ours: list[babi.Story], theirs: list[babi.Story]) -> dict[str, float]:
    return {
        name: same_distribution(*([v for s in side for v in measure(s, subset)] for side in (ours, theirs)))
        for name, measure in MEASURES.items()
    }


@needs_files
@subsets
def test_simulated_stories_are_distributed_as_the_real_ones(subset, real, simulated) -> None:
    found = p_values(subset, simulated[subset], real[subset])
    assert min(found.values()) > 1e-3, found


@needs_files
@pytest.mark.parametrize(
    ("subset", "name", "value"),
    [
        ("qa1", "WINDOW", 8),
        ("qa2", "WINDOW", 8),
        ("qa3", "WINDOW", 3),
        ("qa5", "WINDOW", 8),
        ("qa2", "FACTS_PER_CHECK", 1),
        ("qa5", "FACTS_PER_CHECK", 3),
        ("qa3", "THERE", 0.3),
        ("qa2", "THERE", 0.35),
        ("qa5", "_TASKS", {"qa5": replace(babi._TASKS["qa5"], actions=("go", "get", "drop", "give"))}),
    ],
)
def test_the_comparison_fails_a_wrong_simulator(subset, name, value, real, monkeypatch) -> None:
    monkeypatch.setattr(babi, name, value)
    assert min(p_values(subset, stories(subset, 400), real[subset]).values()) < 1e-3


# ---- reading files

SAMPLE = """\
1 Mary moved to the bathroom.
2 John went to the hallway.
3 Where is Mary? \tbathroom\t1
4 Mary went to the office.
5 Where is Mary? \toffice\t4
1 John went to the garden.
2 Where is John? \tgarden\t1
"""


def test_parse_reads_stories_and_indexes_facts_without_the_questions() -> None:
    one, two = babi.parse(SAMPLE.splitlines(keepends=True))
    assert one.facts[2] == "Mary went to the office."
    assert one.questions[1] == babi.Question("Where is Mary?", "office", (2,), 3)
    assert two.questions == (babi.Question("Where is John?", "garden", (0,), 1),)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("Mary moved.", "number"),
        ("", "number"),
        ("9 Mary moved.", "should be 1 or 8"),
        ("8 Where is Mary?\tgarden", "3 fields"),
        ("8 Where is Mary?\tgarden\t", "3 fields"),
        ("8 Where is Mary?\tgarden\t3", "does not name earlier facts"),
        ("8 Where is Mary?\tgarden\tone", "does not name earlier facts"),
    ],
)
def test_a_malformed_line_is_named(line: str, why: str, tmp_path: Path) -> None:
    good = "1 A.\n2 B.\n3 Q?\tx\t1\n4 C.\n5 D.\n6 E.\n7 F.\n"
    (tmp_path / "qa1_x_train.txt").write_text(f"{good}{line}\n")
    with pytest.raises(UserError, match=rf"(?s)qa1_x_train\.txt, line 8: .*{why}"):
        babi.load_folder(tmp_path)


def test_load_folder_sorts_by_subset_and_refuses_a_folder_without_stories(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=re.escape(str(tmp_path))):
        babi.load_folder(tmp_path)
    with pytest.raises(UserError, match="is not a folder"):
        babi.load_folder(tmp_path / "absent")
    for name in ("qa1_a_train.txt", "qa1_a_test.txt", "qa10_b_train.txt", "README.txt"):
        (tmp_path / name).write_text(SAMPLE)
    assert {name: len(found) for name, found in babi.load_folder(tmp_path).items()} == {"qa1": 4, "qa10": 2}


def test_an_unknown_subset_is_named() -> None:
    with pytest.raises(UserError, match="qa6"):
        babi.simulate("qa6", random.Random(0))
