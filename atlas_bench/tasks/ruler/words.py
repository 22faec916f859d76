"""The words of RULER's tasks: from the wonderwords package, numbers, uuids, and coined words.

    key(rng, "words")                      # "gruesome-vinegar"
    key(rng, "words", hidden=False)        # another, which no hidden needle can have
    lexicon(8168, 8172)                    # ["zucchini", "zulu", "dofumik", "levanok"]: the dictionary, then coined
    coded(0, 3)                            # ["...", "qhzxke", "bmdpua"]

RULER reads the word lists of wonderwords and joins them; so is it done here. Where its common words extraction
needs more words than there are (8169), RULER draws on a list of English words that is not ours to ship, and
beyond that fails; here further words are coined: three syllables of consonant and vowel and a final k, which no
word of wonderwords is.
"""

from __future__ import annotations

import random
import uuid
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from string import ascii_lowercase

import numpy as np

from atlas_bench.errors import UserError
from atlas_bench.files import text_files
from atlas_bench.tasks.ruler.shuffle import permute, round_keys

_SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
_CODE_LETTERS = 6


@cache
def word_list(kind: str) -> tuple[str, ...]:
    """wonderwords' "noun", "adjective" or "verb" list, in its order, read as RULER reads it."""
    package = find_spec("wonderwords")  # finds the folder; imports nothing
    if package is None or not package.submodule_search_locations:
        raise UserError(
            "RULER's words are those of the wonderwords package. Install it: pip install wonderwords==2.2.0."
        )
    path = Path(package.submodule_search_locations[0]) / "assets" / f"{kind}list.txt"
    return tuple(line.rstrip() for line in text_files.read(path).splitlines())


@cache
def dictionary() -> tuple[str, ...]:
    """Every noun, adjective and verb once, sorted."""
    return tuple(sorted({word for kind in ("noun", "adjective", "verb") for word in word_list(kind)}))


def key(rng: random.Random, kind: str, *, hidden: bool = True) -> str:
    """A random key or value; kind is "words", "numbers" or "uuids".

    A word is an adjective and a noun. Hidden needles have those whose numbers in the two lists are both even or
    both odd, and the needles around them have the others, so that none of millions repeats a hidden key.
    """
    if kind == "numbers":
        return str(1_000_000 + int(rng.random() * 9_000_000))
    if kind == "uuids":
        bits = sum(int(rng.random() * 2**32) << shift for shift in (0, 32, 64, 96))
        return str(uuid.UUID(int=bits, version=4))
    adjectives, nouns = word_list("adjective"), word_list("noun")
    while True:
        a, n = int(rng.random() * len(adjectives)), int(rng.random() * len(nouns))
        if (a + n) % 2 == (not hidden):
            return f"{adjectives[a]}-{nouns[n]}"


def distinct(rng: random.Random, kind: str, count: int) -> list[str]:
    """Keys or values of which no two are equal."""
    found: dict[str, None] = {}
    while len(found) < count:
        found[key(rng, kind)] = None
    return list(found)


def letters(rng: random.Random, count: int, length: int) -> list[str]:
    """Different names of capital letters."""
    found: dict[str, None] = {}
    while len(found) < count:
        found["".join(chr(65 + int(rng.random() * 26)) for _ in range(length))] = None
    return list(found)


def lexicon(start: int, stop: int) -> list[str]:
    """Words number start..stop - 1, no two alike: first the dictionary, then coined words without end."""
    known = dictionary()
    made = max(start - len(known), 0), max(stop - len(known), 0)
    return [*known[start:stop], *coined(*made)]


def coded(start: int, stop: int) -> list[str]:
    """Coded words of six letters number start..stop - 1, no two alike; number 0 is the noise "..."."""
    numbers = permute(np.arange(start, stop), 26**_CODE_LETTERS, round_keys("ruler coded words"))
    alphabet = np.array(list(ascii_lowercase))
    rows = alphabet[numbers[:, None] // 26 ** np.arange(_CODE_LETTERS) % 26]
    texts = ["".join(row) for row in rows.tolist()]
    return ["...", *texts[1:]] if start == 0 < stop else texts


def coined(start: int, stop: int) -> list[str]:
    """Coined words in an order in which neighbours do not look alike: all of three syllables, then of four, .."""
    texts: list[str] = []
    syllables, first = 3, 0
    while start < stop:
        count = len(_SYLLABLES) ** syllables
        upto = min(stop, first + count)
        if start < upto:
            numbers = permute(np.arange(start - first, upto - first), count, round_keys(f"ruler coined {syllables}"))
            digits = numbers[:, None] // len(_SYLLABLES) ** np.arange(syllables) % len(_SYLLABLES)
            texts += ["".join(_SYLLABLES[digit] for digit in row) + "k" for row in digits.tolist()]
            start = upto
        first, syllables = first + count, syllables + 1
    return texts
