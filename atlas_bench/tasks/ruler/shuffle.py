"""A random order of any number of items, computed on demand and never stored.

    keys = round_keys("ruler cwe 0 0")
    permute(np.arange(5), 5, keys)                         # [3 0 4 1 2], say
    permute(np.array([999_999]), 1_000_000, keys)          # one place of a million, at the cost of one

A Feistel network (Luby and Rackoff 1988) of eight rounds over the least even number of bits that holds the
size; what falls outside the size is sent through again until it falls inside (cycle walking, Black and Rogaway
2002), which keeps it a permutation.
"""

from __future__ import annotations

import numpy as np

from atlas_bench.tasks.pairs import bits

ROUNDS = 8
_MIX = (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53))  # MurmurHash3's finaliser (Appleby 2011)
_HALF = np.uint64(32)


def round_keys(label: str) -> np.ndarray:
    """The keys of a permutation, uint64 [ROUNDS], that follow from the label."""
    return bits(label, ROUNDS)


def permute(places: np.ndarray, size: int, keys: np.ndarray) -> np.ndarray:
    """The items int64 at some places of a random order of range(size)."""
    half = np.uint64(max((size - 1).bit_length() + 1, 2) // 2)
    items = _encipher(np.asarray(places).astype(np.uint64), half, keys)
    while (outside := np.flatnonzero(items >= np.uint64(size))).size:
        items[outside] = _encipher(items[outside], half, keys)
    return items.astype(np.int64)


def _encipher(values: np.ndarray, half: np.uint64, keys: np.ndarray) -> np.ndarray:
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = values >> half, values & mask
    for key in keys:
        mixed = right ^ key
        for factor in _MIX:
            mixed = (mixed ^ (mixed >> _HALF)) * factor
        left, right = right, left ^ ((mixed ^ (mixed >> _HALF)) & mask)
    return left << half | right
