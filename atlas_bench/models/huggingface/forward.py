"""A transformers model read in parts: which way of calling it continues where the last part ended, and how large a part
may be.

    forward = Forward(model)                           # ValueError for a model that cannot be read in parts
    logits, cache = forward(ids[:, :512], None)
    logits, cache = forward(ids[:, 512:], cache)       # changes the cache in place: give it a fork

Not every model of transformers continues its cache with more than one token: several (Mamba, Falcon-Mamba, Jamba,
Zamba, RecurrentGemma, MiniMax in 5.24) start again, without a word. So a model is tried before it is used, against its
own reading of the whole at once: in parts, Mamba by mamba.py, then one token at a time. One that fails both
is refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from atlas_bench.kernels import cpu
from atlas_bench.models.huggingface import cache as hf_cache
from atlas_bench.models.huggingface import mamba as hf_mamba

CACHES = ("cache", "past_key_values", "cache_params", "state")  # what models call their cache: `cache` from 5.24 on
INSIDE = ("conv1d_state", "recurrent_states")  # where RecurrentGemma's modules keep theirs
TOKENS = {"cpu": 512, "cuda": 4096}  # per part, over all streams
SCORES = {"cpu": 1 << 24, "cuda": 1 << 27}  # streams x queries x keys of a part: transformers' mask is a tensor
LOGITS = 1 << 26  # bytes of a part's logits in float32

SPLITS = (11, 1, 12)  # tokens of the parts that a model is tried with
EXACT, SHORT = 1e-4, 0.05  # of the logits, what rounding may change: in float32, and where only 16 bits fit


class Forward:
    """The model, its cache made a value that is handed in and out; no text, no padding."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.device = model.device.type
        takes = inspect.signature(model.forward).parameters
        self.cache_name = next((name for name in CACHES if name in takes), None)
        self.keeps, self.positions = "logits_to_keep" in takes, "position_ids" in takes
        self.places = [(x, name) for x in model.modules() for name in INSIDE if name in vars(x)]
        self.vocab_size = model.config.get_text_config(decoder=True).vocab_size
        self.own_mixers = self.one_by_one = False
        self._choose()
        with torch.inference_mode():
            _, (cache, *_) = self(torch.zeros(1, 2, dtype=torch.long, device=model.device), None)
        self.growth = hf_cache.growth(cache)  # bytes per token and stream

    def __call__(self, ids: Tensor, cache: Any, *, every: bool = False) -> tuple[Tensor, Any]:
        """(logits [B, T or 1, vocab], cache) after the next tokens [B, T]; the cache is changed in place.

        cache  None at the beginning of the streams
        every  the logits after each token, not the last alone
        """
        held, inside, read = (self._first(), [None] * len(self.places), 0) if cache is None else cache
        self._put(inside)
        options: dict[str, Any] = {"use_cache": True}
        if self.positions:  # several models (Bamba, MiniMax) count from zero without
            options["position_ids"] = torch.arange(read, read + ids.shape[1], device=ids.device).expand(ids.shape)
        if held is not None:
            options[self.cache_name] = held
        if self.keeps and not every:
            options["logits_to_keep"] = 1
        output = self.model(ids, **options)
        names = (self.cache_name, *CACHES)  # a model may take its cache by two names, and return it by one
        returned = next((x for name in names if (x := getattr(output, name, None)) is not None), None)
        held = hf_cache.growing(held if returned is None else returned)
        inside = [getattr(module, name) for module, name in self.places]
        self._put([None] * len(self.places))
        return (output.logits if every else output.logits[:, -1:]), (held, inside, read + ids.shape[1])

    def part(self, batch: int, read: int, *, every: bool = False) -> int:
        """How many tokens the next call may read, for streams that have read that many."""
        if self.one_by_one and read:
            return 1
        size = max(1, TOKENS[self.device] // batch)
        if self.growth:
            size = min(size, SCORES[self.device] // (batch * (read + size)))
        if every or not self.keeps:
            size = min(size, LOGITS // (4 * batch * self.vocab_size))
        return max(1, size)

    def _first(self) -> Any:
        """The cache that a stream begins with; None if the model makes it."""
        return DynamicCache(config=self.model.config) if self.places else None

    def _put(self, inside: list[Tensor | None]) -> None:
        for (module, name), x in zip(self.places, inside, strict=True):
            setattr(module, name, x)

    def _choose(self) -> None:
        """Find the way to read in parts; ValueError if there is none."""
        if self.cache_name is None:
            raise ValueError(f"its forward() takes no cache by a name known here ({', '.join(CACHES)})")
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(self.vocab_size, (2, sum(SPLITS)), generator=generator).to(self.model.device)
        with in_float32(self.model) as exact, cpu.matmul_precision("fp32"):
            self._try(ids, EXACT if exact else SHORT)

    @torch.inference_mode()
    def _try(self, ids: Tensor, tolerance: float) -> None:
        """Keep the first way whose logits differ from the whole's by no more than that share of them."""
        whole = self.model(ids, use_cache=False).logits
        self._put([None] * len(self.places))
        mamba = bool(hf_mamba.mixers(self.model))
        said = ""
        for self.own_mixers, self.one_by_one in [(mamba, False), (False, True)]:
            (hf_mamba.install if self.own_mixers else hf_mamba.remove)(self.model)
            try:
                if self._error(ids, whole) <= tolerance * _size(whole):
                    return
            except Exception as problem:  # whatever a model says to a call that it was not written for
                said = f" ({type(problem).__name__}: {problem})"
        raise ValueError(f"read in parts it gives other logits than read as a whole{said}")

    @property
    def why(self) -> str | None:
        """What replaces transformers' own code; None if that code reads correctly."""
        if self.own_mixers:
            return "transformers' Mamba forgets its state at every block: models/huggingface/mamba.py in its place"
        if self.one_by_one:
            return "this model's code in transformers goes on with one token at a time only"
        return None

    def _error(self, ids: Tensor, whole: Tensor) -> float:
        """The difference between logits of a stream read in parts, or of one of its rows, and of the stream read
        whole."""
        found, cache, read = [], None, 0
        for size in SPLITS:
            last = hf_cache.fork(cache)
            part = ids[:, read : read + size]
            for piece in part.split(1 if self.one_by_one and read else size, 1):
                logits, cache = self(piece, cache, every=True)
                found.append(logits)
            read += size
        row, one = [], hf_cache.row(last, 1, len(ids))
        for piece in part[1:].split(1 if self.one_by_one else size, 1):
            logits, one = self(piece, one, every=True)
            row.append(logits)
        return max(_distance(torch.cat(found, 1), whole), _distance(torch.cat(row, 1), whole[1:, -SPLITS[-1] :]))


def free_memory(device: str) -> int:
    """Bytes that are free on a "cpu" or "cuda" device."""
    return torch.cuda.mem_get_info()[0] if device == "cuda" else psutil.virtual_memory().available


@contextmanager
def in_float32(model: PreTrainedModel) -> Iterator[bool]:
    """A model of 16 bits computes in float32 meanwhile, exactly as it was afterwards; False if that does not fit."""
    parts = [*model.parameters(), *model.buffers()]
    short = [(x, x.dtype) for x in parts if x.dtype in (torch.bfloat16, torch.float16)]
    flash = "flash" in (model.config._attn_implementation or "")  # those kernels are of 16 bits
    if short and (flash or 2 * sum(x.nbytes for x, _ in short) > free_memory(model.device.type)):
        yield False
        return
    for x, _ in short:
        x.data = x.data.float()
    try:
        yield True
    finally:
        for x, dtype in short:
            x.data = x.data.to(dtype)


def _centred(logits: Tensor) -> Tensor:
    """The part of the logits that determines probabilities."""
    logits = logits.float()
    return logits - logits.mean(-1, keepdim=True)


def _size(logits: Tensor) -> float:
    return float(_centred(logits).square().mean().sqrt())


def _distance(a: Tensor, b: Tensor) -> float:
    """Root mean square of the difference; infinite where either is not finite."""
    distance = float((_centred(a) - _centred(b)).square().mean().sqrt())
    return distance if distance == distance else float("inf")
