"""Needles without shared words: the links lead from the question to the answer, and nothing but the links does."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_bench.tasks import corpora, prose
from atlas_bench.tasks.codewords import WORDS
from atlas_bench.tasks.nolink import NEEDLES, Nolink
from tests.tasks.asking import TOKENIZER, asked, samples, small_shards, text

pytestmark = pytest.mark.usefixtures(small_shards.__name__)
TASK = Nolink()  # remembers its corpus between the cases
LINKS = {"shared": 0, "linked": 1, "reversed": 1, "chain": 2}
by_subset = pytest.mark.parametrize("subset", TASK.subsets)


def place_of(question: str) -> str:
    """The place that a question names."""
    return re.fullmatch(r" Which word belongs to the ([\w ]+)\?", question)[1]


def follow(read: str, place: str) -> tuple[str, int]:
    """(the word, links followed) from a place to a needle, by reading the text."""
    names = dict(re.findall(r"Those who live near (the [\w ]+) call it (\w+)\.", read))
    names |= dict(re.findall(r"On older maps (\w+) appears as (\w+)\.", read))
    words = dict(re.findall(r"Every door inside ([\w ]+) bears a single sign, (\w+)\.", read))
    name, links = f"the {place}", 0
    while name not in words:
        name, links = names[name], links + 1
    return words[name], links


def content(sentence: str) -> set[str]:
    """Words of a sentence, in lower case, but for the article."""
    return set(re.findall(r"\w+", sentence.lower())) - {"the"}


@by_subset
@settings(max_examples=10, deadline=None)
@given(length=st.integers(1500, 40_000), seed=st.integers(0, 999))
def test_the_links_lead_to_the_answer(subset: str, length: int, seed: int) -> None:
    made = samples(TASK, subset, length, NEEDLES, seed)
    assert len({place_of(asked(sample)) for sample in made}) == len({sample.targets for sample in made}) == NEEDLES
    for sample in made:
        assert follow(text(sample), place_of(asked(sample))) == (sample.targets[0], LINKS[subset])


@by_subset
def test_question_and_needle_share_no_word_but_in_the_control(subset: str) -> None:
    for sample in samples(TASK, subset, 3000, 3 * NEEDLES):
        (needle,) = re.findall(rf"Every door inside [\w ]+, {sample.targets[0]}\.", text(sample))
        place = place_of(asked(sample))
        common = content(needle) & content(asked(sample) + TOKENIZER.decode(sample.prefill))
        assert common == (content(place) if subset == "shared" else set())


def sentences(sample) -> list[str]:
    """The facts that the record says answer the question, each to its full stop."""
    tokens = sample.context.read(0, sample.context.length).tolist()
    return [TOKENIZER.decode(tokens[at : at + 60]).partition(".")[0] for at in sample.meta["supporting"]]


@by_subset
def test_the_record_names_the_facts_that_answer(subset: str) -> None:
    for sample in samples(TASK, subset, 3000, NEEDLES):
        read = ".\n".join(sentences(sample)) + "."
        assert follow(read, place_of(asked(sample))) == (sample.targets[0], LINKS[subset])
        assert len(sample.meta["supporting"]) == 1 + LINKS[subset]


def test_definitions_stand_before_the_needle_and_in_reversed_behind_it() -> None:
    for subset in ("linked", "chain", "reversed"):
        for sample in samples(TASK, subset, 20_000, 2 * NEEDLES):
            order = [sentence.split()[0] for sentence in sentences(sample)]
            assert order == {
                "linked": ["Those", "Every"], "chain": ["Those", "On", "Every"], "reversed": ["Every", "Those"],
            }[subset]  # fmt: skip


def test_subsets_differ_in_the_link_alone() -> None:
    rows = [samples(TASK, subset, 20_000, 2 * NEEDLES) for subset in TASK.subsets]
    for made in zip(*(sorted(row, key=lambda s: (s.index // NEEDLES, s.question)) for row in rows), strict=True):
        assert len({(asked(sample), sample.targets) for sample in made}) == 1
        shared, linked, reverse, chain = (sample.meta["supporting"] for sample in made)
        assert abs(shared[-1] - linked[-1]) < 300 and abs(shared[-1] - chain[-1]) < 900
        assert abs(linked[0] - reverse[0]) < 300 and abs(linked[1] - reverse[1]) < 300


def test_names_are_different_and_none_is_in_the_prose() -> None:
    known = set(" ".join(prose.document(0, 20_000)).lower().replace(",", " ").replace(".", " ").split())
    for sample in samples(TASK, "chain", 3000, 20 * NEEDLES)[::NEEDLES]:
        names = re.findall(r"call it (\w+)\.", text(sample)) + re.findall(r"appears as (\w+)\.", text(sample))
        assert len(set(names)) == 2 * NEEDLES and not set(names) & (known | set(WORDS))


def test_lessons_ask_what_the_links_say_as_soon_as_they_are_there() -> None:
    lessons = TASK.lessons(("linked", "reversed", "chain"), TOKENIZER, 0, [corpora.generated(TOKENIZER)])
    asks = 0
    for seed in range(8):
        read: list[int] = []
        for part in lessons.seeded(seed).stream(2048, 512):
            read += part.tokens.tolist()
            for ask in part.asks:
                question = TOKENIZER.decode(ask.question).partition("?")[0] + "?"
                assert f" {follow(TOKENIZER.decode(read), place_of(question))[0]}\n" == TOKENIZER.decode(ask.answer)
                asks += 1
        assert len(read) == 2048
    assert asks > 50
