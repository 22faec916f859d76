"""A transformers cache as a value: forked in no time, cut to one stream, weighed, packed to arrays and back.

    mine = fork(cache)                       # cache stays as it is, whatever a model does to mine
    model(ids, cache=mine)

A cache is whatever a model returns: transformers' own classes, a model's own, lists and tuples of tensors. They are
walked alike: every tensor, number and None of it has a path, "0.layers.3._keys".

Keys and values of full attention differ from transformers' in one thing: DynamicLayer joins the old and the new ones
to a new tensor for every block and every token of an answer, which holds the cache twice meanwhile. Here they are
appended where the old ones stand (Grown), with a quarter of room to spare, and forks share them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PretrainedConfig
from transformers.cache_utils import DynamicLayer

from atlas_bench.models.huggingface.packages import PACKAGES

ROOM = 256  # tokens that a store has room for beyond a quarter more than is asked of it
AS_INTEGERS = {1: torch.uint8, 2: torch.uint16, 4: torch.uint32}  # how dtypes travel that numpy lacks, by their bytes


class _Store:
    """Room for more tokens than were written: [B, H, room, K]; what is written is never changed."""

    __slots__ = ("data", "written")

    def __init__(self, data: Tensor) -> None:
        self.data, self.written = data, data.shape[2]


class Grown:
    """The first `length` tokens of a store, which states of one stream share; itself it never changes."""

    __slots__ = ("length", "store")

    def __init__(self, store: _Store, length: int) -> None:
        self.store, self.length = store, length

    @classmethod
    def of(cls, x: Tensor) -> Grown:
        """The tokens of x [B, H, T, K], which from now on belongs to them."""
        return cls(_Store(x), x.shape[2])

    def view(self) -> Tensor:
        return self.store.data[:, :, : self.length]

    def append(self, new: Tensor) -> Grown:
        """These tokens and then the new ones [B, H, T, K]; copied only where there is no room or another went on."""
        store, end = self.store, self.length + new.shape[2]
        if store.written != self.length:  # a later state stands after these tokens: begin a store of one's own
            store = _Store(self.view())
        if end > store.data.shape[2]:
            data = new.new_empty(*new.shape[:2], end + end // 4 + ROOM, new.shape[3])
            data[:, :, : self.length] = store.data[:, :, : self.length]
            store.data = data
        store.data[:, :, self.length : end] = new
        store.written = end
        return Grown(store, end)


class GrowingLayer(DynamicLayer):
    """transformers' layer of full attention, growing in place."""

    _keys: Grown | None = None
    _values: Grown | None = None

    @classmethod
    def of(cls, layer: DynamicLayer) -> GrowingLayer:
        new = cls()
        for name, value in vars(layer).items():
            setattr(new, name, value)
        return new

    @property
    def keys(self) -> Tensor | None:
        return None if self._keys is None else self._keys.view()

    @keys.setter
    def keys(self, x: Tensor | None) -> None:
        self._keys = None if x is None else Grown.of(x)

    @property
    def values(self) -> Tensor | None:
        return None if self._values is None else self._values.view()

    @values.setter
    def values(self, x: Tensor | None) -> None:
        self._values = None if x is None else Grown.of(x)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **options: Any) -> tuple[Tensor, Tensor]:
        """All keys and values [B, H, T, K], the new ones included."""
        self._keys, self._values = self._keys.append(key_states), self._values.append(value_states)
        return self.keys, self.values


def growing(cache: Any) -> Any:
    """The cache a model has returned, with layers of full attention that hold tokens made to grow in place."""
    layers = getattr(cache, "layers", None)
    if isinstance(layers, list):
        cache.layers = [GrowingLayer.of(x) if type(x) is DynamicLayer and x.get_seq_length() else x for x in layers]
    return cache


def mapped(
    f: Callable[[str, Any], Any], value: Any, path: str = "", *, grown: Callable[[Grown], Any] | None = None
) -> Any:
    """The cache with f(path, x) in place of every tensor, whole number, truth value and None; the old one stays.

    grown  what becomes of a Grown; None: its tensor is mapped as every other
    """

    def inner(name: Any, x: Any) -> Any:
        return mapped(f, x, f"{path}.{name}" if path else str(name), grown=grown)

    if isinstance(value, Grown):
        return grown(value) if grown else Grown.of(f(path, value.view()))
    if value is None or isinstance(value, Tensor | int):
        return f(path, value)
    if isinstance(value, list | tuple):
        return type(value)(inner(i, x) for i, x in enumerate(value))
    if isinstance(value, dict) or _is_cache(value):
        new = copy.copy(value)
        items = new if isinstance(new, dict) else vars(new)
        items.update({name: inner(name, x) for name, x in items.items()})
        return new
    return value


def _is_cache(value: Any) -> bool:
    """Whether an object is part of a cache: of transformers, of a package or model's own code, or of this file."""
    package = type(value).__module__.partition(".")[0]
    return (
        package in ("transformers", "transformers_modules", "atlas_bench", *PACKAGES)
        and hasattr(value, "__dict__")
        and not isinstance(value, PretrainedConfig | torch.nn.Module | type)
    )


def leaves(cache: Any) -> dict[str, Any]:
    """Path -> tensor, number or None."""
    found: dict[str, Any] = {}
    mapped(lambda path, x: found.setdefault(path, x), cache, grown=None)
    return found


def tensors(cache: Any) -> dict[str, Tensor]:
    """Path -> tensor."""
    return {path: x for path, x in leaves(cache).items() if isinstance(x, Tensor)}


def fork(cache: Any) -> Any:
    """A cache that a model may change: what it changes in place is copied, what it appends to is shared."""
    return mapped(lambda _, x: x.clone() if isinstance(x, Tensor) else x, cache, grown=lambda x: x)


@contextmanager
def scratch(cache: Any) -> Iterator[Any]:
    """A fork to be thrown away: the room that it took after shared tokens is free again afterwards."""
    tips: list[_Store] = []

    def note(x: Grown) -> Grown:
        if x.store.written == x.length:
            tips.append(x.store)
        return x

    mapped(lambda _, x: x, cache, grown=note)
    written = [store.written for store in tips]
    try:
        yield fork(cache)
    finally:
        for store, end in zip(tips, written, strict=True):
            store.written = end


def row(cache: Any, index: int, batch: int) -> Any:
    """The cache of one of `batch` streams; tensors whose first dimension is not the batch belong to all streams."""

    def cut(_: str, x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        return x[index : index + 1].clone() if x.shape[:1] == (batch,) else x.clone()

    return mapped(cut, cache)


def nbytes(cache: Any, batch: int) -> int:
    """Bytes of one of `batch` streams' tensors."""
    return sum(x.nbytes // (batch if x.shape[:1] == (batch,) else 1) for x in tensors(cache).values())


def growth(cache: Any) -> int:
    """Bytes that every further token adds to the keys and values of all streams."""
    layers = getattr(cache, "layers", None) or []
    return sum(
        x.nbytes // x.shape[-2]
        for layer in layers
        if isinstance(layer, DynamicLayer) and not layer.is_sliding and layer.get_seq_length()
        for x in (layer.keys, layer.values)
    )


def is_finite(cache: Any) -> bool:
    """Whether no number of the cache is infinite or not a number."""

    def finite(x: Tensor) -> bool:  # a sum is one pass; it may overflow where no number does
        return bool(torch.isfinite(x.sum(dtype=torch.float32))) or bool(torch.isfinite(x).all())

    return all(finite(x) for x in tensors(cache).values() if x.is_floating_point())


def pack(cache: Any) -> dict[str, np.ndarray]:
    """Path -> array; tensors of a dtype that numpy lacks as whole numbers, with the dtype after the path."""
    arrays = {}
    for path, x in leaves(cache).items():
        if isinstance(x, Tensor):
            x = x.detach().contiguous().cpu()
            try:
                arrays[path] = x.numpy()
            except TypeError:
                name = str(x.dtype).removeprefix("torch.")
                arrays[f"{path}:{name}"] = x.view(AS_INTEGERS[x.element_size()]).numpy()
        elif x is not None:
            arrays[path] = np.array(int(x), dtype=np.int64)
    return arrays


def unpack(arrays: Mapping[str, np.ndarray], like: Any, device: str) -> Any:
    """The cache that pack() was given.

    like  a cache of the same model and batch that has read something: its classes, dtypes and numbers' types

    Raises ValueError for arrays of another model or another version of transformers.
    """
    wanted = {path.partition(":")[0]: path for path in arrays}

    def restored(path: str, x: Any) -> Any:
        if path not in wanted:
            return None if isinstance(x, Tensor) else x
        name = wanted.pop(path)
        array = arrays[name]
        if array.ndim == 0 and isinstance(x, int):
            return type(x)(array)
        dtype = name.partition(":")[2]
        tensor = torch.from_numpy(array.copy()).to(device)
        return tensor.view(getattr(torch, dtype)) if dtype else tensor

    cache = mapped(restored, like)
    if wanted:
        raise ValueError(f"'{next(iter(wanted))}' is no part of this model's cache in this version of transformers")
    return cache
