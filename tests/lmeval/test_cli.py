"""`atlas-bench lm-eval ...` from a shell: lm-eval's own command line sees our models and tasks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from atlas_bench.lmeval import cli
from atlas_bench.models import loading

ROOT = Path(__file__).parents[2]
NAME = "gated-deltanet-nano"


@pytest.mark.slow
def test_lm_evals_command_sees_our_model_and_tasks(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "ATLAS_BENCH_CACHE": str(tmp_path / "cache")}
    arguments = (
        f"run --model atlas-bench --model_args name={NAME},device=cpu --tasks atlas_mqar_8 --limit 4 --log_samples "
        f"--metadata length=300 samples=9 --output_path {tmp_path / 'out'}"
    )
    command = [sys.executable, "-m", "atlas_bench.lmeval", *arguments.split()]
    done = subprocess.run(command, env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "|atlas_mqar_8|" in done.stdout and "mqar/exact" in done.stdout
    (file,) = (tmp_path / "out" / NAME).glob("results_*.json")
    results = json.loads(file.read_text())
    assert results["n-samples"]["atlas_mqar_8"] == {"original": 9, "effective": 4}
    assert results["config"]["atlas_bench"]["weights_hash"] == loading.weights_hash(loading.folder_of(NAME))
    (samples,) = (tmp_path / "out" / NAME).glob("samples_atlas_mqar_8_*.jsonl")
    rows = [json.loads(line) for line in samples.read_text().splitlines()]
    assert [row["doc"]["length"] for row in rows] == [300] * 4


@pytest.fixture
def no_index(monkeypatch):
    """lm-eval's 14,000 task files unread, which take ten seconds."""
    from lm_eval import tasks

    class Small(tasks.TaskManager):
        def __init__(self, verbosity=None, include_path=None, **options):
            super().__init__(verbosity, include_path, include_defaults=False, **options)

    monkeypatch.setattr(tasks, "TaskManager", Small)
    return Small


def test_lists_hold_ours_and_the_users_own(no_index, tmp_path, capsys, monkeypatch):
    from lm_eval import tasks
    from lm_eval.api.registry import model_registry

    (tmp_path / "mine.yaml").write_text("task: my_own\ndataset_path: json\noutput_type: generate_until\n")
    before = sys.argv
    assert cli.main(["ls", "tasks", "--include_path", str(tmp_path)]) == 0
    listed = capsys.readouterr().out
    assert "|my_own" in listed and "|atlas_babilong_qa1" in listed and "|atlas_mqar" in listed
    assert tasks.TaskManager is no_index and sys.argv is before
    assert {"hf", "vllm", "local-completions", "atlas-bench"} <= set(model_registry)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--model_args name=atlas-nanno --tasks atlas_mqar_8", "error: unknown model 'atlas-nanno'. Did you mean"),
        (f"--model_args name={NAME} --tasks atlas_mqar_8", "error: task atlas_mqar_8 has no length of its own."),
        (f"--model_args name={NAME} --batch_size 8 --tasks atlas_mqar_8", "error: --batch_size is 8"),
    ],
)
def test_a_mistake_is_one_message_and_code_2(no_index, capsys, arguments, message):
    assert cli.main(["run", "--model", "atlas-bench", *arguments.split()]) == 2
    assert message in capsys.readouterr().err


def test_lm_evals_own_mistakes_keep_their_code(no_index, capsys):
    assert cli.main(["run", "--no-such-option"]) == 2 and "--no-such-option" in capsys.readouterr().err
    assert cli.main(["run", "--help"]) == 0
