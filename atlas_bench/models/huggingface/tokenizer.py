"""A transformers tokenizer as a types.Tokenizer, and what a prompt is wrapped in: a first token or a chat template.

    tokenizer = Tokenizer(AutoTokenizer.from_pretrained(name))
    tokenizer.encode(" Paris")               # no special tokens; pieces that are encoded one by one can be joined
    before, after = wrap(tokenizer, chat=True)

A context is made of pieces, each encoded alone. Tokenizers of the Llama 2 kind put a space before every text they get,
which would stand between the pieces; they are given a newline first, which is taken away again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import jinja2
from transformers import PreTrainedTokenizerBase

from atlas_bench.errors import UserError
from atlas_bench.models import answers

AHEAD = "\n"
MARK = "<<atlas-bench's prompt>>"  # where a chat template is given the user's message
TODAY = datetime(2024, 7, 26)  # for templates that tell the date, Llama 3's own default: prompts are the same every day
CLOCK = "{% macro strftime_now(format) %}{{ dates[format] }}{% endmacro %}"  # in place of transformers' own


class Tokenizer:
    """types.Tokenizer over a transformers tokenizer; `inner` is that."""

    def __init__(self, inner: PreTrainedTokenizerBase) -> None:
        self.inner, self.vocab_size = inner, len(inner)
        self._fast = getattr(inner, "backend_tokenizer", None)
        if self._fast is not None:  # a tokenizer.json may say otherwise; nothing is ever truncated
            self._fast.no_truncation()
            self._fast.no_padding()
        self.key = hashlib.sha256(self._says().encode()).hexdigest()[:16]
        self._ahead: list[int] = []
        if self.decode(self.encode("a") + self.encode("a")) != self.decode(self.encode("aa")):
            self._ahead = self._ids([AHEAD])[0]

    def _says(self) -> str:
        """Everything that decides the ids, as text."""
        if self._fast is not None:
            return self._fast.to_str()
        vocabulary = sorted(self.inner.get_vocab().items())
        return json.dumps([type(self.inner).__name__, vocabulary, str(sorted(self.inner.added_tokens_decoder.items()))])

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        if self._fast is not None:
            return [x.ids for x in self._fast.encode_batch(list(texts), add_special_tokens=False)]
        return [self.inner.encode(text, add_special_tokens=False, verbose=False) for text in texts]

    def encode(self, text: str) -> list[int]:
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        n = len(self._ahead)
        if not n:
            return self._ids(texts)
        behind = self._ids([AHEAD + text for text in texts])
        # where the newline became one token with the text, the text alone is all there is to take
        return [
            ids[n:] if ids[:n] == self._ahead else self._ids([text])[0] for ids, text in zip(behind, texts, strict=True)
        ]

    def decode(self, ids: Sequence[int]) -> str:
        return self.inner.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def decode_all(self, ids: Sequence[int]) -> str:
        """The text with special tokens, such as the marks of thoughts that decode() leaves out."""
        return self.inner.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def special(self) -> re.Pattern[str]:
        """Matches the special tokens in what decode_all() gives."""
        added = [token.content for token in self.inner.added_tokens_decoder.values() if token.special]
        tokens = sorted({*added, *self.inner.all_special_tokens}, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, tokens)) or r"(?!)")


def wrap(tokenizer: Tokenizer, *, chat: bool, thinking: bool = False) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Token ids before every prompt and between question and answer.

    chat      the chat template's, applied to one user message; else the first token that the tokenizer adds, if any
    thinking  whether the model is given room for thoughts; where not, templates that can are asked for none

    Raises UserError for a template that one user message alone does not fit, and for one that opens thoughts which
    have no room.
    """
    if not chat:
        return _first(tokenizer), ()
    before, after = _rendered(tokenizer, thinking)
    if answers.opens_thoughts(after) and not thinking:
        raise UserError(
            f"the chat template opens the model's thoughts ({after.strip()[-20:]!r}), and they would be taken for its "
            f"answer. Add thinking={answers.ROOM} for room to think, or chat=false to leave the template out."
        )
    return tuple(tokenizer.encode(before)), tuple(tokenizer.encode(after))


def _rendered(tokenizer: Tokenizer, thinking: bool) -> tuple[str, str]:
    """The texts that the chat template puts before and after one user message."""
    template = tokenizer.inner.get_chat_template()
    options = {  # templates take what they know and leave the rest
        "enable_thinking": thinking,  # Qwen 3, GLM
        "thinking": thinking,  # DeepSeek, Granite
        "date_string": TODAY.strftime("%d %b %Y"),  # Llama 3
        "dates": {each: TODAY.strftime(each) for each in re.findall(r"""["']([^"']*%[^"']*)["']""", template)},
    }
    try:
        text = tokenizer.inner.apply_chat_template(
            [{"role": "user", "content": MARK}],
            chat_template=CLOCK + template, tokenize=False, add_generation_prompt=True, **options,
        )  # fmt: skip
    except (jinja2.TemplateError, TypeError, ValueError) as error:
        raise _unfit(f"({error})") from None
    before, mark, after = text.partition(MARK)
    if not mark or MARK in after:
        raise _unfit("(it does not show the message once)")
    return before, after


def _unfit(why: str) -> UserError:
    return UserError(f"the chat template cannot be applied to one user message {why}. Add chat=false.")


def _first(tokenizer: Tokenizer) -> tuple[int, ...]:
    """The tokens that the tokenizer puts before a text: usually a first token (BOS), sometimes nothing."""
    inner: Any = tokenizer.inner
    bare, full = (list(inner("a", add_special_tokens=special).input_ids) for special in (False, True))
    at = next((i for i in range(len(full)) if full[i : i + len(bare)] == bare), 0)
    return tuple(full[:at])


def template_hash(tokenizer: Tokenizer) -> str:
    """First 16 hex digits of the sha256 of the chat template's text."""
    return hashlib.sha256(tokenizer.inner.get_chat_template().encode()).hexdigest()[:16]
