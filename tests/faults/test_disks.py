"""Disks that are full at times: by a limit on the size of files, and a small disk of its own where one can be made."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from tests.faults.program import Program, check, undisturbed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the limits of another process are Linux's")
WORDS = ("run", "niah:single", "--len", "1M,2M", "--model", "oracle", "--samples", "12", "--batch", "4",
         "--checkpoint-every", "50K", "--out", "runs")  # fmt: skip


def messages(program: Program) -> int:
    """How many lines say why it ended."""
    return sum(line.startswith(("error: ", "stopped")) for line in program.said.splitlines())


@pytest.fixture
def plain(tmp_path):
    """(records, seconds) of a run on a disk with room."""
    (tmp_path / "plain").mkdir()
    return undisturbed(*WORDS, cwd=tmp_path / "plain")


def test_a_disk_that_is_full_at_times_loses_no_record(tmp_path, inject, plain):
    dice = random.Random(1)
    wanted, seconds = plain
    for _ in range(12):
        program = Program(*WORDS, cwd=tmp_path)
        while program.process.poll() is None:
            time.sleep(seconds * dice.uniform(0.05, 0.3))
            program.let_write(dice.choice((0, 100, 5000)))  # nothing, torn lines, records but not checkpoints
            inject("disk full for a while (limit on files)")
            time.sleep(seconds * dice.uniform(0.02, 0.2))
            program.let_write(None)
        if program.end() == 0:
            break
        assert program.process.returncode == 2 and messages(program) == 1, program.said
    final = Program(*WORDS, cwd=tmp_path)
    assert final.end() == 0, final.said
    check(tmp_path / "runs", wanted)


def test_ctrl_c_on_a_full_disk_is_one_message_and_keeps_the_older_checkpoint(tmp_path, inject, plain):
    dice = random.Random(2)
    wanted, seconds = plain
    for _ in range(5):
        program = Program(*WORDS, cwd=tmp_path)
        program.until(lambda: list(tmp_path.glob("runs/.checkpoints/*.safetensors")), said="tokens to read")
        program.let_write(0)
        time.sleep(0.2)  # a checkpoint that was written whole before that may be about to take the older one's place
        before = {path.name: path.read_bytes() for path in tmp_path.glob("runs/.checkpoints/*.safetensors")}
        time.sleep(seconds * dice.uniform(0, 0.05))
        program.process.send_signal(signal.SIGINT)
        # 2: the cell ended meanwhile, and its record could not be written; SIGINT itself: Python was ending by then
        assert program.end() in (130, 2, -signal.SIGINT) and messages(program) == 1, program.said
        for name, file in before.items():
            assert (tmp_path / "runs" / ".checkpoints" / name).read_bytes() == file
        if program.process.returncode == 130:
            inject("Ctrl-C on a full disk")
            assert "; saved in" not in program.said  # it may have been between two cells, or at the end of one
    final = Program(*WORDS, cwd=tmp_path)
    assert final.end() == 0, final.said
    check(tmp_path / "runs", wanted)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 128 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(disk)], capture_output=True)
    if made.returncode:
        pytest.skip("only root can mount a small disk")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_small_disk_that_others_fill_loses_no_record(tmp_path, inject, plain, small_disk):
    dice = random.Random(3)
    wanted, seconds = plain
    words = [word if word != "runs" else str(small_disk / "runs") for word in WORDS]
    filler = small_disk / "filler"
    for _ in range(12):
        program = Program(*words, cwd=tmp_path)
        while program.process.poll() is None:
            time.sleep(seconds * dice.uniform(0.05, 0.3))
            try:
                with open(filler, "wb", buffering=0) as file:
                    while True:
                        file.write(os.urandom(512))
            except OSError:
                inject("disk full for a while (a small disk)")
            time.sleep(seconds * dice.uniform(0.02, 0.2))
            filler.unlink()
        if program.end() == 0:
            break
        assert program.process.returncode == 2 and messages(program) == 1, program.said
    final = Program(*words, cwd=tmp_path)
    assert final.end() == 0, final.said
    check(small_disk / "runs", wanted)
