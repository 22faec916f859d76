"""Training makes every tensor on the model's device; found without a GPU, on the device of elsewhere.py.

`python -m tests.training.test_device FOLDER MEMORY..` is the process that has that device: it trains, and
prints as JSON what failed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch

from atlas_bench import registry
from atlas_bench.models.config import Config
from atlas_bench.tasks.lessons import Ask, Segment, Tags
from atlas_bench.training import examine, muon
from atlas_bench.training.loop import open_shares, train
from atlas_bench.training.recipe import Recipe

RECIPE = Recipe(
    longest=64, segment=32, contexts=2, least_tokens=64, curriculum_tokens=128, mixed_tokens=64, stream_tokens=128,
    stream_length=64, promote_steps=2, first_length=32, gate_noise=0.0,
)  # fmt: skip
SHORT = replace(RECIPE, longest=32, curriculum_tokens=32, mixed_tokens=32, stream_tokens=32, stream_length=32)
CONFIG = Config("gated-deltanet", vocab_size=64, d_model=16, n_heads=2, screen=2)


class Drill:
    """Lessons with all that a segment may have: questions of two widths, free tokens, answers along it."""

    def seeded(self, seed):
        self.rng = np.random.default_rng(seed)
        return self

    def stream(self, length, segment):
        for start in range(0, length, segment):
            tokens = self.rng.integers(1, 60, min(segment, length - start), dtype=np.int32)
            asks = (Ask((int(tokens[0]), 61), (int(tokens[1]),), "one"), Ask((62,), (3, 4), "two", auxiliary=True))
            tags = Tags(np.where(tokens < 30, tokens, -1), tokens < 15, "along")
            yield Segment(tokens, asks, tokens > 30, tags)


def trained(out: Path, device: str, config: Config = CONFIG, recipe: Recipe = RECIPE, **given):
    """Weights, on the CPU, and figures of a training on a device, of its background and of its examinations."""
    background = np.arange(96).reshape(2, 48) % 60
    with patch.object(muon, "fastest_dtype", lambda *_: torch.float32):  # it is measured: two devices, two answers
        model, progress = train(config, recipe, Drill().seeded, out, device=device, background=background, **given)
    weights = {name: x.detach().cpu() for name, x in model.state_dict().items()}
    right = examine.accuracy(model, [Drill().seeded(1)], 64)["correct"]
    loss = examine.validation(model, [Drill().seeded(1)], lengths=(64,))["loss"]
    return weights, [progress.last["loss"], progress.tokens, *open_shares(model, background), right, loss]


def main(folder: Path, specs: list[str]) -> dict[str, str]:
    """Trainings on "elsewhere": one whole, one that is cut short, and one of each memory; those that fail, and why."""
    from tests.training import elsewhere  # before anything is trained: torch counts its devices once

    weights, figures = trained(folder / "whole", elsewhere.NAME)
    torch.save((weights, figures), folder / "whole.pt")
    with suppress(KeyboardInterrupt):
        trained(folder / "cut", elsewhere.NAME, report=stop, checkpoint_seconds=0)
    failed = {}
    for i, spec in enumerate(specs):
        name, options = registry.typed_memory(spec)
        config = replace(CONFIG, memory=name, memory_options=options, screen=0)
        try:
            trained(folder / str(i), elsewhere.NAME, config, SHORT)
        except Exception as error:
            failed[spec] = f"{type(error).__name__}: {error}"
    return failed


def stop(progress):
    """As Ctrl-C in the third round: the checkpoint is of the second."""
    if progress.round == 3:
        raise KeyboardInterrupt


def run(folder: Path, *specs: str) -> dict[str, str]:
    """What main() returns, in a process of its own."""
    words = [sys.executable, "-m", "tests.training.test_device", str(folder), *specs]
    done = subprocess.run(words, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_a_training_on_another_device_is_the_same_and_goes_on_here(tmp_path):
    assert run(tmp_path) == {}
    weights, figures = torch.load(tmp_path / "whole.pt")
    here, found = trained(tmp_path / "here", "cpu")
    assert found == pytest.approx(figures)
    rounds = []
    resumed, _ = trained(tmp_path / "cut", "cpu", report=lambda progress: rounds.append(progress.round))
    assert rounds[0] == 3  # one that began again would end in the same weights
    for name, x in weights.items():
        torch.testing.assert_close(here[name], x)
        torch.testing.assert_close(resumed[name], x)


@pytest.mark.slow
@pytest.mark.parametrize(
    "quarter", range(4)
)  # in one process for each memory, imports would take longer than trainings
def test_every_memory_trains_on_another_device(tmp_path, quarter):
    printed = [f"{name}:printed=true" for name in registry.MEMORIES if "printed" in registry.memory_options(name)]
    assert run(tmp_path, *[*registry.MEMORIES, *printed][quarter::4]) == {}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2:])))
