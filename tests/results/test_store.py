"""Lines survive kills at any byte, several writers and foreign hands; reading holds one; what is done is known."""

from __future__ import annotations

import json
import os
import re
import tempfile
import tracemalloc
from codecs import BOM_UTF8
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


def scanned(paths) -> tuple[list[Record], list[str]]:
    told = []
    return list(store.scan(paths, told.append)), told


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.sampled_from([*GOLDEN.splitlines(), b"", b"{}", b"[", b"\x00\xff", BOM_UTF8, b'{"a": 1}', GOLDEN[:99]])
        | st.binary(max_size=9),
        max_size=6,
    ),
    st.sampled_from([b"\n", b"\r\n", b"\n\n", b" \n" + BOM_UTF8]),
    st.booleans(),
)
def test_any_bytes_are_records_or_messages_with_file_and_line(parts, newline, ended):
    """Every line is a record, blank, or in a message; the file reads the same through every door, and goes on."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.jsonl")
        path.write_bytes(newline.join(parts) + newline * ended)
        records, told = scanned(path)
        assert (records, told) == store.read(path) == store.read_all(folder)
        filled = [line for line in path.read_bytes().split(b"\n") if line.removeprefix(BOM_UTF8).strip()]
        lost = 0
        for message in told:
            found = re.match(rf"{re.escape(str(path))}:(\d+): (?!.*\n)", message)
            assert found and 1 <= int(found[1]) <= path.read_bytes().count(b"\n") + 1
            more = re.search(r"The same on (\d+) more lines?\.$", message)
            lost += 1 + (int(more[1]) if more else 0)
        assert len(records) + lost == len(filled)
        store.append(path, RECORDS[0])
        assert scanned(path)[0] == [*records, RECORDS[0]]


def test_scan_holds_one_record_at_a_time(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(GOLDEN * 500)
    tracemalloc.start()
    try:
        count = sum(1 for _ in store.scan(path, pytest.fail))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 500 * len(RECORDS) and peak < path.stat().st_size / 4


def test_the_same_on_many_lines_is_told_once_per_file_with_the_first(tmp_path, make):
    for name in ("a.jsonl", "b.jsonl"):
        newer = make(extra={"colour": 1, "size": 2}).to_json()
        other = make(extra={"shape": 1}).to_json()
        (tmp_path / name).write_text(
            "\n".join([make().to_json(), newer, other, newer, newer, "rubbish", "rubbish", newer])
        )
    records, told = scanned(tmp_path)
    assert len(records) == 12
    for i, name in enumerate(("a.jsonl", "b.jsonl")):
        assert told[3 * i : 3 * i + 3] == [
            f'{tmp_path / name}:2: unknown fields kept as they are: "colour", "size". The same on 3 more lines.',
            f'{tmp_path / name}:3: unknown fields kept as they are: "shape".',
            f"{tmp_path / name}:6: not JSON (Expecting value, character 1). Line skipped. The same on 1 more line.",
        ]


def test_what_was_seen_is_told_when_the_reader_stops_early(tmp_path, make):
    (tmp_path / "a.jsonl").write_text("rubbish\n" + GOLDEN.decode())
    told = []
    records = store.scan(tmp_path, told.append)
    assert next(iter(records)) == RECORDS[0] and told == []
    records.close()
    assert len(told) == 1 and "a.jsonl:1: not JSON" in told[0]


@pytest.mark.parametrize("mark", [b"", BOM_UTF8])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\n\n \n"])
def test_other_peoples_line_ends_and_marks_are_no_matter(tmp_path, mark, newline, end):
    """Written back by an editor, a file is whole: nothing is told, and the next run moves nothing away."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(mark + newline.join(GOLDEN.splitlines()[:1]) + end)
    assert scanned(path) == (RECORDS[:1], [])
    store.append(path, RECORDS[1])
    assert scanned(path) == (RECORDS[:2], []) and not Path(f"{path}.torn").exists()


def test_a_line_of_no_schema_or_a_wrong_one_is_told(tmp_path, make):
    row = json.loads(make().to_json())
    lines = [row | {"schema": schema} for schema in ("1", "2", "old", None)]
    lines += [{name: value for name, value in row.items() if name != "schema"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    records, told = scanned(tmp_path)
    assert records == [make(), make()]
    starts = [message.removeprefix(str(tmp_path / "a.jsonl")) for message in told]
    assert starts[0].startswith(":2: record schema 2 is newer") and "Upgrade" in starts[0]
    assert starts[1].startswith(':3: not a record: schema is "old"') and 'Write "1"' in starts[1]
    assert starts[2].startswith(":4: not a record: schema is null")
    assert starts[3].startswith(":5: no schema, read as 1") and len(told) == 4


def test_a_folder_named_like_a_file_is_a_folder(tmp_path, make):
    store.append(tmp_path / "x.jsonl" / "a.jsonl", make())
    assert scanned(tmp_path) == scanned(tmp_path / "x.jsonl") == ([make()], [])


def test_what_cannot_be_read_below_a_folder_is_told_and_left_out(tmp_path, make):
    store.append(tmp_path / "b.jsonl", make())
    (tmp_path / "a.jsonl").symlink_to(tmp_path / "a.jsonl")  # a loop: nobody can read it, root neither
    records, told = scanned(tmp_path)
    assert records == [make()]
    assert len(told) == 1 and f"cannot read results '{tmp_path / 'a.jsonl'}'" in told[0] and "left out" in told[0]
    with pytest.raises(UserError, match="cannot read results"):
        scanned([tmp_path / "b.jsonl", tmp_path / "a.jsonl"])


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_a_folder_without_permission_is_told(tmp_path, make):
    store.append(tmp_path / "deep" / "a.jsonl", make())
    (tmp_path / "deep").chmod(0)
    try:
        records, told = scanned(tmp_path)
    finally:
        (tmp_path / "deep").chmod(0o700)
    assert records == [] and len(told) == 1 and "Folder left out" in told[0]


@pytest.mark.parametrize("name", ["nowhere", "nowhere.jsonl", "n" * 5000])
def test_what_is_not_there_is_the_users_mistake(tmp_path, name):
    with pytest.raises(UserError, match=r"no results at|cannot read results"):
        scanned(tmp_path / name)


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


ASKED = {
    "status": ["ok", "ok", "oom", "failed"],
    "length": [1, 2],
    "weights_hash": [None, "a"],
    "options": [{}, {"a": 1, "b": "x"}, {"b": "x", "a": 1}, {"a": True, "b": "x"}],
    "seconds": [1.0, 2.0],
}


@settings(max_examples=150, deadline=None)
@given(st.lists(st.builds(dict, **{name: st.sampled_from(of) for name, of in ASKED.items()}), max_size=12))
def test_latest_groups_by_cell_key_whatever_it_is_given(changes):
    """Any iterable; one record per key, at the place of its first: the last ok one, else the last."""
    records = [replace(RECORDS[0], **change) for change in changes]
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(cell_key(record), []).append(record)
    expected = [([r for r in group if r.status == "ok"] or group)[-1] for group in groups.values()]
    for given_ in (records, iter(records), tuple(records)):
        kept = store.latest(given_)
        assert len(kept) == len(expected) and all(a is b for a, b in zip(kept, expected, strict=True))


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
