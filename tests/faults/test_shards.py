"""Shards of one plan, killed and run again: merged, they are the records of one run."""

from __future__ import annotations

import random

from tests.faults.program import Program, check, undisturbed

WORDS = ("run", "niah:single,retention:along", "--len", "50K,200K", "--model", "oracle", "--samples", "9",
         "--checkpoint-every", "20K", "--out")  # fmt: skip
SHARDS = 3


def test_killed_shards_go_on_and_are_merged_into_one_run(tmp_path, inject):
    dice = random.Random(SHARDS)
    (tmp_path / "plain").mkdir()
    wanted, seconds = undisturbed(*WORDS, "runs", cwd=tmp_path / "plain")
    for i in range(1, SHARDS + 1):
        for _ in range(2):
            program = Program(*WORDS, f"shard-{i}", "--shard", f"{i}/{SHARDS}", cwd=tmp_path)
            if program.kill(after=seconds / SHARDS * dice.uniform(0.3, 0.9)):
                inject("kill -9 of a shard")
        final = Program(*WORDS, f"shard-{i}", "--shard", f"{i}/{SHARDS}", cwd=tmp_path)
        assert final.end() == 0, final.said
    folders = [f"shard-{i}" for i in range(1, SHARDS + 1)]
    short = Program("merge", *folders[1:], "--out", "runs", cwd=tmp_path)
    assert short.end() == 1 and "no record of shard 1/3" in short.printed
    whole = Program("merge", *folders, "--out", "runs", cwd=tmp_path)
    assert whole.end() == 0, whole.said
    check(tmp_path / "runs", wanted)
