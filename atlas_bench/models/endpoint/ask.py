r"""One question to a server: what is sent, what is retried, and what it costs.

asker = Asker(client, "qwen", options)
async with client.session() as session:
    await asker.ask(session, Question("Mary moved to .. Where is Mary?", tokens=9), max_tokens=16, stop=("\n",))
asker.usage()["prompt_tokens"], asker.parameters.left_out, asker.served
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from atlas_bench.models import answers
from atlas_bench.models.endpoint import judge
from atlas_bench.models.endpoint import reply as replies
from atlas_bench.models.endpoint.client import REPLY_CHARS, ApiError, Client, clean, note
from atlas_bench.models.endpoint.judge import Answered, Question
from atlas_bench.models.endpoint.parameters import Parameters
from atlas_bench.models.endpoint.spec import ENDPOINTS, Options

if TYPE_CHECKING:
    import aiohttp

MOST_STOPS = 4  # that OpenAI takes; all are applied here as well
SECOND_LOOK = 2048  # more tokens for the one reply that shows whether replies without an end are thoughts
Body = dict[str, Any]


class Asker:
    """Asks one model of one server, and keeps count of what that cost.

    recount  tokens of a text by the model's own tokenizer; None if lengths are in another's

    `parameters` are those that the server accepts, `served` the models that it says answered.
    """

    def __init__(
        self, client: Client, model: str, options: Options, *, recount: Callable[[str], int] | None = None
    ) -> None:
        self.model, self.options = model, options
        self.parameters = Parameters()
        self.served: set[str] = set()
        self._client, self._recount = client, recount
        self._prompt_tokens = self._completion_tokens = self._unmetered = 0
        self._looking: asyncio.Task[None] | None = None
        self._thinks_unmarked: bool | None = None

    async def ask(
        self, session: aiohttp.ClientSession, question: Question, max_tokens: int, stop: Sequence[str]
    ) -> str:
        """The answer to a question; ApiError if there is none.

        Parameters that the server refuses are omitted from then on.
        """
        body = self._body(question.text, max_tokens + self.options.thinking, stop)
        answered = await self._post(session, body, partial(self._answer, question, stop))
        if answered.cut and not answered.thought and await self._thinks(session, question, max_tokens, answered.words):
            raise ApiError(
                "the reply ends within thoughts that the server's chat template has opened. "
                + answers.more_room(self.options.thinking),
                url=self._client.url, tries=1, reply=clean(answered.text),
            )  # fmt: skip
        return answered.text

    async def _post(self, session: aiohttp.ClientSession, body: Body, reads: Callable[[dict[str, Any]], Any]) -> Any:
        """The result of `reads` for the reply; a parameter that the server refuses is omitted in a new request."""
        while True:
            left_out = frozenset(self.parameters.left_out)
            data = await asyncio.to_thread(self._json, body)
            try:
                return await self._client.request(session, "POST", ENDPOINTS[self.options.endpoint], data, reads)
            except ApiError as error:
                self.parameters.learn(error, left_out)

    async def _thinks(self, session: aiohttp.ClientSession, question: Question, max_tokens: int, words: int) -> bool:
        """Whether a reply of that many words, cut off and without marks, consists of thoughts.

        Behind a server that leaves thoughts in the content, DeepSeek R1's are such replies: its template opens the
        thoughts, so that the reply marks only their end. One reply is asked for again, with more room, and judged by
        that. If the model has room for thoughts already, an answer is shorter than what was cut.
        """
        if self.options.endpoint != "chat":
            return False
        if self.options.thinking:
            return words > max_tokens
        if self._thinks_unmarked is None:
            if self._looking is None or self._looking.done():
                body = self._body(question.text, max_tokens + SECOND_LOOK, ())
                self._looking = asyncio.create_task(self._look(session, body))
            await self._looking
        return self._thinks_unmarked

    async def _look(self, session: aiohttp.ClientSession, body: Body) -> None:
        """Keep what the second look shows before its task is done: no question in between pays for another."""
        try:
            self._thinks_unmarked = await self._post(session, body, self._shows_thoughts)
        except ApiError:  # the server has no room for that many tokens
            self._thinks_unmarked = False

    def usage(self) -> dict[str, Any]:
        """Counts since the model was loaded; see Endpoint.facts()."""
        prices = self.options.usd_per_million_in, self.options.usd_per_million_out
        spent = self._prompt_tokens, self._completion_tokens
        return {
            "requests": self._client.requests,
            "retries": self._client.retries,
            "prompt_tokens": self._prompt_tokens,
            "completion_tokens": self._completion_tokens,
            "unmetered": self._unmetered,
            "usd": None if None in prices else sum(p * n for p, n in zip(prices, spent, strict=True)) / 1e6,
        }

    def _body(self, text: str, max_tokens: int, stop: Sequence[str]) -> Body:
        """The request to the server. A chat model ends its turn itself, and a stop text might end its thoughts."""
        asks: Body = {"max_tokens": max_tokens, "temperature": 0, "seed": 0}
        if self.options.endpoint == "chat":
            return {"messages": [{"role": "user", "content": text}], **asks}
        if (sent := answers.sendable(stop)) and not self.options.thinking:
            asks["stop"] = sent[:MOST_STOPS]
        return {"prompt": text, **asks}

    def _json(self, body: Body) -> bytes:
        return json.dumps({"model": self.model, **self.parameters.of(body)}, ensure_ascii=False).encode()

    def _shows_thoughts(self, reply: Mapping[str, Any]) -> bool:
        self._count(reply)
        return judge.shows_thoughts(self._choice(reply))

    def _choice(self, reply: Mapping[str, Any]) -> replies.Choice:
        return replies.first_choice(reply, chat=self.options.endpoint == "chat")

    def _answer(self, question: Question, stop: Sequence[str], reply: Mapping[str, Any]) -> Answered:
        judge.check_read(question, self._count(reply), self._recount)
        return judge.answered(self._choice(reply), question, stop, self.options.thinking)

    def _count(self, reply: Mapping[str, Any]) -> int:
        """Add what a reply cost; return the tokens of its prompt, 0 if the server does not say."""
        if name := replies.served(reply):
            self.served.add(name)
        stated = replies.usage(reply)
        prompt, completion = stated or (0, 0)
        if stated is None and reply.get("usage") and not self._unmetered:
            shown = clean(str(reply["usage"]))[:REPLY_CHARS]
            note(f"the server states {shown} as its token counts; what such replies cost is not counted")
        self._unmetered += stated is None
        self._prompt_tokens += prompt
        self._completion_tokens += completion
        return prompt
