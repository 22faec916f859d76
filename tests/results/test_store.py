"""Lines survive kills at any byte, several writers and foreign hands; what is done is known."""

from __future__ import annotations

import json
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_bench.errors import UserError
from atlas_bench.results import store
from atlas_bench.results.record import Record, cell_key

GOLDEN = Path(__file__).with_name("golden.jsonl").read_bytes()
RECORDS = [Record.from_json(line) for line in GOLDEN.splitlines()]


def test_append_then_read(tmp_path, make):
    path = tmp_path / "new" / "a.jsonl"
    records = [make(seed=seed) for seed in range(3)]
    for record in records:
        store.append(path, record)
    assert store.read(path) == (records, [])
    assert [file.name for file in path.parent.iterdir()] == ["a.jsonl"]


@settings(max_examples=100, deadline=None)
@given(cut=st.integers(0, len(GOLDEN)), junk=st.sampled_from([b"", b"\x00\x00", b"\n", b"\xff\n", b"1"]))
def test_cut_anywhere_loses_the_torn_line_only(cut, junk):
    """A file cut at any byte, with or without garbage after it, keeps its whole lines and goes on."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.jsonl")
        path.write_bytes(GOLDEN[:cut] + junk)
        before, warnings = store.read(path)
        whole = GOLDEN[:cut].count(b"\n")
        assert before[:whole] == RECORDS[:whole]
        new = replace(RECORDS[0], seed=99)
        store.append(path, new)
        after, left = store.read(path)
        assert after == [*before, new]
        assert left == []
        torn = Path(f"{path}.torn")
        assert torn.exists() == bool(warnings)
        kept = path.read_bytes() + (torn.read_bytes() if torn.exists() else b"")
        assert GOLDEN[:cut].rsplit(b"\n", 1)[-1] in kept  # nothing is ever lost


def test_torn_last_line_warns_with_file_and_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(GOLDEN + b'{"schema": "1", "sta')
    records, warnings = store.read(path)
    assert records == RECORDS
    assert len(warnings) == 1 and f"{path}:{len(RECORDS) + 1}: torn" in warnings[0]
    store.append(path, RECORDS[0])
    assert Path(f"{path}.torn").read_bytes() == b'{"schema": "1", "sta\n'
    assert store.read(path) == ([*RECORDS, RECORDS[0]], [])


def test_torn_tails_pile_up(tmp_path):
    path = tmp_path / "a.jsonl"
    for tail in (b"{one", b"{two"):
        with open(path, "ab") as file:
            file.write(tail)
        store.append(path, RECORDS[0])
    assert Path(f"{path}.torn").read_bytes() == b"{one\n{two\n"
    assert len(store.read(path)[0]) == 2


def test_a_last_line_longer_than_the_window_is_found(tmp_path):
    path = tmp_path / "a.jsonl"
    long = b'{"x": "' + b"y" * 300_000
    path.write_bytes(GOLDEN + long)
    store.append(path, RECORDS[0])
    assert store.read(path) == ([*RECORDS, RECORDS[0]], [])
    assert Path(f"{path}.torn").read_bytes() == long + b"\n"


def test_bad_line_in_the_middle_is_skipped_with_its_number(tmp_path):
    first, rest = GOLDEN.split(b"\n", 1)
    path = tmp_path / "a.jsonl"
    path.write_bytes(first + b"\r\n\nrubbish\n" + rest)
    records, warnings = store.read(path)
    assert records == RECORDS
    assert len(warnings) == 1 and f"{path}:3: not JSON" in warnings[0] and "skipped" in warnings[0]


def test_newer_schema_is_a_warning_and_never_torn(tmp_path, make):
    path = tmp_path / "a.jsonl"
    path.write_text(make(schema="9").to_json() + "\n")
    records, warnings = store.read(path)
    assert records == [] and f"{path}:1: record schema 9 is newer" in warnings[0]
    store.append(path, make())
    assert not Path(f"{path}.torn").exists() and len(store.read(path)[0]) == 1


def test_writers_do_not_mix(tmp_path, make):
    path = tmp_path / "a.jsonl"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seed: store.append(path, make(seed=seed)), range(24)))
    records, warnings = store.read(path)
    assert warnings == [] and sorted(record.seed for record in records) == list(range(24))


def test_read_all_takes_folders_and_files(tmp_path, make):
    for seed, name in enumerate(["b.jsonl", "a.jsonl", "deep/c.jsonl"]):
        store.append(tmp_path / name, make(seed=seed))
    (tmp_path / "a.jsonl.torn").write_text("{")
    assert [record.seed for record in store.read_all(tmp_path)[0]] == [1, 0, 2]
    files = [tmp_path / "b.jsonl", str(tmp_path / "deep")]
    assert [record.seed for record in store.read_all(files)[0]] == [0, 2]
    with pytest.raises(UserError, match="no results at"):
        store.read_all(tmp_path / "nowhere")


def test_done_is_ok_and_unsupported(tmp_path, make, failed):
    statuses = ["oom", "failed", "timeout", "unsupported"]
    records = [failed(status, "why", seed=seed) for seed, status in enumerate(statuses)]
    records += [make(seed=0), make(seed=7)]
    for record in records:
        store.append(tmp_path / "a.jsonl", record)
    (tmp_path / "b.jsonl").write_text("{")
    told = []
    kept = store.done(tmp_path, warn=told.append)
    assert {key: record.seed for key, record in kept.items()} == {cell_key(make(seed=seed)): seed for seed in (0, 3, 7)}
    assert len(told) == 1 and "torn" in told[0]
    assert store.done(tmp_path / "nowhere") == {}


def test_latest_prefers_ok_then_the_last(make, failed):
    oom, ok, later, other = failed("oom", "big"), make(), failed("failed", "x"), make(seed=1)
    assert store.latest([oom, other, ok, later]) == [ok, other]
    assert store.latest([oom, later]) == [later]


def test_check_writable_leaves_no_trace(tmp_path):
    store.check_writable(tmp_path / "new" / "folder")
    store.check_writable(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_check_writable_refuses_files_and_what_is_below_them(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    for folder in (file, file / "results", file / "a" / "b"):
        with pytest.raises(UserError, match="is a file"):
            store.check_writable(folder)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="no /proc")
def test_check_writable_refuses_a_read_only_place():
    with pytest.raises(UserError, match="not writable"):
        store.check_writable("/proc/results")


def test_append_tells_why_it_cannot(tmp_path, make):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "a.jsonl", tmp_path):
        with pytest.raises(UserError, match="cannot write the record"):
            store.append(path, make())
    with pytest.raises(UserError, match="cannot read results"):
        store.read(tmp_path)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_append_tells_of_a_full_disk(make):
    with pytest.raises(UserError, match="/dev/full"):
        store.append("/dev/full", make())


def test_lines_are_plain_json(tmp_path, make):
    store.append(tmp_path / "a.jsonl", make())
    assert json.loads((tmp_path / "a.jsonl").read_text())["length"] == 10_000_000
