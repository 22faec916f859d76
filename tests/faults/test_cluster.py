"""A Ray cluster of three nodes, real processes of this machine; one is killed: the records are the local engine's."""

from __future__ import annotations

import pytest

from atlas_bench.results import store
from tests.faults.program import ROOT, Program, check

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[cluster]' brings it")

WORDS = ("run", "niah:single,mqar:8", "--len", "1M,2M", "--model", "oracle", "--samples", "16",
         "--checkpoint-every", "2K", "--out")  # fmt: skip  # often: a part has to last until its node is killed
NODE = {"num_cpus": 1, "memory": 1 << 30, "object_store_memory": 80 << 20, "include_log_monitor": False}
HEAD = {"include_dashboard": False, "no_monitor": True}  # less to start
BUSY = 3  # times that a cluster may be begun: Ray gives its agents 15 s to start, which a busy machine does not


@pytest.fixture
def cluster(monkeypatch):
    """Three nodes with one processor each."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    for attempt in range(BUSY):
        made = Cluster()
        try:
            for more in (HEAD, {}, {}):
                made.add_node(**NODE, **more)
            break
        except Exception as error:
            made.shutdown()
            if attempt == BUSY - 1:
                pytest.skip(f"Ray itself began no cluster of three nodes in {BUSY} tries: {error}")
    yield made
    made.shutdown()


def test_a_lost_node_s_work_goes_on_elsewhere_and_changes_no_record(tmp_path, inject, cluster):
    local = Program(*WORDS, "local", cwd=tmp_path)
    assert local.end() == 0, local.said
    wanted = store.read_all(tmp_path / "local")[0]
    program = Program(*WORDS, "runs", "--engine", f"ray:{cluster.address}", cwd=tmp_path)
    program.until(lambda: len(list(tmp_path.glob("runs/.checkpoints/*.safetensors"))) == 3)  # each node is at work
    _, lost, _ = sorted(cluster.list_all_nodes(), key=lambda node: not node.head)
    cluster.remove_node(lost, allow_graceful=False)
    inject("kill -9 of one of three nodes")
    assert program.end() == 0, program.said
    check(tmp_path / "runs", wanted)
    parts = [part for record in store.read_all(tmp_path / "runs")[0] for part in record.parts]
    assert len(parts) > len(wanted) and any(part["resumed"] for part in parts), parts
