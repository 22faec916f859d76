"""RULER's two aggregation tasks: the commonest words of a list, and those of a coded text.

cwe    Below is a numbered list of words. In these words, some appear more often than others. [...]
       1. straw 2. apple 3. straw 4. kindly [...]
       Question: What are the 10 most common words in the above list?                 -> straw, thunder, [8 more]
fwe    Read the following coded text and track the frequency of each coded word. [...]
       ... qhzxke ... ... bmdpua qhzxke [...]
       What are the three most frequently appeared words in the above coded text?     -> qhzxke, bmdpua, rvoelt

cwe has ten words 30 times and every other 3 times (below 4096 tokens 6 and 1), after an example of 40 words, 10
and 3 times (20 words, 3 and 1). fwe draws on a zeta distribution: of N words the k-th commonest stands
floor(N k^-2 / zeta(2)) times, k up to (length - 50) // 50; the commonest is the noise "...", and the answers are
those of ranks 2 to 4. What differs from RULER, and why:

length  Exact. RULER's list ends with the last word that fits, and in fwe up to a thirty-second of the length is
        left. Here a list of cwe goes on with uncommon words and its last word is cut; fwe takes the largest N that
        fits and is filled up with "...", which the question says to ignore.
words   The ten of cwe are always of the dictionary. Where the list needs more than its 8169 words, coined ones
        follow (words.py); RULER then takes all of them from a longer list of English words, and fails beyond it.
        The words of a fwe sample are drawn from coined ones that are tokenised once.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isqrt, pi

import numpy as np

from atlas_bench.errors import UserError
from atlas_bench.tasks.ruler import words
from atlas_bench.tasks.ruler.listing import Draft, Items
from atlas_bench.tasks.ruler.phrases import PER_SHARD, Phrases, Texts, fingerprint
from atlas_bench.tasks.ruler.scorers import ALL
from atlas_bench.tasks.ruler.shuffle import permute, round_keys
from atlas_bench.types import Rules, Sample, TaskOptions, Tokenizer

PROBES, DRAWS = 20, 1000  # samples drawn to learn what a subset takes; one that takes more is drawn again

COMMON = 10
CWE_BEFORE = (
    "Below is a numbered list of words. In these words, some appear more often than others. Memorize the ones that"
    " appear most often.\n"
)
CWE_QUESTION = "\nQuestion: What are the 10 most common words in the above list?"
CWE_ANSWER = " Answer: The top 10 words that appear most often in the list are:"

FWE_LEAST_WORDS = 53  # from here on each of ranks 2 to 4 is commoner than rank 5
FWE_LEAST_LENGTH = 250  # from here on there is a word of rank 4
FWE_BEFORE = (
    "Read the following coded text and track the frequency of each coded word. Find the three most frequently"
    " appeared coded words."
)
FWE_QUESTION = (
    "\nQuestion: Do not provide any explanation. Please ignore the dots '....'. What are the three most frequently"
    " appeared words in the above coded text?"
)
FWE_ANSWER = " Answer: According to the coded text above, the three most frequently appeared words are:"


class Lists:
    """The cwe and fwe subsets; implements types.Task except describe."""

    name = "ruler"
    subsets = ("cwe", "fwe")

    def __init__(self) -> None:
        self._phrases: dict[tuple[str, str], Phrases] = {}

    def rules(self, subset: str) -> Rules:
        """RULER's metric and number of tokens to generate."""
        tokens = {"cwe": 120, "fwe": 50}[subset]
        return Rules(ALL, chance=0.0, max_answer_tokens=tokens, stop=(), counts_answer=True)

    def check(self, subset: str, length: int, tokenizer: Tokenizer, options: TaskOptions) -> None:
        """Raise UserError if no sample of that length can be made, saying what length would do."""
        least = self._least(subset, length, tokenizer)
        if length < least:
            raise UserError(
                f"length {length} is too short for ruler:{subset}: the prompt, the words that are asked for and the"
                f" answer take {least} tokens. Use --len {least} or more."
            )

    def samples(
        self, subset: str, length: int, n: int, seed: int, tokenizer: Tokenizer, options: TaskOptions
    ) -> Iterator[Sample]:
        """The first n samples of a cell; sample i does not depend on n."""
        spare = self.rules(subset).max_answer_tokens
        for index in range(n):
            draft = self._fitting(subset, length, f"ruler {subset} {seed} {index}", tokenizer)
            yield draft.sample(index, length - spare, tokenizer)

    def _fitting(self, subset: str, length: int, label: str, tokenizer: Tokenizer) -> Draft:
        for again in range(DRAWS):
            draft = self._draw(subset, f"{label}.{again}" if again else label, length, tokenizer)
            if self._needs(subset, draft, tokenizer) <= length:
                return draft
        raise UserError(f"none of {DRAWS} samples of ruler:{subset} fits in {length} tokens. Use a longer --len.")

    def _least(self, subset: str, length: int, tokenizer: Tokenizer) -> int:
        """The length, or the next one at which every probe fits."""
        while True:
            drafts = [self._draw(subset, f"ruler {subset} probe {i}", length, tokenizer) for i in range(PROBES)]
            need = max(self._needs(subset, draft, tokenizer) for draft in drafts)
            if need <= length:
                return length
            length = need

    def _needs(self, subset: str, draft: Draft, tokenizer: Tokenizer) -> int:
        """The length of the shortest sample that the draft allows."""
        needs = self.rules(subset).max_answer_tokens + draft.around(tokenizer) + draft.needs
        return max(needs, FWE_LEAST_LENGTH) if subset == "fwe" else needs

    def _draw(self, subset: str, label: str, length: int, tokenizer: Tokenizer) -> Draft:
        return {"cwe": self._cwe, "fwe": self._fwe}[subset](label, length, tokenizer)

    def _cwe(self, label: str, length: int, tokenizer: Tokenizer) -> Draft:
        common, others, example = (30, 3, (40, 10, 3)) if length >= 4096 else (6, 1, (20, 3, 1))
        order = Repeated(round_keys(f"{label} words"), len(words.dictionary()), common, others)
        items = Items(self._known(listed_numbers, tokenizer), self._known(listed_words, tokenizer), order)
        answers = tuple(order(np.arange(COMMON) * common).tolist())
        return Draft(
            before=_cwe_example(random.Random(label), *example) + CWE_BEFORE,
            question=CWE_QUESTION,
            prefill=CWE_ANSWER,
            references=tuple(words.dictionary()[i] for i in answers),
            answers=answers,
            items=lambda tokens: items,
            needs=int(items.cost(0, COMMON * common + 1).sum()),
            seed=label,
        )

    def _fwe(self, label: str, length: int, tokenizer: Tokenizer) -> Draft:
        bodies = self._known(coded_words, tokenizer)
        ranked = _ranked(length, round_keys(f"{label} words"))
        least = zipf(FWE_LEAST_WORDS, ranked)
        answers = tuple(ranked[1:4].tolist())
        return Draft(
            before=FWE_BEFORE,
            question=FWE_QUESTION,
            prefill=FWE_ANSWER,
            references=tuple(words.coded(i, i + 1)[0] for i in answers),
            answers=answers,
            items=lambda tokens: Items(None, bodies, _most(tokens, ranked, bodies)),
            needs=int(Items(None, bodies, least).cost(0, least.count).sum()),
            seed=label,
        )

    def _known(self, texts: Texts, tokenizer: Tokenizer) -> Phrases:
        key = texts.__name__, tokenizer.key
        if key not in self._phrases:
            self._phrases[key] = Phrases(f"ruler {texts.__name__} {fingerprint(texts)}", tokenizer, texts)
        return self._phrases[key]


@dataclass(frozen=True, eq=False)
class Repeated:
    """The order of cwe: ten words `common` times each, then others without end, `others` times each.

    Words come from the dictionary in the random order of keys, and after its end from the lexicon.
    """

    keys: np.ndarray
    dictionary: int
    common: int
    others: int

    def __call__(self, numbers: np.ndarray) -> np.ndarray:
        beyond = numbers - COMMON * self.common
        ranks = np.where(beyond < 0, numbers // self.common, COMMON + beyond // self.others)
        known = ranks < self.dictionary
        ranks[known] = permute(ranks[known], self.dictionary, self.keys)
        return ranks


@dataclass(frozen=True, eq=False)
class Zipf:
    """The order of fwe: words by falling rank, each as often as its rank has it, then the noise without end.

    ends   items up to each rank's last
    words  of each rank, and the noise once more
    """

    ends: np.ndarray
    words: np.ndarray

    @property
    def count(self) -> int:
        """Items before the noise without end."""
        return int(self.ends[-1])

    def __call__(self, numbers: np.ndarray) -> np.ndarray:
        return self.words[np.searchsorted(self.ends, numbers, side="right")]


def counts(n: int, ranks: int) -> np.ndarray:
    """How often the words of ranks 1..ranks stand among n: floor(n k^-2 / zeta(2)), int64."""
    k = np.arange(1, ranks + 1, dtype=np.float64)
    return (n / (k * k * (pi**2 / 6))).astype(np.int64)


def zipf(n: int, ranked: np.ndarray) -> Zipf:
    """The order of n words, of which `ranked` are the numbers by rank."""
    often = counts(n, len(ranked))
    there = int(np.count_nonzero(often))
    return Zipf(np.cumsum(often[:there]), np.append(ranked[:there], 0))


def _ranked(length: int, keys: np.ndarray) -> np.ndarray:
    """Numbers of the coded words of ranks 1, 2, .. that can occur in that length; rank 1 is the noise."""
    ranks = min(max((length - 50) // 50, 4), isqrt(length) + 2)  # N <= zeta(2) tokens, and N k^-2 / zeta(2) >= 1
    pool = -(-4 * ranks // PER_SHARD) * PER_SHARD - 1  # coded words but the noise
    return np.append(0, 1 + permute(np.arange(ranks - 1), pool, keys))


def _most(tokens: int, ranked: np.ndarray, bodies: Phrases) -> Zipf:
    """The order of the largest number of words with at most that many tokens."""
    sizes = bodies.sizes(ranked)
    low, high = 0, 2 * tokens + 2
    while high - low > 1:
        middle = (low + high) // 2
        fits = int(counts(middle, len(ranked)) @ sizes) <= tokens
        low, high = (middle, high) if fits else (low, middle)
    return zipf(low, ranked)


def listed_words(start: int, stop: int) -> list[str]:
    """Words of a list as they follow their numbers."""
    return [f" {word}" for word in words.lexicon(start, stop)]


def coded_words(start: int, stop: int) -> list[str]:
    """Coded words as they follow each other."""
    return [f" {word}" for word in words.coded(start, stop)]


def listed_numbers(start: int, stop: int) -> list[str]:
    """Numbers of a list: text 0 is that of the first item."""
    return [f" {i}." if i > 1 else "1." for i in range(start + 1, stop + 1)]  # the first follows a line break


def _numbered(texts: Sequence[str]) -> str:
    return " ".join(f"{i}. {text}" for i, text in enumerate(texts, start=1))


def _cwe_example(rng: random.Random, count: int, common: int, others: int) -> str:
    """A whole small task with its answer."""
    known, drawn = words.dictionary(), {}
    while len(drawn) < count:
        drawn[known[int(rng.random() * len(known))]] = None
    first, rest = list(drawn)[:COMMON], list(drawn)[COMMON:]
    listed = sorted(first * common + rest * others, key=lambda _: rng.random())
    return f"{CWE_BEFORE}{_numbered(listed)}{CWE_QUESTION}{CWE_ANSWER} {_numbered(first)}\n"
