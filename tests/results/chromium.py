"""A real browser for the tests: headless Chromium, spoken to by the DevTools protocol over a pipe.

with Browser(find()) as browser:
    page = browser.open(path, width=390, scripts=False)
    page.overflow(), page.troubles, page.requests, page.dialogs
    page.screenshot("page.png"); page.pdf("page.pdf")
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
PIPES = """
import fcntl, os, sys
read, write = (fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3])
os.dup2(read, 3)
os.dup2(write, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""  # the browser reads at 3 and writes at 4
SECONDS = 60  # that an answer may take on a busy machine


def find() -> str | None:
    """The path of a Chromium, None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One running browser; every page is a tab of its own and hears of its own events."""

    def __init__(self, path: str):
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        ours, theirs = os.pipe(), os.pipe()  # (read end, write end): what we say, what it says
        flags = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage")
        command = [path, *flags, "--remote-debugging-pipe", f"--user-data-dir={self._profile.name}"]
        ends = str(ours[0]), str(theirs[1])
        self._process = subprocess.Popen(
            [sys.executable, "-c", PIPES, *ends, *command], pass_fds=(ours[0], theirs[1]),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(ours[0])
        os.close(theirs[1])
        self._say, self._hear = ours[1], theirs[0]
        self._buffer = b""
        self._number = 0
        self.pages: dict[str, Page] = {}

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: Any) -> None:
        self._process.terminate()
        self._process.wait(SECONDS)
        os.close(self._say)
        os.close(self._hear)
        self._profile.cleanup()

    def open(self, path: Path, **how: Any) -> Page:
        """A tab that has loaded a file; `how` as Page takes it."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.pages[session] = page = Page(self, session)
        page.load(path, **how)
        return page

    def call(self, method: str, *, session: str | None = None, **params: Any) -> dict[str, Any]:
        """The result of one method of the protocol; raises RuntimeError for an error."""
        number = self.say(method, session=session, **params)
        while (answer := self.next()).get("id") != number:
            pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def say(self, method: str, *, session: str | None = None, **params: Any) -> int:
        """Call a method without waiting for its answer, whose number is returned."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(self._say, json.dumps(message).encode() + b"\0")
        return self._number

    def next(self) -> dict[str, Any]:
        """The next message; an event is first told to its page."""
        deadline = time.monotonic() + SECONDS
        while b"\0" not in self._buffer:
            if not select.select([self._hear], [], [], max(0, deadline - time.monotonic()))[0]:
                raise TimeoutError(f"Chromium said nothing for {SECONDS} s")
            if not (heard := os.read(self._hear, 1 << 16)):
                raise RuntimeError("Chromium ended")
            self._buffer += heard
        line, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(line)
        if "method" in message and message.get("sessionId") in self.pages:
            self.pages[message["sessionId"]].on_event(message["method"], message["params"])
        return message


class Page:
    """One tab.

    troubles  console messages and browser log entries that are warnings or errors, and uncaught exceptions
    requests  addresses asked for
    dialogs   alerts and the like that opened
    """

    def __init__(self, browser: Browser, session: str):
        self._browser, self._session = browser, session
        self.troubles: list[str] = []
        self.requests: list[str] = []
        self.dialogs: list[str] = []
        self._loaded = False

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self._browser.call(method, session=self._session, **params)

    def load(
        self,
        path: Path,
        *,
        width: int = 1280,
        scripts: bool = True,
        dark: bool = False,
        media: str = "",
        part: str = "",
    ) -> None:
        """Open a file in a window of a width; `part` is the id that its address ends in."""
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500
        )
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", media=media, features=scheme)
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        self._loaded = False
        self.call("Page.navigate", url=path.resolve().as_uri() + part)
        while not self._loaded:
            self._browser.next()

    def on_event(self, method: str, params: dict[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Page.javascriptDialogOpening":
            self.dialogs.append(params["message"])
            self._browser.say("Page.handleJavaScriptDialog", session=self._session, accept=True)
        elif method == "Runtime.exceptionThrown":
            self.troubles.append(params["exceptionDetails"]["text"])
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("warning", "error"):
            self.troubles.append(params["entry"]["text"])
        elif method == "Runtime.consoleAPICalled":
            self.troubles.append(str([part.get("value") for part in params["args"]]))

    def overflow(self) -> float:
        """Pixels by which the page is wider than its window; at most 0 where nothing overflows."""
        metrics = self.call("Page.getLayoutMetrics")
        return metrics["cssContentSize"]["width"] - metrics["cssLayoutViewport"]["clientWidth"]

    def evaluate(self, expression: str) -> Any:
        """The value of a script, awaited where it is a promise; it runs whether or not the page's own may.

        Raises RuntimeError where it throws.
        """
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{expression[:200]}: {found['result'].get('description', found['exceptionDetails'])}")
        return found["result"].get("value")

    def press(self, key: str, text: str = "") -> None:
        """Press and release a key, as a user does: 'Tab', or 'Enter' with its text '\\r'."""
        code = {"Tab": 9, "Enter": 13, " ": 32}.get(key, ord(key[0].upper()))
        shared = {"key": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **shared)
        self.call("Input.dispatchKeyEvent", type="keyUp", **shared)

    def screenshot(self, path: Path, *, height: float | None = None) -> bytes:
        """A PNG of the page from its top, whole or of a height; also written to `path`."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return self.clipped(path, 0, 0, size["width"], min(height or size["height"], 16_000))

    def clipped(self, path: Path, x: float, y: float, width: float, height: float, *, scale: float = 1) -> bytes:
        """A PNG of a part of the page, in `scale` pixels for each of its own; also written to `path`."""
        clip = {"x": x, "y": y, "width": width, "height": height, "scale": scale}
        data = base64.b64decode(self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)["data"])
        path.write_bytes(data)
        return data

    def pdf(self, path: Path) -> bytes:
        """The page as printed."""
        data = base64.b64decode(self.call("Page.printToPDF", printBackground=True, preferCSSPageSize=True)["data"])
        path.write_bytes(data)
        return data
