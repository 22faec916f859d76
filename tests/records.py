"""One plausible record, and changes to it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from atlas_bench.results.record import Record, answer_row
from atlas_bench.results.score import UNTRAINED

FACTS = {
    "status": "ok",
    "task": "babilong",
    "task_version": "1",
    "subset": "qa1",
    "length": 10_000_000,
    "model": "atlas",
    "seed": 0,
    "samples": 2,
    "options": {"data": "generated", "background": "generated", "prompt": "bare"},
    "scores": {"babilong/official": {"correct": 2, "n": 2}, "babilong/word": {"correct": 1, "n": 2}},
    "scorer_version": {"babilong/official": "1", "babilong/word": "1"},
    "headline": "babilong/official",
    "chance": 1 / 6,
    "answers": [
        answer_row(
            0,
            question="Where is Mary?",
            targets=["kitchen"],
            answer="kitchen",
            correct={"babilong/official": True, "babilong/word": True},
            needle_positions=[120, 9_000_017],
        ),
        answer_row(
            1,
            question="Where is John?",
            targets=["garden"],
            answer="gardenia \u2603\n",
            correct={"babilong/official": True, "babilong/word": False},
        ),
    ],
    "protocol": {"max_answer_tokens": 20, "stop": ["\n"], "generation": {"ends": [0, 3]}, "sample": "5d3fa5a1c2b7e880"},
    "plan_hash": "3f1c",
    "corpus_key": "generated-1",
    "tokenizer_key": "atlas-8k",
    "data_hash": "77ab",
    "prompt_hash": "90cd",
    "parameters": 11_534_336,
    "state_bytes": 786_432,
    "training_tokens": 100_000_000,
    "weights_hash": "a1b2c3d4e5f6",
    "kernel": "omega/chunk",
    "chunk_size": 64,
    "memory": "atlas",
    "tokens_read": 20_000_000,
    "seconds": 1000.5,
    "tokens_per_second": 19_990.0,
    "block": 4096,
    "batch": 2,
    "peak_rss_bytes": 612_368_384,
    "versions": {"atlas_bench": "0.1.0", "python": "3.11.9", "torch": "2.13.0", "numpy": "2.4.6"},
    "hardware": {"cpu": "Xeon", "cores": 2, "gpu": None},
    "command": "atlas-bench run babilong:qa1 --len 10M --model atlas",
    "started": "2026-01-02T03:04:05Z",
    "ended": "2026-01-02T03:20:46Z",
}
NOTED = [  # changes to a record that give it a note, and the mark of the note in reports
    ({"note": f"{UNTRAINED}, by its card for niah alone"}, "#"),
    ({"note": "asked 2 of 9 questions", "protocol": {"stopping": {"rule": "width", "points": 20.0}}}, "^"),
    ({"note": "1 of 2 answers judged by mine on their first 2000 characters"}, "?"),
]


@pytest.fixture
def make() -> Callable[..., Record]:
    """A record like FACTS, with changes."""
    return lambda **changes: Record(**{**FACTS, **changes})


@pytest.fixture
def failed(make) -> Callable[..., Record]:
    """A record without a score."""
    return lambda status, reason, **changes: make(
        status=status, reason=reason, scores={}, scorer_version={}, answers=[], chance=None, **changes
    )
