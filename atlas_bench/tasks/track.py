"""State tracking: what an automaton that reads the stream would know, asked along it.

    parity       1 0 1 1 0            -> the number of 1s so far, modulo 2
    mod3 ..      2 0 1 2              -> the sum so far, modulo 3, 5, 7
    s3 s4 s5 a5  p q r                -> the permutation p q r (p first): the word problem of a group
    anbn         a a a b b b a a b    -> the symbol that must come next: b, and a when there were as many b as a
    dyck         ( [ ( ) ] {          -> the bracket that may be closed next
    stack        push 3  push 5  pop  -> the top of the stack: 3
    palindrome   3 1 2 | 2 1 3        -> the next symbol of the second half

Protocol: sequence tagging, as Merrill et al. 2024 (arXiv 2404.08819) have it for groups and Grazzi et al. 2024
(2411.12537) and DeltaProduct (2502.10297) after them: the model answers at a token with what holds when that token has
been read, without a further question. In training every token is answered; a model is trained on short streams and
asked on long ones. Parity and the modular sums are regular tasks of Deletang et al. 2022 (2207.02098), stack and
palindrome of the deterministic context-free ones; a^n b^n by next symbols is that of Gers and Schmidhuber 2001, dyck is
the bounded Dyck-(k, m) of Hewitt et al. 2020 (2010.07515). What differs, and why:

length       One stream of any length, in which ASKED places are asked, each on a fork of the state at its token.
             Papers train on 40 to 128 tokens and ask on up to some hundreds. In equal parts of the stream the last
             place is asked, so that the mean is about the share of the stream that is tracked.
answers      Words of their own: the symbols that are read never stand for an answer. In the papers both are elements.
sums         Numbers alone. Deletang's modular arithmetic has + - * too, Grazzi's also brackets.
groups       All elements of the group are symbols, as in Merrill's tables; not only swaps, as in some of Grazzi's.
anbn         Strings follow one another, log n uniform from 2 to a sixteenth of the length. Asked are the last b and the
             last but one, since the others are all b.
dyck, stack  Height bounded by 5 and 16; 8 kinds. Pushes and pops are equally likely. Asked after pops, where the answer
             is not the last symbol read. Deletang asks for the whole final stack.
palindrome   Strings follow one another, as in anbn, of 8 symbols. A state of constant size cannot hold the longest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from atlas_bench.tasks.corpora import Corpus
from atlas_bench.tasks.mqar import exact
from atlas_bench.tasks.pairs import Vocabulary
from atlas_bench.tasks.track_lessons import TrackLessons
from atlas_bench.tasks.track_streams import Counts, GroupWord, Palindromes, Stack, TaggedStream
from atlas_bench.tasks.word_task import WordTask
from atlas_bench.types import Rules, Sample, Scorer, TaskOptions, Tokenizer

ASKED = 10  # places of a stream
LEAST = 4 * ASKED  # tokens: each part of a stream then has an answer, each stream enough strings
KINDS = 8  # of brackets, of what is pushed, of a palindrome's symbols


@dataclass(frozen=True)
class Kind:
    """make: words, length, label -> the stream; answers: how many there are, all equally likely."""

    make: Callable[[Vocabulary, int, str], TaggedStream]
    answers: int


SUBSETS = {
    "parity": Kind(partial(GroupWord, group="z2"), 2),
    **{f"mod{n}": Kind(partial(GroupWord, group=f"z{n}"), n) for n in (3, 5, 7)},
    **{name: Kind(partial(GroupWord, group=name), n) for name, n in (("s3", 6), ("s4", 24), ("s5", 120), ("a5", 60))},
    "anbn": Kind(Counts, 2),
    "dyck": Kind(partial(Stack, kinds=KINDS, depth=5, shown=True), KINDS),
    "stack": Kind(partial(Stack, kinds=KINDS, depth=16, shown=False), KINDS),
    "palindrome": Kind(partial(Palindromes, kinds=KINDS), KINDS),
}
SCORERS = {"track/exact": Scorer(exact)}


class Track(WordTask):
    """The task; implements types.Task."""

    name = "track"
    subsets = tuple(SUBSETS)
    version = "1"
    exact_lengths = False  # a place is asked where it stands, and the stream is as long as the cell

    def rules(self, subset: str) -> Rules:
        """An answer is one token; chance is that of any one answer."""
        chance = 1 / SUBSETS[subset].answers
        return Rules(SCORERS, chance=chance, max_answer_tokens=1, questions_per_context=ASKED)

    def least(self, subset: str, tokenizer: Tokenizer) -> tuple[int, str]:
        """Whether all places asked differ."""
        return LEAST, f"{ASKED} places to ask in take"

    def samples(
        self, subset: str, length: int, n: int, seed: int, tokenizer: Tokenizer, options: TaskOptions
    ) -> Iterator[Sample]:
        """The first n samples of a cell; those of one stream follow each other and share the object."""
        self.check(subset, length, tokenizer, options)
        kind, words = SUBSETS[subset], self.words(tokenizer)
        for first in range(0, n, ASKED):
            stream = kind.make(words, length, f"track {subset} {seed} {first // ASKED}")
            yield from _samples(stream, kind.answers, stream.choose(ASKED)[: n - first], first)

    def lessons(
        self, subsets: Sequence[str], tokenizer: Tokenizer, seed: int, corpora: Sequence[Corpus] = ()
    ) -> TrackLessons:
        """Training streams of some subsets; no corpus is read."""
        return TrackLessons({subset: SUBSETS[subset].make for subset in subsets}, self.words(tokenizer), seed)

    def describe(self) -> str:
        """What is measured, on what, by which scorer, with the pitfalls and an example."""
        return DESCRIPTION.format(
            subsets=", ".join(f"{name} ({kind.answers})" for name, kind in SUBSETS.items()),
            scorers=", ".join(f"{name} (version {scorer.version})" for name, scorer in SCORERS.items()),
            asked=ASKED,
        )


def _samples(stream: TaggedStream, answers: int, places: Sequence[int], first: int) -> Iterator[Sample]:
    """The answers at some places, each asked by the token there."""
    words, digest = stream.words, stream.digest()
    for index, place in enumerate(places, start=first):
        (symbol,), (answer,) = stream.symbols(place, place + 1), stream.answers(place, place + 1)
        needed = stream.needs(place)
        yield Sample(
            index,
            stream,
            (int(words.keys.tokens[symbol]),),
            (words.values.words[answer],),
            {
                "question": words.keys.words[symbol],
                "labels": words.values.words[:answers],
                "facts": stream.length,
                "needle_positions": (needed,),
                "supporting": (needed,),
                "distance": place - needed,
                "plan_hash": digest,
                "corpus_key": "words 1",
                "data_key": f"words {words.key}",
            },
            asked_at=place,
        )


DESCRIPTION = """\
State tracking: parity, sums modulo a number, words of permutation groups (Merrill et al. 2024, Grazzi et al. 2024),
a^n b^n, brackets, a stack, palindromes (Deletang et al. 2022, Hewitt et al. 2020). At a token the model is asked what
holds when it has been read, on a fork of its state. For models trained on it: `atlas-bench train --task track:parity`.

subsets   {subsets}
          (in brackets the number of answers; {asked} places of a stream are asked, each stream is read once)
source    words, all single tokens of the model's own tokenizer, in place of symbols; other words for the answers
scorers   {scorers}
chance    1 / answers: all are equally likely, whatever the place
pitfalls  A model that solves its training lengths may have learnt a shortcut: attention and MLPs compose a few tens of
          tokens without any state. Train on 256 tokens or fewer, ask at 100 times that.
          Once the state is lost, answers stay at chance, so the mean over a stream tells how far it was tracked.
          dyck, stack and palindrome depend on one earlier symbol; the report's curve by distance shows how far back.
          No constant state holds the longest palindromes, and no finite precision counts the longest a^n b^n.

[...] river stone river river -> the word that stands for "odd\""""


TRACK = Track()
