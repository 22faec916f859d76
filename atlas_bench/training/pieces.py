"""How the numbers of a model's weights are dealt out to processes, and in which buckets these exchange them.

pieces = deal(shapes, whole, size=2)      # who owns what
buckets(pieces, size=2)                   # a few exchanges, each with a row of equal length for every process
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

BUCKET = 1 << 25  # numbers of an exchange: 128 MiB


class Piece(NamedTuple):
    """Numbers `start` to `stop` of a flattened parameter, and the process that owns them."""

    parameter: int
    start: int
    stop: int
    owner: int


class Span(NamedTuple):
    """Numbers `start` to `stop` of a piece; in its owner's row of a bucket they begin at `at`."""

    piece: int
    start: int
    stop: int
    at: int


Bucket = tuple[int, list[list[Span]]]  # numbers of a row, and the spans of each process's row


def deal(shapes: Sequence[torch.Size], whole: Sequence[bool], size: int) -> list[Piece]:
    """The pieces of all parameters for `size` processes, in the order of the parameters.

    shapes  of the parameters
    whole   whether a parameter has to stay whole, as Muon's matrices do. The one with the most work is dealt first,
            and each to the process that has the least so far. The work of Newton-Schulz is a matrix's size times its
            shorter side
    """
    work = {i: shape.numel() * min(shape) for i, shape in enumerate(shapes) if whole[i]}
    pieces, load = [], [0] * size
    for i in sorted(work, key=lambda i: -work[i]):
        owner = load.index(min(load))
        load[owner] += work[i]
        pieces.append(Piece(i, 0, shapes[i].numel(), owner))
    cut = [i for i in range(len(shapes)) if not whole[i]]
    share = max(1, -(-sum(shapes[i].numel() for i in cut) // size))  # of all that may be cut, laid end to end
    at = 0
    for i in cut:
        start, n = 0, shapes[i].numel()
        while True:
            stop = min(n, start + share - at % share)
            pieces.append(Piece(i, start, stop, min(at // share, size - 1)))
            at, start = at + stop - start, stop
            if start == n:  # not before: an empty parameter has a piece, too
                break
    return sorted(pieces)


def rows(shapes: Sequence[torch.Size], size: int) -> list[Piece]:
    """The same where the weights themselves are dealt out: FSDP2 gives each process equal numbers of rows of all."""
    pieces = []
    for i, shape in enumerate(shapes):
        share, numbers = -(-shape[0] // size), shape.numel() // max(1, shape[0])
        for owner in range(size):
            start, stop = (min(k * share, shape[0]) * numbers for k in (owner, owner + 1))
            if start < stop:
                pieces.append(Piece(i, start, stop, owner))
    return pieces


def buckets(pieces: Sequence[Piece], size: int, numbers: int = BUCKET) -> list[Bucket]:
    """Exchanges of at most `numbers` numbers (one for each process at least) that have all pieces between them."""
    width = max(1, numbers // size)
    ends = [0] * size  # of the rows, if a row went on from bucket to bucket
    found: list[list[list[Span]]] = []
    for k, piece in enumerate(pieces):
        start, n = 0, piece.stop - piece.start
        while start < n:
            number, at = divmod(ends[piece.owner], width)
            stop = min(n, start + width - at)
            if number == len(found):
                found.append([[] for _ in range(size)])
            found[number][piece.owner].append(Span(k, start, stop, at))
            ends[piece.owner] += stop - start
            start = stop
    return [(min(width, max(ends) - i * width), rows) for i, rows in enumerate(found)]


def pack(spans: Sequence[Span], pieces: Sequence[Tensor | None], row: Tensor) -> None:
    """Copy the spans of flat pieces into a row; one that is None leaves it as it is."""
    for k, start, stop, at in spans:
        if (piece := pieces[k]) is not None:
            row[at : at + stop - start] = piece[start:stop]


def unpack(spans: Sequence[Span], row: Tensor, pieces: Sequence[Tensor | None]) -> None:
    """Copy a row into the spans of flat pieces, but for one that is None."""
    for k, start, stop, at in spans:
        if (piece := pieces[k]) is not None:
            piece[start:stop] = row[at : at + stop - start]
