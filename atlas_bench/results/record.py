"""A record: everything one cell measured, as one line of JSON. `docs/record.md` explains every field.

    line = Record(
        status="ok", task="mqar", task_version="1", subset="8", length=1000, model="titans", seed=0, samples=200,
        scores={"mqar/exact": {"correct": 187, "n": 200}}, headline="mqar/exact",
    ).to_json()
    Record.from_json(line, where="mqar.jsonl:1").scores["mqar/exact"]["correct"]      # 187

What a file holds is foreign: every line is checked as it is read, and refused by file and line.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from functools import cache, lru_cache
from operator import attrgetter
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from atlas_bench.errors import UserError
from atlas_bench.results import values
from atlas_bench.types import Status

SCHEMA = "1"
ANSWER_CHARS = 2000

EARLIER_OFFICIAL = "earlier-official"  # what a record's prompt "official" is read as where it has no `protocol`

DEPTH = 64  # of lists and objects in each other; a record has some six

Warn = Callable[[str], None]
Check = Callable[[Any], bool]
Kinds = dict[type, Check | None]  # the types that a JSON value may have -> what more it must pass

_IDENTITY = (
    "task", "task_version", "subset", "length", "model", "weights_hash", "seed", "samples", "options",
    "protocol",
)  # fmt: skip
_CIRCUMSTANCE = (  # what may differ between two runs of one command
    "seconds", "tokens_per_second", "block", "batch", "peak_rss_bytes", "resumed", "usage", "endpoint",
    "kernel", "hardware", "device", "products", "kernel_why", "command", "started", "ended",
)  # fmt: skip

_LATER = frozenset(
    ("note", "model_spec", "training")
)  # left out where null, so that older lines read back as they were

_PLAIN, _NAMES = frozenset((str, int, NoneType)), frozenset((str,))  # types that are equal where their JSON is
_asked = attrgetter(*(name for name in _IDENTITY if name not in ("options", "protocol")))
_DECODER = json.JSONDecoder(parse_constant=lambda _: None)  # NaN and Infinity, which JSON has not, become null


@dataclass(frozen=True, kw_only=True)
class Record:
    """One cell's line: None and empty mean "not measured", never zero."""

    schema: str = SCHEMA
    status: Status
    reason: str = ""
    note: str | None = None
    # the cell
    task: str
    task_version: str
    subset: str
    length: int
    model: str
    seed: int
    samples: int
    options: dict[str, Any] = field(default_factory=dict)
    protocol: dict[str, Any] = field(default_factory=dict)
    # scores
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    scorer_version: dict[str, str] = field(default_factory=dict)
    headline: str | None = None
    chance: float | None = None
    metrics: dict[str, float | None] = field(default_factory=dict)
    curve: list[dict[str, Any]] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)
    # what makes the contexts again
    plan_hash: str | None = None
    corpus_key: str | None = None
    tokenizer_key: str | None = None
    data_hash: str | None = None
    prompt_hash: str | None = None
    # the model
    parameters: int | None = None
    state_bytes: int | None = None
    training_tokens: int | None = None
    training: dict[str, Any] | None = None
    weights_hash: str | None = None
    kernel: str | None = None
    kernel_why: str | None = None
    device: str | None = None
    products: str | None = None
    chunk_size: int | None = None
    memory: str | None = None
    model_spec: str | None = None
    chat_template: str | None = None
    # speed and cost
    tokens_read: int | None = None
    seconds: float | None = None
    tokens_per_second: float | None = None
    block: int | None = None
    batch: int | None = None
    peak_rss_bytes: int | None = None
    resumed: bool = False
    usage: dict[str, Any] | None = None
    endpoint: dict[str, Any] | None = None
    # surroundings
    versions: dict[str, Any] = field(default_factory=dict)
    hardware: dict[str, Any] = field(default_factory=dict)
    command: str = ""
    started: str | None = None
    ended: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)  # written beside the others, not under a key

    def to_json(self) -> str:
        """The record as one line of ASCII JSON, without the newline; not-finite numbers become null."""
        return json.dumps(_finite(as_dict(self)), default=str, allow_nan=False)

    @classmethod
    def from_json(cls, line: str | bytes, *, where: str = "record", warn: Warn | None = None) -> Record:
        """The record of one line; unknown fields are kept in `extra`, and they and a missing schema told to `warn`.

        line   one JSON object
        where  "file:line", the start of every message

        Raises UserError for a line that is no record, or one of a newer schema.
        """
        row = parse_object(line, where)
        _check_schema(row, where)
        no_schema = "schema" not in row
        found = _taken(row, where)
        if no_schema and warn:
            warn(f'{where}: no schema, read as {SCHEMA}. Add "schema": "{SCHEMA}" where that is right.')
        if row and warn:
            warn(f"{where}: unknown fields kept as they are: {clip(', '.join(map(values.shown, sorted(row))), 300)}.")
        if not found["protocol"] and found["task"] == "babilong" and found["options"].get("prompt") == "official":
            found["options"] = found["options"] | {"prompt": EARLIER_OFFICIAL}  # other words, and another stop rule
        record = cls.__new__(cls)  # a frozen class's __init__ sets field by field, and took a third of all the time
        vars(record).update(found, extra=dict(row))  # a copy: an emptied dict keeps its room
        return record


def as_dict(record: Record) -> dict[str, Any]:
    """The record's fields in the order of writing: `extra` last and flat, later fields left out where empty."""
    row = {name: value for name, value in asdict(record).items() if value is not None or name not in _LATER}
    return row | {name: value for name, value in row.pop("extra").items() if name not in row}


def cell_key(record: Record) -> str:
    """Identity of the cell (32 hex digits): two records with one key answer the same questions by the same rules."""
    cell = {name: getattr(record, name) for name in _IDENTITY}
    if not record.protocol:  # older records have none, and keep their keys
        del cell["protocol"]
    return hashlib.sha256(_text(cell).encode()).hexdigest()[:32]


def identity(record: Record) -> Hashable:
    """What `cell_key` is a hash of, without the hashing: equal for two records exactly where their keys are."""
    asked: tuple[Any, ...] = _asked(record)
    options = record.options
    if not (_PLAIN.issuperset(map(type, (*asked, *options.values()))) and _NAMES.issuperset(map(type, options))):
        asked = tuple(map(_canonical, asked))
        options = {str(name): _canonical(value) for name, value in options.items()}
    return (*asked, frozenset(options.items()), _text(record.protocol) if record.protocol else "")


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
    """The first `limit` characters, and a mark saying how many are gone."""
    return text if len(text) <= limit else f"{text[:limit]} [... {len(text) - limit} characters cut]"


def parse_object(line: str | bytes, where: str) -> dict[str, Any]:
    """The JSON object on one line, a byte order mark before it or not; raises UserError where there is none."""
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
    """Raise UserError unless the line is of this schema, the only one so far, or names none."""
    schema = row.get("schema", SCHEMA)
    if schema == SCHEMA:
        return
    if not isinstance(schema, str) or not re.fullmatch("[1-9][0-9]*", schema):
        raise UserError(
            f"{where}: not a record: schema is {values.shown(schema)}, and no whole number from 1 in quotes. "
            f'Write "{SCHEMA}" where the line is as docs/record.md says.'
        )
    raise UserError(
        f"{where}: record schema {clip(schema, 20)} is newer than {SCHEMA}, the newest this atlas-bench reads. "
        "Upgrade atlas-bench."
    )


def _taken(row: dict[str, Any], where: str) -> dict[str, Any]:
    """A record's fields, checked and taken out of `row`; absent ones have their default, or raise UserError."""
    shape = _shape(tuple(row), tuple(map(type, row.values())))
    if shape is None or not all(more(row[name]) for name, more in shape.checks):
        raise UserError(f"{where}: not a record: {_fault(row)}.")
    found = dict(zip(shape.names, row.values(), strict=True))  # every line brings names of its own, 3 KB of them
    row.clear()
    row.update((name, found.pop(name)) for name in shape.unknown)
    for name, default in shape.absent:
        found[name] = default()
    if fault := values.fault(found):
        raise UserError(f"{where}: not a record: {fault}.")
    return found


class _Shape(NamedTuple):
    """What lines with the same names and types have in common: what is left to check, to add, to leave."""

    names: tuple[str, ...]
    checks: list[tuple[str, Check]]
    absent: list[tuple[str, Callable[[], Any]]]
    unknown: list[str]


@lru_cache(maxsize=4096)
def _shape(names: tuple[str, ...], types: tuple[type, ...]) -> _Shape | None:
    """None where a field is missing or of a wrong type; 100,000 lines have a few shapes, so each is looked at once."""
    known, given = _checks(), dict(zip(names, types, strict=True))
    checks = {name: known[name][0].get(kind, _never) for name, kind in given.items() if name in known}
    if _never in checks.values() or not given.keys() >= set(needed()):
        return None
    return _Shape(
        names,
        [(name, more) for name, more in checks.items() if more],
        [(name, default) for name, (_, default) in known.items() if name not in given],
        [name for name in names if name not in known],
    )


def _fault(row: Mapping[str, Any]) -> str:
    """What is wrong with a line's fields."""
    if missing := [name for name in needed() if name not in row]:
        return f"{', '.join(missing)} missing"
    for name, (kinds, _) in _checks().items():
        more = kinds.get(type(row[name]), _never) if name in row else None
        if more is not None and not more(row[name]):
            return f"{name} is {values.shown(row[name])}"
    raise AssertionError


@cache
def needed() -> tuple[str, ...]:
    """The fields that no line goes without."""
    return tuple(f.name for f in fields(Record) if f.default is MISSING and f.default_factory is MISSING)


@cache
def _checks() -> dict[str, tuple[Kinds, Callable[[], Any]]]:
    """Field -> (what its value may be, what makes its default), from the annotations; made once, used 100,000 times."""
    hints = get_type_hints(Record)
    return {f.name: (_kinds(hints[f.name]), _default(f)) for f in fields(Record) if f.name != "extra"}


def _default(of: Field[Any]) -> Callable[[], Any]:
    return (lambda: of.default) if of.default_factory is MISSING else of.default_factory


def _kinds(hint: Any) -> Kinds:
    """What a JSON value of the annotated type may be; true is not 1."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return {kind: more for part in parts for kind, more in _kinds(part).items()}
    if origin is Literal:
        return {str: frozenset(parts).__contains__}
    if origin is dict:
        return {dict: _every(_kinds(parts[1]), of=dict.values)}
    if origin is list:
        return {list: _every(_kinds(parts[0]), of=iter)}
    if hint is Any:
        return dict.fromkeys((str, int, float, bool, NoneType, list, dict))
    return {int: None, float: None} if hint is float else {hint: None}


def _every(kinds: Kinds, *, of: Callable[[Any], Iterable[Any]]) -> Check | None:
    """The check of all items of a list or object, None where they may be anything."""
    if kinds == _kinds(Any):
        return None
    if not any(kinds.values()):
        return lambda value: kinds.keys() >= set(map(type, of(value)))
    return lambda value: all((more := kinds.get(type(item), _never)) is None or more(item) for item in of(value))


def _never(value: Any) -> bool:
    return False


def _is_deep(value: Any) -> bool:
    """Whether lists and objects are nested deeper than DEPTH; by levels, for recursion is what it keeps from harm."""
    level = [value]
    for _ in range(DEPTH):
        inner = (each.values() if type(each) is dict else each for each in level)
        level = [item for items in inner for item in items if type(item) in (dict, list)]
    return bool(level)


def _text(value: Any) -> str:
    """Canonical JSON: the same text for equal values, whatever the order of their keys."""
    return json.dumps(_finite(value), sort_keys=True, separators=(",", ":"), default=str)


def _canonical(value: Any) -> Hashable:
    """Equal for two values exactly where their canonical JSON is, which 1, 1.0 and true have not in common."""
    plain: Hashable = value if type(value) in _PLAIN else json.loads(text := _text(value))
    return plain if type(plain) in _PLAIN else (text,)


def _finite(value: Any) -> Any:
    """JSON has no NaN, and a record that cannot be written would lose a whole cell."""
    if isinstance(value, Mapping):
        return {str(name): _finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if hasattr(value, "tolist"):  # numpy, without importing it
        return _finite(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
