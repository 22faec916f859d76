"""Ctrl-C in a training: the first one asks it to stop after the round, a second one stops it at once.

with ended_by_rounds(say) as asked:
    while not asked():
        ..                       # one round
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any


@contextmanager
def ended_by_rounds(say: Callable[[str], Any]) -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether Ctrl-C was pressed inside; a second Ctrl-C raises KeyboardInterrupt.

    Where Ctrl-C does not raise that already (another handler, another thread), everything stays as it is.
    """
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield lambda: False
        return
    presses = []

    def pressed(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        presses.append(number)
        with suppress(RuntimeError):  # it may have come in the middle of another line's output
            say("stopping after this round of contexts; Ctrl-C again stops at once")

    signal.signal(signal.SIGINT, pressed)
    try:
        yield lambda: bool(presses)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
