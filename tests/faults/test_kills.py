"""kill -9 at random moments, and checkpoints whose bits have flipped meanwhile."""

from __future__ import annotations

import random
import shutil

import pytest

from tests.faults.program import Program, check, flip, undisturbed

CELLS = ("run", "niah:single", "--model", "oracle", "--checkpoint-every", "50K", "--out", "runs")
LONG = (*CELLS, "--len", "1M,2M", "--samples", "16")
MANY = ("run", "retention:along,mqar:8", "--len", "50K,200K", "--model", "oracle", "--model", "constant",
        "--samples", "24", "--checkpoint-every", "20K", "--out", "runs")  # fmt: skip
REAL = ("run", "mqar:8", "--len", "4K", "--model", "gated-deltanet-nano", "--samples", "24", "--batch", "2",
        "--checkpoint-every", "1K", "--threads", "1", "--out", "runs")  # fmt: skip


@pytest.mark.parametrize(("words", "kills"), [(LONG, 14), (MANY, 12), (REAL, 4)], ids=["long", "many", "real"])
def test_kills_at_random_moments_change_no_record(tmp_path, inject, words, kills):
    dice = random.Random(kills)
    (tmp_path / "plain").mkdir()
    wanted, seconds = undisturbed(*words, cwd=tmp_path / "plain")
    injected = lives = 0
    while injected < kills:  # a life is one folder: killed again and again, until the command ends
        (folder := tmp_path / f"life{lives}").mkdir(exist_ok=True)
        program = Program(*words, cwd=folder)
        if program.kill(after=seconds * dice.uniform(0.2, 0.8)):
            injected += 1
            inject("kill -9 of a run")
        else:
            assert program.end() == 0, program.said
            check(folder / "runs", wanted)
            lives += 1
        assert lives < 3 * kills
    final = Program(*words, cwd=folder)
    assert final.end() == 0, final.said
    check(folder / "runs", wanted)


@pytest.mark.parametrize("flips", [20])
def test_flipped_bits_of_a_checkpoint_change_no_record(tmp_path, inject, flips):
    dice = random.Random(flips)
    (tmp_path / "plain").mkdir()
    words = (*CELLS, "--len", "1M", "--samples", "4", "--batch", "4")
    wanted, _ = undisturbed(*words, cwd=tmp_path / "plain")
    program = Program(*words, cwd=tmp_path)
    program.until(lambda: list(tmp_path.glob("runs/.checkpoints/*.safetensors")))
    assert program.kill(after=0)
    told = 0
    for i in range(flips):
        folder = tmp_path / f"flip{i}"
        shutil.copytree(tmp_path / "runs", folder / "runs")
        (file,) = folder.glob("runs/.checkpoints/*.safetensors")
        flip(file, dice)
        inject("bits of a run's checkpoint flipped")
        again = Program(*words, cwd=folder)
        assert again.end() == 0, again.said
        told += "cannot be used" in again.said and "begins again" in again.said
        assert len(list(folder.glob("runs/.checkpoints/*.damaged"))) == again.said.count("cannot be used")
        check(folder / "runs", wanted)
    assert told == flips, "a flip was not noticed"
