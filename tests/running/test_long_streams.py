"""Long streams through the real command line: constant memory, and a 1M-token cell killed in the middle."""

import sys
from pathlib import Path

import pytest
import torch

from atlas_bench.models import loading
from atlas_bench.models.decoder import Config, Decoder
from atlas_bench.results.record import timeless
from tests.running.test_runner import kill_and_resume, run_command

pytestmark = pytest.mark.slow


def command(model: str, length: str, out: Path, *options: str) -> list[str]:
    run = [sys.executable, "-m", "atlas_bench", "run", "babilong:qa1", "--len", length, "--model", model]
    return [*run, "--out", str(out), "--quiet", *options]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A small untrained Atlas with sparse gates: what it answers is noise, how it reads is real."""
    torch.manual_seed(0)
    decoder = Decoder(Config(memory="atlas", d_model=32, n_heads=2))
    with torch.no_grad():
        for block in decoder.blocks:
            block.memory.gate["write"].weight.normal_(std=0.1)
            block.memory.gate["write"].bias.fill_(-4.7)
    folder = tmp_path_factory.mktemp("tiny")
    loading.save(folder, decoder, {"training_tokens": 0})
    return str(folder)


def test_memory_at_2m_tokens_is_that_at_100k(tiny, tmp_path):
    """Peak RSS of two processes; the corpus cache is made before, and its maps are not counted as growth."""
    peaks = {}
    for length in ("2M", "100K", "2M"):  # the first one only fills the corpus cache
        record = run_command(command(tiny, length, tmp_path / f"{length}{len(peaks)}", "--samples", "2"))
        assert record.status == "ok" and record.tokens_read == 2 * record.length
        peaks[length] = record.peak_rss_bytes
    assert peaks["2M"] < 1.1 * peaks["100K"]


def test_a_killed_1m_cell_resumes_to_the_same_record(tmp_path):
    """The embedded model; SIGKILL after the third checkpoint of ten."""
    options = ("--samples", "1", "--checkpoint-every", "100K")
    whole = run_command(command("atlas-nano", "1M", tmp_path / "whole", *options))
    resumed = kill_and_resume(
        command("atlas-nano", "1M", tmp_path / "cut", *options), tmp_path / "cut", checkpoints=3, patience=300
    )
    assert resumed.resumed and not whole.resumed
    assert timeless(resumed) == timeless(whole)
    assert resumed.tokens_read == whole.tokens_read  # of both sittings; test_runner.py counts what was fed twice
