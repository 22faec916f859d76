"""Answers as rows of a record: question, answer, verdict and origin of the data."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from atlas_bench.results.record import answer_row, clip
from atlas_bench.types import Sample, Scorer, Status


def row_of(sample: Sample, answer: str | Exception, scorers: Mapping[str, Scorer]) -> dict[str, Any]:
    """The row of an answer; an exception is an answer that could not be had, and has no verdict.

    Raises TypeError for any other type: an answer() that forgets `return` is a bug, not a wrong answer.
    """
    failed = str(answer) if isinstance(answer, Exception) else None
    if failed is None and not isinstance(answer, str):
        raise TypeError(f"answer() returned {type(answer).__name__}, not a text")
    text = answer if isinstance(answer, str) else ""
    row = answer_row(
        sample.index,
        question=str(sample.meta.get("question", "")),
        targets=sample.targets,
        answer=text,
        correct={} if failed is not None else {name: scorer(text, sample) for name, scorer in scorers.items()},
        needle_positions=sample.meta.get("needle_positions", ()),
    )
    where = {} if sample.asked_at is None else {"asked_at": sample.asked_at}
    where |= {name: sample.meta[name] for name in ("needle_depth", "distance") if name in sample.meta}
    return row | where | ({} if failed is None else {"failed": clip(" ".join(failed.split()))})


def summary(rows: Sequence[Mapping[str, Any]], scorers: Iterable[str]) -> dict[str, Any]:
    """A record's answers in their order, their scores by the scorers of those names, and the hash of their plans."""
    ordered = sorted(rows, key=lambda row: row["index"])
    made = plans(rows)
    answers = [{name: value for name, value in row.items() if name != "plan"} for row in ordered]
    judged = [row for row in answers if row["correct"]]
    scores = {
        name: {"correct": sum(row["correct"][name] for row in judged), "n": len(judged)}
        for name in (scorers if judged else ())
    }
    plan_hash = hashlib.sha256("\n".join(made).encode()).hexdigest()[:16] if made else None
    return {"answers": answers, "scores": scores, "plan_hash": plan_hash}


def plans(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The hash of each row's plan, in the order of the samples."""
    return [row["plan"] for row in sorted(rows, key=lambda row: row["index"])]


def unanswered(rows: Sequence[Mapping[str, Any]], samples: int) -> tuple[Status, str] | None:
    """The status and reason of so many samples of which some could not be asked (an endpoint's errors); else None."""
    failed = [row["failed"] for row in rows if "failed" in row]
    if not failed:
        return None
    return "failed", (
        f"{len(failed)} of {samples} samples were not answered; the same command asks them again. "
        f"The first: {failed[0]}"
    )


def correct(rows: Sequence[Mapping[str, Any]]) -> float:
    """Right answers among the rows, by the headline's scorer."""
    return sum(next(iter(row["correct"].values()), 0) for row in rows)


def sources_of(sample: Sample) -> dict[str, str]:
    """A record's hashes of the data, from the keys a task gives its samples."""
    names = {"corpus_key": "corpus_key", "data_hash": "data_key", "prompt_hash": "prompt_hash"}
    return {name: str(sample.meta[key]) for name, key in names.items() if sample.meta.get(key) is not None}
