"""Several processes train as one does: real ones, by gloo on the CPU.

`torchrun -m tests.training.test_processes FOLDER` is what they run: a training from its beginning, one that is cut
short, and one that a single process had begun.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch

from atlas_bench import registry
from atlas_bench.errors import UserError
from atlas_bench.files import checkpoint_file
from atlas_bench.models.config import Config
from atlas_bench.models.decoder import Decoder
from atlas_bench.tasks.lessons import Ask, Segment, Tags
from atlas_bench.training import checkpoint, loop, muon, pieces, processes
from atlas_bench.training.log import FILE, Log
from atlas_bench.training.loop import train
from atlas_bench.training.optimizers import Optimizers
from atlas_bench.training.processes import ALONE, Processes, launched
from atlas_bench.training.recipe import Progress, Recipe, language
from atlas_bench.training.step import step
from tests.marks import sweep

RECIPE = Recipe(
    first_length=32, longest=64, segment=32, contexts=5, least_tokens=0, most_tokens=160, promote_steps=2,
    curriculum_tokens=640, mixed_tokens=320, stream_tokens=320, stream_length=128, cost_length=32,
)  # fmt: skip
CONFIG = Config("gated-deltanet", vocab_size=64, d_model=16, n_heads=2, screen=2)
BACKGROUND = np.arange(96).reshape(2, 48) % 60
CUT = 4  # rounds before a training is cut short


class Uneven:
    """Lessons whose rows ask nothing, one thing or two, of two lengths; only some of them have answers along."""

    def seeded(self, seed):
        self.rng = np.random.default_rng(seed)
        return self

    def stream(self, length, segment):
        tagged = self.rng.random() < 0.5
        for _ in range(0, length, segment):
            tokens = self.rng.integers(1, 60, segment, dtype=np.int32)
            asks = (Ask((int(tokens[0]), 61), (int(tokens[1]),), "one"), Ask((62,), (3, 4, 5), "two", auxiliary=True))
            tags = Tags(np.where(tokens < 30, tokens, -1), tokens < 15, "along") if tagged else None
            yield Segment(tokens, asks[: self.rng.integers(3)], tokens > 30, tags)


class Text:
    """Running text: a target for every token, and nothing else."""

    def seeded(self, seed):
        self.rng = np.random.default_rng(seed)
        return self

    def stream(self, length, segment):
        for _ in range(0, length, segment):
            tokens = self.rng.integers(1, 60, segment, dtype=np.int32)
            yield Segment(tokens, (), np.ones(segment, bool), Tags(np.maximum(tokens, 30), tokens < 15, "along"))


TEXT = {  # more arguments of curve()
    "config": Config("titans", vocab_size=64, d_model=16, n_heads=2, n_persistent=2),
    "recipe": replace(language(64, 4).within(2000), segment=32, longest=32, first_length=32),
    "lessons": Text,
}


def curve(
    out: Path, *, cut: bool = False, interrupted: bool = False, config: Config = CONFIG, recipe: Recipe = RECIPE,
    lessons: Any = Uneven, **given,
) -> list[list[float]]:  # fmt: skip
    """After each round: [number, loss, accuracy, gradient norm, share of open gates, bytes of optimiser state]."""
    seen, given = [], {"background": BACKGROUND, **given}

    def report(progress):
        last = {"gradient_norm": 0.0, **progress.last}
        figures = (last[name] for name in ("loss", "accuracy", "gradient_norm"))
        seen.append([progress.round, *figures, sum(progress.open), last["state_bytes"]])
        if cut and progress.round == CUT + 1:
            raise KeyboardInterrupt  # the checkpoint is of the round before
        if interrupted and progress.round == CUT:
            signal.raise_signal(signal.SIGINT)

    with (
        patch.object(muon, "fastest_dtype", lambda *_: torch.float32),
        patch.object(loop, "COUNT_SECONDS", -1),  # after every round
        suppress(KeyboardInterrupt),
    ):
        train(config, recipe, lessons().seeded, out, report=report, checkpoint_seconds=0 if cut else 60, **given)
    return seen


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    together = launched("cpu")
    found = {
        "size": together.size,
        "whole": curve(folder / "whole", processes=together),
        "cut": curve(folder / "cut by several", cut=True, processes=together),
        "resumed": curve(folder / "cut by one", processes=together),
        "interrupted": curve(folder / "interrupted", interrupted=together.rank == 1, processes=together),
        "gone on": curve(folder / "interrupted", processes=together),
    }
    if together.size == 2:  # the weights are dealt out, too
        sharded = {**TEXT, "processes": together, "shard_weights": True}
        found["text"] = {
            "whole": curve(folder / "text whole", **sharded),
            "cut": curve(folder / "text cut by several", cut=True, **sharded),
            "resumed": curve(folder / "text cut by one", **sharded),
        }
        found["share"] = max(together.gathered(share_of_weights(together)))
    if together.first:
        (folder / "found.json").write_text(json.dumps(found))
    together.end()


def share_of_weights(together: Processes) -> float:
    """The share of the bytes of all weights that this process has after a step with sharded weights."""
    model = Decoder(TEXT["config"])
    whole = sum(x.nbytes for x in model.parameters())
    together.shard(model)
    text = [list(rows) for rows in zip(*(Text().seeded(seed).stream(64, 32) for seed in range(2)), strict=True)]
    step(Optimizers(model, TEXT["recipe"], together, dtype=torch.float32), text, None, TEXT["recipe"])
    return sum(x.to_local().nbytes for x in model.parameters()) / whole


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3])  # of three, one has nothing to read where a round has two contexts
def test_several_processes_have_the_loss_curve_of_one_and_go_on_with_its_checkpoints(tmp_path, size):
    alone = curve(tmp_path / "alone")
    assert curve(tmp_path / "cut by one", cut=True)[-1][0] == CUT + 1
    curve(tmp_path / "text cut by one", cut=True, **TEXT)
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={size}"]
    words += ["-m", "tests.training.test_processes", str(tmp_path)]
    done = subprocess.run(words, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["size"] == size and {row[0] for row in alone} == set(range(1, len(alone) + 1))
    equal(tmp_path, "", found, alone, curve(tmp_path / "cut by several"))
    assert [row[0] for row in found["interrupted"]] == list(range(1, CUT + 1))  # one was told, and all have stopped
    assert [row[0] for row in found["gone on"]] == list(range(CUT + 1, len(alone) + 1))
    np.testing.assert_allclose([row[:-1] for row in found["gone on"]], [row[:-1] for row in alone[CUT:]], 1e-5, 1e-6)
    if size == 2:
        alone, again = curve(tmp_path / "text alone", **TEXT), curve(tmp_path / "text cut by several", **TEXT)
        equal(tmp_path, "text ", found["text"], alone, again)
        assert 0.5 <= found["share"] < 0.55


def equal(folder: Path, kind: str, found: dict, alone: list, again: list) -> None:
    """Trainings by several processes have the curve, the final state and a share of the memory of `alone`.

    again  one process goes on where several were cut short
    """
    assert np.ptp([row[1] for row in alone]) > 0.1  # a curve, and no constant
    (*_, together), (*_, whole) = found["whole"][-1], alone[-1]
    assert 0.98 / 3 < together / whole < 1.1 / 2  # bytes of the process that has the most
    for rows, expected in ((found["whole"], alone), (found["resumed"], alone[CUT:]), (again, alone[CUT:])):
        figures = [[row[:-1] for row in each] for each in (rows, expected)]
        np.testing.assert_allclose(*figures, rtol=1e-5, atol=1e-6)
    names = ("alone", "whole", "cut by one", "cut by several")
    ends = [checkpoint_file.load(folder / (kind + name) / checkpoint.FILE)[0] for name in names]
    for end in ends[1:]:  # whole, with all optimiser state and the average
        assert {name: x.shape for name, x in end.items()} == {name: x.shape for name, x in ends[0].items()}
        for name, x in end.items():
            np.testing.assert_allclose(x, ends[0][name], rtol=1e-3, atol=1e-4, err_msg=name)


@pytest.mark.parametrize(
    ("size", "recipe", "said"),
    [
        (1, TEXT["recipe"], "this process trains alone. Leave it out, or launch several: accelerate launch"),
        (3, TEXT["recipe"], "4 contexts cannot be shared equally by 3 processes.* a --batch that is a multiple of 3"),
        (5, RECIPE, "--task loss:text"),
    ],
)  # fmt: skip
def test_weights_are_dealt_out_only_where_all_processes_do_the_same(tmp_path, size, recipe, said):
    together = Processes()
    together.size = size
    with pytest.raises(UserError, match=said):
        train(CONFIG, recipe, Text().seeded, tmp_path, processes=together, shard_weights=True)
    assert not list(tmp_path.iterdir())


def test_a_share_is_whole_matrices_and_equal_parts_of_the_rest():
    shapes = [torch.Size(shape) for shape in [(10, 7), (8, 4), (4, 4), (5,), (4, 4), (0,), (2, 3)]]
    whole = [False, True, True, False, True, False, False]
    for size in (1, 2, 3, 50):
        dealt = pieces.deal(shapes, whole, size)
        for i, shape in enumerate(shapes):  # every number has one owner
            own = [piece for piece in dealt if piece.parameter == i]
            assert [n for piece in own for n in range(piece.start, piece.stop)] == list(range(shape.numel()))
            assert len(own) == 1 or not whole[i]
        numbers, matrices = np.zeros(size, int), np.zeros(size, int)
        for piece in dealt:
            (matrices if whole[piece.parameter] else numbers)[piece.owner] += piece.stop - piece.start
        assert max(numbers) == -(-81 // size)
        assert sorted(matrices)[-3:] == {1: [64], 2: [32, 32]}.get(size, [16, 16, 32])
        for limit in (1, 5, 10_000):
            values = [torch.arange(100.0 * i, 100 * i + piece.stop - piece.start) for i, piece in enumerate(dealt)]
            there = [torch.zeros_like(x) for x in values]
            for width, rows_of in pieces.buckets(dealt, size, limit):
                assert width * size <= max(limit, size)
                for spans in rows_of:
                    pieces.pack(spans, values, row := torch.zeros(width))
                    pieces.unpack(spans, row, there)
            assert all(map(torch.equal, there, values))


def test_processes_that_see_other_checkpoints_are_told(tmp_path):
    class Two(Processes):
        def gathered(self, value):
            return [value, 7] if isinstance(value, int) else [value, value]

    with pytest.raises(UserError, match=r"different rounds in '.*': 0, 7\. Choose a folder"):
        train(CONFIG, RECIPE, Uneven().seeded, tmp_path, processes=Two())


def test_only_a_launcher_makes_several_processes(monkeypatch):
    for name in ("WORLD_SIZE", "RANK", "ACCELERATE_MIXED_PRECISION"):
        monkeypatch.delenv(name, raising=False)
    processes.launched.cache_clear()
    assert launched("cpu") is ALONE
    processes.launched.cache_clear()
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(UserError, match="'fp16' is not supported in training"):
        launched("cpu")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UserError, match=r"accelerate's FSDP has no part in this training.*--shard-weights"):
        launched("cpu")
    processes.launched.cache_clear()


@sweep("memory", ["none", *registry.MEMORIES, "mac"], quick=["titans"])
def test_every_memory_trains_in_mixed_precision_much_as_without(memory):
    placement = {"placement": "mac", "segment": 16} if memory == "mac" else {}
    config = Config("deltanet" if placement else memory, vocab_size=64, d_model=16, n_heads=2, **placement)
    rows = [Uneven().seeded(seed).stream(64, 32) for seed in range(3)]
    segments = [list(each) for each in zip(*rows, strict=True)]

    class Mixed(Processes):
        def autocast(self):
            return torch.autocast("cpu", torch.bfloat16)

    found = []
    for together in (ALONE, Mixed()):
        torch.manual_seed(0)
        model = Decoder(config)
        made = Optimizers(model, RECIPE, together, dtype=torch.float32)
        found.append([step(made, segments, None, RECIPE)[0] for _ in range(2)])
    full, mixed = ([(each["loss"], each["gradient_norm"]) for each in figures] for figures in found)
    np.testing.assert_allclose(mixed, full, rtol=0.02)
    assert mixed != full


def test_a_share_of_the_rows_is_every_nth():
    share = Processes()
    share.rank, share.size = 1, 3
    assert [list(share.own(range(n))) for n in (1, 2, 5)] == [[], [1], [1, 4]]


def test_the_log_has_each_round_once_and_a_full_disk_is_warned_of_once(tmp_path):
    def rounds(numbers, out, said):
        log = Log(out, said.append)
        for number in numbers:
            log(Progress(round=number, step=3 * number, tokens=64, last={"loss": 1.0 / number, "accuracy": 0.5}))

    said = []
    rounds((1, 2, 3), tmp_path, said)
    with (tmp_path / FILE).open("a") as file:
        file.write('{"round": 4, "lo')  # a kill
    rounds((3, 4), tmp_path, said)
    lines = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()]
    assert [(line["round"], line["loss"]) for line in lines] == [(1, 1.0), (2, 0.5), (3, 1 / 3), (4, 0.25)]
    assert not said
    rounds((1, 2), tmp_path / "nowhere", said)
    assert len(said) == 1 and "cannot be written" in said[0]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
