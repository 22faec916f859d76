"""Everything that reads what others wrote, as functions of bytes: each returns or refuses, and nothing else may happen.

    PARSERS["record"].check(b'{"schema": "1"')        # None: it was read, or refused by the error that says so

A parser of your own is one line of PARSERS. An input that once went wrong is a file in found/NAME/.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import typer

from atlas_bench import registry, units
from atlas_bench.cli import config
from atlas_bench.cli.app import app
from atlas_bench.cli.commands import Command
from atlas_bench.errors import UserError
from atlas_bench.files import checkpoint_file, text_files
from atlas_bench.models import answers, card, specs, user_model
from atlas_bench.models.endpoint import client, parameters
from atlas_bench.models.endpoint import reply as replies
from atlas_bench.models.endpoint import spec as endpoint
from atlas_bench.models.huggingface import load as hugging_face
from atlas_bench.results import report, store
from atlas_bench.results.record import Record
from atlas_bench.running import checkpoint, cluster, plan
from atlas_bench.tasks.babi import stories
from atlas_bench.types import Sample

FOUND = Path(__file__).parent / "found"
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Parser:
    """read  is given the bytes; seeds are inputs that it reads; refusals are the errors by which it may refuse."""

    read: Callable[[bytes], Any]
    seeds: tuple[bytes, ...]
    refusals: tuple[type[Exception], ...] = (UserError,)

    def check(self, data: bytes) -> None:
        """Raise whatever the parser raises that is no refusal with a message."""
        try:
            self.read(data)
        except self.refusals as error:
            assert str(error).strip(), f"no message: {error!r}"


def words(read: Callable[[str], Any]) -> Callable[[bytes], Any]:
    """A parser of what somebody types; a shell passes no NUL, and a .py file that is there would be executed."""

    def read_typed(data: bytes) -> Any:
        text = data.decode(errors="replace").replace("\0", "")
        return None if ".py" in text else read(text)

    return read_typed


def file(read: Callable[[Path], Any]) -> Callable[[bytes], Any]:
    """A parser of a file, which is written to memory where the system has such a folder."""
    folder = "/dev/shm" if os.path.isdir("/dev/shm") else None

    def read_file(data: bytes) -> Any:
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".jsonl") as draft:
            draft.write(data)
            draft.flush()
            return read(Path(draft.name))

    return read_file


def score(data: bytes) -> None:
    """Every scorer of every task judges any answer."""
    sample = Sample(0, None, (1,), ("kitchen",), META)
    for scorer in SCORERS.values():
        scorer(data.decode(errors="replace"), sample)


def reported(path: Path) -> None:
    """Whatever is read as a record can be reported."""
    for form in ("text", "csv"):
        report.main(path, form=form)


def reply(data: bytes) -> None:
    """What an endpoint answers, as a choice with its usage, and as a list of models."""
    found = client._json_object(data)
    for read in (replies.usage, replies.served, partial(replies.context_of, "tiny"), _choice, _choice_of_text):
        with suppress(UserError, client.Failure):
            read(found)


_choice, _choice_of_text = (partial(replies.first_choice, chat=chat) for chat in (True, False))


def refusal(data: bytes) -> None:
    """An endpoint's error: its headers and its text."""
    text = data.decode(errors="replace")
    headers = dict.fromkeys(("Retry-After", "Date", "Location"), text)
    for status in (302, 400, 404, 429):
        failure = client._refusal("http://localhost:8000", status, headers, text)
        assert str(failure) and 0 <= failure.after < float("inf")
        parameters.refused_names(client.ApiError("it fails", url="", tries=1, status=status, reply=text))


def kept_answer(data: bytes) -> None:
    """A line of the file of paid answers, under its checksum and without it."""
    for line in (data, f"{checkpoint._digest(text := data.decode(errors='replace'))} {text}".encode()):
        checkpoint._answered(line)


def _scorers() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in registry.TASKS:
        task = registry.task(name)
        for subset in task.subsets:
            found |= task.rules(subset).scorers
    return found


def _lines(name: str, number: int) -> tuple[bytes, ...]:
    with open(ROOT / "results" / name, "rb") as opened:
        return tuple(line for line, _ in zip(opened, range(number), strict=False))


def _short(name: str) -> bytes:
    """The first record of the file, with few answers."""
    record = Record.from_json(*_lines(name, 1))
    return replace(record, answers=record.answers[:2]).to_json().encode()


META = {
    "question": "Where is Mary?",
    "labels": ["kitchen", "garden"],
    "keywords": ["kitchen"],
    "references": ["kitchen"],
}
SCORERS = _scorers()
CARD = (ROOT / "atlas_bench" / "models" / "pretrained" / "swa-nano" / "card.json").read_bytes()
COMMANDS = {name: each for name, each in typer.main.get_command(app).commands.items() if isinstance(each, Command)}
STORY = b"1 Mary moved to the bathroom.\n2 Where is Mary? \tbathroom\t1\n"
KEPT = b"""\
{"row": {"index": 0, "plan": "a", "question": "q", "targets": ["t"], "answer": "t", "correct": {"mqar/exact": true},
"needle_positions": [1]}, "asked": 1, "context": 0, "state_bytes": null, "usage": {"requests": 1}, "seconds": 0.5,
"peak": 1, "started": "2026-01-01T00:00:00Z", "code": "0"}"""
REPLIES = (
    b'{"model": "tiny", "choices": [{"message": {"content": "kitchen", "reasoning": "a"}, "finish_reason": "stop"}],'
    b' "usage": {"prompt_tokens": 9, "completion_tokens": 1}}',
    b'{"choices": [{"message": {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "a"}]}]}}]}',
    b'{"data": [{"id": "tiny", "max_model_len": 4096}, {"id": "openai/*", "meta": {"n_ctx": 512}}]}',
)
PARSERS = {
    "answer": Parser(
        lambda data: answers.read(data.decode(errors="replace"), stop=("\n",)), (b"<think>a</think> kitchen",)
    ),
    "kept answer": Parser(kept_answer, (KEPT,)),
    "babi": Parser(lambda data: stories.parse(text_files.decode(data, "f").splitlines()), (STORY,)),
    "card": Parser(file(card.read), (CARD,)),
    "checkpoint": Parser(
        file(checkpoint_file.load), (b'\x10\0\0\0\0\0\0\0{"__metadata__":{}}',), (checkpoint_file.Damaged,)
    ),
    "config": Parser(
        file(lambda path: config.load(path, COMMANDS, trusted=False)),
        (b'[run]\nmodel = ["atlas-nano"]\nsamples = 9\n',),
    ),
    "endpoint": Parser(words(endpoint.parse), (b"openai:http://localhost:8000/v1#qwen;context=1K",)),
    "hf": Parser(words(hugging_face.parse), (b"hf:Qwen/Qwen2.5-0.5B:dtype=bfloat16,chat=false",)),
    "length": Parser(words(units.parse_length), (b"10M", b"4Ki", b"1.5K")),
    "lengths": Parser(words(units.parse_lengths), (b"1K..64K,100K",)),
    "memory": Parser(words(registry.parse_memory), (b"atlas:degree=1,map=matrix",)),
    "model": Parser(
        words(lambda text: specs.check(specs.shown(text)[1])), (b"small=hf:a/b", b"atlas-nano", b"py:a.p:b")
    ),
    "model_file": Parser(words(user_model.parse), (b"py:mine.p:folder",)),
    "refusal": Parser(
        refusal, (b'{"error": {"message": "seed is not supported", "param": "seed"}}', b"Unsupported: seed")
    ),
    "reply": Parser(reply, REPLIES, (client.Failure,)),
    "report": Parser(file(reported), (_short("retention.jsonl"), _short("babilong.jsonl"))),
    "record": Parser(Record.from_json, _lines("babilong.jsonl", 1)),
    "records": Parser(file(store.read), (b"".join(_lines("retention.jsonl", 2)),)),
    "engine": Parser(words(cluster.address_of), (b"ray:10.0.0.1:6379", b"local")),
    "shard": Parser(words(units.parse_shard), (b"2/16",)),
    "samples": Parser(words(units.parse_samples), (b"1K=500,1M=50,20",)),
    "scorers": Parser(score, (b"kitchen", b"The kitchen, not the garden.")),
    "tasks": Parser(words(plan.parse_tasks), (b"babilong:qa1,mqar:8",)),
    "text": Parser(lambda data: text_files.decode(data, "f"), ("Grüße".encode(),)),
}
