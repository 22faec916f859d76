"""BABILong: the facts of a bAbI story scattered through a long text, and one question about them.

    The doctor had written to John about the kitchen and travel, though the dim book shone nine miles from
    Saint Audrey. Mary moved to the bathroom. That market-day, he and Mr. Harcourt apparently prayed through
    the poet's lighthouse. [...] John went to the hallway. [...] The door of the kitchen was cheap, and beyond
    it the badger dined under the furrow. Where is Mary?                                       -> bathroom

The facts keep their order, each in a random gap between two sentences of the background. A sample is a plan:
`length` tokens, question included, that are made when they are read.

Length 0 is BABILong's "0k": the facts and the question alone, as long as they are. `babilong_data.py` provides the
stories.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain

from atlas_bench.errors import UserError, did_you_mean
from atlas_bench.tasks import babi, corpora, prompts, prose
from atlas_bench.tasks.babilong_data import source
from atlas_bench.tasks.babilong_lessons import BabilongLessons
from atlas_bench.tasks.babilong_sampler import Sampler
from atlas_bench.tasks.scorers import SCORERS
from atlas_bench.tasks.texts import Encoder
from atlas_bench.types import Rules, Sample, TaskOptions, Tokenizer

# One of the commonest answers and its share of the questions: exact where the simulator's rules decide it, else
# counted over 20,000 questions and more. qa7's "none" is almost as common, and the official scorer never takes it.
COMMONEST = {
    **dict.fromkeys(("qa1", "qa2", "qa3", "qa4", "qa11", "qa12", "qa13"), ("kitchen", 1 / 6)),
    "qa5": ("Mary", 0.169),
    "qa6": ("no", 1 / 2),
    "qa7": ("one", 0.484),
    "qa8": ("nothing", 0.357),
    "qa9": ("no", 5 / 8),
    "qa10": ("no", 23 / 48),
    "qa14": ("office", 1 / 6),
    "qa15": ("cat", 1 / 4),
    "qa16": ("gray", 1 / 4),
    "qa17": ("yes", 1 / 2),
    "qa18": ("yes", 1 / 2),
    "qa19": ("e,n", 1 / 12),
    "qa20": ("kitchen", 0.19),
}


class Babilong:
    """The task; implements types.Task."""

    name = "babilong"
    subsets = tuple(babi.SUBSETS)
    usual = subsets[:5]  # what "babilong" alone means: the columns of the benchmark's long table
    version = "1"
    reads_text = True

    def __init__(self) -> None:
        self._corpora = corpora.CorpusCache()
        self._encoders: dict[str, Encoder] = {}

    def rules(self, subset: str) -> Rules:
        """Both scorers, 20 tokens, one line; chance is the share of the commonest answer."""
        return Rules(SCORERS, chance=COMMONEST[subset][1], max_answer_tokens=20)

    def rules_for(self, subset: str, options: TaskOptions) -> Rules:
        """The rules, where the official prompt goes with the benchmark's own generation: 20 tokens, no stop text."""
        rules = self.rules(subset)
        return replace(rules, stop=()) if options.prompt == "official" else rules

    def check(self, subset: str, length: int, tokenizer: Tokenizer, options: TaskOptions) -> None:
        """Raise UserError if no sample of that length can be made, saying what length would do."""
        sampler = self._sampler(subset, length, tokenizer, options)
        made = source(options.data)(sampler)  # raises where there is no such data
        if length and length < (least := made.least()):
            raise UserError(
                f"length {length} is too short for babilong:{subset}: with the '{sampler.prompt.name}' prompt,"
                f" the shortest stories and their question take {least} tokens. Use --len {least} or more."
            )

    def samples(
        self, subset: str, length: int, n: int, seed: int, tokenizer: Tokenizer, options: TaskOptions
    ) -> Iterator[Sample]:
        """The first n samples of a cell; sample i does not depend on n.  UserError if there are fewer."""
        sampler = self._sampler(subset, length, tokenizer, options)
        yield from source(options.data)(sampler).samples(n, seed)

    def lessons(
        self, subsets: Sequence[str], tokenizer: Tokenizer, seed: int, corpora: Sequence[corpora.Corpus]
    ) -> BabilongLessons:
        """Training contexts of some subsets over some corpora."""
        return BabilongLessons(subsets, corpora, tokenizer, seed)

    def describe(self) -> str:
        """What is measured, on what, by which scorers, with the pitfalls and an example."""
        chances = ", ".join(f"{subset} {self.rules(subset).chance:.1%}" for subset in self.subsets)
        return DESCRIPTION.format(
            subsets=", ".join(self.subsets),
            scorers=", ".join(f"{name} (version {scorer.version})" for name, scorer in SCORERS.items()),
            chances=chances,
            example=_example(),
        )

    def _sampler(self, subset: str, length: int, tokenizer: Tokenizer, options: TaskOptions) -> Sampler:
        if subset not in self.subsets:
            raise UserError(
                f"babilong has no subset '{subset}'.{did_you_mean(subset, self.subsets)}"
                f" Known: {', '.join(self.subsets)}."
            )
        encode = self._encoders.setdefault(tokenizer.key, Encoder(tokenizer))
        prompt = prompts.load(options.prompt, subset)
        return Sampler(subset, length, encode, prompt, options, self._corpora)


DESCRIPTION = """\
BABILong (Kuratov et al. 2024): bAbI facts scattered through a long text, and a question about them.

subsets   {subsets}
source    simulated stories in generated prose; or bAbI files and .txt books; or the published contexts (hub)
scorers   {scorers}
chance    {chances} (the commonest answer, always)
pitfalls  The official scorer looks for labels as substrings; babilong/word reads whole words.
          Whoever reads the question alone beats chance where it rules answers out (qa3, qa4, qa5), and needs no
          memory at all for qa18 (92 % right by the question alone) and qa20 (72 %).
          In qa11 and qa13 background may stand between a name and the "she" that means it, as in BABILong itself.
          The official scorer takes no "none" in qa7: nobody can score more than 53 % there.
          --prompt official is BABILong's own: its words, 20 new tokens and no stop text. With bare a line break ends
          an answer, as it does in the training of the models here.
          Length counts the question and the prompt; BABILong's own lengths leave them out.
          At short lengths only short stories fit, so qa2, qa3 and qa5 are easier there.
          On the hub --len picks the configuration; the exact length is in the record.

{example}"""


def _example() -> str:
    story = babi.simulate("qa1", random.Random("babilong example"))
    question = story.questions[0]
    facts = story.facts[: question.after]
    shown = chain.from_iterable(zip(prose.sentences(0), facts, strict=False))
    return f"{' '.join(shown)} [...] {question.text} -> {question.answer}"


BABILONG = Babilong()
