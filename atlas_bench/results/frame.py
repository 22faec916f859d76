"""Records as one tidy pandas DataFrame: a row per record and scorer.

    table = frame(store.scan("results", warn=print))
    table[table.headline].pivot_table("score", ["task", "subset", "model"], "length")

COLUMNS is the only place where a column is defined; docs/python.md shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from atlas_bench.results.record import Record
from atlas_bench.results.score import score
from atlas_bench.results.store import latest

if TYPE_CHECKING:
    import pandas as pd

TEXT, COUNT, NUMBER, FLAG = "string", "Int64", "float64", "boolean"  # of pandas; each can be missing


class Row(NamedTuple):
    """What a row is made of: a record, one of its scorers (None where it has no score), and the score."""

    record: Record
    scorer: str | None
    score: Mapping[str, Any]


class Column(NamedTuple):
    """One column of the frame."""

    dtype: str
    meaning: str
    value: Callable[[Row], Any]


def _record(name: str) -> Callable[[Row], Any]:
    return attrgetter(f"record.{name}")


def _option(name: str) -> Callable[[Row], Any]:
    return lambda row: row.record.options.get(name)


def _score(name: str) -> Callable[[Row], Any]:
    return lambda row: row.score.get(name)


def _metric(name: str) -> Callable[[Row], Any]:
    return lambda row: row.record.metrics.get(name)


COLUMNS = {
    "task": Column(TEXT, "what was asked", _record("task")),
    "subset": Column(TEXT, "of the task, empty where it has none", _record("subset")),
    "length": Column(COUNT, "tokens of the whole prompt", _record("length")),
    "model": Column(TEXT, "as the run called it", _record("model")),
    "seed": Column(COUNT, "that the samples are made from", _record("seed")),
    "samples": Column(COUNT, "questions that were to be asked", _record("samples")),
    "data": Column(TEXT, "`generated`, `hub`, or a folder", _option("data")),
    "background": Column(TEXT, "`generated`, `pg19`, or a folder", _option("background")),
    "prompt": Column(TEXT, "`bare` or `official`", _option("prompt")),
    "status": Column(TEXT, "`ok`, or why there may be no score", _record("status")),
    "reason": Column(TEXT, "for a status that is not `ok`", _record("reason")),
    "note": Column(TEXT, "such as: the model was never trained for this", _record("note")),
    "scorer": Column(TEXT, "its name; missing where the record has no score", attrgetter("scorer")),
    "scorer_version": Column(TEXT, "", _score("version")),
    "headline": Column(
        FLAG,
        "whether it is the scorer that reports show first",
        lambda row: row.scorer is not None and row.scorer == row.record.headline,
    ),
    "correct": Column(NUMBER, "right answers; with partial credit their sum", _score("correct")),
    "n": Column(COUNT, "answers that were judged", _score("n")),
    "score": Column(NUMBER, "correct / n, in 0..1", _score("accuracy")),
    "low": Column(NUMBER, "lower end of the 95 % interval", _score("low")),
    "high": Column(NUMBER, "upper end", _score("high")),
    "contexts": Column(COUNT, "independent contexts that the questions share", _score("contexts")),
    "chance": Column(NUMBER, "score of the best answer without reading", _record("chance")),
    "nats_per_token": Column(NUMBER, "mean loss, where a loss is measured", _metric("nats_per_token")),
    "next_token_accuracy": Column(NUMBER, "share of likeliest tokens, there too", _metric("next_token_accuracy")),
    "tokens_read": Column(COUNT, "by the model, over all streams", _record("tokens_read")),
    "seconds": Column(NUMBER, "that the run took", _record("seconds")),
    "tokens_per_second": Column(NUMBER, "over all streams", _record("tokens_per_second")),
    "state_bytes": Column(COUNT, "of one stream's state", _record("state_bytes")),
    "peak_rss_bytes": Column(COUNT, "of the process's memory", _record("peak_rss_bytes")),
    "parameters": Column(COUNT, "of the model", _record("parameters")),
    "training_tokens": Column(COUNT, "that it was trained on", _record("training_tokens")),
    "memory": Column(TEXT, "variant, such as `titans`", _record("memory")),
    "weights_hash": Column(TEXT, "of the model's weights", _record("weights_hash")),
    "device": Column(TEXT, "`cpu`, `cuda` or `server`", _record("device")),
    "kernel": Column(TEXT, "that ran", _record("kernel")),
    "started": Column(TEXT, "UTC, ISO 8601", _record("started")),
}


def frame(records: Iterable[Record]) -> pd.DataFrame:
    """A row per record and scorer, one where a record has no score; of several records of a cell the latest counts."""
    import pandas as pd

    rows = [row for record in latest(records) for row in _rows(record)]
    return pd.DataFrame(
        {name: pd.Series([column.value(row) for row in rows], dtype=column.dtype) for name, column in COLUMNS.items()}
    )


def _rows(record: Record) -> Iterator[Row]:
    for name in record.scores:
        yield Row(record, name, score(record, name))
    if not record.scores:
        yield Row(record, None, {})
