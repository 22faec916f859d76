"""What the tests of single tasks share: samples of a cell, and their text."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from atlas_bench.models.tokenizer import embedded
from atlas_bench.tasks import corpora
from atlas_bench.types import Sample, TaskOptions

TOKENIZER = embedded()


@pytest.fixture(scope="module")
def small_shards(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Generated background in shards of 20K tokens."""
    with pytest.MonkeyPatch.context() as patch:
        cache = tmp_path_factory.mktemp("cache")
        patch.setattr(corpora, "generated", partial(corpora.generated, cache=cache, shard_tokens=20_000))
        yield


def samples(task: Any, subset: str, length: int, n: int, seed: int = 0) -> list[Sample]:
    """The first n samples of a cell, which must be one that the task takes."""
    task.check(subset, length, TOKENIZER, TaskOptions())
    return list(task.samples(subset, length, n, seed, TOKENIZER, TaskOptions()))


def text(sample: Sample) -> str:
    """The context that is read before the question."""
    return TOKENIZER.decode(sample.context.read(0, sample.reads).tolist())


def asked(sample: Sample) -> str:
    """The question, without the beginning of the answer."""
    return TOKENIZER.decode(sample.question)
