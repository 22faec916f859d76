"""`compare` as a user types it: what it trains, what it says, what it refuses."""

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
from atlas_bench.comparison import candidates, trainings, workers
from atlas_bench.errors import UserError
from atlas_bench.models import loading
from atlas_bench.results import store
from atlas_bench.training.recipe import Recipe
from tests.command import call

EXAMPLE = Path(__file__).parents[2] / "examples" / "my_memory.py"
BROKEN = EXAMPLE.read_text().replace(  # the check before training runs without gradients
    "        error = k",
    "        if k.requires_grad:\n            raise ArithmeticError('no such rule')\n        error = k",
)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with memory files: one good, one that ends every training, one that cannot run."""
    monkeypatch.chdir(tmp_path)
    quick = EXAMPLE.read_text().replace('"write": -0.6', '"write": -3.5')  # few tokens are written
    (tmp_path / "my_memory.py").write_text(quick)
    (tmp_path / "broken.py").write_text(BROKEN)
    (tmp_path / "copy.py").write_text(quick.replace('error = k @ state["M"]', 'error = k @ state["W"]'))
    return tmp_path


@pytest.mark.slow
def test_a_file_is_trained_asked_and_compared_and_a_failure_stops_nobody(here):
    words = ["compare", "atlas-nano", "./my_memory.py", "./broken.py", "--task", "mqar:8", "--len", "256,512"]
    words += ["--train", "1K", "--samples", "48", "--seed", "9", "--json"]  # a seed whose first contexts are short
    first = call(*words)
    assert first.exit_code == 1, first.output
    comparison = json.loads(first.stdout)
    assert comparison["baseline"] == "atlas-nano" and comparison["comparisons"] == 2
    rows = {(row["model"], row["length"]): row for row in comparison["rows"]}
    assert [row["status"] for row in rows.values()] == ["ok", "ok", "failed"] * 2
    mine = rows["my_memory.py", 512]
    assert mine["n"] == 48 and mine["contexts"] == 6 and mine["versus"]["test"] == "sign flips of contexts"
    assert rows["broken.py", 256]["reason"] == "training failed: ArithmeticError: no such rule"
    assert rows["broken.py", 256]["versus"] == {"note": "ok -> failed"}
    assert any("training tokens" in warning for warning in comparison["warnings"])
    (folder,) = here.glob("compare/models/my_memory.py-*-mqar-*")
    card = loading.card(str(folder))
    assert card["config"]["memory"].startswith("my_memory.py@")
    assert not any("accuracy at" in figure for figure in card["final"])  # compare asks its own questions
    second = call(*words[:-1])  # as text
    assert "my_memory.py mqar: already trained" in second.stderr and second.stderr.count("not run again") == 4
    assert "mqar:8, 256" in second.stdout and max(map(len, second.stdout.splitlines())) <= 80
    said = (
        "Trained by one recipe from nothing: 1,000 tokens a model, each stage to the end of its last contexts; seed 9."
    )
    assert said in " ".join(second.stdout.split())


@pytest.mark.slow
def test_ctrl_c_ends_the_trainings_and_says_how_to_go_on(here):
    words = ["compare", "titans", "./my_memory.py", "--task", "mqar:8", "--len", "256", "--train", "20M"]
    seen = []
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "atlas_bench", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        for line in process.stderr:  # until a step is trained
            if re.search(r"my_memory.py mqar: curriculum +\S+ of 20.0M tokens, about .* left", line):
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 130 and not out and "Traceback" not in err and "failed" not in err
        said = r"my_memory.py mqar: stopped at \S+ of 20.0M tokens; the same command goes on from there\."
        assert re.search(said, err), err
        assert err.endswith("stopped. The same command does what is left to do.\n")
        (log,) = here.glob("compare/models/my_memory.py-*/training.ndjson")
        seen.append(log.read_text().splitlines())
    first, both = seen
    assert both[: len(first)] == first and len(both) > len(first)  # with their seconds: none was trained again


def test_embedded_models_are_compared_without_training(here):
    words = ["compare", "gated-deltanet", "small=swa-nano", "--task", "babilong:qa1", "--len", "1K", "--samples", "8"]
    result = call(*words)
    assert result.exit_code == 0, result.output
    assert "gated-deltanet-nano" in result.stdout and "small" in result.stdout and "swa-nano" not in result.stdout
    records, _ = store.read(here / "compare" / "babilong.jsonl")
    assert [record.model_spec for record in records] == [None, "swa-nano"]
    assert "baseline" in result.stdout and not (here / "compare" / "models").exists()


def test_two_models_are_asked_with_the_official_prompt_after_the_lines_of_a_run(here):
    words = ["compare", "oracle", "constant", "--task", "babilong:qa1", "--len", "2K", "--samples", "8"]
    result = call(*words, "--prompt", "official")
    assert result.exit_code == 0, result.output
    records, _ = store.read(here / "compare" / "babilong.jsonl")
    assert [record.options["prompt"] for record in records] == ["official"] * 2
    said = " ".join(result.stderr.split())
    assert "2 cells (babilong:qa1 at 2K, oracle, constant): 32.0K tokens to read. With 8 questions a score of" in said
    again = call(*words, "--prompt", "official")
    assert "tokens to read" not in again.stderr and again.stderr.count("not run again") == 2
    assert call(*words, "--prompt", "offical").exit_code == 2


def test_a_dry_run_counts_trainings_and_tokens_and_writes_nothing(here):
    words = ["compare", "oracle", "constant", "--task", "mqar:8", "--len", "1K", "--samples", "16", "--dry-run"]
    told = json.loads(call(*words, "--json").stdout)
    assert [(row["model"], row["contexts"]) for row in told["cells"]] == [("oracle", 2), ("constant", 2)]
    assert all(2000 < row["tokens"] < 2100 for row in told["cells"])
    assert told["training"] == {"trainings": 0, "tokens_each": None}
    words = [*words[:2], "titans", "swa", *words[3:], "--train", "20M", "--seeds", "2"]
    told = json.loads(call(*words, "--json").stdout)
    assert told["training"] == {"trainings": 4, "tokens_each": 20_000_000}
    assert {row["model"] for row in told["cells"]} == {"oracle"} and len(told["cells"]) == 2  # seeds
    text = " ".join(call(*words).stdout.split())
    assert "4 trainings of 20.0M tokens each, 2 at once. Of unknown time, and not in the total: 4 cells" in text
    told = json.loads(call(*words, "--rates", "3", "--json").stdout)
    assert told["training"]["trainings"] == 8  # three rates of the first seed, then one of the second
    assert not (here / "compare").exists() or not [file for file in here.glob("compare/**/*") if file.is_file()]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["titans"], ["one candidate cannot be compared"]),
        (["titans", "titans-nano"], ["'titans-nano' is named twice, as 'titans' and 'titans-nano'"]),
        (["atlas", "atlas:degree=2", "--train", "1K"], ["named twice, as 'atlas' and 'atlas:degree=2'"]),
        (["./my_memory.py", "./copy.py", "--train", "1K"], ["'./copy.py' cannot be run: KeyError: 'W'", "verify"]),
        (["titan", "atlas"], ["unknown candidate 'titan'", "Did you mean 'titans'"]),
        (["atlas", "./my_memory.py"], ["'./my_memory.py' has no trained model", "--train"]),
        (["atlas", "./nowhere.py", "--train", "1K"], ["'nowhere.py' cannot be read"]),
        (["atlas:degre=1", "titans", "--train", "1K"], ["'degre'", "Did you mean 'degree'"]),
        (["atlas:chunk_size=0", "titans", "--train", "1K"], ["chunk_size is 0"]),
        (["atlas", "titans", "--train", "10Q"], ['--train "10Q"']),
        (["atlas", "titans", "--train", "1"], ["budget of 1 tokens", "Give 10 or more"]),
        (["atlas", "titans", "--init", "titans-nano"], ["--init titans-nano", "Add --train"]),
        (["atlas", "titans", "--train", "1K", "--init", "titans-nan"], ["'titans-nan'", "Did you mean 'titans-nano'"]),
        (["atlas-nano", "titans-nano", "--train", "1K"], ["--train would do nothing"]),
        (["atlas", "titans", "--train", "1K", "--device", "cuda"], ["device 'cuda' is not there"]),
        (["atlas", "titans", "--device", "cuda"], ["device 'cuda' is not there"]),
        (["atlas", "titans", "--task", "mqarr"], ["unknown task 'mqarr'", "Did you mean 'mqar'"]),
        (["atlas", "titans", "--len", "10"], ["10"]),
        (["atlas", "titans", "--task", "mqar:8", "--background", "pg19"], ["pg19"]),
        (["atlas", "titans", "--out", "my_memory.py"], ["'my_memory.py'", "Choose another"]),
    ],
)
def test_bad_input_is_one_message_and_writes_nothing(here, monkeypatch, words, said):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    before = sorted(here.rglob("*"))
    usual = {"--task": "babilong:qa1", "--len": "1K"}
    given = [word for flag in usual if flag not in words for word in (flag, usual[flag])]
    result = call("compare", *words, *given)
    assert result.exit_code == 2 and not result.stdout, result.output
    assert sorted(here.rglob("*")) == before
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert all(part in result.stderr for part in said), result.stderr


def test_every_task_has_the_budget_and_a_folder_tells_what_it_was_trained_on(here):
    wanted = {"mqar": ["8", "32"], "babilong": ["qa1"]}

    def plan(*words, tokens=1_000_000, **options):
        return trainings.trainings(
            candidates.resolve(words, train=True), wanted, tokens, here / "models", **options
        )  # fmt: skip

    planned = plan("transformer", "atlas:degree=1", "titans-nano", seeds=[3], init="titans-nano", backgrounds=["books"])
    assert [(each.candidate.label, each.task) for each in planned] == [
        (label, task) for label in ("transformer", "atlas:degree=1") for task in wanted
    ]
    words = " ".join(planned[0].words)
    assert words.startswith("train --memory none --attention-window 0 --layers 3 --task mqar:8,mqar:32 --tokens ")
    assert "--tokens 1000000 --seed 3" in words and "--background" not in words
    assert "--init" not in words  # titans-nano was never taught MQAR
    assert " ".join(planned[1].words).endswith("--init titans-nano --background books")
    assert planned[1].words[-2:] == ("--background", "books")
    mine = [each.folder for each in plan("titans", "./my_memory.py")]
    assert mine == [each.folder for each in plan("titans", "./my_memory.py")]
    (here / "my_memory.py").write_text(EXAMPLE.read_text() + "\n# another version\n")
    edited = [each.folder for each in plan("titans", "./my_memory.py")]
    assert edited[:2] == mine[:2] and not set(edited[2:]) & set(mine[2:])
    assert not {each.folder for each in plan("titans", "./my_memory.py", tokens=2_000_000)} & set(edited)


def test_another_recipe_or_version_of_the_program_is_another_training(here, monkeypatch):
    def folders():
        contending = candidates.resolve(["titans", "./my_memory.py"], train=True)
        return [each.folder for each in trainings.trainings(contending, {"mqar": ["8"]}, 1000, here)]

    before = folders()
    assert folders() == before
    for name, other in (("Recipe", lambda: Recipe(muon_lr=0.02)), ("__version__", "0.0.1")):
        with monkeypatch.context() as patch:
            patch.setattr(trainings, name, other)
            assert not set(folders()) & set(before)


@pytest.mark.slow
def test_a_file_edited_meanwhile_is_trained_as_it_was(here):
    contending = candidates.resolve(["titans", "./my_memory.py:most_caution=0.5"], train=True)
    _, mine = trainings.trainings(contending, {"mqar": ["8"]}, 1000, here / "models", seeds=[9])
    source = (here / "my_memory.py").read_bytes()
    (here / "my_memory.py").write_text("raise AssertionError('another version')\n")
    said = []
    assert workers.train_all([mine], jobs=1, say=said.append) == {}, said
    config = loading.card(str(mine.folder))["config"]
    assert config["memory"] == contending[1].file and config["memory_options"] == {"most_caution": 0.5}
    assert (mine.folder / "my_memory.py").read_bytes() == source


def test_a_training_that_finds_another_version_of_its_file_is_one_message(here):
    name = registry.name_file("my_memory.py")
    result = call("train", "--memory", "./my_memory.py@00000000:most_caution=0.5", "--out", "model")
    digits = name.partition("@")[2]
    assert result.exit_code == 2 and not (here / "model").exists()
    assert result.stderr.startswith(f"error: memory file 'my_memory.py' is version {digits}, not 00000000.")
    assert result.stderr.count("\n") == 1
    assert registry.name_file(f"./my_memory.py@{digits}") == name


def test_two_versions_of_a_file_are_told_apart(here):
    def labels(*words):
        return [each.label for each in candidates.resolve(words, train=True)]

    for number, folder in enumerate(("a", "b", "x/a")):
        (here / folder).mkdir(parents=True)
        (here / folder / "my_memory.py").write_text(EXAMPLE.read_text() + f"# {number}\n")
    assert labels("a/my_memory.py", "titans", "b/my_memory.py") == ["a/my_memory.py", "titans", "b/my_memory.py"]
    assert labels("a/my_memory.py", "a/my_memory.py:most_caution=0.5")[0] == "my_memory.py"
    mine = labels("a/my_memory.py:most_caution=0.5", "x/a/my_memory.py:most_caution=0.5")
    assert len(set(mine)) == 2 and all(re.fullmatch("my_memory.py@[0-9a-f]{8}:most_caution=0.5", each) for each in mine)
    (here / "b" / "my_memory.py").write_bytes((here / "a" / "my_memory.py").read_bytes())
    with pytest.raises(UserError, match=r"'my_memory.py' is named twice, as 'a/my_memory.py' and 'b/my_memory.py'"):
        labels("a/my_memory.py", "b/my_memory.py")
