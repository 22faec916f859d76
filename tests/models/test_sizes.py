"""Sizes: what their names promise, counted on the meta device."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from atlas_bench import registry
from atlas_bench.cli.app import app
from atlas_bench.errors import UserError
from atlas_bench.models import sizes
from atlas_bench.models.decoder import Config, Decoder
from atlas_bench.models.lm import LanguageModel
from atlas_bench.models.tokenizer import embedded
from tests.marks import sweep

NAMED = {"170M": 170e6, "340M": 340e6, "760M": 760e6, "1.3B": 1.3e9}


def test_nano_is_the_default_architecture():
    assert sizes.config("nano", "none") == Config()


@pytest.mark.parametrize("size", NAMED)
def test_the_mlp_ratio_brings_the_parameters_nearest_to_the_name(size):
    def distance(ratio):
        return abs(sizes.measure(sizes.config(size, "gated-deltanet", mlp_ratio=ratio))["parameters"] - NAMED[size])

    assert min(range(1, 9), key=distance) == sizes.SIZES[size]["mlp_ratio"]
    assert distance(sizes.SIZES[size]["mlp_ratio"]) < 0.05 * NAMED[size]


def test_the_table_of_the_docs_is_what_is_counted():
    text = (Path(__file__).parents[2] / "docs" / "transformers.md").read_text()
    for size in NAMED:
        of, counted = sizes.SIZES[size], sizes.measure(sizes.config(size, "gated-deltanet"))["parameters"]
        shape = f"{of['n_layers']} | {of['d_model']} | {of['n_heads']} | {of['mlp_ratio']}"
        assert f"| {size} | {shape} | {counted / 1e6:.1f}M |" in text


@pytest.mark.parametrize(("memory", "screen"), [*((name, 0) for name in registry.MEMORIES), ("atlas", 8)])
def test_a_model_that_is_built_has_what_was_measured(memory, screen):
    architecture = sizes.config("nano", memory, d_model=32, n_heads=2, screen=screen)
    measured, decoder = sizes.measure(architecture), Decoder(architecture)
    model = LanguageModel("tiny", decoder, embedded(), {})
    assert measured["state_bytes"] == model.state_bytes(model.start(1))
    assert measured["parameters"] == model.facts()["parameters"]
    assert measured["feed_flops"] == model.facts()["feed_flops_per_token"]
    without = sum(x.numel() for name, x in decoder.named_parameters() if ".memory." not in name)
    assert measured["memory"] == measured["parameters"] - without and measured["embedding"] == 4096 * 32


@sweep("size", sizes.SIZES, quick=["170M"])
def test_describe_prints_every_memory_in_80_columns(size):
    result = CliRunner().invoke(app, ["describe", size])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[3:]] == list(registry.MEMORIES)
    assert all(len(line) <= 80 for line in lines) and len({len(line) for line in lines[2:]}) == 1
    assert lines[0] == f"{size}: {sizes.line(size)}"
    assert f"\n{size}\t" in "\n" + CliRunner().invoke(app, ["list", "sizes"]).stdout


def test_options_go_before_the_size_and_unknown_names_are_told():
    chosen = sizes.config("340M", "omeganet", attention_window=512, memory_options={"degree": 3})
    assert (chosen.attention_window, chosen.memory_options, chosen.d_model) == (512, {"degree": 3}, 1024)
    for words, said in [
        (("340m", "none"), "Did you mean '340M'"),
        (("340M", "titan"), "Did you mean 'titans'"),
    ]:
        with pytest.raises(UserError, match=said):
            sizes.config(*words)
    with pytest.raises(UserError, match="Did you mean 'd_model'"):
        sizes.config("340M", "none", d_modl=3)
