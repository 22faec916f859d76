"""RULER's eight needle tasks: keys with values hidden in noise, in essays, or among other needles.

    A special magic number is hidden within the following text. Make sure to memorize it. I will quiz you about
    the number afterwards.
    [...] One of the special magic numbers for gruesome-vinegar is: 7340216. [...]
    What is the special magic number for gruesome-vinegar mentioned in the provided text? The special magic
    number for gruesome-vinegar mentioned in the provided text is                                  -> 7340216

Words, templates, kinds of keys and values, and their numbers are RULER's; the last sentence is the beginning
of the answer. Needles in essays stand at depths drawn from its 40, of tokens where RULER counts sentences, and
in noise or among needles in random gaps between lines. What differs, and why:

keys      No two needles share a key or a value, and no line around them repeats a hidden key: RULER leaves both
          to chance, and at 10M tokens some 400 000 lines draw from its 6 million words.
essays    Any background; Paul Graham's essays are copyrighted. It repeats where it runs out, as in RULER.
spaces    A sentence of an essay begins with its space, the first one too.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice, repeat

from atlas_bench.tasks import corpora
from atlas_bench.tasks.haystack_task import HaystackTask, Hidden, Question
from atlas_bench.tasks.ruler import words
from atlas_bench.tasks.ruler.scorers import ALL
from atlas_bench.types import Rules, TaskOptions, Tokenizer

NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
NOISE_LINES = 4000  # of the one document that repeats: 10M tokens are some 200 runs of it
DEPTHS = tuple(round(100 * i / 39) for i in range(40))  # per cent

NEEDLE = "One of the special magic {values} for {key} is: {value}."
BEFORE = (
    "Some special magic {values} are hidden within the following text. Make sure to memorize it."
    " I will quiz you about the {values} afterwards."
)
QUESTION = "\nWhat are all the special magic {values} for {query} mentioned in the provided text?"
ANSWER = " The special magic {values} for {query} mentioned in the provided text are"


@dataclass(frozen=True)
class Kind:
    """The needles: `keys` different keys with `values` values each, and how many keys are asked for."""

    haystack: str
    key: str = "words"
    value: str = "numbers"
    keys: int = 1
    values: int = 1
    queries: int = 1


KINDS = {
    "niah_single_1": Kind("noise"),
    "niah_single_2": Kind("essay"),
    "niah_single_3": Kind("essay", value="uuids"),
    "niah_multikey_1": Kind("essay", keys=4),
    "niah_multikey_2": Kind("needle"),
    "niah_multikey_3": Kind("needle", key="uuids", value="uuids"),
    "niah_multivalue": Kind("essay", values=4),
    "niah_multiquery": Kind("essay", keys=4, queries=4),
}


class Needles(HaystackTask):
    """The niah_* subsets; implements types.Task."""

    name = "ruler"
    subsets = tuple(KINDS)
    takes = ("data", "background")  # for the subsets beside them: a run may ask for all 13

    def rules(self, subset: str) -> Rules:
        """RULER's metric and number of tokens to generate."""
        return Rules(ALL, chance=0.0, max_answer_tokens=128, stop=(), counts_answer=True)

    def __init__(self) -> None:
        super().__init__()
        self._others: dict[tuple[str, str, int | None], corpora.Corpus] = {}

    def corpus(self, subset: str, tokenizer: Tokenizer, options: TaskOptions) -> corpora.Corpus:
        """The background chosen, or lines of noise, or other needles."""
        kind = KINDS[subset]
        if kind.haystack == "essay":
            return super().corpus(subset, tokenizer, options)
        if kind.haystack == "noise":
            return noise(tokenizer)
        key = subset, tokenizer.key, options.document_tokens
        if key not in self._others:
            self._others[key] = _other_needles(kind, tokenizer, options.document_tokens)
        return self._others[key]

    def hide(self, subset: str, rng: random.Random, length: int) -> Hidden:
        """One sample's needles, in their order in the context, and its question."""
        kind = KINDS[subset]
        keys = words.distinct(rng, kind.key, kind.keys)
        values = words.distinct(rng, kind.value, kind.keys * kind.values)
        asked = sorted(range(kind.keys), key=lambda _: rng.random())[: kind.queries]
        answering = [i * kind.values + j for i in asked for j in range(kind.values)]
        separator, depths = "\n", None
        if kind.haystack == "essay":
            drawn = sorted(DEPTHS, key=lambda _: rng.random())[: len(values)]
            separator, depths = " ", tuple(sorted(depth / 100 for depth in drawn))
        fill = partial(_fill, kind, _joined([keys[i] for i in asked]))
        references = tuple(values[i] for i in answering)
        question = Question(
            fill(QUESTION),
            (", ".join(references),),
            tuple(sorted(answering)),
            prefill=fill(ANSWER),
            meta={"references": references},
        )
        facts = tuple(
            separator + NEEDLE.format(values=kind.value, key=keys[i // kind.values], value=value)
            for i, value in enumerate(values)
        )
        return Hidden(facts, (question,), depths, before=fill(BEFORE) + ("\n" if kind.haystack == "essay" else ""))


def noise(tokenizer: Tokenizer) -> corpora.Corpus:
    """One document of the line that RULER repeats."""
    identity = ["ruler noise", NOISE, NOISE_LINES]
    return corpora.Corpus(
        "ruler noise",
        tokenizer,
        lambda _: repeat(NOISE, NOISE_LINES),
        identity=identity,
        document_identity=lambda i: [*identity, i],
        n_documents=1,
        separator="\n",
    )


def _other_needles(kind: Kind, tokenizer: Tokenizer, document_tokens: int | None) -> corpora.Corpus:
    """Lines like the hidden ones, whose keys no hidden one has."""
    name = f"ruler needles {kind.key} {kind.value}"
    lines = partial(_lines, name, kind)
    # some of them tell whether all are the same: no version number that somebody must remember to raise
    version = list(islice(lines("version"), 20))
    return corpora.endless(
        name, tokenizer, lines, version=version, separator="\n", **corpora.shards_of(document_tokens)
    )


def _lines(name: str, kind: Kind, seed: int | str) -> Iterator[str]:
    rng = random.Random(f"{name} {seed}")
    while True:
        key, value = words.key(rng, kind.key, hidden=False), words.key(rng, kind.value)
        yield NEEDLE.format(values=kind.value, key=key, value=value)


def _fill(kind: Kind, query: str, template: str) -> str:
    """RULER's template, in the singular where one value is asked for."""
    values = kind.value
    if kind.queries * kind.values == 1:
        template = template.replace("Some", "A").replace("are all", "is").replace("are", "is")
        values = values[:-1]
    return template.format(values=values, query=query)


def _joined(keys: list[str]) -> str:
    return keys[0] if len(keys) == 1 else f"{', '.join(keys[:-1])}, and {keys[-1]}"
