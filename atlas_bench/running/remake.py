"""A question of a record made again, with its context: from the record's own fields, and checked against its row.

    record = choose(records, {"--task": "babilong:qa2", "--len": 16_000, "--model": "atlas-nano"})
    shown = remake(record, 3)                # plain data: excerpt, question, targets, answer, verdicts
    shown["context"]                         # 'Mary went .. [.. 4012 tokens ..] ..'

Records are foreign: nothing here executes code or loads a model that only a record names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

from atlas_bench import registry
from atlas_bench.errors import UserError, clip, did_you_mean, reason
from atlas_bench.models.tokenizer import embedded
from atlas_bench.results import store
from atlas_bench.results.record import Record
from atlas_bench.results.record import clip as clip_text
from atlas_bench.running import answers, plan
from atlas_bench.running.excerpt import excerpt, facts
from atlas_bench.types import Sample, TaskOptions, Tokenizer
from atlas_bench.units import format_length, parse_length

SOURCES = {  # what a sample is made of, by the record's field
    "corpus_key": "the background text",
    "data_hash": "the task's data",
    "prompt_hash": "the prompt around context and question",
}
LISTED = 5  # values that a message lists


def show(
    records: Iterable[Record],
    index: int,
    *,
    task: str | None = None,
    length: str | int | None = None,
    model: str | None = None,
    seed: int | None = None,
    data: str | None = None,
    background: str | None = None,
    prompt: str | None = None,
    samples: int | None = None,
    weights: str | None = None,
    tokenizer: str | None = None,
) -> dict[str, Any]:
    """Question `index` of the one record that the others choose: choose(), then remake().

    task              as the user typed it: a file, './my_task.py:easy', is executed
    data, background  where folders are now
    weights           first 8 digits of the weights' hash, or more
    """
    name, subset = registry.parted(task or "")
    if registry.is_file(name):
        task = plan.parse_task(name)[0][0] + ("" if subset is None else f":{subset}")
    wanted = {
        "--task": task, "--len": None if length is None else parse_length(length), "--model": model, "--seed": seed,
        "--data": kind(data), "--background": kind(background), "--prompt": prompt, "--samples": samples,
        "--weights": weights and weights[:8],
    }  # fmt: skip
    return remake(choose(records, wanted), index, data=data, background=background, tokenizer=tokenizer)


def title(record: Record) -> str:
    """'babilong:qa2'"""
    return f"{record.task}:{record.subset}" if record.subset else record.task


def kind(where: str | None) -> str | None:
    """The kind of data, without the path of a folder, which may have moved."""
    return where if where is None or where in plan.NO_FILES else "FOLDER"


CHOICES: dict[str, Callable[[Record], Any]] = {  # option -> a record's value
    "--task": title,
    "--len": lambda record: record.length,
    "--model": lambda record: record.model,
    "--seed": lambda record: record.seed,
    "--data": lambda record: kind(record.options.get("data", "generated")),
    "--background": lambda record: kind(record.options.get("background", "generated")),
    "--prompt": lambda record: record.options.get("prompt", "bare"),
    "--samples": lambda record: record.samples,
    "--weights": lambda record: (record.weights_hash or "none")[:8],
}


def choose(records: Iterable[Record], wanted: Mapping[str, Any]) -> Record:
    """The one record that is left of those chosen; of several records of one cell the latest `ok` one counts.

    wanted  option of CHOICES -> value, None for any: {"--task": "babilong:qa2", "--len": 16_000}; a task without a
            subset chooses all of its subsets, and a folder as data or background all folders

    Raises UserError if none or several are left, and lists them.
    """
    left = store.latest(records)
    if not left:
        raise UserError("there is no record to show. `atlas-bench run` writes them to runs/*.jsonl.")
    for option, value in wanted.items():
        if value is None:
            continue
        there = _values(left, option)
        left = [record for record in left if _is(record, option, value)]
        if not left:
            written = format_length(value) if option == "--len" else str(value)
            near = did_you_mean(written, there)
            raise UserError(f"no record has {option} {written}.{near} There are: {_some(there)}.")
    if choices := [f"{option} ({_some(there)})" for option in CHOICES if len(there := _values(left, option)) > 1]:
        raise UserError(f"{len(left)} records are left. Choose one by {', '.join(choices)}.")
    return left[-1]


def _is(record: Record, option: str, value: Any) -> bool:
    return CHOICES[option](record) == value or (option == "--task" and record.task == value)


def _values(records: Iterable[Record], option: str) -> list[str]:
    found = sorted({CHOICES[option](record) for record in records})
    return [format_length(value) if option == "--len" else str(value) for value in found]


def _some(values: list[str]) -> str:
    more = f" and {len(values) - LISTED} more" if len(values) > LISTED else ""
    return clip(", ".join(values[:LISTED]), 300) + more


def remake(
    record: Record,
    index: int,
    *,
    data: str | None = None,
    background: str | None = None,
    tokenizer: str | None = None,
) -> dict[str, Any]:
    """Question `index` of the record with its context, as plain data.

    index             of the sample, from 0, as in the record's `answers`
    data, background  where these are now; None: where the record says
    tokenizer         Hugging Face name, folder or tokenizer.json that the record's lengths are in; None: the embedded
                      models'

    Raises UserError if the sample cannot be made again as it was: another version, other data, no such file.
    """
    row, ids = _row(record, index), tokenizer_of(record, tokenizer)
    sample = _sample(record, index, ids, {"data": data, "background": background})
    if row is not None:
        check(record, row, sample)
    spans = facts(sample)
    return {
        "task": record.task,
        "subset": record.subset,
        "length": record.length,
        "model": record.model,
        "seed": record.seed,
        "samples": record.samples,
        "status": record.status,
        "reason": record.reason,
        "index": index,
        "tokens": sample.length,
        "context": excerpt(sample, ids),
        "facts": [{"position": start, "text": ids.decode(_read(sample, start, stop)).strip()} for start, stop in spans],
        "question": ids.decode(sample.question).strip(),
        "prefill": ids.decode(sample.prefill).strip(),
        "targets": [target for target in sample.targets if target],
        "answer": None if row is None else row["answer"],
        "correct": {} if row is None else row["correct"],
        "failed": None if row is None else row.get("failed"),
        "headline": record.headline,
    }


def _read(sample: Sample, start: int, stop: int) -> list[int]:
    return [int(token) for token in sample.context.read(start, stop)]


def _row(record: Record, index: int) -> Mapping[str, Any] | None:
    """The answer's row; None for a question that was never answered, of a cell that failed or was stopped."""
    if not 0 <= index < max(record.samples, len(record.answers)):
        raise UserError(
            f"there is no question {index}: the record has {record.samples}. Give a number from 0 to "
            f"{record.samples - 1}."
        )
    return next((row for row in record.answers if row["index"] == index), None)


def first_samples(record: Record, n: int, tokenizer: Tokenizer, moved: Mapping[str, str | None]) -> Iterator[Sample]:
    """The record's first n samples, in the model's tokens and without what the model puts around a prompt.

    moved  "data" and "background" -> where these are now; None: where the record says

    Raises UserError if they cannot be made again: lm-eval's, another version's, a user's task that is not loaded.
    """
    if record.task == "lm-eval":
        raise UserError(
            f"'{title(record)}' is lm-eval's, and its documents cannot be made again here. `atlas-bench report RECORDS "
            "--answers FILE.html` lists the record's answers."
        )
    task = _users_task(record) if registry.is_file(record.task) else registry.task(record.task)
    if task.version != record.task_version:
        raise UserError(
            f"the record is of {record.task} version {record.task_version}, and this atlas-bench has version "
            f"{task.version}, which makes other samples. Install atlas-bench {record.versions.get('atlas_bench', '')}, "
            "which wrote the record, to show it."
        )
    options = replace(_options(record), **{name: where for name, where in moved.items() if where is not None})
    task.check(record.subset, record.length, tokenizer, options)
    made: Iterator[Sample] = task.samples(record.subset, record.length, n, record.seed, tokenizer, options)
    return made


def _sample(record: Record, index: int, tokenizer: Tokenizer, moved: Mapping[str, str | None]) -> Sample:
    made = first_samples(record, index + 1, tokenizer, moved)
    found = next((sample for sample in made if sample.index == index), None)
    if found is None:
        raise UserError(f"the data have no sample {index} any more: {title(record)} ends before it.")
    return found


def _users_task(record: Record) -> Any:
    try:
        return registry.task(record.task)
    except UserError:
        name = record.task.partition("@")[0]
        raise UserError(
            f"the record is of a task file of yours, '{record.task}'. Name the file, which is executed: --task ./{name}"
        ) from None


def _options(record: Record) -> TaskOptions:
    known = {field.name for field in fields(TaskOptions)}
    given = {name: value for name, value in record.options.items() if name in known}
    if unknown := sorted(record.options.keys() - known):
        raise UserError(f"the record's options {', '.join(unknown)} are unknown here: a newer atlas-bench wrote it.")
    if given.get("prompt", "bare") not in plan.PROMPTS:
        raise UserError(
            f"the record's prompt '{given['prompt']}' is an earlier version's: this one's words differ. Install "
            f"atlas-bench {record.versions.get('atlas_bench', '')} to show it."
        )
    return TaskOptions(**given)


def tokenizer_of(record: Record, name: str | None) -> Tokenizer:
    """The tokenizer of the record's lengths: the embedded one, or that of the name which the user gave."""
    if record.tokenizer_key in (None, embedded().key):
        return embedded()
    called = record.model_spec or record.model
    if name is None:
        measured = (record.endpoint or {}).get("tokenizer") or called.removeprefix("hf:").partition(":")[0]
        raise UserError(
            f"the record's lengths are in the tokens of '{clip(str(measured))}', which are not the embedded models'. "
            "Name its tokenizer: --tokenizer with a Hugging Face name, a folder or a tokenizer.json."
        )
    keys = []
    for load in (_from_file, _from_transformers):
        try:
            found = load(name)
        except UserError:
            if keys or load is _from_file:
                continue
            raise
        if found.key == record.tokenizer_key:
            return found
        keys.append(found.key)
    raise UserError(
        f"the tokenizer '{name}' is not the record's: its key is {' or '.join(keys)}, and the record's "
        f"{record.tokenizer_key}. Name the one that '{clip(called)}' had then."
    )


def _from_file(name: str) -> Tokenizer:
    """As an endpoint measures its lengths."""
    from atlas_bench.models.endpoint import spec

    return spec.tokenizer(name)


def _from_transformers(name: str) -> Tokenizer:
    """As a model of Hugging Face reads."""
    from transformers import AutoTokenizer

    from atlas_bench.models.huggingface.tokenizer import Tokenizer as Transformers

    try:
        return Transformers(AutoTokenizer.from_pretrained(name))
    except Exception as error:  # transformers raises many kinds
        raise UserError(
            f"tokenizer '{name}' cannot be loaded ({clip(reason(error))}). Give a Hugging Face name or a folder."
        ) from None


def check(record: Record, row: Mapping[str, Any], sample: Sample) -> None:
    """Raise UserError if the sample is not the one that was asked: its data or its question differ."""
    made = answers.sources_of(sample)
    for name, what in SOURCES.items():
        before = getattr(record, name)
        if before is not None and made.get(name) not in (before, None):
            raise UserError(
                f"{what} of this record is not here any more: {name} was {clip(before, 60)} and is "
                f"{clip(made[name], 60)}. Restore it, or install atlas-bench {record.versions.get('atlas_bench', '')}."
            )
    now = answers.row_of(sample, "", {})
    moved = {b - a for a, b in zip(now["needle_positions"], row["needle_positions"], strict=False)}
    same = (
        list(now["targets"]) == list(row["targets"])
        and clip_text(now["question"]) == row["question"]
        and len(now["needle_positions"]) == len(row["needle_positions"])
        and len(moved) <= 1  # a chat template before the context moves all of them alike
    )
    if not same:
        raise UserError(
            f"question {sample.index} of this record cannot be made again: it would now be {_asked(now)}, and the "
            f"record has {_asked(row)}. The code or the data have changed since."
        )


def _asked(row: Mapping[str, Any]) -> str:
    """'Where is Mary?' (kitchen), facts at 12, 40"""
    where = f", facts at {clip(', '.join(map(str, row['needle_positions'])), 60)}" if row["needle_positions"] else ""
    return f"{clip(row['question'], 80)!r} ({clip(' | '.join(row['targets']), 80)}){where}"
