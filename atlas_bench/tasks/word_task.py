"""The base of tasks whose contexts are one-token words, not text: their checks, and the words."""

from __future__ import annotations

from atlas_bench.errors import UserError, did_you_mean
from atlas_bench.tasks.pairs import Vocabulary, vocabulary
from atlas_bench.types import TaskOptions, Tokenizer


class WordTask:
    """Implements types.Task except rules, samples and describe."""

    name: str
    subsets: tuple[str, ...]
    reads_text = False

    def __init__(self) -> None:
        self._vocabularies: dict[str, Vocabulary] = {}

    def least(self, subset: str, tokenizer: Tokenizer) -> tuple[int, str]:
        """Tokens of the shortest sample, and what takes them."""
        raise NotImplementedError

    def check(self, subset: str, length: int, tokenizer: Tokenizer, options: TaskOptions) -> None:
        """Raise UserError if no sample of that length can be made, saying what length would do."""
        if subset not in self.subsets:
            raise UserError(
                f"{self.name} has no subset '{subset}'.{did_you_mean(subset, self.subsets)}"
                f" Known: {', '.join(self.subsets)}."
            )
        for name in ("data", "background", "prompt"):
            given, own = getattr(options, name), getattr(TaskOptions(), name)
            if given != own:
                raise UserError(
                    f"{self.name} has no --{name} '{given}': it is made of words alone, without a text or a prompt."
                    f" Leave --{name} out."
                )
        self.words(tokenizer)
        least, why = self.least(subset, tokenizer)
        if length < least:
            raise UserError(
                f"length {length} is too short for {self.name}:{subset}: {why} {least} tokens. Use --len {least} or"
                " more."
            )

    def words(self, tokenizer: Tokenizer) -> Vocabulary:
        """The tokenizer's words, looked for once."""
        if tokenizer.key not in self._vocabularies:
            self._vocabularies[tokenizer.key] = vocabulary(tokenizer)
        return self._vocabularies[tokenizer.key]
