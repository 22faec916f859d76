"""In-context recall: what a document says of a field or a question, asked at its end; the set of Based and JRT.

    Skyline. A film about a house on a hill. Directed by Ann Lee. Released 1987. [...] Director:        -> Ann Lee

SWDE and FDA ask for a field of a web page and of a medical report, SQuAD completion for the end of a sentence;
Natural Questions, TriviaQA and DROP ask questions. The documents are published (`--data hub`), or a folder's
swde.jsonl, fda.jsonl .. with the same columns. Zero-shot, greedy, 48 tokens, ending with a line.

swde, fda, squad     lm-eval's own tasks (0.4.13, version 1 of them): the text as it is
nq_*, triviaqa, drop   the whole context with JRT's prompt, which is not in lm-eval
-cut1000 ..          JRT: the document cut to that many tokens, 50 of them kept free for the answer
-twice               JRT: what is asked, the document, the document once more, what is asked
-cut1000-twice       both, as in the JRT paper's table 1; its table 2 has -cut512, -cut1024, -cut2048, nq_*-cut2000
-hidden              ours: the document in a random place of running text, and what is asked at the end

Only in `-hidden` is a sample as long as the cell says, so that documents can be lost in 10M tokens. The others keep
their own length: the cell's length is the maximum of a prompt. Longer documents are skipped; the others keep their
order for every seed. A published table has all documents, so choose --len long enough. Nothing is ever cut but where
the name says so.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from atlas_bench.errors import UserError, did_you_mean
from atlas_bench.files import hub, text_files
from atlas_bench.files.home import expanded
from atlas_bench.tasks import corpora
from atlas_bench.tasks.haystack import background, intersperse
from atlas_bench.tasks.recall_prompts import SOURCES, Prompt, Row, Source, cut
from atlas_bench.tasks.texts import Tokens, parts
from atlas_bench.types import Rules, Sample, Scorer, TaskOptions, Tokenizer

VARIANTS = ("", "-twice", "-hidden", "-cut512", "-cut1000", "-cut1000-twice", "-cut1024", "-cut2000", "-cut2048")
NOT_OF_NQ = ("-cut512", "-cut1024", "-cut2048")  # whose documents are of these lengths as they are


def contains(answer: str, sample: Sample) -> bool:
    """True if lm-eval's and JRT's `contains` says so: any target stands in the answer, ignoring case.

    Its defects are kept: an empty target stands in every answer; a target that JRT reads with spaces or a line
    break at its end is not found without them; "4" is found in "1942".
    """
    return any(re.search(re.escape(target), answer, re.IGNORECASE) is not None for target in sample.targets)


def stripped(answer: str, sample: Sample) -> bool:
    """`contains` without the first two defects: targets without the spaces around them, empty ones left out."""
    targets = filter(None, (target.strip() for target in sample.targets))
    return any(re.search(re.escape(target), answer, re.IGNORECASE) is not None for target in targets)


SCORERS = {"recall/contains": Scorer(contains), "recall/stripped": Scorer(stripped)}


class Recall:
    """The task; implements types.Task."""

    name = "recall"
    subsets = tuple(
        base + variant
        for base in SOURCES
        for variant in VARIANTS
        if not (base.startswith("nq_") and variant in NOT_OF_NQ)
    )
    version = "1"
    reads_text = True
    exact_lengths = False  # documents are as long as they are; but for -hidden

    def __init__(self) -> None:
        self._rows: dict[tuple[Any, ...], _Rows] = {}
        self._corpora = corpora.CorpusCache()

    def rules(self, subset: str) -> Rules:
        """The published 48 tokens of a line; a model that does not read the document names nothing in it."""
        return Rules(SCORERS, chance=0.0, max_answer_tokens=48)

    def check(self, subset: str, length: int, tokenizer: Tokenizer, options: TaskOptions) -> None:
        """Raise UserError if there is no data, or no prompt of at most that length; the message says which length would
        do."""
        sampler, shortest = self._sampler(subset, tokenizer, options), None
        for _, _, encoded in sampler.encoded():
            shortest = min(encoded.needs, shortest or encoded.needs)
            if shortest <= length:
                return
        if shortest is None:
            raise UserError(
                f"data '{options.data}' has no document for recall:{subset}. Give --data hub, or more rows."
            )
        raise UserError(
            f"length {length} is too short for recall:{subset}: its shortest prompt takes {shortest} tokens."
            f" Use --len {shortest} or more."
        )

    def samples(
        self, subset: str, length: int, n: int, seed: int, tokenizer: Tokenizer, options: TaskOptions
    ) -> Iterator[Sample]:
        """The first n documents that fit, in their order.  UserError if there are fewer."""
        sampler, index, left_out = self._sampler(subset, tokenizer, options), 0, 0
        for number, row, encoded in sampler.encoded():
            if index == n:
                return
            if encoded.needs > length:
                left_out += 1
                continue
            yield sampler.sample(index, number, row, encoded, length, f"recall {subset} {seed} {index}")
            index += 1
        if index < n:
            raise UserError(
                f"n = {n} samples of recall:{subset} are more than the {index} documents in '{options.data}' that fit"
                f" in {length} tokens. Use --samples {index}{', or a longer --len' * bool(left_out)}."
            )

    def describe(self) -> str:
        """What is measured, on what, by which scorers, with the pitfalls and an example."""
        return DESCRIPTION.format(
            subsets=", ".join(self.subsets),
            hubs=", ".join(source.hub for source in SOURCES.values()),
            scorers=", ".join(f"{name} (version {scorer.version})" for name, scorer in SCORERS.items()),
        )

    def _sampler(self, subset: str, tokenizer: Tokenizer, options: TaskOptions) -> _Sampler:
        if subset not in self.subsets:
            raise UserError(
                f"recall has no subset '{subset}'.{did_you_mean(subset, self.subsets)} Known:"
                f" {', '.join(self.subsets)}."
            )
        base, *variants = subset.split("-")
        hidden = "hidden" in variants
        if options.prompt != TaskOptions().prompt:
            raise UserError(f"recall has no --prompt '{options.prompt}': a subset's name says it. Leave --prompt out.")
        if not hidden and options.background != TaskOptions().background:
            raise UserError(
                f"recall:{subset} has no background '{options.background}': it is the document alone."
                f" Leave --background out, or ask for {base}-hidden."
            )
        source = options.data, base, options.encoding
        key = (*source, () if options.data == "hub" else text_files.version(options.data))
        if key not in self._rows:
            self._rows[key] = _load(*source)
        size = next((int(each[3:]) for each in variants if each.startswith("cut")), None)
        corpus = self._corpus(tokenizer, options) if hidden else None
        return _Sampler(base, tuple(variants), size, self._rows[key], tokenizer, corpus)

    def _corpus(self, tokenizer: Tokenizer, options: TaskOptions) -> corpora.Corpus:
        return self._corpora.open(options, tokenizer)


@dataclass(frozen=True)
class _Rows:
    """The documents of one source, where they come from, and a hash of that."""

    rows: Sequence[Row]
    place: str
    key: str


@dataclass(frozen=True)
class _Encoded:
    """Token ids of a document and of its question."""

    document: list[int]
    ask: list[int]

    @property
    def needs(self) -> int:
        return len(self.document) + len(self.ask)


class Whole(Tokens):
    """A document alone: a Context that is one fact."""

    def facts(self) -> Iterator[tuple[int, tuple[int, ...]]]:
        """(0, all of its tokens)."""
        yield 0, tuple(self.read(0, self.length).tolist())


@dataclass(frozen=True)
class _Sampler:
    """All that the samples of a cell have in common."""

    base: str
    variants: tuple[str, ...]
    cut: int | None
    data: _Rows
    tokenizer: Tokenizer
    corpus: corpora.Corpus | None

    @property
    def source(self) -> Source:
        return SOURCES[self.base]

    def encoded(self) -> Iterator[tuple[int, Row, _Encoded]]:
        """(number, row, prompt) of every document; those that JRT leaves out when it cuts are left out."""
        for number, row in enumerate(self.data.rows):
            try:
                used = row if self.cut is None else cut(row, self.source, self.cut, self.tokenizer)
                if used is not None and self._targets(row):
                    yield number, row, self._encode(self._prompt(used))
            except (KeyError, TypeError, AttributeError) as error:
                raise UserError(
                    f"row {number + 1} of {self.data.place} is not like the published ones: {type(error).__name__}"
                    f" {error}. A row is a JSON object with the columns of {self.source.hub}."
                ) from error

    def sample(self, index: int, number: int, row: Row, encoded: _Encoded, length: int, label: str) -> Sample:
        """The document, or the document in as much background as fills the length."""
        if self.corpus:
            rng = random.Random(label)
            spans = background(self.corpus, length - encoded.needs, rng)
            context, (position,) = intersperse([encoded.document], spans, self.corpus, rng)
        else:
            context, position = Whole([encoded.document]), 0
        return Sample(
            index,
            context,
            tuple(encoded.ask),
            self._targets(row),
            {
                "question": self.tokenizer.decode(encoded.ask).strip(),
                "row": number,
                "facts": 1,
                "needle_positions": (position,),
                "supporting": (position,),
                "plan_hash": context.digest(),
                "corpus_key": self.corpus.key if self.corpus else "none",
                "data_key": self.data.key,
            },
        )

    def _prompt(self, row: Row) -> Prompt:
        if "twice" in self.variants:
            return self.source.twice(row)
        return self.source.once(row) if self.variants else self.source.raw(row)

    def _targets(self, row: Row) -> tuple[str, ...]:
        """Right answers; JRT's as they are in the data, lm-eval's and ours without the spaces around them."""
        answers = row[self.source.answers]
        targets = (answers,) if isinstance(answers, str) else tuple(answers)
        of_jrt = "twice" in self.variants or self.cut or (not self.variants and self.source.text == "context")
        return targets if of_jrt else tuple(target.strip() for target in targets)

    def _encode(self, prompt: Prompt) -> _Encoded:
        """A document alone is encoded with its question as one text, as in lm-eval; a hidden one follows other text."""
        if self.corpus:
            return _Encoded(self._ids(f" {prompt.document}"), self._ids(prompt.ask))
        ids = self._ids(prompt.document + prompt.ask)
        asked = min(max(1, len(self._ids(prompt.ask))), len(ids) - 1)
        return _Encoded(ids[: len(ids) - asked], ids[len(ids) - asked :])

    def _ids(self, text: str) -> list[int]:
        return [token for part in parts(text) for token in self.tokenizer.encode(part)]


def _load(data: str, base: str, encoding: str | None) -> _Rows:
    """The rows of a source, from the hub or a folder of files in some encoding."""
    if data == "hub":
        advice = "Use --data with a folder of .jsonl files."
        rows = list(hub.rows(SOURCES[base].hub, split="validation", advice=advice))
        return _Rows(rows, SOURCES[base].hub, f"{SOURCES[base].hub} validation")
    path, advice = expanded(data) / f"{base}.jsonl", "Give --data hub, or a folder with a file"
    if data == "generated":
        raise UserError(f"recall is made of published documents; none are generated. {advice} {base}.jsonl.")
    try:
        read = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"data '{data}' has no readable file {base}.jsonl ({error.strerror}). {advice} of it."
        ) from error
    rows = []
    for number, line in enumerate(io.StringIO(text_files.decode(read, path, encoding, choice=True)), start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise UserError(f"line {number} of {path} is not JSON: {error}. It holds one object a line.") from error
    key = f"folder {hashlib.sha256(read).hexdigest()[:16]}" + (f" {encoding}" if encoding else "")
    return _Rows(rows, str(path), key)


DESCRIPTION = """\
In-context recall (Arora et al. 2024): a document, and what it says of a field or a question. SWDE, FDA, SQuAD
completion, Natural Questions, TriviaQA and DROP, with the prompts of lm-eval and of "Just read twice" (JRT).

subsets   {subsets}
          (alone: lm-eval's swde, fda and squad_completion, JRT's prompts for the others; -cutN: the document cut to N
          tokens as by JRT; -twice: the document twice; -hidden: in a random place of as much text as fills --len)
source    --data hub, or a folder of files such as swde.jsonl with the same columns
          {hubs}
scorers   {scorers}
chance    0 (an answer that names nothing)
pitfalls  But for -hidden, --len is the most that a prompt may take: longer documents are left out, none is cut. For a
          published figure take a --len that leaves none out, and as many --samples as there are documents.
          recall/contains is lm-eval's and JRT's: an empty answer is in everything, "4" is in "1942". lm-eval strips
          its right answers, JRT does not: those that end with a space or a line break are hardly ever found.
          recall/stripped strips all and leaves empty ones out.
          A cut may lose what is asked for: TriviaQA and DROP keep the beginning, the others half a cut before the
          first place of the answer, or of the field's name. A long SQuAD text loses its open sentence.
          Tokens are the model's own, so that a cut is another one with another tokenizer, as it is in JRT.

Skyline. A film about a house on a hill. Directed by Ann Lee. [...] Director: -> Ann Lee"""


RECALL = Recall()
