"""MQAR, multi-query associative recall: pairs of words to be remembered, and every key asked for its value.

    stone river  apple cloud  window letter  [... noise ...]  apple                              -> cloud

zoology's definition (Arora et al. 2023): P pairs k1 v1 .. kP vP in front, keys from one half of the vocabulary
and values from the other, without replacement; then a zone in which the keys come back at slots drawn without
replacement from p(i) ~ a i^(a-1), a = 0.01, among random tokens; every key is answered with its value.

Here it streams to any length. Subset "32" has 32 pairs in front; "32-spread" scatters them over the context,
in order. What differs from zoology, and why:

noise     Words that are neither keys nor values. zoology's random tokens would, over a million of them,
          repeat every key with a wrong value after it.
queries   All P keys, in random order, each put to a fork of the state at the context's end, so that the
          questions cost one reading and none follows another. The power law of slots has no part in it.
keys      zoology needs a vocabulary larger than the length. A key here is as many words as give four keys
          for each pair: one up to 128 pairs, two for 4096, three for a million.
values    Drawn without replacement up to 128 pairs, with replacement beyond.
words     Single tokens of a space and letters (words, or beginnings of words), so that an answer is plain text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from atlas_bench.tasks.corpora import Corpus
from atlas_bench.tasks.mqar_lessons import MqarLessons
from atlas_bench.tasks.pairs import POOL, bits, lay_out, words_of_a_key
from atlas_bench.tasks.word_task import WordTask
from atlas_bench.types import Rules, Sample, Scorer, TaskOptions, Tokenizer


def exact(answer: str, sample: Sample) -> bool:
    """True if the answer is the target, ignoring case and surrounding spaces."""
    return answer.strip().lower() == sample.targets[0].strip().lower()


SCORERS = {"mqar/exact": Scorer(exact)}


class Mqar(WordTask):
    """The task; implements types.Task."""

    name = "mqar"
    subsets = ("8", "32", "128", "4096", "8-spread", "32-spread", "128-spread", "4096-spread")
    version = "1"

    def rules(self, subset: str) -> Rules:
        """A value is one token; every key of a context is asked; chance is that of any one value."""
        pairs = _pairs(subset)
        return Rules(SCORERS, chance=1 / POOL, max_answer_tokens=1, questions_per_context=pairs)

    def least(self, subset: str, tokenizer: Tokenizer) -> tuple[int, str]:
        """zoology's rule for one-word keys, 4 P <= length."""
        pairs = _pairs(subset)
        return 2 * pairs * (words_of_a_key(pairs) + 1), f"{pairs} pairs and as much again take"

    def samples(
        self, subset: str, length: int, n: int, seed: int, tokenizer: Tokenizer, options: TaskOptions
    ) -> Iterator[Sample]:
        """The first n samples of a cell; those of one context follow each other and share the object."""
        self.check(subset, length, tokenizer, options)
        pairs = _pairs(subset)
        for first in range(0, n, pairs):
            label = f"mqar {pairs} {seed} {first // pairs}"  # the same pairs at every length, in front or spread
            yield from self._questions(subset, length, first, min(pairs, n - first), label, tokenizer)

    def _questions(
        self, subset: str, length: int, first: int, n: int, label: str, tokenizer: Tokenizer
    ) -> Iterator[Sample]:
        words, pairs = self.words(tokenizer), _pairs(subset)
        key_words = words_of_a_key(pairs)
        spread = subset.endswith("-spread")
        context = lay_out(words, length - key_words, pairs=pairs, key_words=key_words, spread=spread, label=label)
        digest = context.digest()
        for index, i in enumerate(bits(f"{label} order", pairs).argsort(kind="stable")[:n].tolist(), start=first):
            position = (int(context.places[i]),)
            yield Sample(
                index,
                context,
                context.question(i),
                (words.values.words[context.values[i]],),
                {
                    "question": " ".join(words.keys.words[k] for k in context.keys[i]),
                    "labels": words.values.words,
                    "facts": pairs,
                    "needle_positions": position,
                    "supporting": position,
                    "plan_hash": digest,
                    "corpus_key": "words 1",
                    "data_key": f"words {words.key}",
                },
            )

    def lessons(
        self, subsets: Sequence[str], tokenizer: Tokenizer, seed: int, corpora: Sequence[Corpus] = ()
    ) -> MqarLessons:
        """Training contexts of some subsets; no corpus is read."""
        return MqarLessons(subsets, self.words(tokenizer), seed)

    def describe(self) -> str:
        """What is measured, on what, by which scorer, with the pitfalls and an example."""
        scorers = ", ".join(f"{name} (version {scorer.version})" for name, scorer in SCORERS.items())
        return DESCRIPTION.format(subsets=", ".join(self.subsets), scorers=scorers, pool=POOL, chance=f"{1 / POOL:.2%}")


def _pairs(subset: str) -> int:
    return int(subset.removesuffix("-spread"))


DESCRIPTION = """\
MQAR, multi-query associative recall (Arora et al. 2023, zoology), streamed: key-value pairs of words in noise,
and every key asked for its value at the end of the context.

subsets   {subsets}
          (pairs of a context; in front as in zoology, or spread over the whole context)
source    {pool} keys, {pool} values and {pool} words of noise, all single tokens of the model's own tokenizer
scorers   {scorers}
chance    {chance} (any one value, always)
pitfalls  zoology's queries come among random tokens at power-law distances; here every key is asked at the end,
          on a fork of the state. Its noise is made of any tokens; here of words that are neither key nor value.
          The questions of one context are not independent: with 100 questions on 128 pairs there is one context,
          and the interval is about its pairs, not about other contexts. Ask for more samples than pairs.
          Keys of the 4096 subsets are two words, and their values repeat.

stone river apple cloud window letter [...] apple -> cloud"""


MQAR = Mqar()
