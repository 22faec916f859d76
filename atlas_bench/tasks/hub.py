"""Rows of a dataset on the Hugging Face hub, one at a time, by the datasets library.

for row in rows("RMT-team/babilong", "4k", split="qa1", advice="Use --data generated, or a folder of bAbI files."):
    ...
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from atlas_bench.errors import UserError, needs


def rows(repository: str, config: str | None = None, *, split: str, advice: str) -> Iterator[dict[str, Any]]:
    """The rows of one split, streamed.

    advice  what the user can do without the hub, in a sentence
    Raises UserError where the library is not installed or the hub cannot be read.
    """
    with needs("datasets", extra="hub", to="read from the Hugging Face hub", advice=advice):
        import datasets
    name = [repository] if config is None else [repository, config]
    try:
        yield from datasets.load_dataset(*name, split=split, streaming=True)
    except Exception as error:  # the hub's client raises many kinds
        where = " ".join([*name, split])
        raise UserError(f"'{where}' cannot be read from the hub: {type(error).__name__}: {error}. {advice}") from error
