"""The estimate before a run: it agrees with what the runner then does, and leaves no trace."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_bench import registry
from atlas_bench.models import loading
from atlas_bench.running import calibration, estimate, estimate_table, plan, runner
from atlas_bench.running.evaluation import Cell
from atlas_bench.running.progress import Progress
from atlas_bench.stats.intervals import wilson
from atlas_bench.types import Rules, Sample
from tests.running.test_runner import SHARED, TINY, Digits, Hasher, Tiny, trap

SETTINGS = runner.Settings(block=100, batch=2, checkpoint_tokens=1000)


class Text(Tiny):
    """Streams whose loss is measured."""

    name = "text"

    def rules(self, subset):
        return Rules({}, chance=0, max_answer_tokens=0)

    def samples(self, subset, length, n, seed, tokenizer, options):
        for i in range(n):
            yield Sample(i, Digits(length, seed + i), (), ("",), {"plan_hash": f"{seed}-{i}"})


class Keeper(Hasher):
    """A Model whose state is all that it has read."""

    def start(self, batch):
        return np.zeros((batch, 0), dtype=np.int32)

    def feed(self, state, tokens):
        return np.concatenate([state, tokens], axis=1)

    def answer(self, state, question, max_tokens, stop):
        return "garden"

    def logprobs(self, state, tokens):
        told = np.zeros((len(tokens), tokens.shape[1] - 1), dtype=np.float32)
        return self.feed(state, tokens[:, :-1]), told, told > 0


TEXT = Text()


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    for task in (TINY, SHARED, TEXT, UNEVEN):
        monkeypatch.setitem(registry.TASKS, task.name, f"{__name__}:{task.name.upper()}")


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """The folder of temporary folders."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def cell(length: int = 2500, *, task: str = "tiny", samples: int = 5, model: str = "hasher") -> Cell:
    return Cell(task, "a", length, model, samples=samples)


def told(cells, folder: Path, model=None, **more):
    models = {each.model: model or Hasher() for each in cells}
    found = estimate.estimate(cells, models, folder, replace(SETTINGS, **more))
    assert json.loads(json.dumps(found, allow_nan=False)) == found  # plain data
    assert all(len(line) < 80 for line in estimate_table.lines(found))
    return found


def rows(cells):
    """The cells with what a calibration is told of them."""
    for each in runner.evaluations_of(cells, dict.fromkeys(("hasher",), Hasher())):
        tokens = each.cell.length * each.contexts
        yield each, {"samples": each.cell.samples, "contexts": each.contexts, "tokens": tokens, "tokens_left": tokens}


def ran(cells, folder: Path, model=None):
    return runner.run(cells, {"hasher": model or Hasher()}, folder, SETTINGS, Progress(quiet=True))


def files(folder: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_where_nothing_is_left_it_says_so(tmp_path):
    ran([cell(2000)], tmp_path)
    assert estimate_table.lines(told([cell(2000)], tmp_path))[-1] == "Nothing to run: 1 of 1 cell done."
    text = estimate_table.lines(told([cell(2000), cell(60_000)], tmp_path))
    assert "Nothing to run: 1 of 2 cells done, 1 of 2 cells unsupported." in text


def test_each_cell_is_what_the_runner_then_makes_of_it(tmp_path, scratch):
    out = tmp_path / "out"
    finished, stopped, fresh, long = cell(2000), cell(3000), cell(4000), cell(60_000)
    ran([finished], out)
    with pytest.raises(runner.Interrupted, match=r"at token 8,\d\d\d;"):
        ran([stopped], out, Hasher(trap(8000, KeyboardInterrupt())))
    before = files(out)
    cells = [finished, stopped, fresh, long]
    found = told(cells, out)
    assert files(out) == before and not list(scratch.iterdir())
    assert [row["action"] for row in found["cells"]] == ["done", "resume", "run", "unsupported"]
    model = Hasher()
    records = ran(cells, out, model)
    assert [row["tokens"] for row in found["cells"]] == [record.tokens_read for record in records]
    read = model.fed  # of what was left; a question's tokens are not fed by this model but counted
    assert found["total"]["tokens"] == sum(row["tokens_left"] for row in found["cells"] if row["tokens_left"])
    assert abs(found["total"]["tokens"] - read) <= 200
    assert found["cells"][3]["reason"] == "needs 3 GiB, so 50K at most"
    total = {"cells": 4, "to_run": 2, "done": 1, "unsupported": 1, "without_time": 0}
    assert found["total"].items() >= total.items()
    text = "\n".join(estimate_table.lines(found))
    assert "from 8." in text and "Total: 2 of 4 cells to run, 1 done, 1 unsupported" in text
    assert "unsupported: needs 3 GiB, so 50K at most: tiny:a 60K hasher" in text


@pytest.mark.parametrize(("task", "samples"), [("tiny", 7), ("shared", 7), ("shared", 2), ("text", 3)])
def test_tokens_and_bytes_are_those_of_the_record(tmp_path, task, samples):
    cells = [cell(length, task=task, samples=samples) for length in (1500, 4000)]
    found = told(cells, tmp_path, Keeper())
    records = ran(cells, tmp_path, Keeper())
    for row, record in zip(found["cells"], records, strict=True):
        # questions may differ in length, and the first context is taken for all; a loss reads no last token
        assert row["tokens"] == pytest.approx(record.tokens_read, abs=samples)
        assert row["contexts"] == len({answer.get("context", answer["index"]) for answer in record.answers})
        if task != "text":  # losses are not known before they are measured
            assert row["record_bytes"] == pytest.approx(len(record.to_json()), rel=0.25)
            assert row["state_bytes"] == pytest.approx(record.state_bytes, rel=0.01)
    assert [row["contexts"] for row in found["cells"]] == 2 * [-(-samples // (3 if task == "shared" else 1))]
    dependent = any("share a context" in note for note in found["notes"])
    assert dependent == (task == "shared")


def test_a_state_that_grows_is_extrapolated(tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "NEXT", 0)  # two readings, at 1K and 2K, and the beginning of one at 40K
    cells = [cell(length, task=task) for task in ("tiny", "text") for length in (1000, 40_000)]
    found = told(cells, tmp_path, Keeper())
    assert [[each["length"] for each in kind["readings"]] for kind in found["calibration"]] == 2 * [
        [1000, 2000, 40_000]
    ]
    assert all(kind["state_grows"] for kind in found["calibration"])
    for row, record in zip(found["cells"], ran(cells, tmp_path, Keeper()), strict=True):
        weight = record.state_bytes or 4 * row["length"]  # of a loss nobody is asked, and the runner weighs nothing
        assert row["state_bytes"] == pytest.approx(weight, rel=0.01)
    fixed = told([cell(1000), cell(40_000)], tmp_path / "other")
    assert not fixed["calibration"][0]["state_grows"] and {row["state_bytes"] for row in fixed["cells"]} == {16}
    assert len({row["memory_bytes"] for row in fixed["cells"]}) == 1


def test_nothing_is_read_that_is_longer_than_the_cells(tmp_path):
    for lengths, readings in {(500,): [500], (1500, 3000): [1000, 2000], (300, 2000): [300, 1000, 2000]}.items():
        found = told([cell(length) for length in lengths], tmp_path)
        assert [each["length"] for each in found["calibration"][0]["readings"]] == readings


class Uneven(Tiny):
    """A task whose subset b takes long to read."""

    name = "uneven"

    def samples(self, subset, length, n, seed, tokenizer, options):
        for sample in super().samples(subset, length, n, seed, tokenizer, options):
            time.sleep(0.1 * (subset == "b"))
            yield sample


UNEVEN = Uneven()


def test_each_subset_is_calibrated_for_itself_and_all_share_the_time(tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "NEXT", 0.4)
    cells = [replace(cell(8000, task="uneven"), subset=subset) for subset in ("a", "b")]
    began = time.monotonic()
    found = told(cells, tmp_path)
    assert [kind["subset"] for kind in found["calibration"]] == ["a", "b"] and time.monotonic() - began < 5
    one, other = found["cells"]
    assert other["seconds"] > 1.5 * one["seconds"]
    assert "hasher, uneven:b: 1K " in "\n".join(estimate_table.lines(found))
    began = time.monotonic()
    brief = list(calibration.calibrate(rows(cells), SETTINGS, Progress(quiet=True), brief=True))
    assert [[each["length"] for each in kind["readings"]] for kind in brief] == 2 * [[8000]]
    assert time.monotonic() - began < 3 * calibration.BRIEF


def test_a_reading_that_something_else_slowed_down_is_taken_again(tmp_path, monkeypatch):
    real, slow = calibration._measure, iter([0, 0, 0, 5, 0, 0, 0, 0, 0, 0])

    def measure(evaluation, settings, limit):
        reading = real(evaluation, settings, limit)
        return reading | {"seconds": reading["tokens_read"] * 1e-5 + next(slow) / 10}

    monkeypatch.setattr(calibration, "_measure", measure)
    (found,) = told([cell(8000)], tmp_path)["cells"]
    assert found["seconds"] == pytest.approx(found["tokens"] * 1e-5, rel=0.1)


@given(st.integers(1, 5000), st.floats(0, 1))
def test_the_interval_at_a_half_is_the_widest(samples, share):
    low, high = wilson(samples / 2, samples)
    other_low, other_high = wilson(share * samples, samples)
    assert high - low >= other_high - other_low - 1e-12


def test_the_interval_is_wilsons_and_a_loss_has_none(tmp_path):
    asked, text = told([cell(samples=40), cell(task="text")], tmp_path, Keeper())["cells"]
    assert (asked["interval_at_50"], asked["interval_at_90"]) == (list(wilson(20, 40)), list(wilson(36, 40)))
    assert text["interval_at_50"] is None and text["interval_at_90"] is None


@settings(max_examples=50, deadline=None)
@given(
    st.floats(0, 0.1), st.floats(1e-7, 1e-3), st.floats(0, 1e-6), st.booleans(), st.integers(3, 6), st.integers(1, 8),
)  # fmt: skip
def test_the_fit_finds_what_made_the_times(question, token, context_token, grows, n, contexts):
    readings = []
    for length in (1000 << i for i in range(n)):
        read = length * contexts
        seconds = question * contexts + token * read + grows * context_token * read * length
        readings.append({"questions": contexts, "tokens_read": read, "contexts": contexts, "seconds": seconds})
    found = calibration.fit(readings, grows)
    read = 64_000 * contexts
    expected = question * contexts + token * read + grows * context_token * read * 64_000
    parts = (contexts, read, read * 64_000)
    assert min(found.values()) >= 0
    assert sum(c * p for c, p in zip(found.values(), parts, strict=True)) == pytest.approx(expected, rel=1e-3)
    rate = calibration.fit(readings[:1], False)
    assert rate == {"question": 0, "token": pytest.approx(readings[0]["seconds"] / readings[0]["tokens_read"]),
                    "token_and_context_token": 0}  # fmt: skip


@pytest.mark.parametrize("option", ["", ";context=2K"])
def test_an_endpoint_is_not_called(tmp_path, option):
    pytest.importorskip("aiohttp")
    models = loading.load_all([f"openai:http://127.0.0.1:9/v1#m;usd_per_million_in=2;usd_per_million_out=8{option}"])
    (name,) = models
    cells = plan.make([("mqar", "8")], lengths=[1000, 4000], models=[name], samples=10)
    found = estimate.estimate(cells, models, tmp_path, SETTINGS)
    short, long = found["cells"]
    assert (short["action"], short["tokens"], short["seconds"]) == ("run", 10_000, None)
    assert found["calibration"] == [] and models[name].facts()["usage"]["requests"] == 0
    if option:
        assert long["action"] == "unsupported" and "reads 2000 tokens" in long["reason"]
    else:
        assert (long["action"], long["tokens"]) == ("run", 40_000)
        assert any("50,000 tokens, which cost $0.10" in note for note in found["notes"])
        assert (found["total"]["tokens"], found["total"]["tokens_sent"]) == (0, 50_000)


@pytest.mark.parametrize("at", [0, 1500])
def test_ctrl_c_leaves_nothing(tmp_path, scratch, at):
    with pytest.raises(KeyboardInterrupt, match="nothing was run"):
        told([cell()], tmp_path / "out", Hasher(trap(at, KeyboardInterrupt())))
    assert not list(scratch.iterdir()) and not (tmp_path / "out").exists()


def test_what_fails_has_no_time_and_says_why(tmp_path):
    class Broken(Hasher):
        def feed(self, state, tokens):
            raise ValueError("no such \x1b[31mkernel\u202e")

    found = told([cell()], tmp_path, Broken())
    assert found["cells"][0]["seconds"] is None and found["total"]["without_time"] == 1
    text = " ".join(" ".join(estimate_table.lines(found)).split())
    assert "ended as failed, ValueError: no such" in text and text.isascii() and "\x1b" not in text
    assert "1 of unknown time" in text


def test_a_reading_that_takes_too_long_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "LIMIT", 0)
    found = told([cell(40_000)], tmp_path)
    (kind,) = found["calibration"]
    assert [each["status"] for each in kind["readings"]] == ["timeout"] and "stopped" in kind["note"]
    assert found["cells"][0]["seconds"] > kind["readings"][0]["seconds"]


def test_what_will_stop_a_cell_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(estimate.psutil, "virtual_memory", lambda: type("Machine", (), {"total": 1 << 20}))
    memory, time = told([cell()], tmp_path, timeout=1e-9)["notes"]
    assert "this machine has 1.0 MiB" in memory and "longer than --timeout 1e-09" in time


def test_a_bad_checkpoint_is_said(tmp_path):
    with pytest.raises(runner.Interrupted):
        ran([cell()], tmp_path, Hasher(trap(6000, KeyboardInterrupt())))
    (file,) = tmp_path.glob(".checkpoints/*")
    file.write_bytes(file.read_bytes()[:50])
    (row,) = told([cell()], tmp_path)["cells"]
    assert (row["action"], row["tokens_left"]) == ("run", row["tokens"])
    assert "cannot be used" in row["reason"] and "begins again" in row["reason"]


def test_a_long_name_stands_on_its_own_line(tmp_path):
    name = "folder/of/a/model/\u202ewhose-name-goes-on"
    text = estimate_table.lines(told([cell(model=name)], tmp_path))
    at = next(i for i, line in enumerate(text) if line.startswith("folder/of"))
    assert "\\u202e" in text[at] and text[at + 1].startswith("   2500    ")


def test_a_control_model_on_a_real_task(tmp_path):
    models = loading.load_all(["oracle"])
    cells = plan.make(plan.parse_tasks("mqar:8"), lengths=[1000, 8000], models=["oracle"], samples=20)
    plan.check(cells, models)
    found = estimate.estimate(cells, models, tmp_path, runner.Settings())
    records = runner.run(cells, models, tmp_path, runner.Settings(), Progress(quiet=True))
    for row, record in zip(found["cells"], records, strict=True):
        assert (row["tokens"], row["contexts"], row["state_bytes"]) == (record.tokens_read, 3, record.state_bytes)
        assert row["memory_bytes"] == pytest.approx(record.peak_rss_bytes, rel=0.5)


def test_a_users_own_model_of_a_server_is_not_called(tmp_path):
    class Remote(Hasher):
        def facts(self):
            return {**super().facts(), "device": "server"}

    cells = [cell(model="mine", samples=2)]
    made = estimate.estimate(cells, {"mine": Remote()}, tmp_path, SETTINGS, progress=Progress(quiet=True))
    assert [row["endpoint"] for row in made["cells"]] == [True]
    assert any("mine: not called" in note for note in made["notes"])
