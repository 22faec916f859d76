"""Copies of checkpoints on shared storage: another machine goes on from them, and no storage costs a record."""

from __future__ import annotations

import sys

import fsspec
import pytest

from atlas_bench import registry
from atlas_bench.errors import UserError
from atlas_bench.results.record import timeless
from atlas_bench.running.copies import Copies
from tests.running.test_runner import TINY, Hasher, go, trap


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(registry.TASKS, "tiny", f"{TINY.__module__}:TINY")


@pytest.fixture(params=["memory://runs", "file://{}/copies", "{}/copies"])
def url(request, tmp_path):
    yield request.param.format(tmp_path)
    fsspec.filesystem("memory").store.clear()


def names(url):
    files, root = fsspec.core.url_to_fs(url)
    return sorted(name.rpartition("/")[2] for name in files.ls(root, detail=False)) if files.exists(root) else []


def test_another_machine_goes_on_where_the_lost_one_was(tmp_path, url):
    (plain,) = go(tmp_path / "plain")
    (lost,) = go(tmp_path / "lost", Hasher(trap(6000, MemoryError())), checkpoints=url)
    assert lost.status == "oom" and [name.endswith(".safetensors") for name in names(url)] == [True]
    model = Hasher()
    (record,) = go(tmp_path / "other", model, checkpoints=url)
    assert record.resumed and timeless(record) == timeless(plain) and model.fed < 3 * 2500
    assert names(url) == [] and not (tmp_path / "other" / ".checkpoints").exists()


def test_a_copy_that_is_cut_short_replaces_nothing_and_a_changed_one_is_not_used(tmp_path, url):
    (plain,) = go(tmp_path / "plain")
    go(tmp_path / "lost", Hasher(trap(6000, MemoryError())), checkpoints=url)
    files, root = fsspec.core.url_to_fs(url)
    (name,) = names(url)
    whole = files.cat_file(f"{root}/{name}")
    files.pipe_file(f"{root}/{name}.new", whole[:100])
    (record,) = go(tmp_path / "second", checkpoints=url)
    assert record.resumed and timeless(record) == timeless(plain)
    files.pipe_file(f"{root}/{name}", whole[:-1] + bytes([whole[-1] ^ 1]))
    (record,) = go(tmp_path / "third", checkpoints=url)
    assert not record.resumed and timeless(record) == timeless(plain)


def test_what_is_here_goes_before_the_copy(tmp_path, url):
    go(tmp_path / "lost", Hasher(trap(6000, MemoryError())), checkpoints=url)
    copies, here = Copies(url), next((tmp_path / "lost" / ".checkpoints").iterdir())
    before = here.read_bytes()
    files, root = fsspec.core.url_to_fs(url)
    files.pipe_file(f"{root}/{here.name}", b"older")
    copies.get(here)
    assert here.read_bytes() == before


@pytest.mark.parametrize(("broken", "warnings"), [("put_file", 1), ("mv", 1), ("exists", 2), ("makedirs", 1)])
def test_storage_that_fails_costs_no_record(tmp_path, monkeypatch, broken, warnings, capsys):
    def fail(*args, **kwargs):
        raise PermissionError("no access")

    (plain,) = go(tmp_path / "plain")
    monkeypatch.setattr(type(fsspec.filesystem("memory")), broken, fail)
    (record,) = go(tmp_path / "runs", checkpoints=f"memory://{broken}")
    assert timeless(record) == timeless(plain)
    said = capsys.readouterr().err
    assert said.count("no access") == warnings and f"memory://{broken}" in said


def test_a_url_that_cannot_be_used_is_one_message(monkeypatch):
    with pytest.raises(UserError, match=r"'s4://bucket/run' cannot be used: .*s4.* Give a URL such as s3://"):
        Copies("s4://bucket/run")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(UserError, match=r"'s3://bucket/run': Install s3fs.* or mount the storage"):
        Copies("s3://bucket/run")
