r"""Models behind an OpenAI-compatible endpoint: vLLM, SGLang, llama.cpp, OpenAI itself.

    model = load("openai:http://localhost:8000/v1#qwen;tokenizer=Qwen/Qwen3-8B;concurrency=16")
    state = model.feed(model.start(1), tokens)            # int32 [1, T]: kept as it is, sent with each question
    model.answer_all([(state, question)], 16)             # ["kitchen"] or [ApiError("HTTP 500; http://...")]

    POST http://localhost:8000/v1/chat/completions        Authorization: Bearer $OPENAI_API_KEY, where that is set
    {"model": "qwen", "messages": [{"role": "user", "content": "Mary moved to .. Where is Mary?"}],
     "max_tokens": 16, "temperature": 0, "seed": 0, "stop": ["\n"]}

An endpoint takes text, so a state is the text read so far, in tokens of a tokenizer that only measures lengths: by its
nature it grows with the context, and the server's own cache is not weighed. One request holds one whole prompt, as one
user message or, with endpoint=completions, raw. A sample's prefill comes with its question, and the text ends with it:
a raw completion goes on from there, a chat model sees it as the end of the message. The server's chat template comes on
top of the length that a record states; what the server itself counted is in the record's usage.

Nothing is cut: a prompt longer than the context is `unsupported` or a failed sample, and a reply that says the server
read far less than was sent (as Ollama's does) is a failure too. An empty answer is one only where the server said so.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from atlas_bench.errors import UserError, needs
from atlas_bench.models.endpoint import spec as specs
from atlas_bench.models.endpoint.client import REPLY_CHARS, ApiError, Client, Failure, clean, wait_for
from atlas_bench.models.endpoint.spec import ENDPOINTS, PREFIX, Options

if TYPE_CHECKING:
    import aiohttp

MOST_STOPS = 4  # that OpenAI takes; all are applied here as well
MOST_BYTES = 10  # of running text that one token stands for, far above any tokenizer's mean

# What a server may refuse to be asked, and what to ask instead: reasoning models take no temperature or stop texts
FALLBACKS = {"max_tokens": "max_completion_tokens", "temperature": None, "seed": None, "stop": None}
Keep = Callable[[int, "str | Exception"], Any]
_REFUSAL = re.compile(r"unsupported|not support|unrecogni[sz]ed|unknown|not permitted|not allowed|forbidden", re.I)


def load(spec: str, *, threads: int | None = None, device: str | None = None, products: str | None = None) -> Endpoint:
    """The model that `openai:URL#MODEL;option=value;...` names (see spec.py); the server is not asked yet.

    threads, device and products are the server's own affair. Raises UserError for one of the latter two, a mistake in
    the spec, a tokenizer that cannot be used, and aiohttp not installed.
    """
    for option, given in (("device", device), ("products", products)):
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


class Endpoint:
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
        self._prompt_tokens = self._completion_tokens = self._unmetered = 0
        self._left_out: set[str] = set()  # of FALLBACKS, what the server refused
        self._served: set[str] = set()
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
        """Why the server cannot read a prompt of that length; None where it can, or does not say.

        Raises UserError where no server is there, ApiError where it falls silent or does not take the key.
        """
        if self._context is None or length <= self._context:
            return None
        return (
            f"'{self.model}' at {self._http.url} reads {self._context} tokens, and nothing is cut; {length} tokens (of "
            f"{self._measure}) need a server started with a longer context, or ;context={length} if it has one already"
        )

    def answer(self, state: _Read, question: Sequence[int], max_tokens: int, stop: Sequence[str] = ("\n",)) -> str:
        """Greedy text after the question; ApiError where there is none, UserError where no server is there."""
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

        Raises UserError where no server is there: nothing was asked.
        """
        return wait_for(self._answer_all(asked, max_tokens, stop, keep))

    def facts(self) -> dict[str, Any]:
        """What a record says of the model.

        usage     counts since the model was loaded: requests (all tries), retries (of them, repetitions), the server's
                  prompt_tokens and completion_tokens, unmetered (replies that stated none); usd at list price, or None
        endpoint  tokenizer that lengths are in, models that the server says answered, parameters it refused
        """
        prices = self.options.usd_per_million_in, self.options.usd_per_million_out
        spent = self._prompt_tokens, self._completion_tokens
        return {
            "device": "server",
            "usage": {
                "requests": self._http.requests,
                "retries": self._http.retries,
                "prompt_tokens": self._prompt_tokens,
                "completion_tokens": self._completion_tokens,
                "unmetered": self._unmetered,
                "usd": None if None in prices else sum(p * n for p, n in zip(prices, spent, strict=True)) / 1e6,
            },
            "endpoint": {
                "tokenizer": self._measure,
                "served": sorted(self._served),
                "left_out": sorted(self._left_out),
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
            return await self._http.request(session, "GET", "/models", None, partial(_context_of, self.model))

    async def _answer_all(
        self, asked: Sequence[tuple[_Read, Sequence[int]]], max_tokens: int, stop: Sequence[str], keep: Keep
    ) -> list[str | Exception]:
        slots = asyncio.Semaphore(self.options.concurrency)  # held while waiting to try again, too
        async with self._http.session() as session:

            async def one(i: int, state: _Read, question: Sequence[int]) -> str | Exception:
                try:
                    async with slots:
                        text = await asyncio.to_thread(self._text, state, question)
                        answer = _cut(await self._say(session, text, max_tokens, stop), stop)
                except UserError:  # about the server, not about this sample
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

    def _text(self, state: _Read, question: Sequence[int]) -> str:
        """The prompt; all tokens at once, for a character may lie in two of them."""
        return self.tokenizer.decode([*self.pack(state)["tokens"][0].tolist(), *question])

    async def _say(self, session: aiohttp.ClientSession, text: str, max_tokens: int, stop: Sequence[str]) -> str:
        """What the server says to a prompt; a parameter that it refuses is left out, and it is asked again."""
        path, reads = ENDPOINTS[self.options.endpoint], partial(self._read, len(text.encode()))
        while True:
            left_out = frozenset(self._left_out)
            body = await asyncio.to_thread(self._body, text, max_tokens, stop, left_out)
            try:
                return await self._http.request(session, "POST", path, body, reads)
            except ApiError as error:
                refused = _refused(error, left_out)
                if refused is None:
                    raise
                self._left_out.add(refused)

    def _body(self, text: str, max_tokens: int, stop: Sequence[str], left_out: frozenset[str]) -> bytes:
        """The request as JSON."""
        asks: dict[str, Any] = {"max_tokens": max_tokens + self.options.thinking, "temperature": 0, "seed": 0}
        if any(stop) and not self.options.thinking:  # a stop text would end the thoughts
            asks["stop"] = list(filter(None, stop))[:MOST_STOPS]
        for name in left_out & asks.keys():
            value = asks.pop(name)
            if instead := FALLBACKS[name]:
                asks[instead] = value
        chat = self.options.endpoint == "chat"
        prompt = {"messages": [{"role": "user", "content": text}]} if chat else {"prompt": text}
        return json.dumps({"model": self.model, **prompt, **asks}, ensure_ascii=False).encode()

    def _read(self, size: int, reply: dict[str, Any]) -> str:
        """The text of a reply to a prompt of `size` bytes, stop texts not yet applied; Failure for none."""
        read = self._count(reply)
        if read and size > MOST_BYTES * read:
            raise Failure(
                f"the server says that it read {read} tokens of a prompt of {size} bytes, so it has cut it; "
                "give it a longer context (Ollama: num_ctx)",
                again=False,
            )
        text, reason, refusal = _choice(reply, self.options.endpoint == "chat")
        if reason in ("error", "abort", "content_filter"):
            raise Failure(f"the reply broke off (finish_reason '{reason}')", again=reason != "content_filter")
        hint = "" if self.options.thinking else ". A reasoning model needs room for its thoughts: ;thinking=4096"
        if not isinstance(text, str):
            told = f"finish_reason '{reason}'" + (f", refusal '{refusal}'" if refusal else "")
            raise Failure(clean(f"the reply holds no text ({told})")[:REPLY_CHARS] + hint, again=False)
        if self.options.thinking:
            text = text.rpartition("</think>")[2].lstrip()
        if reason == "length" and (not text or (self.options.thinking and text.startswith("<think>"))):
            raise Failure(f"the tokens ran out before the answer began{hint}", again=False)
        return text

    def _count(self, reply: dict[str, Any]) -> int | None:
        """Adds what a reply cost; the prompt's tokens, None where it does not say."""
        if isinstance(served := reply.get("model"), str):
            self._served.add(clean(served)[:REPLY_CHARS])
        usage = reply.get("usage")
        stated = [usage.get(f"{part}_tokens") for part in ("prompt", "completion")] if isinstance(usage, dict) else []
        if not stated or not all(isinstance(n, int) and n >= 0 for n in stated):
            self._unmetered += 1
            return None
        self._prompt_tokens += stated[0]
        self._completion_tokens += stated[1]
        return stated[0]


def _choice(reply: dict[str, Any], chat: bool) -> tuple[Any, Any, Any]:
    """(text, finish_reason, refusal) of a reply's first choice."""
    choices = reply.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    said = choice.get("message") if chat and isinstance(choice, dict) else choice
    if not isinstance(said, dict):
        raise Failure("the reply holds no choice", again=True)
    return said.get("content" if chat else "text"), choice.get("finish_reason"), said.get("refusal")


def _refused(error: ApiError, left_out: frozenset[str]) -> str | None:
    """The parameter that a server says it does not take, if it is one that can be done without."""
    if error.status not in (400, 422) or not _REFUSAL.search(error.reply):
        return None
    named = (name for name in FALLBACKS if re.search(rf"\b{name}\b", error.reply))
    return next((name for name in named if name not in left_out), None)


def _context_of(model: str, reply: dict[str, Any]) -> int | None:
    """max_model_len (vLLM, SGLang), context_length (OpenRouter) or meta.n_ctx (llama.cpp) of a model in a list."""
    listed = reply.get("data")
    cards = [card for card in listed if isinstance(card, dict)] if isinstance(listed, list) else []
    card = next((card for card in cards if card.get("id") == model), cards[0] if len(cards) == 1 else {})
    meta = card.get("meta")
    stated = (card.get("max_model_len"), card.get("context_length"), meta.get("n_ctx") if isinstance(meta, dict) else 0)
    return next((n for n in stated if isinstance(n, int) and n > 0), None)


def _cut(said: str, stop: Sequence[str]) -> str:
    """The answer up to the first stop text."""
    for text in filter(None, stop):
        said = said.partition(text)[0]
    return said.strip()


def _blocks(state: _Read | None) -> list[np.ndarray]:
    """All that a stream has read, in its order."""
    found = []
    while state is not None:
        found.append(state.tokens)
        state = state.before
    return found[::-1]
