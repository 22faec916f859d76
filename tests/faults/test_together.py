"""Equal commands at the same time in one folder, and a comparison whose parent is killed."""

from __future__ import annotations

import json
import os
import random
import time

import psutil
import pytest

from atlas_bench.models import loading
from atlas_bench.results import store
from tests.faults.program import Program, check, undisturbed

WORDS = ("run", "niah:single,mqar:8", "--len", "100K,400K", "--model", "oracle", "--samples", "16",
         "--checkpoint-every", "50K", "--out", "runs", "--json")  # fmt: skip
COMPARE = ("compare", "linear-attention", "gated-deltanet", "--task", "mqar:8", "--len", "256", "--train", "1K",
           "--samples", "8", "--out", "runs")  # fmt: skip


@pytest.mark.parametrize("killed", [False, True], ids=["all end", "some are killed"])
def test_equal_runs_share_the_work(tmp_path, inject, killed):
    dice = random.Random(killed)
    (tmp_path / "plain").mkdir()
    wanted, seconds = undisturbed(*WORDS, cwd=tmp_path / "plain")
    for i in range(5):
        folder = tmp_path / f"round{i}"
        folder.mkdir()
        programs = [Program(*WORDS, cwd=folder) for _ in range(3)]
        inject("three equal runs at once")
        if killed and programs[0].kill(after=seconds * dice.uniform(0.2, 1.5)):
            inject("kill -9 of one of three equal runs")
        for program in programs[killed:]:
            assert program.end() == 0, program.said
            assert len(json.loads(program.printed)) == len(wanted)
        check(folder / "runs", wanted)


def test_trainings_end_with_their_comparison_and_are_not_started_twice(tmp_path, inject):
    began = time.monotonic()
    program = Program(*COMPARE, cwd=tmp_path)
    parent = psutil.Process(program.process.pid)
    program.until(lambda: len(parent.children()) == 2)
    children = parent.children()
    assert program.kill(after=random.Random(4).uniform(1, 8))
    inject("kill -9 of a comparison that trains")
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive, "a training outlives the comparison"
    both = [Program(*COMPARE, cwd=tmp_path) for _ in range(2)]
    inject("two equal comparisons at once")
    seen, before = False, set()
    while any(each.process.poll() is None for each in both):
        now = {(folder, frozenset(pids)) for folder, pids in _trainers(both).items() if pids}
        seen = seen or bool(now)
        twice = {
            each for each in now & before if len(each[1]) > 1
        }  # one look may see a lock before and after it passes on
        assert not twice, f"two processes train in one folder: {twice}"
        before = now
        time.sleep(0.02)
        assert time.monotonic() - began < 600
    for each in both:
        assert each.end() == 0, each.said
        assert "gated-deltanet" in each.printed
    assert seen, "no training was seen"
    folders = sorted((tmp_path / "runs" / "models").iterdir())
    memories = [loading.card(str(folder))["config"]["memory"] for folder in folders]
    assert memories == ["gated-deltanet", "linear-attention"]
    records, _ = store.read_all(tmp_path / "runs")
    assert sorted(record.model for record in records) == memories
    check(tmp_path / "runs", records)


def _trainers(programs: list[Program]) -> dict[str, set[int]]:
    """Folder -> processes that have begun to train into it, which then hold its lock."""
    found: dict[str, set[int]] = {"": set()}
    for program in programs:
        try:
            children = psutil.Process(program.process.pid).children()
        except psutil.NoSuchProcess:
            continue
        for child in children:
            try:
                held = [file.path for file in child.open_files() if file.path.endswith(".lock")]
                for path in held:
                    with open(path) as lock:  # waiting processes have it open, too
                        if lock.read().startswith(f"process {child.pid} on "):
                            found.setdefault(os.path.dirname(path), set()).add(child.pid)
            except (psutil.Error, OSError):
                continue
    return found
