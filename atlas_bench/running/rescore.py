"""Recorded answers judged by another scorer: new records, which say of which record and scorer they are.

    by = load("./my_scorer.py")                              # or "babilong/word", a scorer of our tasks
    for record in records(store.scan("runs", warn), by):
        record.scores["my_scorer.py"]                        # beside the old scores
        record.rescored[-1]["source"]                        # the old record's hash

No model runs. The scorer is given the answer, and a sample with what the record's row has: question, targets,
positions. What a row does not have, such as the labels that BABILong's scorers look for, is made again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from atlas_bench import __version__, registry
from atlas_bench.errors import UserError, clip, unknown
from atlas_bench.files import atomic, output_file, user_file
from atlas_bench.results.record import ANSWER_CHARS, Record, Warn
from atlas_bench.results.score import percent, score
from atlas_bench.running import remake, resources
from atlas_bench.running.recorded_sample import RecordedSample, Remade, uncut
from atlas_bench.types import Sample, Scorer
from atlas_bench.units import format_length

FUNCTION = "score"  # that a scorer file defines


@dataclass(frozen=True)
class Named:
    """A scorer under the name that records give it; path: the user's file that it is of, if any."""

    name: str
    scorer: Scorer
    path: str | None = None


def load(scorer: str | Path | Scorer | Callable[[str, Sample], bool | float]) -> Named:
    """The scorer of a name, a file or a function.

    scorer  'babilong/word', a scorer of our tasks; './my_scorer.py', which is executed, so give no path that the user
            has not typed; in Python a Scorer or a function (answer, sample) -> bool or share, too

    A file defines `def score(answer, sample)`; its name in records is the file's, its version the first eight digits
    of the file's sha256. Raises UserError for an unknown name, and for a file that is absent or defines no scorer.
    """
    if isinstance(scorer, Scorer):
        return Named(getattr(scorer.rule, "__name__", "scorer").strip("<>"), scorer)
    if callable(scorer):
        return load(Scorer(scorer))
    if not registry.is_file(str(scorer)):
        if (ours := registry.scorers().get(str(scorer))) is None:
            raise unknown("scorer", str(scorer), registry.scorers())
        return Named(str(scorer), ours)
    name, module, _ = user_file.execute(scorer, "scorer")
    file, _, version = name.partition("@")
    rule = getattr(module, FUNCTION, None)
    if not callable(rule) or isinstance(rule, type):
        raise UserError(
            f"scorer file '{scorer}' defines no function {FUNCTION}. Write def {FUNCTION}(answer, sample), which gives "
            "True, False or a number from 0 to 1."
        )
    return Named(file, Scorer(rule, version), str(scorer).partition("@")[0])


def records(
    old: Iterable[Record],
    by: Named,
    *,
    tasks: Collection[str] = (),
    models: Collection[str] = (),
    data: str | None = None,
    background: str | None = None,
    tokenizer: str | None = None,
    command: str = "",
    warn: Warn = lambda message: None,
) -> Iterator[Record]:
    """The new record of each old one that has answers, in their order; the others are counted in a warning.

    tasks, models     only these, as records name them: 'babilong', 'babilong:qa1'
    data, background  where folders are now, for samples that are made again
    tokenizer         that lengths are in, for the same: Hugging Face name, folder or tokenizer.json
    command           what was typed

    Raises UserError if no record has answers, if the scorer fails, or if it reads a field of a sample that neither the
    record has nor can be made again.
    """
    scored, left_out = 0, Counter[str]()
    for record in old:
        is_task = not tasks or record.task in tasks or remake.title(record) in tasks
        if not is_task or (models and record.model not in models):
            continue
        if any(map(_has_answer, record.answers)):
            scored += 1
            remade = Remade(record, tokenizer, {"data": data, "background": background})
            yield _rescored(record, by, remade, command, warn)
        else:
            left_out[record.status] += 1
    without = ", ".join(f"{count} {status}" for status, count in left_out.items())
    if not scored:
        asked = {"--task": tasks, "--model": models}
        chosen = "".join(f" of {option} {','.join(names)}" for option, names in asked.items() if names)
        why = f" ({without}, all without answers)" if without else ""
        raise UserError(f"no record{chosen} has answers to judge{why}. `atlas-bench report RECORDS` lists them.")
    if without:
        warn(f"left out, as they have no answers: {without}.")


def _rescored(record: Record, by: Named, remade: Remade, command: str, warn: Warn) -> Record:
    """The record with the scorer's verdicts beside the old ones, and its score as the headline."""
    where = f"{remake.title(record)} {format_length(record.length)} {record.model}"
    record = _with_old_version_kept(record, by)
    rows, verdicts, cut = [], [], 0
    for row in record.answers:
        if _has_answer(row):
            answer, is_cut = uncut(row["answer"])
            verdicts.append(_verdict(by, answer, RecordedSample(row, remade), where))
            row = row | {"correct": row["correct"] | {by.name: verdicts[-1]}}
            cut += is_cut
        rows.append(row)
    note = record.note
    if cut:
        judged = f"{cut} of {len(verdicts)} answers judged by {by.name} on their first {ANSWER_CHARS} characters"
        warn(f"{where}: {judged}, as the record has no more of them.")
        note = f"{note}; {judged}" if note else judged
    rescoring = {
        "source": remade.source, "scorer": by.name, "version": by.scorer.version, "cut": cut, "at": resources.now(),
        "command": command, "atlas_bench": __version__,
    }  # fmt: skip
    return replace(
        record,
        answers=rows,
        scores=record.scores | {by.name: {"correct": sum(verdicts), "n": len(verdicts)}},
        scorer_version=record.scorer_version | {by.name: by.scorer.version},
        headline=by.name,
        chance=record.chance if by.name == record.headline else None,  # it is the chance of the task's headline
        note=note,
        rescored=[*(record.rescored or ()), rescoring],
    )


def _with_old_version_kept(record: Record, by: Named) -> Record:
    """The record, where a score of another version of the scorer is called 'NAME@VERSION'."""
    version = record.scorer_version.get(by.name)
    if by.name not in record.scores or version == by.scorer.version:
        return record

    def renamed(named: Mapping[str, Any]) -> dict[str, Any]:
        return {f"{name}@{version}" if name == by.name else name: value for name, value in named.items()}

    return replace(
        record,
        answers=[row | {"correct": renamed(row["correct"])} for row in record.answers],
        scores=renamed(record.scores),
        scorer_version=renamed(record.scorer_version),
    )


def _verdict(by: Named, answer: str, sample: RecordedSample, where: str) -> bool | float:
    """What the scorer says; its error as a UserError that names the question."""
    try:
        return by.scorer(answer, sample)  # type: ignore[arg-type]  # it has all that a Sample has
    except UserError as error:  # of what the sample is made again with
        raise UserError(f"scorer '{by.name}' needs more than the record of {where} has: {error}") from None
    except Exception as error:
        if by.path:
            what, advice = user_file.describe_error(error, by.path), "Correct it."
        else:
            what, advice = f"{type(error).__name__}: {error}", "Choose records that it can judge, with --task."
        question = f"question {sample.index} of {where}"
        raise UserError(f"scorer '{by.name}' fails on {question}: {clip(what)}. {advice}") from None


def _has_answer(row: Mapping[str, Any]) -> bool:
    """Whether a row can be judged: not where the model gave no answer, nor where only its loss was measured."""
    return "failed" not in row and "losses" not in row and bool(row["targets"])


def new_file(file: Path) -> Path:
    """The file for new records; UserError if it exists or is not a .jsonl."""
    if file.suffix != ".jsonl":
        raise UserError(f"'{file}' is no file of records. Give a new file that ends in .jsonl.")
    if file.exists():
        raise UserError(f"'{file}' is there already, and records are never replaced. Give a new file.")
    output_file.check(file)
    return file


def write(new: Iterable[Record], file: Path) -> list[dict[str, Any]]:
    """Write new records to a new file, all or none, and return the outcome() of each.

    Raises UserError if the file cannot be written.
    """
    outcomes = []
    try:
        with atomic.replacing(file) as draft, draft.open("w", encoding="ascii") as stream:
            for record in new:
                stream.write(record.to_json() + "\n")
                outcomes.append(outcome(record))
    except OSError as error:
        raise UserError(f"'{file}' cannot be written: {error.strerror or error}. Choose another.") from None
    return outcomes


def outcome(record: Record) -> dict[str, Any]:
    """The result for one new record, as plain data."""
    *_, rescoring = record.rescored or ()
    name = rescoring["scorer"]
    return {
        "task": remake.title(record), "length": record.length, "model": record.model, "seed": record.seed,
        "scorer": name, "score": score(record, name),
        "before": {other: score(record, other) for other in record.scores if other != name},
        "unanswered": sum(not _has_answer(row) for row in record.answers), "cut": rescoring["cut"],
        "source": rescoring["source"],
    }  # fmt: skip


def lines(outcomes: Iterable[Mapping[str, Any]]) -> list[str]:
    """'babilong:qa1 1K atlas-nano: my_scorer.py 97.5 % (..), n=200; before: babilong/official 98.0 % (..), n=200'"""
    texts = []
    for each in outcomes:
        cell = f"{each['task']} {format_length(each['length'])} {each['model']}"
        before = [f"; before: {name} {percent(old)}" for name, old in each["before"].items()]
        texts.append(f"{cell}: {each['scorer']} {percent(each['score'])}" + "".join(before[:1]))
    return texts
