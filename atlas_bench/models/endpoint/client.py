"""JSON over HTTP, tried again where that may help, and never for ever.

    client = Client("http://localhost:8000/v1", timeout=600, max_retries=6)
    async with client.session() as session:
        await client.request(session, "POST", "/chat/completions", body, reads=lambda reply: reply["choices"])

Tried again, after waits that double from a second to a minute, with jitter, and at least as long as the server's
Retry-After: no connection, no whole reply in time, HTTP 408, 425, 429 and 5xx, a reply that is no JSON object, and
whatever `reads` says may be had by asking again. Any other reply raises ApiError at once:
Refusal where every other question would be refused too, TooLong for a prompt beyond the context. Waits of more than a
second are reported on stderr. The error for a server that never answered and cannot be reached: the user has to start
it. A reply is read up to a size that no answer has.

The key is read from OPENAI_API_KEY for each session, goes to the client's own address only, and is in no message.
"""

from __future__ import annotations

import asyncio
import io
import json
import math
import os
import random
import re
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from email.utils import mktime_tz, parsedate_tz
from itertools import count
from socket import gaierror
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from atlas_bench.errors import MachineError, Unsupported, UserError

if TYPE_CHECKING:
    import aiohttp

FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds between tries
CONNECT_SECONDS = 30
REPLY_CHARS = 200  # of a reply in a message
MOST_BYTES = 16 << 20  # of a reply, beside an echo of the request: thoughts of a million tokens have some 4 MiB
LEAST_SECRET = 8  # characters of a key that is one: "EMPTY" and "none" are what servers without a key are given

# llama.cpp says it with a 500 at times
_TOO_LONG = re.compile(r"context[ _]?(length|size|window)|(prompt|input) is too long", re.I)
_NO_CREDIT, _TOO_LARGE = "insufficient_quota", "request too large"  # OpenAI says both with a 429
_MEANING = {
    401: "the server does not take the key in OPENAI_API_KEY, or wants one there",
    402: "the account has no credit",
    403: "the key in OPENAI_API_KEY may not do this",
    404: "no such model or path",
    413: "the prompt is larger than the server takes",
    429: "too many requests, tokens or dollars",
}


def _proxy(url: str) -> str | None:
    """The environment's proxy for that address; aiohttp's own way would read passwords from ~/.netrc as well."""
    parts = urlsplit(url)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)


class ApiError(Exception):
    """A request without an answer: what was wrong, where, after how many tries, and the beginning of the reply.

    status  of the last HTTP reply, None if there was none
    reply   its body as one printable line without the key
    """

    def __init__(self, what: str, *, url: str, tries: int, status: int | None = None, reply: str = "") -> None:
        told = f"{what.rstrip('.')}; {url}, {tries} {'try' if tries == 1 else 'tries'}"
        super().__init__(f"{told}: {reply[:REPLY_CHARS]}" if reply else told)
        self.status, self.reply = status, reply


class Refusal(ApiError, MachineError):
    """The server refuses the key, the account, the model or the address, and so every question: the run stops."""

    def __init__(self, what: str, **about: Any) -> None:
        super().__init__(f"{what}. Nothing more is asked: correct it, and the same command goes on", **about)


class TooLong(ApiError, Unsupported):
    """The prompt is longer than the server's context: the cell is `unsupported`."""


class Failure(Exception):
    """One try that failed.

    retryable  whether another try could succeed
    after      seconds that the server wants to be left alone
    absent     nobody listens at the address, or there is no such host
    ends_in    the error that it becomes where there is no other try
    """

    def __init__(
        self,
        what: str,
        *,
        retryable: bool,
        status: int | None = None,
        reply: str = "",
        after: float = 0.0,
        absent: bool = False,
        ends_in: type[ApiError] = ApiError,
    ) -> None:
        super().__init__(what)
        self.ends_in = ends_in
        self.retryable, self.status, self.reply, self.after, self.absent = retryable, status, reply, after, absent


class Client:
    """Requests to one address; `requests` counts every POST, `retries` those of them that repeat one."""

    def __init__(self, url: str, *, timeout: float, max_retries: int) -> None:
        self.url, self.timeout, self.max_retries = url, timeout, max_retries
        self.requests = self.retries = 0
        self._heard = False  # of the server, whatever it said
        self._answered = False  # a question, so that the key and the model are right
        self._told: dict[tuple[str, int], float] = {}  # what failed, how often -> when the wait that was told ends

    def session(self) -> aiohttp.ClientSession:
        """For one event loop; nothing of it, nor the key, survives its `async with`."""
        import aiohttp

        key = _key()
        return aiohttp.ClientSession(
            headers={"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})},
            timeout=aiohttp.ClientTimeout(total=self.timeout, sock_connect=CONNECT_SECONDS),
            connector=aiohttp.TCPConnector(limit=0, force_close=True),  # a kept connection may be dead by its next use
        )

    async def request(
        self,
        session: aiohttp.ClientSession,
        method: str,
        path: str,
        body: bytes | None,
        reads: Callable[[dict[str, Any]], Any],
    ) -> Any:
        """The result of `reads` for the reply, or the Failure that it raises.

        Raises ApiError if there is no answer, UserError if no server was ever reached.
        """
        url = self.url + path
        for tries in count(1):
            if method == "POST":
                self.requests += 1
                self.retries += tries > 1
            try:
                reply = await self._try(session, method, url, body, reads)
                self._answered |= method == "POST"
                return reply
            except Failure as failure:
                what = str(failure)
                if failure.absent and not self._heard:
                    raise UserError(
                        f"no server answers at {self.url} ({what}). Start it, or correct the address."
                    ) from None
                if failure.after > self.timeout:
                    what += f", and it asks to be left alone for {failure.after:.0f} s"
                elif failure.retryable and tries <= self.max_retries:
                    wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (tries - 1)) * random.uniform(0.75, 1.25)
                    self._tell(what, tries, failure.after + wait)
                    await asyncio.sleep(failure.after + wait)
                    continue
                ends_in = failure.ends_in
                if failure.status == 403 and self._answered:  # a gateway may forbid one prompt of many
                    ends_in = ApiError
                raise ends_in(what, url=url, tries=tries, status=failure.status, reply=failure.reply) from None

    def _tell(self, what: str, tries: int, wait: float) -> None:
        """A line on stderr about a long wait; requests side by side that fail alike share one."""
        now = time.monotonic()
        if wait > 1 and now >= self._told.get((what, tries), 0.0):
            self._told[what, tries] = now + wait
            note(f"{what[:REPLY_CHARS]}, try {tries + 1} of {self.max_retries + 1} in {wait:.0f} s")

    async def _try(
        self,
        session: aiohttp.ClientSession,
        method: str,
        url: str,
        body: bytes | None,
        reads: Callable[[dict[str, Any]], Any],
    ) -> Any:
        """The result of `reads` for the reply's JSON object; Failure for any other reply."""
        import aiohttp

        data = None if body is None else io.BytesIO(body)
        try:
            # a redirect would take prompt and key to another address
            async with session.request(method, url, data=data, allow_redirects=False, proxy=_proxy(url)) as response:
                self._heard = True
                status, headers = response.status, response.headers
                raw = await _read(response, MOST_BYTES + 6 * len(body or b""))  # JSON may write a character as \u0041
        except aiohttp.ClientConnectorError as error:
            raise _unreached(error) from None
        except aiohttp.ClientError as error:
            raise Failure(clean(f"{type(error).__name__}: {error}"), retryable=True) from None
        except TimeoutError:
            raise Failure(f"no whole reply within {self.timeout:g} s", retryable=True) from None
        except OSError as error:
            raise Failure(clean(f"{type(error).__name__}: {error}"), retryable=True) from None
        if status != 200:
            raise _refusal(self.url, status, headers, _shown(raw))
        try:
            return reads(_json_object(raw))
        except Failure as failure:
            failure.status, failure.reply = status, _shown(raw)
            raise


def _unreached(error: aiohttp.ClientConnectorError) -> Failure:
    """The failure that a refused connection means."""
    if isinstance(error.os_error, ConnectionRefusedError):  # by the server, or by a proxy before it
        return Failure(clean(f"connection refused by {error.host}:{error.port}"), retryable=True, absent=True)
    what = clean(f"{type(error).__name__}: {error}")
    return Failure(what, retryable=True, absent=isinstance(error.os_error, gaierror))


async def _read(response: aiohttp.ClientResponse, most: int) -> bytes:
    """The body; Failure if it has more than that many bytes, without reading the rest."""
    parts = bytearray()
    async for part in response.content.iter_chunked(1 << 16):
        parts += part
        if len(parts) > most:
            raise Failure(f"the reply has more than {most} bytes, so it was not read to its end", retryable=False)
    return bytes(parts)


def _shown(raw: bytes) -> str:
    """A body for messages and for what reads them."""
    return clean(raw[:MOST_BYTES].decode("utf-8", "replace"))


def _json_object(raw: bytes) -> dict[str, Any]:
    try:
        reply = json.loads(raw, parse_int=_integer)
    except (ValueError, RecursionError):
        reply = None
    if not isinstance(reply, dict):
        raise Failure("the reply is no JSON object", retryable=True)
    return reply


def _integer(digits: str) -> int | None:
    """A whole number of JSON; None for one that nothing here can count, and Python may not even print."""
    return int(digits) if len(digits) <= 20 else None


def _refusal(url: str, status: int, headers: Mapping[str, str], text: str) -> Failure:
    """The failure that an HTTP status other than 200 means."""
    ends_in = ApiError
    if 300 <= status < 400 or status in (401, 402, 403, 404) or (status == 429 and _NO_CREDIT in text.lower()):
        ends_in = Refusal
    elif status == 413 or (status >= 400 and _TOO_LONG.search(text)):
        ends_in = TooLong
    if 300 <= status < 400:
        meaning = f"a redirect to {clean(headers.get('Location', '?'))}; give that address instead"
    else:
        longer = "the prompt is longer than the server's context; it is not cut"
        meaning = _MEANING.get(status) if status == 413 or ends_in is not TooLong else longer
    if status == 404 and not re.search(r"/v\d", url):
        meaning = f"no such model or path; most servers want /v1 after the address: try {url}/v1"
    return Failure(
        f"HTTP {status} ({meaning})" if meaning else f"HTTP {status}",
        retryable=(status in (408, 425, 429) or status >= 500)
        and ends_in is ApiError
        and _TOO_LARGE not in text.lower(),
        status=status,
        reply=text,
        after=_retry_after(headers.get("Retry-After", ""), headers.get("Date", "")),
        ends_in=ends_in,
    )


def _retry_after(value: str, date: str = "") -> float:
    """Seconds of a Retry-After header, which holds seconds or a date; 0 for neither.

    date  the Date header: by the server's own clock, for this machine's may be wrong
    """
    try:
        seconds = float(value)
    except ValueError:
        until, now = _timestamp(value), _timestamp(date)
        seconds = 0.0 if until is None else until - (time.time() if now is None else now)
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0


def _timestamp(date: str) -> float | None:
    """Seconds since 1970 of a date of HTTP; None for anything else."""
    try:
        parsed = parsedate_tz(date)
        return None if parsed is None else mktime_tz(parsed)
    except (ValueError, OverflowError):  # the year 99999
        return None


def note(line: str) -> None:
    """One line on stderr about the endpoint."""
    print(f"endpoint: {line}", file=sys.stderr, flush=True)


def _key() -> str:
    return os.environ.get("OPENAI_API_KEY", "").strip()


def clean(text: str) -> str:
    """One printable line, without the key."""
    key = _key()
    hidden = text.replace(key, "[key]") if key else text
    return " ".join("".join(c if c.isprintable() else " " for c in hidden).split())


def without_key(answer: str) -> str:
    """An answer without the key; a word too short for a secret may be an answer."""
    key = _key()
    return answer.replace(key, "[key]") if len(key) >= LEAST_SECRET else answer


def wait_for(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine; Ctrl-C cancels requests in flight. In a notebook a loop runs already: use a thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
