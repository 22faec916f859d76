"""Loss by position: how well each next token of a long text is predicted, and whether text from long ago helps.

    [book 7, from its first sentence][book 2][book 11] ...       nats/token at positions 1.., 64.., 128.., .. 1M..

A text is not equally hard everywhere, so a curve that falls proves little by itself. The control is the same text read
by a model that restarts every 4096 tokens ("restart"): where the whole stream is predicted better, something older than
4096 tokens helps.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from atlas_bench.errors import UserError, did_you_mean
from atlas_bench.tasks.corpora import Corpus, CorpusCache
from atlas_bench.tasks.haystack import Pieces, Span, background
from atlas_bench.tasks.loss_lessons import LossLessons
from atlas_bench.types import Rules, Sample, TaskOptions, Tokenizer

RESTART = 4096
LEAST = 128  # two ranges of positions
MAX_EMPTY = 1000  # documents without a sentence, one after another, before the corpus is given up


class Loss:
    """The task; implements types.Task. It asks nothing."""

    name = "loss"
    subsets = ("text", "restart")
    version = "1"
    reads_text = True

    def __init__(self) -> None:
        self._corpora = CorpusCache()

    def rules(self, subset: str) -> Rules:
        """No scorer: the loss on the context itself is measured."""
        restart = RESTART if subset == "restart" else None
        return Rules({}, chance=0.0, max_answer_tokens=0, restart=restart)

    def check(self, subset: str, length: int, tokenizer: Tokenizer, options: TaskOptions) -> None:
        """Raise UserError for an unknown subset, a prompt or data that would do nothing, or one token."""
        if subset not in self.subsets:
            raise UserError(
                f"loss has no subset '{subset}'.{did_you_mean(subset, self.subsets)} Known: {', '.join(self.subsets)}."
            )
        for name in ("data", "prompt"):
            given = getattr(options, name)
            if given != getattr(TaskOptions(), name):
                raise UserError(f"loss has no --{name} '{given}': it reads a --background alone. Leave --{name} out.")
        least = RESTART + 1 if subset == "restart" else LEAST
        if length < least:
            other = ", or ask for loss:text alone" if subset == "restart" and length >= LEAST else ""
            raise UserError(f"length {length} is too short for loss:{subset}. Use --len {least} or more{other}.")

    def samples(
        self, subset: str, length: int, n: int, seed: int, tokenizer: Tokenizer, options: TaskOptions
    ) -> Iterator[Sample]:
        """n streams of whole documents in random order, or of one run; both subsets have the same."""
        self.check(subset, length, tokenizer, options)
        corpus = self._corpora.open(options, tokenizer)
        for i in range(n):
            context = Pieces(corpus, _documents(corpus, length, random.Random(f"loss {seed} {i}")))
            told = {"facts": 0, "needle_positions": (), "supporting": (), "plan_hash": context.digest()}
            yield Sample(i, context, (), ("",), {**told, "corpus_key": corpus.key, "data_key": "documents"})

    def lessons(
        self, subsets: Sequence[str], tokenizer: Tokenizer, seed: int, corpora: Sequence[Corpus]
    ) -> LossLessons:
        """Running text to predict; the subsets measure one training in two ways."""
        return LossLessons(corpora, seed)

    def describe(self) -> str:
        """What is measured, on what, with the pitfalls and an example."""
        return DESCRIPTION.format(restart=RESTART)


def _documents(corpus: Corpus, length: int, rng: random.Random) -> list[Span]:
    """Documents from their beginning, drawn without replacement (all again once all are read); the last one is cut.

    For an endless corpus, a run that begins at a random sentence.
    """
    if corpus.n_documents is None:
        return background(corpus, length, rng)
    spans: list[Span] = []
    waiting: list[int] = []
    left, empty = length, 0
    while left:
        if not waiting:
            waiting = sorted(range(corpus.n_documents), key=lambda _: rng.random())
        number = waiting.pop()
        size = min(left, int(corpus.document(number).starts[-1]))
        empty = 0 if size else empty + 1
        if empty > MAX_EMPTY:
            raise UserError(f"background '{corpus.name}' holds no sentence of 10 tokens or more.")
        if size:
            spans.append(Span(number, 0, size))
            left -= size
    return spans


DESCRIPTION = """\
Loss by position: nats per token of a text of any length, over ranges of positions that double.

subsets   text (one stream), restart (the same text, read by a model that starts again every {restart} tokens)
source    --background: generated prose, PG-19 (hub) or a folder of .txt files, documents in random order
scorers   none; the record's `metrics` and `curve` hold the mean loss with n and, over two or more streams, an interval
chance    none; the log of the vocabulary's size is what a model without any knowledge loses
pitfalls  Losses of models with different tokenizers are not comparable: a token is not a unit of text.
          Sentences of fewer than 10 tokens are left out of every background, headings among them.
          One stream has no interval. A curve alone mixes what is remembered with what is hard: subtract restart.
          The generated background is what the embedded models were trained in; take --background pg19 or a folder.

atlas-bench run loss --len 1M --background books --samples 4        nats per token at 1-63, 64-127, .., 524288-999999
atlas-bench train --task loss:text --background books --out my-lm    a language model"""


LOSS = Loss()
