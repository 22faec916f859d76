"""What a server's JSON says: the text of a reply, the tokens that it counted, the models that it names.

    choice = first_choice({"choices": [{"message": {"content": "garden"}, "finish_reason": "stop"}]}, chat=True)
    choice.text, choice.thoughts, choice.finish                           # "garden", "", "stop"
    usage({"usage": {"prompt_tokens": 1024, "completion_tokens": 3}})     # (1024, 3)

Everything here is foreign: whatever is missing, of another type or absurd is treated as not stated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from atlas_bench.errors import UserError, did_you_mean
from atlas_bench.models.endpoint.client import REPLY_CHARS, Failure, clean

MOST_TOKENS = 10**12  # that one reply can have cost
BROKEN = {"error": True, "abort": True, "content_filter": False, "tool_calls": False, "function_call": False}
THOUGHTS = ("reasoning_content", "reasoning")  # fields of a message: DeepSeek, vLLM, SGLang; OpenRouter, Ollama, vLLM


class Choice(NamedTuple):
    """A reply's first choice.

    text      what the model said, None if the reply holds no text
    thoughts  what stands in a field of its own
    finish    finish_reason
    refusal   what the model says instead
    """

    text: str | None
    thoughts: str
    finish: str
    refusal: str


def first_choice(reply: Mapping[str, Any], *, chat: bool) -> Choice:
    """The first choice of a reply; Failure for none, and for one that broke off."""
    choices = reply.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if chat and isinstance(choice, dict) else choice
    if not isinstance(message, dict):
        raise Failure("the reply holds no choice", retryable=True)
    finish = clean(_text(choice.get("finish_reason")))[:REPLY_CHARS]
    if finish in BROKEN:
        raise Failure(f"the reply broke off (finish_reason '{finish}')", retryable=BROKEN[finish])
    text, thoughts = _parts(message.get("content" if chat else "text"))
    thoughts += "".join(_text(message.get(name)) for name in THOUGHTS)
    return Choice(text, thoughts, finish, _text(message.get("refusal")))


def usage(reply: Mapping[str, Any]) -> tuple[int, int] | None:
    """(tokens of the prompt, tokens of the answer) as the server counted them; None if it gives no numbers."""
    stated = reply.get("usage")
    counts = [stated.get(f"{part}_tokens") for part in ("prompt", "completion")] if isinstance(stated, dict) else []
    if not counts or not all(type(n) is int and 0 <= n <= MOST_TOKENS for n in counts):
        return None
    return counts[0], counts[1]


def served(reply: Mapping[str, Any]) -> str | None:
    """The model that the reply says it is from."""
    name = reply.get("model")
    return clean(name)[:REPLY_CHARS] if isinstance(name, str) else None


def context_of(model: str, reply: Mapping[str, Any]) -> int | None:
    """A model's context length from a list of models; None if the list does not say.

    max_model_len is vLLM's and SGLang's, context_length OpenRouter's, meta.n_ctx llama.cpp's.

    Raises UserError if the list names models, and not that one.
    """
    listed = reply.get("data")
    cards = [card for card in listed if isinstance(card, dict)] if isinstance(listed, list) else []
    card = next((card for card in cards if card.get("id") == model), cards[0] if len(cards) == 1 else {})
    meta = card.get("meta")
    if not isinstance(meta, dict):  # which is llama.cpp's: it serves its one model under any name
        _check_named(model, [card["id"] for card in cards if isinstance(card.get("id"), str)])
    stated = (card.get("max_model_len"), card.get("context_length"), meta.get("n_ctx") if isinstance(meta, dict) else 0)
    return next((n for n in stated if type(n) is int and 0 < n <= MOST_TOKENS), None)


def _check_named(model: str, names: Iterable[str]) -> None:
    """Raise UserError if there are names, and none of them is the model's.

    A name may be a pattern (LiteLLM's `openai/*`), have variants (OpenRouter's `:free`) or a tag (Ollama's `:latest`).
    """
    known = sorted(set(map(clean, names)))
    same = (name for name in known if fnmatchcase(model, name) or model.startswith(f"{name}:"))
    if not known or any(same) or f"{model}:latest" in known:
        return
    shown = ", ".join(known[:10]) + (f" and {len(known) - 10} more" if len(known) > 10 else "")
    raise UserError(
        f"the server has no model '{model}'.{did_you_mean(model, known)} It names: {shown}. If that list is not "
        "complete, add ;context=N after the model's name: the list is then not read."
    )


def _parts(content: Any) -> tuple[str | None, str]:
    """(text, thoughts) of a message's content: a text, or a list of parts as Mistral sends it."""
    if not isinstance(content, list):
        return (content if isinstance(content, str) else None), ""
    text, thoughts = [], []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else type(part).__name__
        if isinstance(part, str):
            text.append(part)
        elif kind in ("text", "output_text"):
            text.append(_text(part.get("text")))
        elif kind in ("thinking", "reasoning"):
            thoughts += [each or "" for each in _parts(part.get(kind, part.get("text")))]
        else:
            raise Failure(
                f"the reply holds a part of kind '{clean(str(kind))[:REPLY_CHARS]}', no text", retryable=False
            )
    return "".join(text), "".join(thoughts)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
