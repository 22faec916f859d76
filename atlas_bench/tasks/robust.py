"""Robustness of memories: one fact, one question, and a growing dose of what makes a memory lose it.

    near-4:  [...] The code word of the northern museum is magnet. [...] The code word of the royal lighthouse is
             banjo. [...] The code word of the northern lighthouse is papaya. [...] two more [...]
             What is the code word of the northern lighthouse? The code word of the northern lighthouse is -> papaya

A subset is KIND-DOSE. Sample i has the same fact, question and answer, at the same depth of the same background, in
every subset; a larger dose has all of the smaller one and more. So dose 0 is the control of every kind, differences
between doses are paired, and accuracy over the dose says how much noise a memory stands. The right answer is never in
doubt for a reader. The kinds, and the papers that found them to matter:

contradict  DOSE times, after the fact, a forged notice that claims another word, and is called forged: a conflict
            inside what is read, one of three kinds that mislead models (knowledge conflicts, Xu et al. 2024).
near        DOSE facts about places whose names differ from the one asked for in one of two words, anywhere: the keys of
            an associative memory lie close to each other (RULER's multi-key needles, Hsieh et al. 2024).
poison      DOSE facts about other places in one block around the true one, half before and half after: whoever
            can write into what is read can flood a memory (PoisonedRAG, Zou et al. 2024).
update      The fact is stated DOSE times before with other words, "is now"; the last statement holds. Retrieval of the
            last of many values falls with the logarithm of their number (Wang and Sun 2025, arXiv 2506.08184).
shift       The text changes abruptly DOSE times between prose and lines of logs, code, stock and figures. Titans
            (Behrouz et al. 2024) writes what surprises it, and a new register surprises at every token.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import replace

from atlas_bench.tasks import codewords, corpora, token_file
from atlas_bench.tasks.codewords import ADJECTIVES, NOUNS, WORDS
from atlas_bench.tasks.haystack import Span, background, divide
from atlas_bench.tasks.haystack_task import HaystackTask, Hidden
from atlas_bench.types import Rules, TaskOptions, Tokenizer

DOSES = (0, 1, 4, 16, 64, 256)
SUBSETS = {
    f"{kind}-{dose}": (kind, dose)
    for kind in ("contradict", "near", "poison", "update", "shift")
    for dose in DOSES
    if kind != "near" or dose <= 64  # there are 78 such places
}
STRETCH = 200  # tokens of background that a shift wants on either side: some sentences

# '#' is a digit. Ten tokens or more each, in any tokenizer.
REGISTERS = (
    (
        "##:##:## WARN node-## disk #: #### of 8000 blocks read, ## retries",
        "##:##:## INFO node-## queue ###: drained in #.## s, next poll in ## s",
        "##:##:## FAIL node-## probe ##: timeout after ### ms, errno ##, will restart",
    ),
    (
        "if (buffer[##] > limit) { total += queue[#] * ##; retry(##); }",
        "for (int i = #; i < ###; i++) { table[i] = hash(i ^ 0x##) % ##; }",
        "return size == ## ? cache.get(key_###) : load(path_##, mode_#, 0x####);",
    ),
    (
        "- item #####: ## crates, shelf ##-#, # missing, unit price ##.##",
        "- item #####: ## drums, bay ##, counted #/##, reorder below ###",
    ),
    ("| ### | #.## | ### | 0.0## | yes | ## | #.# |", "| ### | #.## | ### | 0.0## | no | ## | #.# |"),
)


class Robust(HaystackTask):
    """The task; implements types.Task."""

    name = "robust"
    subsets = tuple(SUBSETS)

    def rules(self, subset: str) -> Rules:
        """How the subset's questions are answered and judged."""
        return codewords.rules("robust")

    def draw(self, subset: str, seed: str, number: int, length: int) -> tuple[Hidden, str]:
        """As the base does, but under a label that knows neither kind nor dose."""
        label = f"{type(self).name} {seed} {number}"
        return self.hide(subset, random.Random(label), length), label

    def hide(self, subset: str, rng: random.Random, length: int) -> Hidden:
        """The fact in its place, and the dose around it."""
        kind, dose = SUBSETS[subset]
        ((place, code),), depth = codewords.pairs(rng, 1), 0.1 + 0.8 * rng.random()
        noise = NOISE[kind](rng, place, code, depth)[:dose]
        fact = _updated(place, code) if kind == "update" and dose else codewords.statement(place, code)
        texts = sorted([(depth, 0, fact), *noise])
        if kind == "update" and dose:
            texts[0] = (*texts[0][:2], texts[0][2].replace(" is now ", " is "))  # the first of them changes nothing
        number = texts.index((depth, 0, fact))
        return Hidden(
            tuple(text for _, _, text in texts),
            (codewords.question(place, code, number),),
            tuple(at for at, _, _ in texts),
            room=STRETCH * (dose + 1) if kind == "shift" and dose else 0,
        )

    def corpus(self, subset: str, tokenizer: Tokenizer, options: TaskOptions) -> corpora.Corpus:
        """The background; together with lines of other registers where the text shifts between them."""
        prose = super().corpus(subset, tokenizer, options)
        kind, dose = SUBSETS[subset]
        if kind != "shift" or not dose:
            return prose
        other = corpora.endless(
            "registers",
            tokenizer,
            lines,
            version=REGISTERS,
            separator="\n",
            **corpora.shards_of(options.document_tokens),
        )
        return _Both(prose, other)

    def background(self, subset: str, corpus: corpora.Corpus, tokens: int, rng: random.Random) -> list[Span]:
        """Prose, of which every other part gives way to as many tokens of another register where the text shifts."""
        if not isinstance(corpus, _Both):
            return super().background(subset, corpus, tokens, rng)
        prose, other = corpus.parts
        runs = divide(background(prose, tokens, rng), prose, SUBSETS[subset][1] + 1)
        runs[1::2] = [background(other, sum(span.stop - span.start for span in run), rng) for run in runs[1::2]]
        return [replace(span, document=2 * span.document + i % 2) for i, run in enumerate(runs) for span in run]

    def describe(self) -> str:
        """What is measured, on what, by which scorers, with the pitfalls and an example."""
        named = {kind: ", ".join(subset for subset in SUBSETS if SUBSETS[subset][0] == kind) for kind in NOISE}
        return DESCRIPTION.format(words=len(WORDS), **named)


class _Both:
    """Two corpora as one: documents 2 i of the first, 2 i + 1 of the second."""

    def __init__(self, *parts: corpora.Corpus) -> None:
        self.parts = parts
        self.name = " and ".join(part.name for part in parts)
        self.key = hashlib.sha256(" ".join(part.key for part in parts).encode()).hexdigest()

    def document(self, i: int) -> token_file.Document:
        return self.parts[i % 2].document(i // 2)


Noise = list[tuple[float, int, str]]  # depth, order among texts of one depth (the fact is 0), text


def _contradict(rng: random.Random, place: str, code: str, depth: float) -> Noise:
    claims = (f" A forged notice claims that the code word of the {place} is {wrong}." for wrong in _wrong(rng, code))
    return [(depth + (1 - depth) * rng.random(), 1, claim) for claim in claims]


def _near(rng: random.Random, place: str, code: str, depth: float) -> Noise:
    adjective, noun = place.split()
    others = [f"{other} {noun}" for other in ADJECTIVES] + [f"{adjective} {other}" for other in NOUNS]
    chosen = codewords.pick(rng, [other for other in others if other != place], 64)
    wrong = _wrong(rng, code)
    return [(rng.random(), 1, codewords.statement(*pair)) for pair in zip(chosen, wrong, strict=False)]


def _poison(rng: random.Random, place: str, code: str, depth: float) -> Noise:
    adjective, noun = place.split()
    others = [f"{one} {other}" for one in ADJECTIVES for other in NOUNS if one != adjective and other != noun]
    chosen, wrong = codewords.pick(rng, others, DOSES[-1]), _wrong(rng, code)
    facts = [codewords.statement(*pair) for pair in zip(chosen, wrong, strict=True)]
    return [(depth, i if i % 2 else -i - 1, fact) for i, fact in enumerate(facts)]


def _update(rng: random.Random, place: str, code: str, depth: float) -> Noise:
    return [(depth * rng.random(), -1, _updated(place, wrong)) for wrong in _wrong(rng, code)]


def _shift(rng: random.Random, place: str, code: str, depth: float) -> Noise:
    return []


NOISE: dict[str, Callable[[random.Random, str, str, float], Noise]] = {
    "contradict": _contradict,
    "near": _near,
    "poison": _poison,
    "update": _update,
    "shift": _shift,
}


def _wrong(rng: random.Random, code: str) -> list[str]:
    """As many words as the greatest dose, none of them the right one."""
    others = [word for word in WORDS if word != code]
    return [others[int(rng.random() * len(others))] for _ in range(DOSES[-1])]


def _updated(place: str, code: str) -> str:
    return f" The code word of the {place} is now {code}."


def lines(seed: int) -> Iterator[str]:
    """Lines without end, forty of a register and then another's."""
    rng = random.Random(f"registers {seed}")
    while True:
        register = REGISTERS[int(rng.random() * len(REGISTERS))]
        for _ in range(40):
            line = register[int(rng.random() * len(register))]
            yield "".join(str(int(rng.random() * 10)) if letter == "#" else letter for letter in line)


DESCRIPTION = """\
Robustness of memories: one fact, and a growing dose of what makes a memory lose it; KIND-DOSE is a subset.

subsets   {contradict}
            forged notices, called so, that claim another word after the fact
          {near}
            facts about places whose names differ in one word
          {poison}
            facts about other places in one block around the true one
          {update}
            earlier statements of the fact with other words; the last one holds
          {shift}
            abrupt changes between prose and lines of logs, code, stock and figures
source    code words of places in generated prose, PG-19 or a folder of .txt files
scorers   robust/word (version 1)      the answer's first sentence names the word, and no other of the {words}
          robust/contains (version 1)  the target stands somewhere in the answer
chance    1/{words} (any one word, always)
pitfalls  Sample i is the same in all subsets except the dose: compare doses pairwise, and dose 0 once, for it is
          the same in all kinds. Whoever answers with a word of the noise is always wrong, below chance.
          A dose is a number of sentences, whatever the length: 256 are a fifth of 16K tokens and nothing in 10M.
          Large doses do not fit into short contexts. A shift wants 200 tokens on either side.
          At dose 0 "update" says "is" and above "is now".

poison-2: [...] The code word of the inner mint is banjo. The code word of the royal archive is papaya. The code
word of the old depot is magnet. [...] What is the code word of the royal archive? [...] -> papaya"""


ROBUST = Robust()
