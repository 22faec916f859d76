"""An OpenAI-compatible server on localhost, over real HTTP, that does what a test tells it to.

    with Stub(lambda request: say("kitchen")) as stub:
        model = api.load(f"openai:{stub.url}#tiny")
    stub.requests[0].prompt        # the text that arrived

What it is told is a function from a Request to a Reply; request.tries counts how often that prompt has come.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Request:
    """One POST as it arrived; `at` is its time in seconds, `raw` its bytes."""

    path: str
    headers: Mapping[str, str]
    raw: bytes
    at: float
    tries: int

    @property
    def body(self) -> dict[str, Any]:
        return json.loads(self.raw)

    @property
    def prompt(self) -> str:
        return _prompt(self.body)


@dataclass(frozen=True)
class Reply:
    """What the server sends, after `wait` seconds.

    drop     it says that more comes, and hangs up
    endless  it sends the body again and again, until the client has enough
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    wait: float = 0.0
    drop: bool = False
    endless: bool = False


def reply(told: Any, **others: Any) -> Reply:
    """A JSON reply."""
    return Reply(body=json.dumps(told).encode(), **others)


def say(text: str | None, *, finish_reason: str = "stop", read: int = 10**6, said: int = 3, **message: Any) -> Reply:
    """A right reply, for both endpoints; read and said are the tokens in its usage."""
    choice = {"index": 0, "text": text, "message": {"role": "assistant", "content": text, **message}}
    usage = {"prompt_tokens": read, "completion_tokens": said, "total_tokens": 10**6}
    return reply({"model": "tiny-1", "choices": [{**choice, "finish_reason": finish_reason}], "usage": usage})


def error(status: int, message: str, headers: Mapping[str, str] | None = None, **others: Any) -> Reply:
    """An error as OpenAI words it."""
    return reply({"error": {"message": message, **others}}, status=status, headers=headers or {})


class Stub:
    """The server; `url` is what comes before '#', `requests` all POSTs in their order, `most` the most at one time,
    `now` those under way.

    models  the reply to GET /models
    """

    def __init__(self, does: Callable[[Request], Reply], models: Reply | None = None) -> None:
        self.does, self.models = does, models or Reply(404)
        self.requests: list[Request] = []
        self.gets = self.most = self.now = 0
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads, self._server.block_on_close = True, False
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Stub:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def arrived(self, path: str, headers: Mapping[str, str], raw: bytes) -> Request:
        """Notes a POST."""
        with self._lock:
            prompt = _prompt(json.loads(raw))
            tries = 1 + sum(request.prompt == prompt for request in self.requests)
            request = Request(path, dict(headers), raw, time.monotonic(), tries)
            self.requests.append(request)
            self.now += 1
            self.most = max(self.most, self.now)
            return request

    def left(self) -> None:
        """Notes that a POST has been answered."""
        with self._lock:
            self.now -= 1

    def _handler(stub) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                stub.gets += 1
                self._send(stub.models)

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                request = stub.arrived(self.path, self.headers, raw)
                try:
                    told = stub.does(request)
                    time.sleep(told.wait)
                finally:
                    stub.left()
                self._send(told)

            def _send(self, told: Reply) -> None:
                try:
                    self.send_response(told.status)
                    for name, value in told.headers.items():
                        self.send_header(name, value)
                    if not told.endless:
                        self.send_header("Content-Length", str(len(told.body) + 100 * told.drop))
                    self.end_headers()
                    self.wfile.write(told.body)
                    while told.endless:
                        self.wfile.write(told.body)
                except OSError:  # the client gave up
                    pass

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def _prompt(body: Mapping[str, Any]) -> str:
    return body["prompt"] if "prompt" in body else body["messages"][0]["content"]
