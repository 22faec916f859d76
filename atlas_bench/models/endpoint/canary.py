"""A canary: one question, asked in ways that should make no difference to its answer.

    found = await canary.ask(ask, ["Mary moved to .. Where is Mary?", ..])
    found["differs"]            # ["the same prompt was answered 'garden' alone and 'kitchen' in a batch"], or []

A server may answer the same prompt in another way when it is batched with others, or when its cache has a beginning of
it: several return wrong states of recurrent models under prefix caching, without an error. So the question is asked
alone, again, and in a batch; then all that once more after a first line that no cache has seen.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

from atlas_bench.errors import Unsupported, UserError
from atlas_bench.models.endpoint.client import REPLY_CHARS

BATCH = 4  # prompts at once
WAYS = ("alone", "again", "in a batch")
ADVICE = (
    "answers that depend on what else a server does are not the model's alone. Switch its prefix caching off (vLLM: "
    "--no-enable-prefix-caching); if that does not help, ask one question at a time (;concurrency=1)"
)


async def ask(answer: Callable[[str], Awaitable[str]], prompts: Sequence[str], size: int = BATCH) -> dict[str, Any]:
    """The answers to the first of the prompts, and what differs between them.

    answer   gives the answer to a prompt
    prompts  one or more; the others fill the batch
    size     prompts in the batch

    Returns {"without_line": {way: answer}, "with_line": {way: answer}, "differs": one line for each difference}.
    """
    first, *others = [*prompts, *prompts * size][:size]
    line = f"({uuid.uuid4().hex[:8]})\n"  # new in every run, so that no cache has it
    answers: dict[str, Any] = {}
    for name, before in (("without_line", ""), ("with_line", line)):
        alone = [await _answered(answer, before + first) for _ in range(2)]
        batch = await asyncio.gather(*(_answered(answer, before + prompt) for prompt in [first, *others]))
        answers[name] = dict(zip(WAYS, (*alone, batch[0]), strict=True))
    return answers | {"differs": list(_differences(answers))}


def lines(found: dict[str, Any]) -> list[str]:
    """The note about it; empty if all answers agree."""
    return [f"canary: {each}." for each in [*found["differs"], ADVICE]] if found["differs"] else []


async def _answered(answer: Callable[[str], Awaitable[str]], prompt: str) -> str:
    """The answer, or why there is none; both should be the same each time."""
    try:
        return await answer(prompt)
    except (UserError, Unsupported):  # about the server, or the length of every prompt
        raise
    except Exception as error:  # as for any other question
        return f"no answer: {str(error).partition(';')[0]}"[:REPLY_CHARS]  # what follows is another for each request


def _differences(answers: dict[str, Any]) -> Iterator[str]:
    for name, where in (("without_line", ""), ("with_line", " after another first line")):
        (first, alone), *others = answers[name].items()
        for way, answer in others:
            if answer != alone:
                yield f"the same prompt{where} was answered {alone!r} {first} and {answer!r} {way}"
    plain, behind = answers["without_line"][WAYS[0]], answers["with_line"][WAYS[0]]
    if plain != behind:
        yield (
            f"the prompt was answered {plain!r}, and {behind!r} after a first line that no cache has seen, which may "
            "be the model's own doing"
        )
