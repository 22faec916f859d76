"""Documents made by several processes are those that one makes, whatever goes wrong there."""

from __future__ import annotations

import random
from itertools import repeat
from operator import attrgetter
from pathlib import Path

import pytest

from atlas_bench.models.tokenizer import embedded
from atlas_bench.tasks import corpora, making
from atlas_bench.tasks.haystack import background

LINE = "A line of more than ten tokens, so that it is kept as a sentence of the document."


def files(corpus: corpora.Corpus) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (corpus._cache / "documents").iterdir()}


@pytest.mark.slow
def test_several_processes_make_the_same_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "WORTH", 1)
    alone, together = (corpora.generated(embedded(), cache=tmp_path / n, shard_tokens=3000) for n in ("1", "3"))
    spans = background(alone, 12_000, random.Random(1))
    with making.processes(3):
        making.make(together, [span.document for span in spans])
    assert len(files(together)) == len(spans) == 5
    assert files(together).items() <= files(alone).items()
    assert background(together, 12_000, random.Random(1)) == spans


@pytest.mark.slow
def test_what_another_process_cannot_make_this_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "WORTH", 1)
    options = {"version": 1, "cache": tmp_path, "shard_tokens": 99}
    nested = corpora.endless("nested", embedded(), lambda seed: repeat(LINE), **options)
    foreign = corpora.endless("foreign", embedded(), Elsewhere(), **options)
    with making.processes(2):
        with pytest.warns(UserWarning, match=r"'nested' is not made by 2 processes: .*one document after another"):
            spans = background(nested, 150, random.Random(1))
        with pytest.warns(UserWarning, match=r"1 of 2 processes failed to make 'foreign': AttributeError: .*text"):
            background(foreign, 150, random.Random(1))
    assert sum(span.stop - span.start for span in spans) == 150


class Elsewhere:
    """Makes text in this process; what is pickled in its place makes none."""

    def __call__(self, seed: int) -> list[str]:
        return [LINE] * 20

    def __reduce__(self) -> tuple[object, ...]:
        return attrgetter, ("text",)


def test_one_process_or_nothing_missing_begins_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = corpora.generated(embedded(), cache=tmp_path, shard_tokens=200)
    monkeypatch.setattr(making, "_make", lambda *asked: pytest.fail("began a process"))
    with making.processes(4):
        making.make(corpus, [0, 1, 2])  # too few tokens
    monkeypatch.setattr(making, "WORTH", 1)
    making.make(corpus, [0, 1, 2])
    with making.processes(4):
        making.make(corpus, [0])
        for number in (0, 1):
            corpus.document(number)
        making.make(corpus, [0, 1, 2])
