"""RULER's 13 tasks as one task of ours; see the package's docstring for where each is.

    RULER.samples("niah_single_1", 131072, 500, 0, tokenizer, TaskOptions())
    RULER.samples("qa_1", 4096, 500, 0, tokenizer, TaskOptions(data="my/folder"))

A length counts the tokens that may be generated, as RULER's does, so that a prompt is that much shorter; and no
text ends an answer, so that it may run over several lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from atlas_bench.errors import UserError, did_you_mean
from atlas_bench.tasks.ruler.documents import Documents
from atlas_bench.tasks.ruler.lists import Lists
from atlas_bench.tasks.ruler.needles import Needles
from atlas_bench.tasks.ruler.scorers import ALL, PART
from atlas_bench.tasks.ruler.variables import Variables
from atlas_bench.types import Rules, Sample, TaskOptions, Tokenizer


class Ruler:
    """The task; implements types.Task."""

    name = "ruler"
    version = "1"
    reads_text = True

    def __init__(self) -> None:
        families = (Needles(), Variables(), Lists(), Documents())
        self._families = {subset: family for family in families for subset in family.subsets}
        self.subsets = tuple(self._families)

    def rules(self, subset: str) -> Rules:
        """RULER's metric and number of tokens to generate; nothing is right by chance."""
        return self._families[subset].rules(subset)

    def check(self, subset: str, length: int, tokenizer: Tokenizer, options: TaskOptions) -> None:
        """Raise UserError if no sample of that length can be made, saying what length would do."""
        if subset not in self._families:
            raise UserError(
                f"ruler has no subset '{subset}'.{did_you_mean(subset, self.subsets)} Known: {', '.join(self.subsets)}."
            )
        if options.prompt != TaskOptions().prompt:
            raise UserError(f"ruler has no --prompt '{options.prompt}': its prompts are its own. Leave --prompt out.")
        self._families[subset].check(subset, length, tokenizer, options)

    def samples(
        self, subset: str, length: int, n: int, seed: int, tokenizer: Tokenizer, options: TaskOptions
    ) -> Iterator[Sample]:
        """The first n samples of a cell; sample i does not depend on n."""
        yield from self._families[subset].samples(subset, length, n, seed, tokenizer, options)

    def describe(self) -> str:
        """What is measured, on what, by which scorers, with the pitfalls and an example."""
        scorers = chain(ALL.items(), PART.items())
        return DESCRIPTION.format(
            subsets=", ".join(self.subsets),
            scorers=", ".join(f"{name} (version {scorer.version})" for name, scorer in scorers),
        )


DESCRIPTION = """\
RULER (Hsieh et al. 2024): 13 tasks of retrieval, tracing, aggregation and question answering, streamed.

subsets   {subsets}
          niah_single_* (S-NIAH) one needle in noise (1) or essays (2; 3 with a uuid), niah_multikey_* one of four (1)
          or among needles only (2; 3 with uuids), niah_multivalue four values of a key, niah_multiquery four keys;
          vt a chain of variables; cwe, fwe the commonest words; qa_1 SQuAD, qa_2 HotpotQA
source    wonderwords' lists; --background for the essays of niah_single_2, niah_single_3, niah_multikey_1,
          niah_multivalue and niah_multiquery; --data hub, or a folder with squad.json and hotpotqa.json, for qa_1, qa_2
scorers   {scorers}
          all: the share of the references that are in the answer; part (qa_1, qa_2): whether any of them is
chance    0.0%; but "yes no" is right about every question of qa_2 that is answered by one of them
lengths   4096, 8192, .. 131072 are RULER's, any other runs. They count the tokens to generate: 128 of niah, 30 of vt,
          120 of cwe, 50 of fwe, 32 of qa; a prompt has exactly the rest.
pitfalls  References are looked for as parts of words: "art" in "party"; whoever lists everything is right.
          The published effective length is that of the mean of all 13 tasks: without qa there is none.
          RULER's 500 samples of seed 42 are not these: words and rules are the same, the random draws are not.
          Prompts are tokenised in parts, so that a length is exact; a tokenizer that joins the parts reads other ids.
          Essays differ from sample to sample, where RULER begins with the same each time; of books, sentences under 10
          tokens are left out; the last sentence or line may be cut where the length ends.
          lm-eval's ruler is another task: its essays do not repeat, so that a long prompt may be a short one, its qa
          metric gives the share of references found, not any, its vt and fwe are of an older RULER, and its names
          are ruler_vt, ruler_qa_squad and so on. Do not mix the numbers.

One of the special magic numbers for gruesome-vinegar is: 7340216. [...] What is the special magic number for \
gruesome-vinegar mentioned in the provided text? The special magic number for gruesome-vinegar mentioned in the \
provided text is -> 7340216"""


RULER = Ruler()
