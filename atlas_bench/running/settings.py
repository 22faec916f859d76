"""How cells are read: side by side, in blocks, with checkpoints and a time limit. None of it changes a result."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from atlas_bench.tasks import making
from atlas_bench.types import Model

BATCH = 8  # contexts fed side by side
TOGETHER = 16_000_000  # tokens of contexts read side by side on a CPU: an answer comes at least that often


@dataclass(frozen=True)
class Settings:
    """How a cell is read; none of it changes a result.

    batch               contexts fed side by side, at most; None: BATCH, on a CPU no more than TOGETHER tokens
    block               tokens of each that are fed at once; None: as many over all of them as suit the model
    checkpoint_tokens   tokens of a stream between two checkpoints
    checkpoints         URL of a folder where checkpoints are copied, None: nowhere
    timeout             seconds a cell may take over all attempts, None for any
    readers             blocks of a stream that are made and searched at once, and processes that make text
    debug               print the traceback of a model's failure
    command             that records name as theirs; None: what was typed
    """

    batch: int | None = None
    block: int | None = None
    checkpoint_tokens: int = 1_000_000
    checkpoints: str | None = None
    timeout: float | None = None
    readers: int = 1
    debug: bool = False
    command: str | None = None

    def streams(self, contexts: int, length: int, model: Model) -> int:
        """How many of the contexts, of that length, the model reads side by side."""
        on_gpu = model.facts().get("device") == "cuda"  # there a stream more costs little time
        usual = BATCH if on_gpu else min(BATCH, max(1, TOGETHER // max(1, length)))
        return min(self.batch or usual, contexts)

    def tokens(self, streams: int, model: Model) -> int:
        """Tokens to feed each of the streams at once: `model.block` over all of them.

        Fewer tokens leave the second core idle, more leave the cache.
        """
        return self.block or max(256, model.block // streams)

    def making(self) -> AbstractContextManager[None]:
        """Let as many processes as there are readers make generated text meanwhile."""
        return making.processes(self.readers)

    def search_ahead(self, model: Model) -> bool:
        """Whether several readers search the stream, and the model replays what they find."""
        return self.readers > 1 and model.searches

    def parallel(self, model: Model, *, asks: bool) -> dict[str, Any] | None:
        """How several readers read, as a record has it; None for one. Where nothing is asked, every token is read."""
        if self.readers == 1:
            return None
        return {"form": "by events" if asks and self.search_ahead(model) else "dense", "readers": self.readers}
