"""`probe` as a user types it: what it prints, what it keeps, how it goes on, what it refuses."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from atlas_bench import registry
from atlas_bench.comparison.paired import compare
from atlas_bench.models import loading
from atlas_bench.models.alterations import Recent
from atlas_bench.models.decoder import Config, Decoder
from atlas_bench.results import store
from atlas_bench.running import consistency, plan, runner
from atlas_bench.running.progress import Progress
from tests.command import call

EXAMPLE = Path(__file__).parents[2] / "examples" / "my_memory.py"
ATLAS = ["probe", "atlas-nano", "--len", "256", "--samples", "4"]
ALTERED = [
    *("muon=off", "window=1", "momentum=off", "forgetting=off", "lr=1", "degree=1", "ingredients=off"),
    *("layer1=closed", "layer2=closed", "layer3=closed", "layer4=closed", "memory=closed"),
    *("screen=open", "attention=self", "reset=64"),
]


def save(folder: Path, memory: str) -> None:
    """An untrained model in a folder."""
    torch.manual_seed(0)
    loading.save(folder, Decoder(Config(memory, d_model=32, n_heads=2)), {})


@pytest.mark.slow
def test_an_embedded_model_is_taken_apart_and_a_second_run_reads_nothing(here):
    first = call(*ATLAS)
    assert first.exit_code == 0, first.output
    rows = {line.split()[0]: line for line in first.stdout.splitlines() if re.search(r" 4 +\d+\.\d-", line)}
    assert list(rows) == ["atlas-nano", *ALTERED]
    assert rows["atlas-nano"].split()[1:] == ["100.0", "4", "51.0-100.0", "whole", "model"]
    assert all(rows[name].rstrip().endswith(("better", "worse", "not separable")) for name in ALTERED)
    assert "momentum=off    a step takes nothing from the steps before it" in first.stdout
    assert max(map(len, first.stdout.splitlines())) <= 80
    records, _ = store.read(here / "probe" / "babilong.jsonl")
    names = ["atlas-nano", *(f"atlas-nano;{name}" for name in ALTERED)]
    assert [record.model for record in records] == names and {record.status for record in records} == {"ok"}
    assert len({record.plan_hash for record in records}) == 1  # all were asked the same

    second = call(*ATLAS, "--json")
    comparison = json.loads(second.stdout)
    assert second.stderr.count("not run again") == len(names)
    assert store.read(here / "probe" / "babilong.jsonl")[0] == records
    again = compare(records, names)
    assert comparison["rows"] == json.loads(json.dumps(again["rows"])) and comparison["comparisons"] == len(ALTERED)
    assert list(comparison["alterations"]) == ALTERED
    report = call("report", "probe", "--no-published")
    assert report.exit_code == 0 and "atlas-nano;muon=off" in report.stdout


@pytest.mark.slow
def test_a_killed_probe_goes_on(here):
    """Of the real program, stopped in the middle of its plan."""
    words = ["probe", "swa-nano", "--len", "1K", "--samples", "40", "--reset", "100,200"]
    names = [f"swa-nano{end}" for end in ("", ";attention=self", ";reset=100", ";reset=200")]
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "atlas_bench", *words], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    for line in process.stderr:
        if "attention=self: 40 samples" in line:
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and not out and "The same command goes on from there" in err, err
    file = here / "probe" / "babilong.jsonl"
    kept = [record.model for record in store.read(file)[0]]
    assert kept and len(kept) < len(names)

    result = call(*words)
    assert result.exit_code == 0 and result.stderr.count("not run again") == len(kept), result.output
    assert [record.model for record in store.read(file)[0]] == names


def test_a_reset_model_goes_on_from_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(
        consistency, "fault", lambda evaluation, batch: None
    )  # the blocks that the cell feeds are counted

    class Stopped(Recent):
        """Ctrl-C at the sixth block."""

        fed = 0

        def feed(self, state, tokens):
            self.fed += 1
            if self.fed == 6:
                raise KeyboardInterrupt
            return super().feed(state, tokens)

    model, settings = loading.load("swa-nano"), runner.Settings(batch=2, block=100, checkpoint_tokens=200)
    (cell,) = plan.make([("babilong", "qa1")], lengths=[1000], models=["recent"], samples=3)

    def run(recent, folder):
        return runner.run([cell], {"recent": recent}, folder, settings, Progress(quiet=True))[0]

    with pytest.raises(runner.Interrupted, match="at token 1,000; saved in"):
        run(Stopped(model, 300), tmp_path / "stopped")
    resumed, whole = run(Recent(model, 300), tmp_path / "stopped"), run(Recent(model, 300), tmp_path / "whole")
    assert resumed.resumed and not whole.resumed and whole.status == "ok"
    assert resumed.answers == whole.answers and resumed.tokens_read == whole.tokens_read == 3000


@pytest.mark.slow
def test_a_users_memory_is_taken_apart_under_the_name_that_it_is_given(here):
    save(here / "model", registry.name_file(EXAMPLE))
    words = ["--task", "mqar:8", "--len", "256,512", "--samples", "8", "--reset", "300", "--code", str(EXAMPLE)]
    result = call("probe", "mine=model", *words)
    assert result.exit_code == 0, result.output
    assert "mqar:8, 256" in result.stdout and "mqar:8, 512" in result.stdout and "caution=0" in result.stdout
    assert "Only 1 context: no difference could reach p < 0.05" in result.stdout
    records, _ = store.read(here / "probe" / "mqar.jsonl")
    assert {record.model: record.model_spec for record in records} == {
        "mine": "model", **{f"mine;{name}": f"model;{name}" for name in (
            "forgetting=off", "caution=0", "ingredients=off", "layer1=closed", "layer2=closed", "memory=closed",
            "attention=self", "reset=300",
        )},
    }  # fmt: skip


@pytest.mark.slow
def test_a_part_whose_loss_breaks_the_model_is_told(here):
    """A score that is not there stands as its status, with the reason below the table; the others have theirs."""
    torch.manual_seed(0)
    decoder = Decoder(Config("titans", d_model=32, n_heads=2, attention_window=4))
    with torch.no_grad():
        decoder.blocks[0].attention.bias[:, 0] = -torch.inf  # nothing is left where it sees itself alone
    loading.save(here / "model", decoder, {})
    result = call("probe", "model", "--len", "256", "--samples", "2")
    assert result.exit_code == 1, result.output
    assert "attention=self: failed: ok -> failed. FloatingPointError: the logits are not finite" in " ".join(
        result.stdout.split()
    )
    assert re.search(r"0\.0 +2 +0\.0-", result.stdout)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["openai:http://localhost:9/v1#m"],
            [
                "cannot be probed",
                "folder that `atlas-bench train` wrote",
                "run babilong:qa1 --len 1K,4K,16K --model openai:",
            ],
        ),
        (["oracle"], ["'oracle' cannot be probed: it is a control"]),
        (["atlas-nan"], ["unknown model 'atlas-nan'", "Did you mean 'atlas-nano'?"]),
        (["atlas"], ["unknown model 'atlas': that is a memory", "Did you mean 'atlas-nano'?"]),
        (["./nowhere"], ["there is no such folder"]),
        (["swa-nano", "--reset", "4K"], ["--reset 4K would forget nothing", "4K tokens"]),
        (["swa-nano", "--reset", "0"], ["--reset 0 would leave nothing to read"]),
        (["swa-nano", "--reset", "1Q"], ['--reset "1Q"', "16K"]),
        (["swa-nano", "--task", "babilon"], ["Did you mean 'babilong'?"]),
        (["swa-nano", "--task", "lm-eval:piqa"], ["'lm-eval:piqa' can be run, and nothing else"]),
        (["swa-nano", "--len", "10"], ["length 10 is too short"]),
        (["swa-nano", "--out", "file"], ["'file'", "Choose another"]),
        (["model"], ["my_memory.py", "--code"]),
    ],
)
def test_bad_input_is_one_message_and_writes_nothing(here, words, said):
    (here / "file").write_text("in the way")
    if words == ["model"]:
        save(here / "model", registry.name_file(EXAMPLE))
        registry._FILES.clear()  # as in a process of its own
    before = sorted(here.rglob("*"))
    result = call("probe", *words)
    assert result.exit_code == 2 and not result.stdout, result.output
    assert sorted(here.rglob("*")) == before
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert all(part in result.stderr for part in said), result.stderr
