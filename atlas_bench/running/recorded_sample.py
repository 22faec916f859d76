"""A sample as its record's row has it; what the row lacks is made again from the record's own fields.

remade = Remade(record, tokenizer=None, moved={})
sample = RecordedSample(row, remade)
sample.meta["question"]                  # the row's
sample.meta["labels"]                    # of the task's sample, made again now, as `show` makes it
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from atlas_bench.errors import UserError
from atlas_bench.results.record import ANSWER_CHARS, Record, record_hash
from atlas_bench.running import remake
from atlas_bench.types import Sample

_MARK = re.compile(r" \[\.\.\. \d+ characters cut\]")  # what record.clip() puts after a text
_NO_META = ("index", "targets", "answer", "correct")  # of a row


def uncut(text: str) -> tuple[str, bool]:
    """(the recorded text without its mark, whether it had one: then the record lacks the rest)."""
    cut = _MARK.fullmatch(text, ANSWER_CHARS) is not None
    return (text[:ANSWER_CHARS], True) if cut else (text, False)


class Remade:
    """The samples of a record, made again once one of them is asked for.

    tokenizer  that the record's lengths are in: Hugging Face name, folder or tokenizer.json; None: the embedded models'
    moved      "data" and "background" -> where these are now; None: where the record says
    """

    def __init__(self, record: Record, tokenizer: str | None, moved: Mapping[str, str | None]) -> None:
        self._record, self._tokenizer, self._moved = record, tokenizer, moved
        self.source = record_hash(record)

    @cached_property
    def _samples(self) -> dict[int, Sample]:
        n = 1 + max(row["index"] for row in self._record.answers)
        tokenizer = remake.tokenizer_of(self._record, self._tokenizer)
        return {sample.index: sample for sample in remake.first_samples(self._record, n, tokenizer, self._moved)}

    def sample(self, row: Mapping[str, Any]) -> Sample:
        """The row's sample. Raises UserError if it cannot be made again exactly."""
        if (sample := self._samples.get(row["index"])) is None:
            raise UserError(f"the data have no sample {row['index']} any more.")
        remake.check(self._record, row, sample)
        return sample


class RecordedSample:
    """What a scorer reads of a types.Sample.

    index, targets  the row's
    meta            the row's question, needle_positions, distance, ..; after them what the task gives its samples
    """

    def __init__(self, row: Mapping[str, Any], remade: Remade) -> None:
        self.index: int = row["index"]
        self.targets: tuple[str, ...] = tuple(row["targets"])
        self._row, self._remade = row, remade

    @cached_property
    def made(self) -> Sample:
        """The whole sample, made again."""
        return self._remade.sample(self._row)

    @cached_property
    def meta(self) -> Mapping[str, Any]:
        known = {name: value for name, value in self._row.items() if name not in _NO_META}
        if uncut(self._row["question"])[1]:
            del known["question"]
        return _Meta(known, self)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not (name in Sample.__dataclass_fields__ or hasattr(Sample, name)):
            raise AttributeError(f"a sample has no '{name}'")
        return getattr(self.made, name)


class _Meta(Mapping[str, Any]):
    """The known fields, and for every other name the sample's own meta."""

    def __init__(self, known: Mapping[str, Any], sample: RecordedSample) -> None:
        self._known, self._sample = known, sample

    def __getitem__(self, name: str) -> Any:
        return self._known[name] if name in self._known else self._sample.made.meta[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self._sample.made.meta, **self._known})

    def __len__(self) -> int:
        return len({**self._sample.made.meta, **self._known})
