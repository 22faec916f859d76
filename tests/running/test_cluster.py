"""The driver of a cluster against one in this process: what is asked, kept and written whatever its workers do.

tests/faults/test_cluster.py runs the same on a real cluster of Ray's.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from atlas_bench import registry
from atlas_bench.errors import UserError
from atlas_bench.results import store
from atlas_bench.results.record import Record, timeless
from atlas_bench.running import cluster, remote, runner
from atlas_bench.running.cluster import Cluster
from atlas_bench.running.evaluation import Cell
from atlas_bench.running.progress import Progress
from tests.running.test_runner import Hasher, trap

MAKING = remote.Making("hasher", "hasher")
CELLS = [Cell(task, "a", 2500, "hasher", samples=9) for task in ("tiny", "shared")]
PARTS = 5 + 2  # of two contexts each; three questions of shared are on each context


class RayError(Exception):
    pass


class RayTaskError(RayError):
    cause: Exception | None = None


class TaskCancelledError(RayError):
    pass


class OutOfMemoryError(RayError):
    pass


class Workers:
    """As much of the module ray as the driver uses: a task runs where it is given out, or `fault` replies for it."""

    exceptions = SimpleNamespace(
        RayError=RayError, RayTaskError=RayTaskError, TaskCancelledError=TaskCancelledError,
        OutOfMemoryError=OutOfMemoryError,
    )  # fmt: skip

    def __init__(self, fault: Callable[[int, remote.Order], Any] = lambda number, order: None):
        self.fault, self.orders, self.needs, self.cancelled = fault, [], [], []

    def remote(self, function):
        def run(order):
            self.orders.append(order)
            reply = self.fault(len(self.orders), order)
            return reply or function(order)

        def options(**needs):
            self.needs.append(needs)
            return SimpleNamespace(remote=lambda order: Ref(run(order)))

        return SimpleNamespace(options=options)

    def get(self, ref):
        if isinstance(ref.reply, Exception):
            raise ref.reply
        return ref.reply

    def wait(self, refs, *, num_returns=1, timeout=None):
        return refs[:num_returns], refs[num_returns:]

    def cancel(self, ref):
        self.cancelled.append(ref)

    def nodes(self):
        return [{"Alive": True, "Resources": {"CPU": 2.0, "memory": 1 << 40}}]

    def cluster_resources(self):
        return {"CPU": 2.0}


class Ref:
    def __init__(self, reply: Any) -> None:
        self.reply = reply


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    for name in ("tiny", "shared"):
        monkeypatch.setitem(registry.TASKS, name, f"tests.running.test_runner:{name.upper()}")
    monkeypatch.setattr(cluster, "PART", 5000)
    monkeypatch.setattr(cluster, "_estimate", lambda waiting, *rest: None)  # a reading of some seconds


@pytest.fixture
def go(monkeypatch, tmp_path):
    """go(workers, model) runs CELLS on the cluster, by the model of its workers; the driver has one of its own."""

    def run(workers: Workers, model: Hasher | None = None, **settings: Any) -> list[Record]:
        @contextmanager
        def connected(address):
            yield workers

        monkeypatch.setattr(cluster, "_connected", connected)
        monkeypatch.setattr(remote, "_LOADED", {MAKING: model or Hasher()})
        chosen = runner.Settings(**{"block": 100, "checkpoint_tokens": 1000} | settings)
        made = Cluster(None, {"hasher": MAKING})
        return cluster.run(CELLS, {"hasher": Hasher()}, tmp_path / "runs", chosen, Progress(quiet=True), made)

    return run


@pytest.fixture
def local(tmp_path) -> list[dict[str, Any]]:
    """What one process writes, without times."""
    records = runner.run(CELLS, {"hasher": Hasher()}, tmp_path / "local", runner.Settings(), Progress(quiet=True))
    return [timeless(record) for record in records]


def written(folder: Path) -> list[dict[str, Any]]:
    records, warnings = store.read_all(folder / "runs")
    assert not warnings
    return [timeless(record) for record in sorted(records, key=lambda record: record.task, reverse=True)]


def test_the_records_are_those_of_one_process(go, local, tmp_path):
    workers = Workers()
    records = go(workers)
    assert [timeless(record) for record in records] == local == written(tmp_path)
    assert len(workers.orders) == PARTS == sum(len(record.parts) for record in records)
    assert not (tmp_path / "runs" / ".checkpoints").exists()
    assert workers.needs[0] == {"name": "tiny:a 2500 hasher, samples 0-1", "num_cpus": 1, "num_gpus": 0, "memory": 0,
                                "max_retries": cluster.TRIES}  # fmt: skip
    assert go(workers) == records and len(workers.orders) == PARTS  # nothing is asked again


@pytest.mark.parametrize("at", [1, 4, 7])
def test_a_driver_that_is_stopped_goes_on_with_the_parts_that_are_left(go, local, tmp_path, at):
    def stop(number, order):
        if number == at:
            raise KeyboardInterrupt

    workers = Workers(stop)
    with pytest.raises(runner.Interrupted, match=rf"stopped with {PARTS + 1 - at} parts of 2 cells"):
        go(workers)
    again = Workers()
    go(again)
    assert len(again.orders) == PARTS + 1 - at and written(tmp_path) == local


def test_too_little_memory_halves_the_batch_and_the_record_says_so(go, local, tmp_path, capsys):
    class Small(Hasher):
        def start(self, batch):
            if batch > 1:
                raise MemoryError
            return super().start(batch)

    records = go(Workers(), Small())
    assert written(tmp_path) == local
    assert {part["batch"] for record in records for part in record.parts} == {1}
    assert capsys.readouterr().err.count("too little memory for a batch of 2; now 1") == 2  # once for each cell


def test_a_worker_that_ray_kills_for_memory_is_asked_for_less(go, local, tmp_path):
    def killed(number, order):
        fits = order.settings.batch == 1 or order.cell.asked.stop == 9  # the last context stands alone
        return None if fits else OutOfMemoryError("killed")

    go(Workers(killed))
    assert written(tmp_path) == local


def test_a_lost_part_fails_its_cell_alone_and_is_asked_again_by_the_next_run(go, local, tmp_path):
    lost, fine = go(Workers(lambda number, order: RayError("node died") if number == 2 else None))
    assert (lost.status, lost.reason) == ("failed", "its worker was lost 4 times, RayError")
    assert [row["index"] for row in lost.answers] == [0, 1, *range(4, 9)] and fine.status == "ok"
    again = Workers()
    go(again)
    assert [order.cell.asked for order in again.orders] == [range(2, 4)]
    assert [timeless(record) for record in store.latest(store.scan(tmp_path / "runs", pytest.fail))] == local[::-1]


def test_a_worker_without_the_folder_keeps_no_checkpoint_there_and_the_driver_says_so(go, local, tmp_path, capsys):
    def elsewhere(number, order):
        return remote.work(replace(order, token="not there"))

    go(Workers(elsewhere))
    assert written(tmp_path) == local and capsys.readouterr().err.count("Put --out on shared storage, or") == 1


def test_a_worker_without_the_folder_goes_on_from_the_copy_of_a_checkpoint(go, tmp_path, capsys):
    def elsewhere(number, order):
        return remote.work(replace(order, token="not there"))

    copies = str(tmp_path / "copies")
    model = Hasher(trap(3000, KeyboardInterrupt()))
    with pytest.raises(runner.Interrupted):
        go(Workers(elsewhere), model, checkpoints=copies)
    records = go(Workers(elsewhere), model, checkpoints=copies)
    assert [part["resumed"] for part in records[0].parts] == [True, False, False, False, False]
    assert model.fed < 12 * 2500 + 1000 and "shared storage" not in capsys.readouterr().err


def test_a_part_goes_on_from_its_checkpoint(go, tmp_path):
    model = Hasher(trap(3000, KeyboardInterrupt()))  # as Ray ends a task
    with pytest.raises(runner.Interrupted):
        go(Workers(), model)
    records = go(Workers(), model)
    assert [part["resumed"] for part in records[0].parts] == [True, False, False, False, False]
    assert model.fed < 12 * 2500 + 1000


def test_what_keeps_a_worker_from_work_is_one_message(go, tmp_path):
    class Other(Hasher):
        def facts(self):
            return super().facts() | {"weights_hash": "w2"}

    with pytest.raises(UserError, match=r'not alike: its parts differ in weights_hash: "w1" and "w2"'):
        go(Workers(), Other())
    with pytest.raises(UserError, match=r"on node7: no weights"):
        go(Workers(lambda number, order: {"host": "node7", "error": "no weights", "warnings": [], "shared": True}))
    with pytest.raises(UserError, match=r"a worker fails: RayTaskError. Install the same atlas-bench on each node"):
        go(Workers(lambda number, order: RayTaskError()))


@pytest.mark.parametrize(("engine", "address"), [("local", None), ("local:", ...), ("spark", ...)])
def test_engines(engine, address):
    if address is ...:
        with pytest.raises(UserError, match="unknown engine"):
            cluster.address_of(engine)
    else:
        assert cluster.address_of(engine) == (False, address)
