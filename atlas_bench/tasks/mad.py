"""The MAD suite: six small skills that a sequence model needs, for models trained from scratch.

    in-context-recall        a 4  c 1  a 4  b 2  c 1  b                                     -> 2
    noisy-in-context-recall  a 4  x y  c 1  a 4  z x  b 2  c                                -> 1
    fuzzy-in-context-recall  d a b  4 1   c b a  2   a d c  3 1 2   c b a                   -> 2
    selective-copying        . . 3 . . . 1 . 2 . . 4  copy                                  -> 3 1 2 4
    compression              3 1 4 4 2 1  0 0 3                                             -> 4
    memorization             k ?  m ?  b ?  k ?                                             -> its value, in no context

The protocol (Poli et al. 2024; athms/mad-lab, mad/data/instances.py and configs/tasks): vocabulary 16, or 256 to
memorize; 128 tokens, 256 to copy, 32 to compress and to memorize; 12,800 training examples, 256 to memorize; noise
in a fifth of the pairs; motifs of at most 3 tokens; 16 tokens to copy. Keys are drawn with replacement, and a key
keeps its value through an example. Accuracy is that of the tokens asked for, averaged over their classes
(torchmetrics' default, "macro").

The same here: the vocabulary's sizes, how keys, values, noise and motifs are drawn, where blanks stand, and (in
cells of MAD's lengths) how much is stated, to a pair; a cell counts the answer where MAD's sequences hold it.
Different:

asking       On a fork of the state at the end, the answer generated. MAD judges next tokens given the right ones
             before them, wherever a key comes back (multi_query, its default); here that is the last place of an
             example. In an answer of several words an early mistake may spoil the later ones here.
accuracy     The mean over samples of the share of right tokens, not over classes.
compression  MAD reads all tokens out of the last one's state by a decoder of its own, an MLP that is told the place.
             Here the question names the place, in three words of its own; 16 places of a context are asked, and the
             state may be larger than MAD's single vector. MAD's 31 tokens are a cell of 34.
copying      MAD feeds blanks where the copy is to be said; here the copy itself, as it is generated.
training     On the questions alone, an endless supply of examples in the recipe's order. MAD trains recall on all
             next tokens, on a fixed set of examples that it repeats for 200 epochs.
levels       A MAD score is the mean over levels of difficulty. Of these there is length (--len); other vocabularies,
             shares of noise, numbers of tokens to copy and of training examples are not here.
words        Single tokens of the model's own tokenizer instead of 16 integers.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from atlas_bench.tasks.corpora import Corpus
from atlas_bench.tasks.mad_contexts import (
    COPIED,
    PLACE_WORDS,
    Asked,
    Blocks,
    Compression,
    Copying,
    Memorization,
    Recall,
)
from atlas_bench.tasks.mad_lessons import MadLessons
from atlas_bench.tasks.pairs import Vocabulary
from atlas_bench.tasks.word_task import WordTask
from atlas_bench.types import Rules, Sample, Scorer, TaskOptions, Tokenizer


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One skill.

    make       words, length, label -> the context
    lessons    make, for training; None if it is the same
    least      tokens of the shortest sample
    length     that holds as many tokens as MAD's own
    question   tokens of a question
    answer     tokens of the longest answer
    counts     whether a cell's length counts the answer, as MAD's does
    choices    words that an answer's word is one of, all equally likely
    questions  on a context
    """

    make: Callable[[Vocabulary, int, str], Blocks]
    lessons: Callable[[Vocabulary, int, str], Blocks] | None = None
    least: int
    length: int
    question: int
    answer: int = 1
    counts: bool
    choices: int
    questions: int = 1


_RECALL = {"length": 128, "counts": True, "choices": 8}
_FUZZY = partial(Recall, symbols=(7, 8), value_sizes=(1, 2, 3))
KINDS = {
    "in-context-recall": Kind(make=Recall, least=4, question=1, **_RECALL),
    "noisy-in-context-recall": Kind(make=partial(Recall, noise=0.2), least=4, question=1, **_RECALL),
    "fuzzy-in-context-recall": Kind(
        make=partial(_FUZZY, key_sizes=(3,)),
        lessons=partial(_FUZZY, key_sizes=(1, 2, 3)),
        least=12,
        question=3,
        answer=3,
        **_RECALL,
    ),
    "selective-copying": Kind(
        make=Copying, least=2 * COPIED + 2, length=256, question=1, answer=COPIED, counts=True, choices=14
    ),
    "compression": Kind(
        make=Compression,
        least=16 + PLACE_WORDS,
        length=31 + PLACE_WORDS,
        question=PLACE_WORDS,
        counts=False,
        choices=15,
        questions=16,
    ),
    "memorization": Kind(make=Memorization, least=4, length=32, question=2, counts=False, choices=127),
}


def accuracy(answer: str, sample: Sample) -> float:
    """The share of the target's words that the answer has in their places; whatever follows them is not read."""
    said, wanted = answer.lower().split(), sample.targets[0].lower().split()
    return sum(one == other for one, other in zip(said, wanted, strict=False)) / len(wanted)


def exact(answer: str, sample: Sample) -> bool:
    """True if the answer begins with all of the target's words in order."""
    return accuracy(answer, sample) == 1


SCORERS = {"mad/accuracy": Scorer(accuracy), "mad/exact": Scorer(exact)}


class Mad(WordTask):
    """The task; implements types.Task."""

    name = "mad"
    subsets = tuple(KINDS)
    version = "1"

    def rules(self, subset: str) -> Rules:
        """Chance is the accuracy of any one word, repeated."""
        kind = KINDS[subset]
        return Rules(
            SCORERS,
            chance=1 / kind.choices,
            max_answer_tokens=kind.answer,
            counts_answer=kind.counts,
            questions_per_context=kind.questions,
        )

    def least(self, subset: str, tokenizer: Tokenizer) -> tuple[int, str]:
        """The shortest context that can be asked about, its question, and the answer where that counts."""
        return KINDS[subset].least, "what it states and asks takes"

    def samples(
        self, subset: str, length: int, n: int, seed: int, tokenizer: Tokenizer, options: TaskOptions
    ) -> Iterator[Sample]:
        """The first n samples of a cell; those of one context follow each other and share the object."""
        self.check(subset, length, tokenizer, options)
        kind, words = KINDS[subset], self.words(tokenizer)
        for first in range(0, n, kind.questions):
            label = f"mad {subset} {seed} {first // kind.questions}"
            context = kind.make(words, length - kind.question - kind.counts * kind.answer, label)
            asked = context.choose(random.Random(f"{label} asked"), kind.questions, context.length)
            yield from _samples(kind, context, asked[: n - first], first)

    def lessons(
        self, subsets: Sequence[str], tokenizer: Tokenizer, seed: int, corpora: Sequence[Corpus] = ()
    ) -> MadLessons:
        """Training contexts of some subsets; no corpus is read."""
        make = {subset: KINDS[subset].lessons or KINDS[subset].make for subset in subsets}
        return MadLessons(make, self.words(tokenizer), seed)

    def describe(self) -> str:
        """What is measured, on what, by which scorers, with the pitfalls and an example."""
        return DESCRIPTION.format(
            subsets=", ".join(f"{name} ({kind.length})" for name, kind in KINDS.items()),
            scorers=", ".join(f"{name} (version {scorer.version})" for name, scorer in SCORERS.items()),
            chances=", ".join(f"{name} {1 / kind.choices:.1%}" for name, kind in KINDS.items()),
        )


def _samples(kind: Kind, context: Blocks, asked: Sequence[Asked], first: int) -> Iterator[Sample]:
    """Questions at the end of a context."""
    words, digest = context.words, context.digest()
    said = dict(zip(words.keys.tokens.tolist(), words.keys.words, strict=True))
    said |= zip(words.values.tokens.tolist(), words.values.words, strict=True)
    alone = kind.questions == 1
    places = tuple(place for place, _ in context.facts()) if alone else ()
    for index, one in enumerate(asked, start=first):
        yield Sample(
            index,
            context,
            one.question,
            (" ".join(said[token] for token in one.answer),),
            {
                "question": " ".join(said.get(token, "?") for token in one.question),
                "labels": tuple(" ".join([word] * kind.answer) for word in words.values.words[: kind.choices]),
                "facts": len(places) if alone else context.length,
                "needle_positions": places if alone else one.places,
                "supporting": one.places,
                "plan_hash": digest,
                "corpus_key": "words 1",
                "data_key": f"words {words.key}",
            },
        )


DESCRIPTION = """\
The MAD suite (Poli et al. 2024): in-context recall, plain, among noise, and with keys and values of several words;
copying of scattered words; the word in a given place; and a table that training alone can teach. For models
trained on it: `atlas-bench train --task mad:in-context-recall`.

subsets   {subsets}
          (in brackets the length that holds as many tokens as MAD's own examples; --len may be any other)
source    words, all single tokens of the model's own tokenizer, drawn as MAD draws its integers
scorers   {scorers}
chance    {chances} (one word, said again and again)
pitfalls  MAD judges next tokens, after the right ones, wherever a key comes back; here one question is asked at the
          end and its answer generated. Its accuracy is averaged over classes, here over samples.
          compression is not MAD's: there an MLP reads all tokens out of one vector; here the question names a place.
          A published MAD score is the mean over levels of difficulty, of which only length is here, and of models
          trained for 200 epochs on a fixed set of examples.
          memorization states nothing in its context: a model that was not trained on it can only guess.

stone river apple cloud stone river apple -> cloud"""


MAD = Mad()
