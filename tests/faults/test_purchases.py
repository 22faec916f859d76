"""Answers that cost money: how often each is bought from a stub endpoint that counts, over kills and damage."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.faults.program import Program, check, flip, undisturbed
from tests.openai_stub import Stub, say

pytest.importorskip("aiohttp")
SAMPLES, IN_FLIGHT = 70, 3
ROOM = 30  # answers that are left to buy when a program is killed: on a fast machine many come before the kill does


def words(stub: Stub, out: str) -> tuple[str, ...]:
    model = f"openai:{stub.url}#tiny;concurrency={IN_FLIGHT};context=100000"
    return ("run", "niah:single", "--len", "1K", "--model", model, "--samples", str(SAMPLES), "--out", out)


def kept(folder: Path) -> int:
    """Answers that are whole on disk."""
    return sum(
        len([line for line in file.read_bytes().splitlines() if line.endswith(b"}")])
        for file in folder.glob(".checkpoints/*.answers")
    )


def test_an_answer_that_was_kept_is_never_bought_again(tmp_path, inject):
    dice = random.Random(5)
    with Stub(lambda request: say(f"it is {len(request.prompt) % 7}", wait=0.08)) as stub:
        (tmp_path / "plain").mkdir()
        wanted, _ = undisturbed(*words(stub, "runs"), cwd=tmp_path / "plain")
        assert len(stub.requests) == 2 * SAMPLES
        had = lost = 0
        while SAMPLES - had > ROOM:
            asked = len(stub.requests)
            program = Program(*words(stub, "runs"), cwd=tmp_path)
            wanting = asked + dice.randrange(3, 7)
            program.until(lambda wanting=wanting: len(stub.requests) >= wanting)
            assert program.kill(after=dice.uniform(0, 0.08))
            inject("kill -9 while answers are bought")
            bought, now = len(stub.requests) - asked, kept(tmp_path / "runs")
            assert 0 <= bought - (now - had) <= IN_FLIGHT, "an answer came and was not kept"
            lost, had = lost + bought - (now - had), now
        (file,) = tmp_path.glob("runs/.checkpoints/*.safetensors")  # what was paid for is kept beside it
        flip(file, dice)
        inject("bits of an endpoint's checkpoint flipped")
        asked = len(stub.requests)
        final = Program(*words(stub, "runs"), cwd=tmp_path)
        assert final.end() == 0, final.said
        assert len(stub.requests) - asked == SAMPLES - had
        assert len(stub.requests) == 3 * SAMPLES + lost
        check(tmp_path / "runs", wanted)


def test_a_changed_answer_on_disk_is_bought_again_and_no_other(tmp_path, inject):
    dice = random.Random(6)
    with Stub(lambda request: say(f"it is {len(request.prompt) % 7}", wait=0.05)) as stub:
        (tmp_path / "plain").mkdir()
        wanted, _ = undisturbed(*words(stub, "runs"), cwd=tmp_path / "plain")
        program = Program(*words(stub, "runs"), cwd=tmp_path)
        program.until(lambda: kept(tmp_path / "runs") > SAMPLES // 2)
        assert program.kill(after=0)
        (file,) = tmp_path.glob("runs/.checkpoints/*.answers")
        for checkpoint in tmp_path.glob("runs/.checkpoints/*.safetensors"):
            checkpoint.unlink()
        had, lines = kept(tmp_path / "runs"), file.read_bytes().splitlines(keepends=True)
        changed = dice.sample([i for i, line in enumerate(lines) if line.strip()], 5)
        for i in changed:
            at = dice.randrange(1, len(lines[i]) - 1)
            lines[i] = lines[i][:at] + bytes([lines[i][at] ^ 1]) + lines[i][at + 1 :]
            inject("a bit of a paid answer flipped")
        file.write_bytes(b"".join(lines))
        asked = len(stub.requests)
        final = Program(*words(stub, "runs"), cwd=tmp_path)
        assert final.end() == 0 and "5 answers torn or changed" in final.said, final.said
        assert len(stub.requests) - asked == SAMPLES - (had - 5)
        check(tmp_path / "runs", wanted)
