"""Whether a server's reply is an answer: the prompt was read whole, and there is text beside thoughts and echoes.

question = Question("Mary moved to .. Where is Mary?", tokens=9)
check_read(question, 9, recount=None)                                 # Failure where the server has read less
answered(choice, question, stop=("\\n",), thinking=0).text            # Failure where there is no answer
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from atlas_bench.errors import NoAnswer
from atlas_bench.models import answers
from atlas_bench.models.endpoint.client import REPLY_CHARS, Failure, clean, without_key
from atlas_bench.models.endpoint.reply import Choice

LEAST_READ = 0.75  # of a prompt: a template adds to it, and a server that cuts one keeps half or less

_LAST_MARK = re.compile(r"\w[^\w\s]+(?!\S)")  # the marks at a word's end, which no tokenizer joins with the word


class Question(NamedTuple):
    """A whole prompt, and its tokens as they were planned."""

    text: str
    tokens: int


class Answered(NamedTuple):
    """An answer, and what the reply around it was like.

    words    of the whole reply
    cut      whether it ends because its tokens ran out
    thought  whether thoughts were taken off
    """

    text: str
    words: int
    cut: bool
    thought: bool


def answered(choice: Choice, question: Question, stop: Sequence[str], thinking: int) -> Answered:
    """The answer in a reply; Failure for none.

    stop      texts before which an answer ends
    thinking  tokens that the model was given for its thoughts
    """
    if choice.thoughts and not (choice.text or "").strip():
        raise Failure(
            f"the reply holds thoughts in a field of their own and no answer (finish_reason '{choice.finish}'). "
            f"{answers.more_room(thinking)} If it does not think, the server takes its answers for thoughts: switch "
            "the reasoning parser off",
            retryable=False,
        )
    if choice.text is None:
        why = f"finish_reason '{choice.finish}'" + (f", refusal '{choice.refusal}'" if choice.refusal else "")
        raise Failure(clean(f"the reply holds no text ({why})")[:REPLY_CHARS], retryable=False)
    cut = choice.finish == "length"
    try:
        text = answers.without_echo(choice.text, question.text)
        answer = answers.answer(text, stop=stop, cut=cut, thinking=thinking)
    except NoAnswer as error:
        raise Failure(str(error), retryable=False) from None
    return Answered(without_key(answer), len(text.split()), cut, shows_thoughts(choice))


def shows_thoughts(choice: Choice) -> bool:
    """Whether a reply marks thoughts, in its text or in a field."""
    return bool(choice.thoughts) or answers.read(choice.text or "").thought


def check_read(question: Question, read: int, recount: Callable[[str], int] | None) -> None:
    """Raise Failure where the server has read less than was sent.

    read     tokens of the prompt that the server counts, 0 where it does not say
    recount  tokens of a text by the model's own tokenizer; None if that is not known

    Without the tokenizer we count words and the marks after them. Each of these is a token or more to any tokenizer
    that splits texts at blanks, so a whole prompt raises no alarm. Prose has less than 1.5 tokens for each, so half of
    it is below LEAST_READ; in figures and rare words, which have more, a cut may go unnoticed.
    """
    if not read or (recount and read >= LEAST_READ * question.tokens):
        return
    sent = recount(question.text) if recount else least_tokens(question.text)
    if read < LEAST_READ * sent:
        counted = f"{sent} tokens" if recount else f"at least {sent} words and marks"
        raise Failure(
            f"the server says that it read {read} tokens of a prompt of {counted}, so it has cut it; give it a longer "
            "context (Ollama: num_ctx)",
            retryable=False,
        )


def least_tokens(text: str) -> int:
    """The fewest tokens that a text can have: its words, and the marks at their ends."""
    return len(text.split()) + sum(1 for _ in _LAST_MARK.finditer(text))
