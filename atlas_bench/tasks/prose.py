"""English-like prose without end, in the manner of a nineteenth-century novel: the default background text.

    for sentence in sentences(seed=7): ...
    "The curate had never before seen so narrow a staircase, and Mr. Harcourt told him so with some warmth."

A grammar of sentence shapes (prose_shapes.py) over word lists of our own (prose_words.py); chapters keep their people
and their town. Real books name the people, rooms and things of bAbI stories, so this text does too; but no sentence
is ever a bAbI fact ("Mary went to the kitchen."): every one passes the gate `fact_like` before it is given out.
Equal seeds give equal text on every Python since 3.2 (random.Random, seeded by a string).
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from functools import cache
from itertools import islice
from typing import Any

from atlas_bench.tasks.prose_shapes import RULES
from atlas_bench.tasks.prose_words import (
    BABI_MEN,
    BABI_OBJECTS,
    BABI_PLACES,
    BABI_WOMEN,
    FACT_VERBS,
    MEN,
    TOWNS,
    WOMEN,
    WORDS,
)  # fmt: skip

VERSION = "3"  # raise with any change of the text: caches and records carry it

_CAST = ("A", "he", "his", "him", "B", "bhe", "bhis", "bhim", "C", "town", "house")
_BABI_SHARE = 0.06  # of sentences made from a "babi" shape; others name bAbI's people as members of the cast

_NAMES = "|".join(BABI_MEN + BABI_WOMEN)
_VERBS = "|".join(FACT_VERBS)
_FACT = re.compile(
    rf"\b(?:{_NAMES}) (?:and (?:{_NAMES}) )?(?:{_VERBS})\b"
    rf"|\b(?:{_VERBS})(?: \w+)?(?: to)? the (?:{'|'.join(BABI_PLACES + BABI_OBJECTS)})\b"
)
# every fact has one of the two, and each alone is searched by its first letters, many times sooner than _FACT
_NAMED, _THING = (
    re.compile(f"(?:{_NAMES}) ").search,
    re.compile(f"the (?:{'|'.join(BABI_PLACES + BABI_OBJECTS)})").search,
)

_VOWEL = re.compile("[aeiou]|honest", re.IGNORECASE)


def fact_like(sentence: str) -> bool:
    """True of any sentence that could be read as a bAbI fact, and of some that could not."""
    return bool(_NAMED(sentence) or _THING(sentence)) and _FACT.search(sentence) is not None


def document(seed: int, sentences: int) -> list[str]:
    """The first `sentences` sentences of `seed`."""
    return list(islice(_sentences(seed), sentences))


def sentences(seed: int) -> Iterator[str]:
    """Sentences of 5 to 40 words without end; a chapter's people and town last some 40 to 120 of them."""
    rng = random.Random(f"atlas-bench prose {VERSION} {seed}")
    draw = rng.random
    grammar = _grammar()
    shapes, babi = grammar["sentence"], grammar["babi"]
    cast: list[str] = []

    def expand(choice: tuple[str, tuple[Any, ...]]) -> str:
        # the hot loop: an alternative is plain text, or (format, slots), a slot a rule or a place in the cast
        template, slots = choice
        return template % tuple(
            [
                cast[s] if s.__class__ is int
                else drawn if (drawn := s[int(draw() * len(s))]).__class__ is str
                else expand(drawn)
                for s in slots
            ]
        )  # fmt: skip

    while True:
        people, town, house = _chapter(rng)
        for _ in range(10 + int(draw() * 20)):
            plain = [*_paragraph(rng, people), town, house]
            cast[:] = [*plain, *map(_capital, plain)]
            for _ in range(2 + int(draw() * 6)):
                while True:
                    rule = babi if draw() < _BABI_SHARE else shapes
                    sentence = _capital(expand(rule[int(draw() * len(rule))]))
                    if 4 <= sentence.count(" ") < 40 and not fact_like(sentence):
                        break
                yield sentence


_sentences = sentences  # `document` has an argument of that name


def _capital(text: str) -> str:
    at = 1 if text[0] == '"' else 0
    return text[:at] + text[at].upper() + text[at + 1 :]


def _chapter(rng: random.Random) -> tuple[list[tuple[str, bool]], str, str]:
    """Four people (name, is a man), a town and a house; one in three chapters has somebody of bAbI."""
    pools = ((_names(MEN), True), (_names(WOMEN), False))
    people: list[tuple[str, bool]] = []
    while len(people) < 4:
        pool, man = pools[int(rng.random() * 2)]
        if not people and rng.random() < 0.33:
            pool = BABI_MEN if man else BABI_WOMEN
        person = (pool[int(rng.random() * len(pool))], man)
        if person not in people:
            people.append(person)
    towns = _names(TOWNS)
    town, other = (towns[int(rng.random() * len(towns))] for _ in range(2))
    return people, town, f"{other} {('Hall', 'Park', 'Grange', 'Abbey', 'Lodge')[int(rng.random() * 5)]}"


def _paragraph(rng: random.Random, people: list[tuple[str, bool]]) -> list[str]:
    first = int(rng.random() * 4)
    second, third = (first + 1 + int(rng.random() * 2)) % 4, (first + 3) % 4
    (a, a_man), (b, b_man), (c, _) = people[first], people[second], people[third]
    he = ["he", "his", "him"] if a_man else ["she", "her", "her"]
    bhe = ["he", "his", "him"] if b_man else ["she", "her", "her"]
    return [a, *he, b, *bhe, c]


@cache
def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split("|"))


@cache
def _grammar() -> dict[str, tuple[Any, ...]]:
    """Rules with their slots resolved to other rules, so that making a sentence looks nothing up."""
    pools: dict[str, tuple[Any, ...]] = {}
    for name, text in WORDS.items():
        words = [word.replace("_", " ") for word in text.split()]
        pools[name] = tuple(words)
        pools[f"{name}s"] = tuple(_plural(word) for word in words)
        pools[f"a_{name}"] = tuple(f"{'an' if _VOWEL.match(word) else 'a'} {word}" for word in words)

    @cache
    def rule(name: str) -> tuple[Any, ...]:
        if name.startswith("^"):
            return tuple(capital(choice) for choice in rule(name[1:]))
        return pools.get(name) or tuple(alternative(line) for line in RULES[name].splitlines())

    def alternative(line: str) -> Any:
        names = re.findall(r"{(.*?)}", line)
        return re.sub(r"{.*?}", "%s", line.strip()), tuple(map(slot, names))

    def slot(name: str) -> Any:
        return _CAST.index(name) if name in _CAST else rule(name)

    def capital(choice: Any) -> Any:
        if isinstance(choice, str):
            return _capital(choice)
        template, (first, *rest) = choice[0], choice[1] or (None,)
        if not template.startswith("%s"):
            return _capital(template), choice[1]
        # a name or pronoun has its capital form later in the cast
        first = first + len(_CAST) if isinstance(first, int) else tuple(map(capital, first))
        return template, (first, *rest)

    return {name: rule(name) for name in ("sentence", "babi")}


def _plural(word: str) -> str:
    for end, ends in (("man", "men"), ("child", "children"), ("knife", "knives"), ("loaf", "loaves")):
        if word.endswith(end):
            return word.removesuffix(end) + ends
    if word.endswith("y") and word[-2] not in "aeiou":
        return f"{word[:-1]}ies"
    if word.endswith("ws"):  # bellows
        return word
    return f"{word}es" if word.endswith(("s", "x", "ch", "sh")) else f"{word}s"
