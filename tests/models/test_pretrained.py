"""The embedded models: small, complete cards, and they remember what their cards say."""

import json
from pathlib import Path

import pytest

from atlas_bench import registry
from atlas_bench.models import loading, specs
from atlas_bench.running import plan, runner
from atlas_bench.running.evaluation import Cell
from atlas_bench.running.progress import Progress
from atlas_bench.types import TaskOptions

RESULTS = Path(__file__).parents[2] / "results"
EMBEDDED = [name for name in specs.names() if name not in registry.MODELS]


@pytest.mark.parametrize("name", EMBEDDED)
def test_weights_are_small_and_the_card_is_whole(name):
    folder = loading.folder_of(name)
    assert (folder / loading.WEIGHTS).stat().st_size < 8e6
    card = loading.card(name)
    for key in ("config", "recipe", "training_tokens", "training_minutes", "data", "final", "hardware", "versions"):
        assert card[key], key
    if card["data"]["corpora"].keys() != {"generated"}:  # novels were read
        assert "pride_and_prejudice" in card["data"]["held_out"]
    model = loading.load(name)
    assert model.facts()["parameters"] < 2e6 and model.facts()["weights_hash"]


def test_the_papers_memories_and_both_transformers_are_embedded():
    memories = {loading.card(name)["config"]["memory"] for name in EMBEDDED}
    assert memories == {"none", "gated-deltanet", "omeganet", "titans", "atlas"} <= set(registry.MEMORIES)
    windows = {loading.card(name)["config"]["attention_window"] for name in EMBEDDED}
    assert 0 in windows and "atlas-nano" in EMBEDDED


@pytest.mark.parametrize(("name", "least"), [("omeganet-retention-nano", 19), ("gated-deltanet-retention-nano", 14)])
def test_what_was_trained_on_retention_remembers_at_4k(name, least, tmp_path):
    """22 fixed samples on two streams; chance is 1 in 100."""
    cell = Cell("retention", "end", 4000, name, samples=22)
    settings = runner.Settings(batch=2)
    (record,) = runner.run([cell], {name: loading.load(name)}, tmp_path, settings, Progress(quiet=True))
    assert record.scores["retention/word"]["correct"] >= least


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [("omeganet-nano", 18), ("gated-deltanet-nano", 18), ("atlas-nano", 16)])
def test_memories_answer_at_8k_through_the_runner(name, least, tmp_path):
    """20 fixed samples; far above chance (3 of 20) and below the measured score by a margin for other CPUs."""
    cells = plan.make(
        plan.parse_tasks("babilong:qa1"), lengths=[8000], models=[name], seeds=[7], samples=20, options=TaskOptions()
    )
    models = {name: loading.load(name)}
    (record,) = runner.run(cells, models, tmp_path, runner.Settings(block=128), Progress(quiet=True))
    assert record.scores["babilong/official"]["correct"] >= least


@pytest.mark.parametrize("subset", ["qa1", "qa2", "qa3", "qa4", "qa5"])
@pytest.mark.parametrize("name", ["atlas-nano", "gated-deltanet-nano"])
def test_the_committed_answers_come_again(name, subset, tmp_path):
    """The first two of 64K tokens: the seed makes the samples, and reading by events in any batch the answers."""
    records = map(json.loads, (RESULTS / "five.jsonl").read_text().splitlines())
    wanted = name, subset, 64_000, "generated"
    *_, committed = (r for r in records if (r["model"], r["subset"], r["length"], r["options"]["data"]) == wanted)
    cell = Cell("babilong", subset, 64_000, name, samples=2)
    (record,) = runner.run([cell], {name: loading.load(name)}, tmp_path, runner.Settings(batch=2), Progress(quiet=True))
    assert record.weights_hash == committed["weights_hash"] and record.kernel.startswith("screen, ")
    assert (record.corpus_key, record.data_hash) == (committed["corpus_key"], committed["data_hash"])
    for answer, before in zip(record.answers, committed["answers"][:2], strict=True):
        asked = ("question", "needle_positions", "answer")
        assert [answer[name] for name in asked] == [before[name] for name in asked]


def test_full_attention_refuses_ten_million_tokens():
    reason = loading.load("transformer-nano").supports(10_000_000)
    assert "GiB" in reason and "hours" in reason
