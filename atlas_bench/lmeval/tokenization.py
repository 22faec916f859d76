"""lm-eval's strings as token ids, part by part: as its HFLM would tokenise the whole of each.

    strings = Strings(model)
    for part, ids in strings.parts(text): ...
    strings.beyond(tail, " garden")          # tokens that a continuation adds to the context it follows

A text is tokenised in parts of 64K characters or more, since one encode() of 10M tokens would take gigabytes; a shorter
one is tokenised whole. A part begins at a single space between two words, which no tokenizer joins; within several
blanks it might.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from atlas_bench.errors import UserError
from atlas_bench.models.lm import END
from atlas_bench.tasks.texts import parts
from atlas_bench.types import Model


class Tail(NamedTuple):
    """The last part of a text, how many tokens it has, and whether it is the first as well."""

    text: str = ""
    tokens: int = 0
    first: bool = True


class Strings:
    """A model's tokenizer, as lm-eval's requests need it.

    before   what the model wants before every text: a first token (BOS), often nothing
    nothing  stands where nothing else precedes: `before`, else the tokenizer's BOS or EOS
    chats    whether the model has a chat template
    """

    def __init__(self, model: Model) -> None:
        self._tokenizer = model.tokenizer
        self._inner: Any = getattr(model.tokenizer, "inner", None)  # transformers', where there is one
        _, after = model.wrap
        self.chats = bool(after) and self._inner is not None  # lm-eval says when a template is applied
        self.before = list(model.opening)
        self.nothing = self.before or [self._end()]

    def _end(self) -> int:
        if self._inner is None:
            return END
        return self._inner.eos_token_id if self._inner.bos_token_id is None else self._inner.bos_token_id

    def parts(self, text: str, *, first: bool = True) -> Iterator[tuple[Tail, list[int]]]:
        """The parts of a text with their tokens.

        first  whether it begins a stream: tokenizers of the Llama 2 kind put a space before it
        """
        for part in parts(text):
            begins = first and self._inner is not None
            ids = self._inner.encode(part, add_special_tokens=False) if begins else self._tokenizer.encode(part)
            yield Tail(part, len(ids), first), ids
            first = False

    def opening(self, ids: list[int]) -> list[int]:
        """The tokens before a text: `before`, unless the text begins with them."""
        return [] if ids[: len(self.before)] == self.before else self.before

    def beyond(self, tail: Tail, continuation: str) -> Iterator[list[int]]:
        """The tokens of tail + continuation that the tail alone does not have.

        If a continuation merges into the tail's last token, the tokens of the continuation alone; HFLM fails there.
        """
        skip, some = tail.tokens, False
        for part, ids in self.parts(tail.text + continuation, first=tail.first):
            yield ids[skip:]
            some, skip = some or part.tokens > skip, max(0, skip - part.tokens)
        if not some:
            yield from (ids for _, ids in self.parts(continuation, first=False))

    def rendered(self, messages: list[dict[str, str]], generate: bool) -> str:
        """A chat as the model's own template shows it; UserError if it has none.

        generate  end with the beginning of an answer, instead of going on with the last message
        """
        if not self.chats:
            raise UserError("the model has no chat template. Leave --apply_chat_template out.")
        return self._inner.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=generate, continue_final_message=not generate
        )

    def template(self) -> str:
        """The chat template's source, "" without one."""
        return self._inner.get_chat_template() if self.chats else ""
