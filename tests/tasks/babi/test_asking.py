"""Whatever a story asks, asking.py answers alike from the facts alone; and it asks more than the story does."""

import random

import pytest

from atlas_bench.tasks import babi
from atlas_bench.tasks.babi.asking import KINDS, queries
from tests.tasks.babi.comparison import FOLDER, needs_files

# The two of the files' questions that asking.py leaves out or reads otherwise: see test_worlds.py on later gifts.
DEVIATIONS = {"qa5": 2}


def disagreements(subset, stories):
    """(questions of the stories that are answered otherwise or not at all, all of them)."""
    wrong = asked = 0
    for story in stories:
        for question in story.questions:
            made = {q.text: q for q in queries(subset, story.facts[: question.after])}
            query = made.get(question.text)
            wrong += query is None or query.answer != question.answer or query.kind not in KINDS[subset]
            asked += 1
    return wrong, asked


@pytest.mark.parametrize("subset", KINDS)
def test_simulated_questions_are_answered_as_the_simulator_does(subset):
    wrong, asked = disagreements(subset, [babi.simulate(subset, random.Random(i)) for i in range(150)])
    assert (wrong, asked >= 150) == (0, True)


@needs_files
@pytest.mark.parametrize("subset", KINDS)
def test_real_questions_are_answered_as_in_the_files(subset):
    wrong, asked = disagreements(subset, babi.load_folder(FOLDER)[subset])
    assert wrong <= DEVIATIONS.get(subset, 0) and asked >= 300


def test_a_story_answers_more_than_it_is_asked():
    facts = (
        "Mary went to the kitchen.",
        "Mary got the milk there.",
        "Mary went to the garden.",
        "Mary went to the office.",
        "Mary put down the milk.",
        "Mary went to the hallway.",
    )
    assert {(q.kind, q.text, q.answer) for q in queries("qa3", facts)} == {
        ("qa3 dropped", "Where was the milk before the office?", "garden"),
        ("object", "Where is the milk?", "office"),
        ("person", "Where is Mary?", "hallway"),
        ("holder", "Who had the milk?", "Mary"),
        ("path", "Where was Mary before the garden?", "kitchen"),
        ("path", "Where was Mary before the office?", "garden"),
        ("path", "Where was Mary before the hallway?", "office"),
    }
    assert [q.kind for q in queries("qa2", facts[:2])] == ["object", "person", "holder"]
    assert [q.kind for q in queries("qa2", facts[:3])] == ["qa2 held", "person", "holder"]
    assert [q.kind for q in queries("qa2", facts)] == ["qa2 dropped", "person", "holder"]
    assert queries("qa3", ()) == queries("qa7", facts) == []
