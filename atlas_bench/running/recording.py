"""The record of a cell: identity and circumstances before it runs, the results after.

record = blank(evaluation)                      # status "failed", "not run"; its cell_key is the cell's
record = ended(evaluation, record, point, ..)
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from atlas_bench import __version__
from atlas_bench.results.record import Record
from atlas_bench.results.score import UNTRAINED
from atlas_bench.running import answers, losses, resources
from atlas_bench.running.checkpoint import Point
from atlas_bench.running.evaluation import Evaluation
from atlas_bench.types import Status


def blank(evaluation: Evaluation) -> Record:
    """The cell's record before it has run: identity, model and surroundings; its cell_key is the cell's."""
    cell, task, model, rules = evaluation.cell, evaluation.task, evaluation.model, evaluation.rules
    facts = model.facts()
    own = {field.name for field in fields(Record)} & facts.keys() - {"status", "state_bytes"}
    return Record(
        status="failed",
        reason="not run",
        task=cell.task,
        task_version=task.version,
        subset=cell.subset,
        length=cell.length,
        model=cell.model,
        seed=cell.seed,
        samples=cell.samples,
        options=cell.options.given(),
        part=cell.part.facts() if cell.part else None,
        protocol=protocol(evaluation),
        scorer_version={name: scorer.version for name, scorer in rules.scorers.items()},
        headline=next(iter(rules.scorers), None),
        chance=rules.chance if rules.scorers else None,
        model_spec=model.spec,
        note=untrained(cell.title, facts.get("learnt")),
        tokenizer_key=model.tokenizer.key,
        versions={"atlas_bench": __version__, "python": platform.python_version(), **_versions()},
        hardware={"cpu": resources.cpu_name(), "cores": resources.cores(), "gpu": facts.get("gpu")},
        command=resources.command_line(),
        **{name: facts[name] for name in sorted(own)},
    )


def ended(
    evaluation: Evaluation,
    blank: Record,
    point: Point,
    status: Status,
    reason: str,
    *,
    suffices: bool,
    block: int,
    batch: int,
    parallel: Mapping[str, Any] | None,
    resumed: bool,
    command: str | None,
) -> Record:
    """The cell's record as far as the point has come.

    blank         the record before the cell ran
    suffices      whether the cell's rule for stopping was met
    block, batch  tokens of a stream fed at once, and streams side by side
    parallel      how several readers read, if they did
    resumed       whether it went on from a checkpoint
    command       that the record names; None: the blank one's
    """
    answered: dict[str, Any] = answers.summary(point.rows, evaluation.rules.scorers) | point.sources
    if blank.part:
        answered["part"] = blank.part | {"plans": answers.plans(point.rows)}
    ran = status != "unsupported"
    facts = evaluation.model.facts()  # again: on a GPU which kernels ran is known only now
    return replace(
        blank,
        command=command or blank.command,
        kernel=facts.get("kernel"),
        kernel_why=facts.get("kernel_why"),
        status=status,
        reason=reason,
        **answered,
        note=_note(evaluation, blank, len(point.rows), suffices),
        metrics={**losses.metrics(answered["answers"])},
        curve=losses.curve(answered["answers"], evaluation.cell.length),  # type: ignore[arg-type]  # a TypedDict there
        usage=point.usage,
        endpoint=facts.get("endpoint"),
        state_bytes=point.state_bytes,
        tokens_read=point.read if ran else None,
        seconds=round(point.seconds, 3) if ran else None,
        tokens_per_second=round(point.read / point.seconds, 1) if ran and point.read else None,
        block=block,
        batch=batch,
        parallel=dict(parallel) if parallel else None,
        peak_rss_bytes=point.peak if ran else None,
        resumed=resumed,
        started=point.started,
        ended=resources.now(),
    )


def _note(evaluation: Evaluation, blank: Record, asked: int, suffices: bool) -> str | None:
    """What the record notes already, and that its answers decided when to stop."""
    stop, most = evaluation.cell.stop, evaluation.cell.samples
    if stop is None or not (asked == most or suffices):
        return blank.note
    why = stop.reached_note if suffices else stop.open_note
    text = f"asked {asked:,} of {most:,} questions: {why}; its interval, a confidence sequence, holds at any stop"
    return f"{blank.note}; {text}" if blank.note else text


def protocol(evaluation: Evaluation) -> dict[str, Any]:
    """What decides a cell's answers beside its name: their length, what ends them, and the questions.

    `sample` is a hash of the cell's first sample, in the model's tokens and with what the model puts around it. It
    changes with the text of a task, a prompt or a template, and with the data and the background that are read. Where
    the answers decide when to stop, `stopping` is the rule.
    """
    stop = evaluation.cell.stop
    return ({"stopping": stop.facts()} if stop else {}) | {
        "max_answer_tokens": evaluation.rules.max_answer_tokens,
        "stop": list(evaluation.rules.stop),
        "generation": dict(evaluation.model.facts().get("generation") or {}),
        "sample": _sample_hash(evaluation),
    }


def _sample_hash(evaluation: Evaluation) -> str | None:
    """First 16 hex digits of the sha256 of the cell's first sample; None if it cannot be made, which a run will
    report."""
    try:
        first = next(replace(evaluation, cell=replace(evaluation.cell, samples=1, part=None)).samples())
    except Exception:
        return None
    made_from = {name: first.meta.get(name) for name in ("plan_hash", "corpus_key", "data_key", "prompt_hash")}
    parts = [first.length, first.reads, first.asked, first.targets, evaluation.around, made_from]
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:16]


def untrained(title: str, learnt: Sequence[str] | None) -> str | None:
    """What a record notes where the model's card names what it was trained on, and that is not this task and subset."""
    if learnt is None or title in learnt or title.partition(":")[0] in learnt:
        return None
    return f"{UNTRAINED}, by its card for {', '.join(learnt)} alone"


@cache  # importlib.metadata parses a file for each of them, and every cell has a record
def _versions() -> Mapping[str, str | None]:
    """Versions of the packages that affect the numbers, without importing them."""
    versions: dict[str, str | None] = {}
    for name in ("torch", "numpy"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return versions
