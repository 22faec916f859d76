"""A small soak, and that a soak notices what it looks for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atlas_bench.results import store
from atlas_bench.results.record import Record
from tests.faults import soak
from tests.faults.program import COUNTS

RECORDS = [
    Record(status="ok", task="mqar", task_version="1", subset="8", length=300, model="oracle", seed=seed, samples=3)
    for seed in range(3)
]


def test_a_few_hundred_cells_are_neither_lost_nor_doubled(tmp_path, inject):
    cells = 200
    for kind, count in soak.soak(cells, 0, 2, tmp_path, say=lambda line: None).items():
        inject(f"soak: {kind}", count)
    COUNTS["cells"] += cells


@pytest.mark.parametrize(
    ("found", "file", "what"),
    [
        (RECORDS, "mqar.jsonl.torn", None),
        (RECORDS[1:], None, "seed 0: 0 records"),
        ([*RECORDS, RECORDS[1]], None, "seed 1: 2 records"),
        ([*RECORDS[:2], replace(RECORDS[2], state_bytes=7)], None, "seed 2: its record is not"),
        ([*RECORDS, replace(RECORDS[1], seed=9)], None, "1 records of cells that nobody asked for"),
        (RECORDS, ".checkpoints/key.lock", "is left over"),
    ],
    ids=["whole", "lost", "doubled", "changed", "unknown", "leftover"],
)
def test_the_check_names_what_is_wrong(tmp_path, found, file, what):
    for record in found:
        store.append(tmp_path / "mqar.jsonl", record)
    if file:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(b"{")
    if what is None:
        soak.check(tmp_path, RECORDS)
        return
    with pytest.raises(soak.Failure, match=what):
        soak.check(tmp_path, RECORDS)
