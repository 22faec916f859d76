"""The embedded prose: the same text for a seed, of novel-like sentences, none of them a bAbI fact."""

from __future__ import annotations

import hashlib
import re
from itertools import islice

import pytest

from atlas_bench.tasks import prose

TEXT = [sentence for seed in (0, 1) for sentence in prose.document(seed, 10_000)]
BABI = (*prose.BABI_MEN, *prose.BABI_WOMEN, *prose.BABI_PLACES, *prose.BABI_OBJECTS)


def test_a_seed_is_one_text_for_good() -> None:
    assert prose.document(5, 200) == list(islice(prose.sentences(5), 200))
    assert prose.document(5, 200) != prose.document(6, 200)
    # the text of VERSION 3: if this fails, raise VERSION, since caches and records carry it
    digest = hashlib.sha256("\n".join(prose.document(0, 1000)).encode()).hexdigest()
    assert (prose.VERSION, digest[:16]) == ("3", "6e77584cff51b140")


def test_what_the_gate_leaves_out_has_no_fact() -> None:
    """It looks for the names and things alone first, which is sooner."""
    every = [f"{prose._capital(a)} {b}" for a, b in zip(TEXT[::20], BABI * 50, strict=False)]
    near = [f"{name} {verb} on" for name in BABI for verb in prose.FACT_VERBS]
    near += [f"He {verb} to the {name}" for name in BABI for verb in prose.FACT_VERBS]
    for text in [*every, *near]:
        assert prose.fact_like(text) == (prose._FACT.search(text) is not None)


def test_sentences_are_novel_like() -> None:
    words = [len(sentence.split()) for sentence in TEXT]
    assert min(words) >= 5 and max(words) <= 40 and 12 < sum(words) / len(words) < 25
    assert all(re.match(r'"?[A-Z]', sentence) and re.search(r'[.!?]"?$', sentence) for sentence in TEXT)
    assert all(sentence.count('"') % 2 == 0 and "  " not in sentence for sentence in TEXT)
    assert not any(re.search(r"[{}%_]|\ba [aeiou]|\ban (?!honest)[^aeiou]", sentence.lower()) for sentence in TEXT)


def test_hardly_a_sentence_comes_twice_and_no_run_of_20_words() -> None:
    assert len(set(TEXT)) > len(TEXT) - 3
    words = " ".join(TEXT).split()
    runs = [hash(tuple(words[i : i + 20])) for i in range(len(words) - 19)]
    assert len(set(runs)) == len(runs)


@pytest.mark.parametrize("word", BABI)
def test_names_what_babi_names(word: str) -> None:
    assert sum(word in re.findall(r"\w+", sentence) for sentence in TEXT) >= 20


def test_several_percent_of_sentences_name_babi_words() -> None:
    named = sum(bool(set(re.findall(r"\w+", sentence)) & set(BABI)) for sentence in TEXT)
    assert 0.05 < named / len(TEXT) < 0.15


def test_no_sentence_is_a_babi_fact() -> None:
    names, places = "|".join((*prose.BABI_MEN, *prose.BABI_WOMEN)), "|".join(prose.BABI_PLACES)
    # written apart from prose's own gate, from the forms of the bAbI simulators
    facts = re.compile(
        rf"\b({names}|[Hh]e|[Ss]he|[Tt]hey) (moved|went|travelled|journeyed)( back)? to the ({places})"
        rf"|\b({names}) (got|took|grabbed|picked up|dropped|discarded|left|put down|gave|handed|passed) the "
        rf"|\b({names}) (is|was) (not |no longer |either )?in the ({places})"
        rf"|\b({names}) (received|gave|handed|passed) "
        rf"|\bthe ({places}) is (north|south|east|west) of"
    )
    assert not [sentence for sentence in TEXT if facts.search(sentence)]
    assert any(re.search(r"\b(went|travelled|took|dropped)\b", sentence) for sentence in TEXT)


@pytest.mark.parametrize(
    "fact",
    [
        "Mary went to the kitchen.",
        "John went back to the garden.",
        "Sandra and Daniel journeyed to the office.",
        "Fred picked up the football there.",
        "Jeff gave the milk to Bill.",
        "Mary is no longer in the bedroom.",
        "Then she travelled to the hallway.",
        "Yesterday Julie went to the cinema.",
    ],
)
def test_the_gate_knows_the_forms(fact: str) -> None:
    assert prose.fact_like(fact) and prose.fact_like(f'"{fact}')
    assert not prose.fact_like("John had never liked the office.")
