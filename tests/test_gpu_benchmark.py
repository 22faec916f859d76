"""The one call that a GPU gets, rehearsed on the CPU: each part at its tiny sizes, and parts that fail or hang."""

from __future__ import annotations

import json

import pytest

from benchmarks import gpu

pytest.importorskip("triton")


@pytest.mark.parametrize("part", gpu.PARTS)
def test_every_part_runs_on_the_cpu(part):
    rows = gpu.run_part(part, cpu=True)
    assert rows and all(row.get("status", "ok") != "differs" for row in rows), rows
    shown = gpu.lines({"part": part, "status": "ok", "reason": "", "seconds": 1.0, "rows": rows})
    assert len(shown) == len(rows) and shown[0].startswith(part) and json.dumps(rows)


def test_the_table_is_no_longer_than_it_may_be():
    on_a_chip = {"machine": 4, "op": 5, "rule": 3, "read": 5, "train": 4, "hf": 1}  # rows of each part, at most
    assert sum(on_a_chip[part.partition(":")[0]] for part in gpu.PARTS) + 1 <= gpu.LINES


def test_a_part_that_hangs_or_fails_is_a_row_and_stops_nothing(tmp_path, monkeypatch):
    stopped = gpu.guarded("machine", cpu=True, seconds=0.05)
    assert stopped["status"] == "failed" and stopped["reason"].startswith("stopped after")
    assert gpu.guarded("machine", cpu=True, seconds=0)["status"] == "not run"
    failed = gpu.guarded("machine", cpu=False, seconds=60)  # no GPU here
    assert failed["status"] == "failed" and "no CUDA GPU" in failed["reason"]
    assert "no CUDA GPU" in gpu.lines(failed)[0]
    file = gpu.write(tmp_path, [stopped, failed], cpu=True)
    written = json.loads(file.read_text())
    assert written["device"] == "cpu" and written["rehearsal"] and len(written["parts"]) == 2
