r"""Models behind an OpenAI-compatible endpoint: vLLM, SGLang, llama.cpp, OpenAI itself.

    model = load("openai:http://localhost:8000/v1#qwen;tokenizer=Qwen/Qwen3-8B;concurrency=16")
    state = model.feed(model.start(1), tokens)            # int32 [1, T]: kept as it is, sent with each question
    model.answer_all([(state, question)], 16)             # ["kitchen"] or [ApiError("HTTP 500; http://...")]

    POST http://localhost:8000/v1/chat/completions        Authorization: Bearer $OPENAI_API_KEY, where that is set
    {"model": "qwen", "messages": [{"role": "user", "content": "Mary moved to .. Where is Mary?"}],
     "max_tokens": 16, "temperature": 0, "seed": 0, "stop": ["\n"]}

An endpoint takes text, so a state is the text read so far, in tokens of a tokenizer that only measures lengths. It
grows with the context, and the server's own cache is not counted. One request holds one whole prompt, as one user
message or, with endpoint=completions, raw. A sample's prefill comes with its question, and the text ends with it: a raw
completion goes on from there, a chat model sees it as the end of the message. The server's chat template comes on top
of the length that a record states; what the server itself counted is in the record's usage.

Nothing is cut: a prompt longer than the context is `unsupported` or a failed sample, and a reply that says the server
read far less than was sent (as Ollama's does) is a failure too. What counts as an answer is decided in answers.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np

from atlas_bench.errors import Unsupported, UserError, needs
from atlas_bench.models import answers
from atlas_bench.models.endpoint import canary
from atlas_bench.models.endpoint import reply as replies
from atlas_bench.models.endpoint import spec as specs
from atlas_bench.models.endpoint.ask import Asker, Question
from atlas_bench.models.endpoint.client import ApiError, Client, note, wait_for
from atlas_bench.models.endpoint.spec import PREFIX, Options
from atlas_bench.types import Model

Keep = Callable[[int, "str | Exception"], Any]


def load(
    spec: str, *, threads: int | None = None, device: str | None = None, matmul_precision: str | None = None
) -> Endpoint:
    """The model that `openai:URL#MODEL;option=value;...` names (see spec.py); the server is not asked yet.

    threads, device and matmul_precision are the server's own affair. Raises UserError for one of the latter two, a
    mistake in the spec, a tokenizer that cannot be used, and aiohttp not installed.
    """
    for option, given in (("device", device), ("matmul-precision", matmul_precision)):
        if given is not None:
            raise UserError(f"--{option} {given} is for models that run here, and '{spec}' does not. Leave it out.")
    url, model, options = specs.parse(spec)
    with needs("aiohttp", extra="api", to="ask a model behind an endpoint"):
        import aiohttp  # noqa: F401
    return Endpoint(url, model, options)


class _Read(NamedTuple):
    """What a stream has read: a linked list, so that forks share what they have in common."""

    before: _Read | None
    tokens: np.ndarray  # int32 [B, T]


class Endpoint(Model):
    """A types.Model that keeps the text, and sends all of it with every question."""

    def __init__(self, url: str, model: str, options: Options) -> None:
        self.model, self.options = model, options
        self.concurrency = options.concurrency
        decide = ("tokenizer", "endpoint", "thinking")  # what may change an answer
        told = (f";{name}={getattr(options, name)}" for name in decide if getattr(options, name) != vars(Options)[name])
        self.name = f"{PREFIX}{url}#{model}{''.join(told)}"
        self.tokenizer = specs.tokenizer(options.tokenizer)
        self._measure = options.tokenizer or "atlas-bench's own 4096-entry BPE, not the model's tokenizer"
        self._http = Client(url, timeout=options.timeout, max_retries=options.max_retries)
        recount = None if options.tokenizer is None else lambda text: len(self.tokenizer.encode(text))
        self._asker = Asker(self._http, model, options, recount=recount)
        self._canary: dict[str, Any] | None = None
        self._dead: ApiError | None = None  # what the server's list of models was not had for

    def start(self, batch: int) -> _Read:
        return _Read(None, np.zeros((batch, 0), dtype=np.int32))

    def feed(self, state: _Read, tokens: np.ndarray) -> _Read:
        return _Read(state, np.array(tokens, dtype=np.int32))

    def row(self, state: _Read, index: int) -> _Read:
        fork = None
        for tokens in _blocks(state):
            fork = _Read(fork, tokens[index : index + 1])
        return fork

    def state_bytes(self, state: _Read) -> int:
        return sum(tokens[0].nbytes for tokens in _blocks(state))

    def pack(self, state: _Read) -> dict[str, np.ndarray]:
        return {"tokens": np.concatenate(_blocks(state), axis=1)}

    def unpack(self, arrays: Mapping[str, np.ndarray]) -> _Read:
        return _Read(None, np.array(arrays["tokens"], dtype=np.int32))

    def supports(self, length: int) -> str | None:
        """Why the server cannot read a prompt of that length; None if it can, or does not say.

        Raises UserError if there is no server, or if it lists models without this one; ApiError if it stops answering
        or rejects the key.
        """
        length += self.options.thinking
        if self._context is None or length <= self._context:
            return None
        return (
            f"'{self.model}' at {self._http.url} reads {self._context} tokens, and nothing is cut; {length} tokens (of "
            f"{self._measure}) need a server started with a longer context, or ;context={length} if it has one already"
        )

    def answer(self, state: _Read, question: Sequence[int], max_tokens: int, stop: Sequence[str] = ("\n",)) -> str:
        """Greedy text after the question; ApiError if there is none, else as answer_all()."""
        (said,) = self.answer_all([(state, question)], max_tokens, stop)
        if isinstance(said, Exception):
            raise said
        return said

    def answer_all(
        self,
        asked: Sequence[tuple[_Read, Sequence[int]]],
        max_tokens: int,
        stop: Sequence[str] = ("\n",),
        keep: Keep = lambda i, answer: None,
    ) -> list[str | Exception]:
        """An answer to each (state of batch 1, question), in order, or the exception that stands for it.

        keep  is given (i, answer) as soon as it is there: an interrupt loses what is under way, no more

        Raises UserError if no server is there, Refusal if it refuses the key or the model, and TooLong for a prompt
        beyond its context: the questions that are not answered by then are not asked.
        """
        return wait_for(self._answer_all(asked, max_tokens, stop, keep))

    def facts(self) -> dict[str, Any]:
        """What a record says of the model.

        usage     counts since the model was loaded: requests (all tries), retries (of them, repetitions), the server's
                  prompt_tokens and completion_tokens, unmetered (replies that stated none); usd at list price, or None
        endpoint  tokenizer that lengths are in, models that the server says answered, parameters it refused, and what
                  the canary was answered (None if it was not asked)
        """
        return {
            "device": "server",
            "generation": {"answers": answers.VERSION},
            "usage": self._asker.usage(),
            "endpoint": {
                "tokenizer": self._measure,
                "served": sorted(self._asker.served),
                "left_out": sorted(self._asker.parameters.left_out),
                "canary": self._canary,
                "state": "the prompt's tokens; the server's own cache is not weighed",
            },
        }

    @cached_property
    def _context(self) -> int | None:
        """Tokens that a prompt may have: the option, or what GET /models says, or None."""
        if self.options.context is not None:
            return self.options.context
        if self._dead:
            raise self._dead  # no other cell waits as long again
        try:
            return wait_for(self._ask_context())
        except ApiError as error:
            if error.status in (None, 401):
                self._dead = error
                raise
            return None  # a server need not have such a list to answer

    async def _ask_context(self) -> int | None:
        async with self._http.session() as session:
            return await self._http.request(session, "GET", "/models", None, partial(replies.context_of, self.model))

    async def _answer_all(
        self, asked: Sequence[tuple[_Read, Sequence[int]]], max_tokens: int, stop: Sequence[str], keep: Keep
    ) -> list[str | Exception]:
        slots = asyncio.Semaphore(self.options.concurrency)  # held while waiting to try again, too
        async with self._http.session() as session:
            ask = partial(self._asker.ask, session, max_tokens=max_tokens, stop=stop)
            if self.options.canary and self._canary is None and asked:
                await self._ask_canary(ask, asked)

            async def one(i: int, state: _Read, question: Sequence[int]) -> str | Exception:
                try:
                    async with slots:
                        answer = await ask(await asyncio.to_thread(self._question, state, question))
                except (UserError, Unsupported):  # about the server or the cell, not about this sample
                    raise
                except Exception as error:
                    answer = error
                keep(i, answer)
                return answer

            tasks = [asyncio.ensure_future(one(i, *each)) for i, each in enumerate(asked)]
            try:
                return await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()  # where one has told that no server is there, the others have nothing to say

    async def _ask_canary(
        self, ask: Callable[[Question], Awaitable[str]], asked: Sequence[tuple[_Read, Sequence[int]]]
    ) -> None:
        """Ask the first question in several ways, and report different answers."""
        size = min(canary.BATCH, self.concurrency)
        prompts = [self._question(*each).text for each in asked[:size]]

        async def answer(prompt: str) -> str:
            return await ask(Question(prompt, len(self.tokenizer.encode(prompt))))

        self._canary = await canary.ask(answer, prompts, size)
        for line in canary.lines(self._canary):
            note(line)

    def _question(self, state: _Read, question: Sequence[int]) -> Question:
        """The prompt; all tokens at once, for a character may lie in two of them."""
        tokens = [*self.pack(state)["tokens"][0].tolist(), *question]
        return Question(self.tokenizer.decode(tokens), len(tokens))


def _blocks(state: _Read | None) -> list[np.ndarray]:
    """All that a stream has read, in its order."""
    found = []
    while state is not None:
        found.append(state.tokens)
        state = state.before
    return found[::-1]
