"""A record: everything one cell measured, as one line of JSON. `docs/record.md` explains every field.

    line = Record(
        status="ok", task="mqar", task_version="1", subset="8", length=1000, model="titans", seed=0, samples=200,
        scores={"mqar/exact": {"correct": 187, "n": 200}}, headline="mqar/exact",
    ).to_json()
    Record.from_json(line, where="mqar.jsonl:1").scores["mqar/exact"]["correct"]      # 187

The annotations are the only place where a field is defined: pydantic checks every line by them, since what a file holds
is foreign, and the JSON Schema and the tables of docs/record.md are made from them (schema.py).
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from typing import (
    Annotated,
    Any,
    NotRequired,  # before Python 3.12 pydantic takes no other
)

from pydantic import AfterValidator, ConfigDict, Field, Strict, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from atlas_bench.errors import UserError
from atlas_bench.types import Status

SCHEMA = "1"
ANSWER_CHARS = 2000
DEPTH = 64  # of lists and objects in each other; a record has some six
MOST = 10**18  # tokens, bytes, seconds, answers: more is no measurement, and breaks those who draw it
LARGEST = 1e300  # upper bound of other numbers: rejects infinities and integers too large for a float

EARLIER_OFFICIAL = "earlier-official"  # what a record's prompt "official" is read as where it has no `protocol`

Warn = Callable[[str], None]

_IDENTITY = (
    "task", "task_version", "subset", "length", "model", "weights_hash", "seed", "samples", "options",
    "protocol",
)  # fmt: skip
_CIRCUMSTANCE = (  # what may differ between two runs of one command
    "seconds", "tokens_per_second", "block", "batch", "parallel", "peak_rss_bytes", "resumed", "usage", "endpoint",
    "kernel", "hardware", "device", "products", "kernel_why", "command", "started", "ended", "parts",
)  # fmt: skip
_LATER = frozenset(
    ("note", "parallel", "model_spec", "training", "rescored", "part", "parts")
)  # left out where null: older lines stay as they were
_DECODER = json.JSONDecoder(parse_constant=lambda _: None)  # NaN and Infinity, which JSON has not, become null

# ruff: noqa: E501 - a field is one line
# Types of JSON: none is converted into another, true is not 1, and 1.0 is no whole number
Text = Annotated[str, Strict()]
Flag = Annotated[bool, Strict()]
Whole = Annotated[int, Strict(), Field(ge=-(1 << 63), lt=1 << 63)]  # more breaks a column of them
Count = Annotated[int, Strict(), Field(ge=0, lt=MOST)]
Amount = Annotated[float, Strict(), Field(ge=0, lt=MOST)]
Number = Annotated[float, Strict(), Field(gt=-LARGEST, lt=LARGEST)]
Share = Annotated[float, Strict(), Field(ge=0, le=1)]
Object = dict[str, Any]


def _is(unit: str, meaning: str) -> Any:
    """Unit and meaning of a field, for the schema and the documentation."""
    return Field(description=meaning, json_schema_extra={"unit": unit})


def _at_most_n(score: Score) -> Score:
    if score["correct"] > score["n"]:
        raise ValueError("more right answers than answers")
    return score


# What is Any is read by nobody but people: a line with something else there stays readable
# fmt: off
@with_config(ConfigDict(extra="allow"))
class Score(TypedDict):
    """What one scorer counted."""

    correct: Annotated[Amount, _is("share", "right answers; for a scorer with partial credit (RULER's) their sum")]
    n: Annotated[Count, _is("count", "answers judged: fewer than `samples` where a cell was stopped or samples have no answer")]


@with_config(ConfigDict(extra="allow"))
class Answer(TypedDict):
    """One sample's row of `answers`."""

    index: Annotated[Count, _is("count", "position in the cell, from 0")]
    question: Annotated[Text, _is("text", "past 2000 characters cut, with a mark")]
    targets: Annotated[list[Any], _is("list", "right answers")]
    answer: Annotated[Text, _is("text", "past 2000 characters cut, with a mark")]
    correct: Annotated[dict[str, Flag | Share], _is("verdicts", "scorer name -> true, false, or a share in 0..1")]
    needle_positions: NotRequired[Annotated[Any, _is("positions", "tokens from the start of the prompt, one per fact")]]
    length: NotRequired[Annotated[Any, _is("tokens", "of this prompt, where a published context has a length of its own")]]
    context: NotRequired[Annotated[Count, _is("count", "index of the first sample on the same context")]]
    asked_at: NotRequired[Annotated[Count, _is("tokens", "read before the question, where it is asked on the way")]]
    needle_depth: NotRequired[Annotated[Share, _is("fraction", "where the needle stands, 0..1")]]
    distance: NotRequired[Annotated[Count, _is("tokens", "between the fact and the question")]]
    failed: NotRequired[Annotated[Any, _is("text", "why there is no answer (an endpoint's error, ..): no verdict, in no score")]]
    losses: NotRequired[Annotated[Any, _is("list", "of `loss`: for each range `[tokens, nats, tokens that were the likeliest]`")]]


@with_config(ConfigDict(extra="allow"))
class Rescoring(TypedDict):
    """One run of the command `score` over a record's answers."""

    source: Annotated[Text, _is("hash", "of the record that held the answers: `record.record_hash` makes it")]
    scorer: Annotated[Text, _is("text", "name of the scorer: of ours, or the user's file")]
    version: Annotated[Text, _is("text", "of the scorer; of a file the first 8 digits of its sha256")]
    cut: Annotated[Count, _is("count", "answers that were judged by their first 2000 characters, as the record has no more")]
    at: Annotated[Text, _is("UTC, ISO 8601", "when")]
    command: NotRequired[Annotated[Any, _is("text", "what was typed")]]
    atlas_bench: NotRequired[Annotated[Any, _is("text", "version that judged")]]


@with_config(ConfigDict(extra="allow"))
class Part(TypedDict):
    """The samples of the cell that a record holds, where a shard or a worker asked a part of them."""

    first: Annotated[Count, _is("count", "index of the first sample")]
    stop: Annotated[Count, _is("count", "index behind the last one")]
    plans: NotRequired[Annotated[list[Text], _is("list", "the hash of each answered sample's plan, of which `plan_hash` is made")]]
    shard: NotRequired[Annotated[Count, _is("count", "number of the shard (`--shard`), from 1")]]
    shards: NotRequired[Annotated[Count, _is("count", "how many shards the plan was split into")]]
    plan: NotRequired[Annotated[Text, _is("hash", "of the cells of the whole plan")]]
    cell: NotRequired[Annotated[Count, _is("count", "position of the cell in the plan, from 0")]]
    cells: NotRequired[Annotated[Count, _is("count", "cells of the plan")]]


@with_config(ConfigDict(extra="allow"))
class Joined(TypedDict):
    """One part of a merged record: what it cost, and where it ran."""

    first: Annotated[Count, _is("count", "index of the first sample")]
    stop: Annotated[Count, _is("count", "index behind the last one")]
    status: Annotated[Status, _is("text", "how it ended")]
    seconds: Annotated[Amount | None, _is("seconds", "reading and answering")]
    batch: Annotated[Whole | None, _is("count", "contexts fed side by side, at most")]
    resumed: Annotated[Flag, _is("true/false", "went on from a checkpoint")]
    hardware: Annotated[Object, _is("object", "`cpu`, `cores`, `gpu`")]
    started: Annotated[Text | None, _is("UTC, ISO 8601", "when it began")]
    ended: Annotated[Text | None, _is("UTC, ISO 8601", "when it ended")]
    command: Annotated[Text, _is("text", "what was typed for it")]


CurvePart = TypedDict("CurvePart", {  # "from" is a word of Python
    "from": Annotated[Count, _is("tokens", "first position of the range")],
    "to": NotRequired[Annotated[Any, _is("tokens", "first position behind it")]],
    "n": NotRequired[Annotated[Any, _is("tokens", "predicted in it, over all streams")]],
    "streams": Annotated[Count, _is("count", "independent streams")],
    "nats": Annotated[Number | None, _is("nats/token", "mean loss; null where it was no number")],
    "low": NotRequired[Annotated[Number | None, _is("nats/token", "lower end of the 95 % interval; null for one stream")]],
    "high": NotRequired[Annotated[Number | None, _is("nats/token", "its upper end")]],
    "accuracy": NotRequired[Annotated[Any, _is("fraction", "share of tokens that were the likeliest")]],
})
with_config(ConfigDict(extra="allow"))(CurvePart)
# fmt: on


@dataclass(frozen=True, kw_only=True)
class Record:
    """One cell's line: None and empty mean "not measured", never zero."""

    # fmt: off
    schema: Annotated[Text, _is("text", 'version of this page: "1"')] = SCHEMA
    status: Annotated[Status, _is("text", "`ok`, `oom`, `timeout`, `failed` or `unsupported` (the model cannot do that)")]
    reason: Annotated[Text, _is("text", "why not `ok`, and what would do; empty for `ok`")] = ""
    note: Annotated[Text | None, _is("text", "what to mind about the score: by its card never trained for this; the answers decided when to stop")] = None
    # What was asked
    task: Annotated[Text, _is("text", 'registered name: "babilong"')]
    task_version: Annotated[Text, _is("text", "changes when the same seed would make other samples")]
    subset: Annotated[Text, _is("text", '"qa1"; empty for a task without subsets')]
    length: Annotated[Count, _is("tokens", "the whole prompt with its question, in the model's own tokenizer; 0: the task's own")]
    model: Annotated[Text, _is("text", 'registered name, path, or the user\'s name; of `probe` with what is gone: "atlas-nano;muon=off"')]
    seed: Annotated[Whole, _is("integer", "decides every sample")]
    samples: Annotated[Count, _is("count", "questions asked for; with a rule for stopping, the most")]
    options: Annotated[Object, _is("object", "the task's data choices: `data`, `background`, `prompt`, `encoding`")] = field(default_factory=dict)
    protocol: Annotated[Object, _is("object", "what else decides the answers; empty in records of version 0.1")] = field(default_factory=dict)
    part: Annotated[Part | None, _is("object", "of a part of the cell: which samples, below; `merge` puts parts together; left out where null")] = None
    # How it went
    scores: Annotated[dict[str, Annotated[Score, AfterValidator(_at_most_n)]], _is("object", "scorer name -> a score, below")] = field(default_factory=dict)
    scorer_version: Annotated[dict[str, Text], _is("object", "scorer name -> version; numbers of two versions do not compare")] = field(default_factory=dict)
    headline: Annotated[Text | None, _is("text", "the scorer shown first")] = None
    chance: Annotated[Share | None, _is("fraction", "score of the best answer that does not read the context")] = None
    metrics: Annotated[dict[str, Number | None], _is("object", "what is no share of right answers; null where it was no finite number")] = field(default_factory=dict)
    curve: Annotated[list[CurvePart], _is("list", "of the task `loss`: a part for each range of positions, below")] = field(default_factory=list)
    answers: Annotated[list[Answer], _is("list", "one row per sample, below")] = field(default_factory=list)
    rescored: Annotated[list[Rescoring] | None, _is("list", "by `score`: each time that recorded answers were judged anew, oldest first, below")] = None
    # What makes the contexts again
    plan_hash: Annotated[Text | None, _is("hash", "of all the cell's plans: facts, positions, background spans")] = None
    corpus_key: Annotated[Text | None, _is("text", "background text and its version")] = None
    tokenizer_key: Annotated[Text | None, _is("hash", "of everything that decides the token ids")] = None
    data_hash: Annotated[Text | None, _is("hash", "of the task's source data")] = None
    prompt_hash: Annotated[Text | None, _is("hash", "of the prompt around context and question")] = None
    # The model
    parameters: Annotated[Count | None, _is("count", "all weights, embeddings included")] = None
    state_bytes: Annotated[Count | None, _is("bytes", "one stream's state at the end: what the model remembers with")] = None
    training_tokens: Annotated[Count | None, _is("tokens", "read in training, by the model that it began from too")] = None
    training: Annotated[Object | None, _is("object", "`seed`, `muon_lr` and `adam_lr` of the training, by the model's card; left out where null")] = None
    weights_hash: Annotated[Text | None, _is("hash", "of the weights' bytes")] = None
    kernel: Annotated[Text | None, _is("text", "what computes the model, in brackets its form: torch or triton")] = None
    kernel_why: Annotated[Text | None, _is("text", "why no faster form ran; null where the fastest did")] = None
    device: Annotated[Text | None, _is("text", '"cpu", "cuda" or "server"')] = None
    products: Annotated[Text | None, _is("text", 'precision of matrix products: "fp32", "tf32" or "bf16"')] = None
    chunk_size: Annotated[Count | None, _is("tokens", "between two anchors of the inner gradient; null without a memory")] = None
    memory: Annotated[Text | None, _is("text", "memory variant")] = None
    model_spec: Annotated[Text | None, _is("text", "what `--model NAME=..` loaded, where `model` is the user's name for it")] = None
    chat_template: Annotated[Text | None, _is("hash", 'of the chat template, "none" where there is none; null for bare tokens')] = None
    # What it cost
    tokens_read: Annotated[Count | None, _is("tokens", "fed over all samples; a context that samples share counts once")] = None
    seconds: Annotated[Amount | None, _is("seconds", "reading and answering, over all attempts of a resumed cell")] = None
    tokens_per_second: Annotated[Amount | None, _is("tokens/s", "`tokens_read / seconds`")] = None
    block: Annotated[Whole | None, _is("tokens", "fed at once; never changes a result")] = None
    batch: Annotated[Whole | None, _is("count", "contexts fed side by side, at most; never changes a result")] = None
    parallel: Annotated[Object | None, _is("object", "of `--readers`: their number as `readers`, and as `form` `by events` where they searched the stream, `dense` where they made its tokens alone; never changes a result; absent for one reader")] = None
    peak_rss_bytes: Annotated[Count | None, _is("bytes", "the process's peak resident memory")] = None
    resumed: Annotated[Flag, _is("true/false", "went on from a checkpoint")] = False
    usage: Annotated[Object | None, _is("object", "of an endpoint: requests, retries, tokens that it counted, and their cost")] = None
    endpoint: Annotated[Object | None, _is("object", "of an endpoint: `tokenizer`, models `served`, parameters `left_out`, `canary`")] = None
    versions: Annotated[Object, _is("object", "of `atlas_bench`, `python`, `torch`, `numpy`")] = field(default_factory=dict)
    hardware: Annotated[Object, _is("object", "`cpu`, `cores`, `gpu` (null without one)")] = field(default_factory=dict)
    command: Annotated[Text, _is("text", "what was typed, or the call from Python")] = ""
    parts: Annotated[list[Joined] | None, _is("list", "of a record put together of parts: what each took, below; left out where null")] = None
    started: Annotated[Text | None, _is("UTC, ISO 8601", "when the cell began")] = None
    ended: Annotated[Text | None, _is("UTC, ISO 8601", "when its record was written")] = None
    extra: Annotated[Object, _is("object", "in Python only: unknown fields, written beside the others")] = field(default_factory=dict)
    # fmt: on

    def to_json(self) -> str:
        """The record as one line of ASCII JSON, without the newline; not-finite numbers become null."""
        return json.dumps(finite(as_dict(self)), default=str, allow_nan=False)

    @classmethod
    def from_json(cls, line: str | bytes, *, where: str = "record", warn: Warn | None = None) -> Record:
        """The record of one line; `extra` keeps its unknown fields.

        line   one JSON object
        where  "file:line", the start of every message
        warn   receives a message for unknown fields, and for a line without a schema

        Raises UserError for a line that is no record, or one of a newer schema.
        """
        row = parse_object(line, where)
        _check_schema(row, where)
        names = {*FIELDS} - {"extra"}
        known = {name: value for name, value in row.items() if name in names}
        unknown = {name: value for name, value in row.items() if name not in names}
        try:
            _adapter().validate_python(known)
        except ValidationError as error:
            raise UserError(f"{where}: not a record: {_fault(error)}.") from None
        if "schema" not in row and warn:
            warn(f'{where}: no schema, read as {SCHEMA}. Add "schema": "{SCHEMA}" where that is right.')
        if unknown and warn:
            warn(f"{where}: unknown fields kept as they are: {clip(', '.join(map(shown, sorted(unknown))), 300)}.")
        record = cls(**known, extra=unknown)
        if not record.protocol and record.task == "babilong" and record.options.get("prompt") == "official":
            record.options["prompt"] = EARLIER_OFFICIAL  # other words, and another stop rule
        return record


FIELDS = tuple(each.name for each in fields(Record))


@cache
def _adapter() -> TypeAdapter[Record]:
    return TypeAdapter(Record)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of Record, as pydantic makes it from the annotations."""
    return _adapter().json_schema()


def _fault(error: ValidationError) -> str:
    """The first fault of a line's fields: 'length is "10M" (Input should be a valid integer)'."""
    found = error.errors(include_url=False)
    if missing := [str(each["loc"][0]) for each in found if each["type"] == "missing" and len(each["loc"]) == 1]:
        return f"{', '.join(missing)} missing"
    field, *inner = found[0]["loc"]
    place = f"{field}" + "".join(f"[{shown(part)}]" for part in inner)
    return f"{place} is {shown(found[0]['input'])} ({found[0]['msg']})"


def shown(value: Any) -> str:
    """The start of a value from a file as ASCII text, for a message."""
    return json.dumps(value)[:60]


def as_dict(record: Record) -> dict[str, Any]:
    """The record's fields in the order of writing: `extra` last and flat, later fields left out where empty."""
    row = {name: value for name, value in asdict(record).items() if value is not None or name not in _LATER}
    return row | {name: value for name, value in row.pop("extra").items() if name not in row}


def cell_key(record: Record) -> str:
    """Identity of the cell (32 hex digits): two records with one key answer the same questions by the same rules."""
    cell = {name: getattr(record, name) for name in _IDENTITY}
    if not record.protocol:  # older records have none, and keep their keys
        del cell["protocol"]
    if record.part:
        cell["part"] = [record.part["first"], record.part["stop"]]
    text = json.dumps(finite(cell), sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def record_hash(record: Record) -> str:
    """Hash of the record (32 hex digits), over its fields in order of name, without empty ones.

    So a line keeps its hash when a later version reads it, which knows more fields.
    """
    says = {name: value for name, value in json.loads(record.to_json()).items() if value}
    return hashlib.sha256(json.dumps(says, sort_keys=True).encode()).hexdigest()[:32]


def timeless(record: Record) -> dict[str, Any]:
    """The record without times, speeds, memory, machine and command: equal for two runs of one command."""
    row = json.loads(record.to_json())
    return {name: value for name, value in row.items() if name not in _CIRCUMSTANCE}


def answer_row(
    index: int,
    *,
    question: str,
    targets: Iterable[str],
    answer: str,
    correct: Mapping[str, bool | float],
    needle_positions: Iterable[int] = (),
) -> dict[str, Any]:
    """One sample's row of `answers`; question and answer are cut at 2000 characters, with a mark.

    correct           scorer name -> verdict, or the share of the answer that is right
    needle_positions  tokens from the start of the prompt, one per fact
    """
    return {
        "index": int(index),
        "question": clip(question),
        "targets": list(targets),
        "answer": clip(answer),
        "correct": {name: float(v) if isinstance(v, float) else bool(v) for name, v in correct.items()},
        "needle_positions": [int(position) for position in needle_positions],
    }


def clip(text: str, limit: int = ANSWER_CHARS) -> str:
    """The first `limit` characters, with a mark that says how many are cut."""
    return text if len(text) <= limit else f"{text[:limit]} [... {len(text) - limit} characters cut]"


def parse_object(line: str | bytes, where: str) -> dict[str, Any]:
    """The JSON object on one line, with or without a byte order mark; raises UserError where there is none."""
    try:
        text = line.decode() if isinstance(line, bytes) else line
        row = _DECODER.decode(text.removeprefix("\ufeff"))
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not JSON ({error.msg}, character {error.pos + 1}).") from None
    except UnicodeDecodeError as error:
        byte = f"byte 0x{line[error.start]:02x} at offset {error.start} of the line"
        raise UserError(f"{where}: not JSON (not UTF-8 text: {byte}).") from None
    except (ValueError, RecursionError) as error:  # a number of 4300 digits, lists in lists in lists
        raise UserError(f"{where}: not JSON ({error}).") from None
    if not isinstance(row, dict):
        raise UserError(f"{where}: not a record: a JSON object is expected.")
    if text.count("[") + text.count("{") > DEPTH and _is_deep(row):  # it would end in RecursionError further on
        raise UserError(f"{where}: not a record: more than {DEPTH} lists and objects in each other.")
    return row


def _check_schema(row: Mapping[str, Any], where: str) -> None:
    """Raise UserError unless the line is of this schema, the only one so far, or has no schema."""
    schema = row.get("schema", SCHEMA)
    if schema == SCHEMA:
        return
    if not isinstance(schema, str) or not re.fullmatch("[1-9][0-9]*", schema):
        raise UserError(
            f"{where}: not a record: schema is {shown(schema)}, and no whole number from 1 in quotes. "
            f'Write "{SCHEMA}" where the line is as docs/record.md says.'
        )
    raise UserError(
        f"{where}: record schema {clip(schema, 20)} is newer than {SCHEMA}, the newest this atlas-bench reads. "
        "Upgrade atlas-bench."
    )


def _is_deep(value: Any) -> bool:
    """Whether lists and objects are nested deeper than DEPTH; without recursion, which such a value would exhaust."""
    level = [value]
    for _ in range(DEPTH):
        inner = (each.values() if type(each) is dict else each for each in level)
        level = [item for items in inner for item in items if type(item) in (dict, list)]
    return bool(level)


def finite(value: Any) -> Any:
    """The value with null for NaN and infinities, which JSON cannot hold and which would lose a whole cell."""
    if isinstance(value, Mapping):
        return {str(name): finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if hasattr(value, "tolist"):  # numpy, without importing it
        return finite(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
