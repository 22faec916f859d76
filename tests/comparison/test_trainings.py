"""What `compare --train` trains over seeds and learning rates, which rate it chooses, and in how many processes."""

from __future__ import annotations

import json
import math
import os

import pytest
from typer.testing import CliRunner

from atlas_bench.cli.app import app
from atlas_bench.comparison import candidates, trainings, workers
from atlas_bench.models import loading
from atlas_bench.results import store

CONFIG = {"memory": "none", "attention_window": 16, "n_layers": 3}


def planned(folder, *words, **options):
    wanted = {"mqar": ["8"]}
    return trainings.trainings(candidates.resolve(words, train=True), wanted, 1000, folder, **options)


def test_rates_are_a_factor_apart_around_the_recipe_s_own():
    assert trainings.factors(1) == [1.0] and trainings.factors(2) == pytest.approx([1 / 3, 1])
    assert trainings.factors(3) == pytest.approx([1 / 3, 1, 3])
    assert trainings.factors(5) == pytest.approx([1 / 9, 1 / 3, 1, 3, 9]) and 1.0 in trainings.factors(9)


def test_every_seed_and_rate_is_a_training_and_the_usual_rate_is_the_one_that_was_trained_before(tmp_path):
    grid = planned(tmp_path, "swa", "transformer", seeds=[4, 5], rates=trainings.factors(3))
    assert [(each.candidate.label, each.seed, round(each.rate, 2)) for each in grid] == [
        (name, seed, rate) for name in ("swa", "transformer") for seed in (4, 5) for rate in (0.33, 1.0, 3.0)
    ]
    assert len({each.folder for each in grid}) == 12 and grid[0].title == "swa mqar seed 4 rate x0.333"
    assert all(("--validate" in each.words) == each.validated == (each.seed == 4) for each in grid)  # they choose
    assert ("--rate", repr(1 / 3)) == grid[0].words[grid[0].words.index("--rate") :][:2]
    alone = planned(tmp_path, "swa", "transformer", seeds=[4])
    assert [each.folder for each in alone] == [each.folder for each in grid if each.seed == 4 and each.rate == 1]
    assert alone[0].title == "swa mqar" and not {"--rate", "--validate"} & set(alone[0].words)


def test_a_device_is_passed_on_and_is_no_other_training(tmp_path):
    usual, given = (planned(tmp_path, "swa", "transformer", device=device) for device in (None, "cpu"))
    assert [each.folder for each in usual] == [each.folder for each in given]
    assert [each.words[-2:] for each in given] == [("--device", "cpu")] * 2
    assert not any("--device" in each.words for each in usual)


def card(training, loss):
    training.folder.mkdir(parents=True)
    final = {"validation": {"loss": loss, "accuracy": 0.5, "n": 9}}
    (training.folder / loading.CARD).write_text(json.dumps({"config": CONFIG, "final": final}))


def test_the_rate_with_the_least_loss_is_chosen(tmp_path):
    grid = planned(tmp_path, "swa", "transformer", seeds=[0], rates=trainings.factors(3))
    for each, loss in zip(grid, [2.0, 1.0, 1.5, 0.5, 1.0, 0.1], strict=True):
        card(each, loss)
    lost = [grid[-1].folder]  # the transformer's best
    swa, transformer = trainings.choose(grid, lost)
    assert (swa["candidate"], swa["task"], swa["chosen"]) == ("swa", "mqar", 1.0)
    assert [each["loss"] for each in swa["tried"]] == [2.0, 1.0, 1.5]
    assert swa["beyond"] is None and transformer["beyond"] == 5  # its best is the least that was tried
    assert transformer["chosen"] == pytest.approx(1 / 3) and transformer["tried"][2]["loss"] is None
    none = trainings.choose(grid, [each.folder for each in grid])
    assert [each["chosen"] for each in none] == [1.0, 1.0]  # whose failures are then told


@pytest.mark.slow
def test_a_comparison_over_seeds_and_rates(tmp_path, monkeypatch):
    """Eight trainings, two at once: three rates by the first seed, the chosen one by the second; then none again."""
    monkeypatch.chdir(tmp_path)
    begun = []
    popen = workers.subprocess.Popen
    monkeypatch.setattr(workers.subprocess, "Popen", lambda *a, **k: begun.append(process := popen(*a, **k)) or process)
    words = "compare swa transformer --task mqar:8 --len 256 --samples 32 --train 4K --seeds 2 --rates 3 -o p.html"
    first = CliRunner().invoke(app, words.split())
    assert first.exit_code == 0, first.output
    assert len(begun) == 4 and all(process.poll() is not None for process in begun)
    out = " ".join(first.stdout.split())
    assert "Each of 3 learning rates was tried with seed 0;" in out and "4 trainings for all alike" in out
    assert "4,000 tokens a model, each stage to the end of its last contexts; seeds 0 to 1." in out
    assert out.count("2 seeds: ") == 2 and out.count("(chosen)") == 2
    assert max(map(len, first.stdout.splitlines())) <= 79
    assert "The small circles are the seeds" in (tmp_path / "p.html").read_text()
    records, _ = store.read(tmp_path / "compare" / "mqar.jsonl")
    assert [(each.model, each.seed, each.training["seed"]) for each in records] == [
        (name, seed, seed) for seed in (0, 1) for name in ("swa", "transformer")
    ]
    assert len({each.weights_hash for each in records}) == 4
    for name in ("swa", "transformer"):
        assert len({each.training["muon_lr"] for each in records if each.model == name}) == 1
    again = CliRunner().invoke(app, [*words.split(), "--json"])
    assert again.stderr.count("already trained") == 8 and len(begun) == 4
    rates = json.loads(again.stdout)["rates"]
    assert all(math.isfinite(each["loss"]) for rate in rates for each in rate["tried"])


@pytest.mark.slow
def test_a_training_does_not_depend_on_those_before_it_in_its_process(tmp_path):
    one, two = planned(tmp_path / "together", "swa", "transformer", seeds=[3])
    (alone,) = planned(tmp_path / "alone", "swa", "transformer", seeds=[3])[1:]
    assert workers.train_all([one, two], jobs=1, say=print) == {}
    assert workers.train_all([alone], jobs=1, say=print) == {}
    assert loading.weights_hash(two.folder) == loading.weights_hash(alone.folder)


def test_a_worker_that_is_killed_is_begun_anew():
    worker = workers._Worker()
    try:
        lines = []
        assert worker.run(["--version"], lines.append) == (0, "") and lines[0].startswith("atlas-bench ")
        code, said = worker.run(["list", "cats"], lines.append)
        assert code == 2 and said.startswith("error: unknown kind 'cats'")
        before = worker.process.pid
        os.kill(before, 9)
        assert worker.process.wait() == -9
        assert worker.run(["--version"], lines.append)[0] == 0 and worker.process.pid != before
    finally:
        worker.end()
    assert worker.process.poll() is not None
