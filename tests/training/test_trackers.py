"""`train --log-to`: the figures of training.ndjson in trackers; real ones where they are installed."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from types import ModuleType

import pytest

from atlas_bench import api
from atlas_bench.errors import UserError
from atlas_bench.training import command, log, trackers
from atlas_bench.training.processes import Processes
from atlas_bench.training.recipe import Progress
from tests.training.test_training import CONFIG, TINY

PROGRESS = [Progress(round=i, step=3 * i, last={"loss": 1 / i}, kinds={"one": 0.5}) for i in (1, 2)]


@pytest.fixture
def fake(monkeypatch):
    """Fake wandb and trackio that keep what they are given, under their names."""
    seen: dict[str, list] = {}
    for name in ("wandb", "trackio"):
        module, seen[name] = ModuleType(name), []

        def note(kind, seen=seen[name]):
            return lambda *given, **options: seen.append((kind, *given, options))

        module.log, module.finish = note("log"), note("finish")
        module.init = lambda note=note, module=module, **options: note("init")(options) or module
        monkeypatch.setitem(sys.modules, name, module)
    return seen


def test_a_training_logs_what_its_file_has(tmp_path, monkeypatch, fake):
    monkeypatch.setattr(
        command, "Recipe", lambda: replace(TINY, curriculum_tokens=256, mixed_tokens=1, stream_tokens=1)
    )
    api.train("none", tmp_path / "m", task="mqar:8", examine=False, log_to=["wandb,trackio", "wandb"])
    lines = [json.loads(line) for line in (tmp_path / "m" / log.FILE).read_text().splitlines()]
    for name, seen in fake.items():
        (_, about, _), *logged, last = seen
        assert (about["project"], about["name"], about["config"]["memory"]) == ("atlas-bench", "m", "none")
        assert about["config"]["seed"] == 0 and last == ("finish", {}), name
        assert [(line["loss"], line["tokens"], {"step": line["step"]}) for line in lines] == [
            (values["loss"], values["tokens"], options) for _, values, options in logged
        ]


def test_only_the_first_process_logs(tmp_path, fake):
    second = Processes()
    second.rank, second.size = 1, 2
    with command._reporting(CONFIG, TINY, tmp_path, trackers.chosen(["wandb"]), print, second) as report:
        report(PROGRESS[0])
    assert not fake["wandb"] and not list(tmp_path.iterdir())


def test_a_tracker_that_fails_is_warned_of_once_and_the_others_go_on(tmp_path, fake):
    def fail(*given, **options):
        raise OSError("the server is gone")

    sys.modules["wandb"].log, said = fail, []
    with trackers.tracking(trackers.chosen(["wandb", "trackio"]), tmp_path, {}, said.append) as track:
        for progress in PROGRESS:
            track(progress)
    assert said == ["the tracker 'wandb' failed: the server is gone. Training goes on without."]
    assert [kind for kind, *_ in fake["trackio"]] == ["init", "log", "log", "finish"]
    figures = {"round": 2, "length": 64, "tokens": 0, "seconds": 0.0, "skipped": 0, "loss": 0.5, "kinds/one": 0.5}
    assert fake["trackio"][2] == ("log", figures, {"step": 6})


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("wanbd", "unknown tracker 'wanbd'. Did you mean 'wandb'? Known: tensorboard, trackio, wandb."),
        ("tensorboard", "needed to log to TensorBoard, and is not installed. Type: pip install tensorboard."),
    ],
)
def test_a_tracker_that_is_not_there_is_an_error_before_anything_is_written(tmp_path, monkeypatch, name, said):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(UserError) as error:
        api.train("none", tmp_path / "m", log_to=name)
    assert said in str(error.value) and not (tmp_path / "m").exists()


def test_a_tracker_that_cannot_start_says_so_and_ends_the_others(tmp_path, fake):
    def refuse(**options):
        raise RuntimeError("no api key")

    sys.modules["trackio"].init = refuse
    with (
        pytest.raises(
            UserError, match=r"'trackio' cannot start: no api key\. Set it up, or leave --log-to trackio out"
        ),
        trackers.tracking(trackers.chosen(["wandb", "trackio"]), tmp_path, {}, print),
    ):
        raise AssertionError("it has begun")
    assert [kind for kind, *_ in fake["wandb"]] == ["init", "finish"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tensorboard", "trackio", "wandb"])
def test_a_real_tracker_keeps_the_figures(tmp_path, monkeypatch, name):
    monkeypatch.setitem(os.environ, "TRACKIO_DIR", str(tmp_path / "trackio"))  # read where trackio is imported
    monkeypatch.setitem(os.environ, "WANDB_MODE", "offline")
    pytest.importorskip(name)
    said = []
    with trackers.tracking(trackers.chosen([name]), tmp_path, {"seed": 0}, said.append) as track:
        for progress in PROGRESS:
            track(progress)
    assert not said
    if name == "tensorboard":
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        found = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
        assert [(row.step, row.value) for row in found.Scalars("loss")] == [(3, 1.0), (6, 0.5)]
    elif name == "trackio":
        from trackio.sqlite_storage import SQLiteStorage

        rows = SQLiteStorage.get_logs("atlas-bench", tmp_path.name)
        assert [(row["step"], row["loss"]) for row in rows if "loss" in row] == [(3, 1.0), (6, 0.5)]
    else:
        assert list((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))
