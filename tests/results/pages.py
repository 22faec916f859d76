"""Boards for the tests of the page: committed records of the embedded models, and records that mean harm."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from atlas_bench.results import leaderboard, store
from atlas_bench.results.record import Record, answer_row
from atlas_bench.results.summary import summaries

ROOT = Path(__file__).parents[2]
ATTACK = "<script>window.hacked = 1; alert(1)</script>"
NASTY = (
    f'{ATTACK}"\'><img src=x onerror="window.hacked = 2"> \u202egnp.exe \u2066\u200f \x1b[31m\x00\x07 \ud800 $x_$ '
    "{{ 7*7 }} --> ]]> עברית"
)


def board_of(records: Iterable[Record]) -> leaderboard.Leaderboard:
    """The board of some records."""
    return leaderboard.make(summaries(records))


def embedded() -> leaderboard.Leaderboard:
    """The board of committed records of the embedded models, few enough that their cells open to details."""
    files = [ROOT / "results" / name for name in ("babilong.jsonl", "retention.jsonl")]
    return board_of(store.read_all(files)[0])


def unscripted(page: str, script: str) -> str:
    """The page without its script, which is the file of that name, the only one, and all that its policy lets run."""
    (policy,) = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', page)
    (text,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert text == (ROOT / "atlas_bench/results/html" / script).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    rules = dict(rule.split(" ", 1) for rule in html.unescape(policy).split("; "))
    assert rules["default-src"] == "'none'" and rules["script-src"] == f"'sha256-{digest}'"
    return page.replace(f"<script>{text}</script>", "")


def hostile_records(make: Callable[..., Record]) -> list[Record]:
    """Records whose every text is an attack, long, or both; `make` is the fixture of conftest.py."""
    answers = [
        answer_row(0, question=NASTY, targets=[NASTY], answer=NASTY + "A" * 1_000_000, correct={NASTY: True}),
        answer_row(1, question="A" * 5000, targets=["B" * 5000], answer="", correct={NASTY: False}),
    ]
    named = dict.fromkeys(("subset", "task_version", "weights_hash", "kernel", "command", "device", "started"), NASTY)
    named |= {
        "options": {NASTY: NASTY},
        "versions": {"atlas_bench": NASTY},
        "hardware": {"cpu": NASTY},
        "reason": NASTY,
    }
    judged = {"headline": NASTY, "scores": {NASTY: {"correct": 1, "n": 2}}, "scorer_version": {NASTY: NASTY}}
    records = [
        make(model=model, length=length, seed=seed, answers=answers, **named, **judged, extra={NASTY: NASTY})
        for model in (NASTY, "M" * 10_000, "שלום", "a b " * 300)
        for length in (1000, 4096)
        for seed in (0, 1)
    ]
    records.append(make(model=NASTY, length=10_000, status="failed", scores={}, answers=[], **named))
    records.append(make(task=NASTY, model=NASTY, metrics={NASTY: 1.0}, scores={}, headline=None, answers=[], **named))
    return records


def hostile(make: Callable[..., Record]) -> leaderboard.Leaderboard:
    """The board of such records."""
    return board_of(hostile_records(make))
