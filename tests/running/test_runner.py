"""The runner: what a cell leaves behind, whatever stops it (a tiny task, a model that hashes)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError

from atlas_bench import registry
from atlas_bench.errors import UserError
from atlas_bench.files import checkpoint_file, locks
from atlas_bench.results import store
from atlas_bench.results.record import Record, cell_key, timeless
from atlas_bench.running import consistency, plan, recording, runner
from atlas_bench.running.evaluation import Cell, Evaluation
from atlas_bench.running.progress import Progress
from atlas_bench.types import Model, Rules, Sample, Scorer

LABELS = ("garden", "kitchen")
SCORERS = {"tiny/exact": Scorer(lambda answer, sample: answer == sample.targets[0])}
BLOCK, INTERVAL = 100, 1000


@dataclass(frozen=True)
class Digits:
    """A Context whose tokens follow from their positions."""

    length: int
    salt: int

    def read(self, start, stop):
        at = np.arange(start, min(stop, self.length), dtype=np.int64)
        return ((at * 7919 + self.salt * 31) % 97).astype(np.int32)


class Tiny:
    """A task whose questions differ in length and whose answers the model gets right by luck."""

    name, subsets, version = "tiny", ("a", "b"), "1"
    questions = 1  # on each context

    def rules(self, subset):
        return Rules(SCORERS, chance=0.5, max_answer_tokens=5, questions_per_context=self.questions)

    def check(self, subset, length, tokenizer, options):
        if length < 20:
            raise UserError(f"length {length} is too short for tiny; 20 would do.")

    def samples(self, subset, length, n, seed, tokenizer, options):
        for i in range(n):
            question = tuple(range(2 + i % 3))
            meta = {
                "question": f"question {i}?",
                "plan_hash": f"{seed}-{i}",
                "labels": LABELS,
                "data_key": "t1",
            }
            yield Sample(i, Digits(length - len(question), seed + i), question, (LABELS[i % 2],), meta)

    def describe(self):
        return "tiny"


class Shared(Tiny):
    """Three questions on each context."""

    name, questions = "shared", 3

    def samples(self, subset, length, n, seed, tokenizer, options):
        for i in range(n):
            if i % 3 == 0:
                context = Digits(length - 2, seed + i)
            yield Sample(i, context, (i, i + 1), (LABELS[i % 2],), {"plan_hash": f"{seed}-{i // 3}"})


class Words:
    key, vocab_size = "words", 100


class Hasher(Model):
    """A Model whose answer hangs on every token and its position; a trap may go off in feed()."""

    name, tokenizer = "hasher", Words()

    def __init__(self, trap: Callable[[int], None] = lambda fed: None):
        self.trap, self.fed = trap, 0

    def supports(self, length):
        return "needs 3 GiB, so 50K at most" if length > 50_000 else None

    def start(self, batch):
        return np.zeros((batch, 2), dtype=np.uint64)

    def feed(self, state, tokens):
        self.trap(self.fed)
        self.fed += tokens.size
        sums, read = state[:, :1], state[:, 1:]
        places = (read + np.arange(1, tokens.shape[1] + 1, dtype=np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        sums = sums + ((places ^ (places >> np.uint64(29))) * tokens.astype(np.uint64)).sum(
            1, keepdims=True, dtype=np.uint64
        )
        return np.concatenate([sums, read + np.uint64(tokens.shape[1])], 1)

    def row(self, state, index):
        return state[index : index + 1].copy()

    def answer(self, state, question, max_tokens, stop):
        return LABELS[int(state[0, 0] >> np.uint64(33)) % 2]

    def state_bytes(self, state):
        return state[:1].nbytes

    def pack(self, state):
        return {"state": state}

    def unpack(self, arrays):
        return arrays["state"]

    def facts(self):
        return {"parameters": 0, "weights_hash": "w1", "kernel": "numpy", "device": "cpu"}


TINY, SHARED = Tiny(), Shared()


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(registry.TASKS, "tiny", f"{__name__}:TINY")
    monkeypatch.setitem(registry.TASKS, "shared", f"{__name__}:SHARED")


def cell(length: int = 2500, samples: int = 5, **more) -> Cell:
    return Cell("tiny", "a", length, "hasher", samples=samples, **more)


def go(folder: Path, model=None, *, cells: Sequence[Cell] = (), **settings) -> list[Record]:
    chosen = runner.Settings(**{"block": BLOCK, "batch": 2, "checkpoint_tokens": INTERVAL} | settings)
    return runner.run(cells or [cell()], {"hasher": model or Hasher()}, folder, chosen, Progress(quiet=True))


def trap(at: int, error: BaseException) -> Callable[[int], None]:
    """Raise once, when `at` tokens have been fed."""
    armed = [True]

    def spring(fed: int) -> None:
        if fed >= at and armed[0]:
            armed.clear()
            armed.append(False)
            raise error

    return spring


def run_command(command: Sequence[str]) -> Record:
    """The one record that an atlas-bench command leaves in its --out folder."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    (record,) = store.read_all(Path(command[command.index("--out") + 1]))[0]
    return record


def kill_and_resume(command: Sequence[str], out: Path, *, checkpoints: int = 1, patience: float = 60) -> Record:
    """The record of a command that is SIGKILLed after its n-th checkpoint and then started again."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    quiet = {"stdout": subprocess.DEVNULL, "env": environment}
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, **quiet)
    seen: set[int] = set()
    end = time.monotonic() + patience
    while len(seen) < checkpoints:
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < end, "no checkpoint in time"
        seen |= {file.stat().st_mtime_ns for file in out.glob(".checkpoints/*.safetensors")}
        time.sleep(0.002)
    time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    subprocess.run(command, check=True, **quiet)
    (record,) = store.read_all(out)[0]
    return record


def test_a_cell_leaves_one_record(tmp_path):
    (record,) = go(tmp_path)
    assert store.read(tmp_path / "tiny.jsonl") == ([record], [])
    assert (record.status, record.reason, record.resumed) == ("ok", "", False)
    assert record.tokens_read == 5 * 2500
    assert record.scores["tiny/exact"]["n"] == 5 and [row["index"] for row in record.answers] == list(range(5))
    assert (record.weights_hash, record.data_hash, record.state_bytes) == ("w1", "t1", 16)
    assert record.peak_rss_bytes > 1e6 and record.seconds > 0 and record.versions["numpy"]
    assert not (tmp_path / ".checkpoints").exists()


@pytest.mark.parametrize("others", [{"block": 1}, {"block": 4096}, {"batch": 1}, {"batch": 5}, {"block": 97}])
def test_block_and_batch_change_no_result(tmp_path, others):
    (plain,), (record,) = go(tmp_path / "plain"), go(tmp_path / "other", **others)
    assert timeless(record) == timeless(plain)


def test_what_a_kill_leaves_behind_a_record_is_cleared_away(tmp_path):
    (record,) = go(tmp_path)
    left = [tmp_path / ".checkpoints" / f"{cell_key(record)}{suffix}" for suffix in (".lock", ".safetensors")]
    left[0].parent.mkdir()
    for file in left:
        file.write_text("of a process that was killed")
    assert go(tmp_path) == [record] and not left[0].parent.exists()


def test_the_same_command_runs_only_what_is_missing(tmp_path, capsys):
    go(tmp_path)
    model = Hasher()
    first, second = go(tmp_path, model, cells=[cell(), cell(3000)])
    assert (first.length, second.length) == (2500, 3000) and model.fed < 5 * 3000 + 1
    assert len(store.read(tmp_path / "tiny.jsonl")[0]) == 2


class Edited(Tiny):
    """Tiny after somebody changed one of its parts."""

    def __init__(self, *, question=(1, 2), data="t1", **rules):
        self.question, self.data, self.changed = question, data, rules

    def rules(self, *asked):
        return replace(super().rules(*asked), **self.changed)

    def samples(self, *asked):
        for sample in super().samples(*asked):
            yield replace(sample, question=self.question, meta={**sample.meta, "data_key": self.data})


class Ending(Hasher):
    """A model whose answers end with other tokens."""

    def facts(self):
        return super().facts() | {"generation": {"ends": [7]}}


EDITS = {
    "a task's question": (Edited(question=(1, 3)), Hasher()),
    "its data": (Edited(data="t2"), Hasher()),
    "a stop text": (Edited(stop=("\n", ".")), Hasher()),
    "the answers' length": (Edited(max_answer_tokens=7), Hasher()),
    "a model's end token": (Edited(), Ending()),
}


@pytest.mark.parametrize("name", EDITS)
def test_whatever_decides_the_answers_makes_another_cell(name, tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.TINY", Edited())
    go(tmp_path)
    go(tmp_path)
    assert len(store.read_all(tmp_path)[0]) == 1
    task, model = EDITS[name]
    monkeypatch.setattr(f"{__name__}.TINY", task)
    (record,) = go(tmp_path, model)
    before, after = (each.protocol for each in store.read_all(tmp_path)[0])
    assert record.status == "ok" and before != after


def test_a_record_without_a_protocol_is_read_and_run_again(tmp_path):
    """An older version's: nobody knows by which rules it was answered."""
    (record,) = go(tmp_path)
    file = tmp_path / "tiny.jsonl"
    file.write_text(replace(record, protocol={}).to_json() + "\n")
    assert len(store.done(tmp_path)) == 1
    assert go(tmp_path) and len(store.read_all(tmp_path)[0]) == 2


@pytest.mark.parametrize("at", [0, 150, 2500, 4900, 5100, 9000, 12_200])
def test_ctrl_c_saves_and_the_same_command_goes_on(tmp_path, at):
    (plain,) = go(tmp_path / "plain")
    model = Hasher(trap(at, KeyboardInterrupt()))
    with pytest.raises(runner.Interrupted, match=r"stopped .*same command goes on"):
        go(tmp_path / "out", model)
    assert not (tmp_path / "out" / "tiny.jsonl").exists()
    (record,) = go(tmp_path / "out", model)
    assert timeless(record) == timeless(plain) and record.resumed == (at > 0)
    assert model.fed <= 5 * 2500 + 2 * 2 * BLOCK  # at most the tails of one batch are fed twice
    assert not (tmp_path / "out" / ".checkpoints").exists()


def test_a_kill_loses_at_most_one_checkpoint_interval(tmp_path):
    (plain,) = go(tmp_path / "plain", cells=[cell(20_000, samples=3)])
    log = tmp_path / "fed"
    command = [sys.executable, __file__, str(tmp_path / "out"), str(log)]
    record = kill_and_resume(command, tmp_path / "out", checkpoints=7)
    assert record.resumed and timeless(record) == timeless(plain)
    streams = 2
    assert 0 < log.stat().st_size <= 3 * 20_000 + streams * (INTERVAL + BLOCK)  # bytes: tokens fed


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (MemoryError(), "oom", "smaller --batch"),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory"), "oom", "CUDA"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "oom", "allocate"),
        (ValueError("two\nlines"), "failed", "ValueError: two lines"),
        (UserError("told late"), "failed", "told late"),
    ],
)  # fmt: skip
def test_what_goes_wrong_in_a_model_is_a_status_and_its_checkpoint_stays(tmp_path, error, status, reason):
    (plain,) = go(tmp_path / "plain")
    stopped, other = go(tmp_path / "out", Hasher(trap(6000, error)), cells=[cell(), cell(3000)])
    assert (stopped.status, stopped.scores["tiny/exact"]["n"]) == (status, 2)
    assert reason in stopped.reason and "\n" not in stopped.reason
    assert other.status == "ok" and len(list((tmp_path / "out" / ".checkpoints").iterdir())) == 1
    model = Hasher()
    (again,) = go(tmp_path / "out", model)
    assert again.resumed and timeless(again) == timeless(plain) and model.fed < 3 * 2500
    assert not (tmp_path / "out" / ".checkpoints").exists()


def test_the_block_is_what_suits_the_model_over_all_streams_unless_given():
    usual, model, reader = runner.Settings(), Hasher(), Hasher()
    reader.block = 1 << 18
    assert [usual.streams(n, 1000, model) for n in (100, 2)] == [8, 2]
    assert [usual.tokens(streams, model) for streams in (8, 2, 64)] == [512, 2048, 256]
    assert [usual.tokens(streams, reader) for streams in (8, 2)] == [32_768, 131_072]
    assert runner.Settings(block=7).tokens(2, model) == runner.Settings(block=7).tokens(2, reader) == 7


def test_long_contexts_are_read_few_at_a_time_so_that_an_answer_comes_soon():
    usual, model = runner.Settings(), Hasher()
    assert [usual.streams(100, length, model) for length in (0, 1_000_000, 4_000_000, 10_000_000)] == [8, 8, 4, 1]
    assert runner.Settings(batch=64).streams(100, 10_000_000, model) == 64
    model.facts = lambda: {"device": "cuda"}
    assert usual.streams(100, 10_000_000, model) == 8


class Diverging(Hasher):
    """A model whose state is not finite from its 5,001st token on."""

    def finite(self, state):
        return int(state[0, 1]) <= 5000


@pytest.mark.parametrize("block", [700, 4096])
def test_a_state_that_is_not_finite_fails_at_its_very_token(tmp_path, block):
    (record,) = go(tmp_path, Diverging(), cells=[cell(8000, samples=2)], block=block)
    assert record.status == "failed" and not record.scores
    assert f"not finite after token 5,001 (block {5000 // block + 1})" in record.reason


def test_unsupported_says_why_and_reads_nothing(tmp_path):
    model = Hasher()
    (record,) = go(tmp_path, model, cells=[cell(60_000)])
    assert (record.status, record.reason) == ("unsupported", "needs 3 GiB, so 50K at most")
    assert model.fed == 0 and record.tokens_read is None and record.scores == {}


def test_unsupported_is_judged_again(tmp_path):
    (first,) = go(tmp_path, cells=[cell(60_000, samples=1)])
    model = Hasher()
    model.supports = lambda length: None
    (again,) = go(tmp_path, model, cells=[cell(60_000, samples=1)])
    assert (first.status, again.status) == ("unsupported", "ok")
    (kept,) = go(tmp_path, cells=[cell(60_000, samples=1)])  # an `ok` one stays
    assert kept == again


def test_no_more_streams_are_read_at_once_than_fit(tmp_path):
    started = []

    class Narrow(Hasher):
        def streams(self, length):
            assert length == 2500 + 5  # the answer too
            return 3

        def start(self, batch):
            started.append(batch)
            return super().start(batch)

    (record,) = go(tmp_path, Narrow(), batch=8)
    assert record.status == "ok" and started == [3, 2]


def test_a_timeout_goes_on_with_a_longer_one(tmp_path):
    (plain,) = go(tmp_path / "plain")
    model = Hasher(lambda fed: time.sleep(0.6 if fed > 6000 else 0))
    (record,) = go(tmp_path / "out", model, timeout=0.5)
    assert record.status == "timeout" and "0.5 s" in record.reason and record.scores["tiny/exact"]["n"] < 5
    model.trap = lambda fed: None
    (record,) = go(tmp_path / "out", model, timeout=100)
    assert timeless(record) == timeless(plain) and record.resumed and model.fed <= 5 * 2500


def stopped(folder: Path, at: int = 6000) -> Path:
    """The checkpoint of a cell that was stopped after so many tokens."""
    with pytest.raises(runner.Interrupted):
        go(folder, Hasher(trap(at, KeyboardInterrupt())))
    (file,) = folder.glob(".checkpoints/*")
    return file


def test_a_cut_checkpoint_is_put_aside_with_a_warning(tmp_path, capsys):
    file = stopped(tmp_path)
    cut = file.read_bytes()[:50]
    file.write_bytes(cut)
    (record,) = go(tmp_path)
    assert record.status == "ok" and not record.resumed
    assert "cannot be used" in (said := capsys.readouterr().err) and said.count("\n") == 1
    assert [(left.suffix, left.read_bytes()) for left in tmp_path.glob(".checkpoints/*")] == [(".damaged", cut)]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(places=st.lists(st.integers(0, 2**40), min_size=1, max_size=4, unique=True))
def test_a_flipped_bit_never_changes_a_record(tmp_path_factory, places):
    folder = tmp_path_factory.mktemp("flipped")
    (plain,) = go(folder / "plain")
    file = stopped(folder / "out")
    raw = bytearray(file.read_bytes())
    for place in places:  # some fall together, and then the file is as it was
        raw[place // 8 % len(raw)] ^= 1 << place % 8
    file.write_bytes(raw)
    (record,) = go(folder / "out")
    assert timeless(record) == timeless(plain)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tokens": -1}, "tokens: Input should be greater"),
        ({"tokens": "many"}, "tokens: Input should be a valid integer"),
        ({"tokens": True}, "tokens: Input should be a valid integer"),
        ({"rows": {}}, "rows: "),
        ({"rows": [{"index": 0}]}, "rows: 0.plan: Field required"),
        ({"first": 9}, "its group ends at sample 11 of 5"),
        ({"reading": [2, 2]}, "a stream is read twice"),
        ({"reading": [0, 3]}, "its streams are none of its group"),
        ({"reading": []}, "it has read tokens of no stream"),
        ({"code": "0.0.1"}, "it is of atlas-bench 0.0.1"),
        ({"unheard": 1}, "unheard: "),
    ],
)
def test_every_field_of_a_checkpoint_is_checked(tmp_path, capsys, changes, said):
    file = stopped(tmp_path)
    arrays, text = checkpoint_file.load(file)
    values = json.loads(text)
    values["point"] |= changes
    checkpoint_file.save(file, arrays, values)  # with a checksum that is right
    (record,) = go(tmp_path)
    assert record.status == "ok" and not record.resumed
    assert said in capsys.readouterr().err


def test_rows_of_a_checkpoint_are_not_doubled(tmp_path, capsys):
    file = stopped(tmp_path)
    arrays, text = checkpoint_file.load(file)
    values = json.loads(text)
    values["point"]["rows"] *= 2
    checkpoint_file.save(file, arrays, values)
    (record,) = go(tmp_path)
    assert record.scores["tiny/exact"]["n"] == 5 and "answered twice" in capsys.readouterr().err


def test_another_cell_s_checkpoint_is_not_taken(tmp_path, capsys):
    file = stopped(tmp_path)
    with pytest.raises(runner.Interrupted):
        go(tmp_path, Hasher(trap(6000, KeyboardInterrupt())), cells=[cell(3000)])
    (other,) = set(tmp_path.glob(".checkpoints/*")) - {file}
    file.write_bytes(other.read_bytes())
    (record,) = go(tmp_path)
    assert not record.resumed and "another cell" in capsys.readouterr().err


def test_a_checkpoint_without_a_checksum_is_put_aside(tmp_path, capsys):
    from safetensors.numpy import save_file

    file = stopped(tmp_path)
    arrays, text = checkpoint_file.load(file)
    save_file(arrays, file, {"point": text})
    (record,) = go(tmp_path)
    assert record.status == "ok" and not record.resumed and "older atlas-bench" in capsys.readouterr().err


@pytest.mark.parametrize("error", [SafetensorError("No space left on device"), OSError(28, "No space"), MemoryError()])
def test_a_save_that_fails_fails_no_cell_and_keeps_the_older_checkpoint(tmp_path, monkeypatch, capsys, error):
    (plain,) = go(tmp_path / "plain")
    saved = stopped(tmp_path / "out", at=4000).read_bytes()

    def full(arrays, path, metadata):
        Path(path).write_bytes(b"half of it")
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("safetensors.numpy.save_file", full)
        with pytest.raises(runner.Interrupted, match=r"no checkpoint could be saved .* from the checkpoint before"):
            go(tmp_path / "out", Hasher(trap(6000, KeyboardInterrupt())))
        (file,) = tmp_path.glob("out/.checkpoints/*")
        assert file.read_bytes() == saved and capsys.readouterr().err.count("warning") <= 1
        (record,) = go(tmp_path / "out", Hasher(trap(6000, ValueError("of the model"))))
        assert record.status == "failed" and file.read_bytes() == saved
        capsys.readouterr()
        (record,) = go(tmp_path / "out")
    assert timeless(record) == timeless(plain) and record.resumed
    assert capsys.readouterr().err.count("cannot be written") == 1  # once, however often it fails


def test_a_run_that_names_no_batch_goes_on_with_the_streams_that_were_begun(tmp_path):
    with pytest.raises(runner.Interrupted):
        go(tmp_path, Hasher(trap(6000, KeyboardInterrupt())))
    (record,) = go(tmp_path, batch=None)
    assert record.status == "ok" and record.resumed


def test_a_smaller_batch_begins_the_group_again_and_loses_no_answer(tmp_path):
    (plain,) = go(tmp_path / "plain")
    stopped(tmp_path / "out", at=8000)
    fed = []

    class Narrow(Hasher):
        def feed(self, state, tokens):
            fed.append(len(tokens))
            return super().feed(state, tokens)

    (record,) = go(tmp_path / "out", Narrow(), batch=1)
    assert max(fed) == 1 and record.resumed and record.answers == plain.answers


def test_what_a_kill_left_beside_a_finished_record_is_removed(tmp_path):
    saved = stopped(tmp_path).read_bytes()
    go(tmp_path)
    (tmp_path / ".checkpoints").mkdir()
    key = cell_key(recording.blank(Evaluation(cell(), TINY, Hasher())))
    (tmp_path / ".checkpoints" / f"{key}.safetensors").write_bytes(saved)
    go(tmp_path)
    assert not (tmp_path / ".checkpoints").exists()


def test_a_cell_that_another_process_is_at_is_left_for_later_and_taken_from_it(tmp_path, capsys):
    import threading

    (plain,) = go(tmp_path / "plain", cells=[cell()])
    lock = tmp_path / "out" / ".checkpoints" / f"{cell_key(recording.blank(Evaluation(cell(), TINY, Hasher())))}.lock"
    ready, other = threading.Event(), []

    def finish():  # as another process would: the descriptor is another one
        with locks.held(lock, "cell", wait=True, say=other.append) as mine:
            other.append(mine)
            ready.set()
            while not (tmp_path / "out" / "tiny.jsonl").exists():  # the second cell goes first
                time.sleep(0.01)
            time.sleep(0.5)
            store.append(tmp_path / "out" / "tiny.jsonl", plain)

    thread = threading.Thread(target=finish)
    thread.start()
    ready.wait(10)
    model = Hasher()
    first, second = go(tmp_path / "out", model, cells=[cell(), cell(3000)])
    thread.join(10)
    assert first == plain and second.length == 3000 and model.fed == 5 * 3000 - sum(2 + i % 3 for i in range(5))
    assert [record.length for record in store.read(tmp_path / "out" / "tiny.jsonl")[0]] == [3000, 2500]
    assert "waiting for its end" in capsys.readouterr().err and not (tmp_path / "out" / ".checkpoints").exists()


def test_an_interrupt_while_resuming_leaves_the_checkpoint(tmp_path):
    class Slow(Hasher):
        def unpack(self, arrays):
            raise KeyboardInterrupt

    with pytest.raises(runner.Interrupted):
        go(tmp_path, Hasher(trap(6000, KeyboardInterrupt())))
    (file,) = tmp_path.glob(".checkpoints/*")
    saved = file.read_bytes()
    with pytest.raises(runner.Interrupted):
        go(tmp_path, Slow())
    assert file.read_bytes() == saved


def test_reading_holds_blocks_not_samples(tmp_path, monkeypatch):
    asked = []
    read = Digits.read
    monkeypatch.setattr(Digits, "read", lambda self, a, b: asked.append(b - a) or read(self, a, b))
    go(tmp_path)
    assert max(asked) <= BLOCK


SHARING = Cell("shared", "a", 2500, "hasher", samples=8)  # contexts of 3, 3 and 2 questions


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
def test_a_context_that_samples_share_is_read_once(tmp_path, batch):
    model = Hasher()
    (record,) = go(tmp_path, model, cells=[SHARING], batch=batch)
    assert model.fed == 3 * 2498  # a context is fed once; this model hashes no question
    assert record.tokens_read == 3 * 2498 + 8 * 2
    assert [row["context"] for row in record.answers] == [0, 0, 0, 3, 3, 3, 6, 6]
    assert record.scores["tiny/exact"]["n"] == 8


def test_what_is_shared_changes_no_answer(tmp_path, monkeypatch):
    (together,) = go(tmp_path / "together", cells=[SHARING])
    monkeypatch.setattr(Shared, "questions", 1)
    (apart,) = go(tmp_path / "apart", cells=[SHARING], batch=1)
    assert [row["answer"] for row in apart.answers] == [row["answer"] for row in together.answers]
    assert apart.tokens_read == 8 * 2500


@pytest.mark.parametrize("at", [0, 150, 2500, 4900, 5100, 6000, 7300])
def test_a_stop_among_shared_contexts_goes_on(tmp_path, at):
    (plain,) = go(tmp_path / "plain", cells=[SHARING])
    model = Hasher(trap(at, KeyboardInterrupt()))
    with pytest.raises(runner.Interrupted):
        go(tmp_path / "out", model, cells=[SHARING])
    (record,) = go(tmp_path / "out", model, cells=[SHARING], batch=3)  # the group begun is taken up as it was
    assert timeless(record) == timeless(plain) and record.resumed == (at > 0)
    assert model.fed <= 3 * 2498 + 2 * 2 * BLOCK


def test_the_tokens_announced_are_the_tokens_read(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(Progress, "start", lambda self, title, **counts: told.append(counts["tokens"]))
    records = go(tmp_path, cells=[SHARING, cell()])
    assert told == [record.tokens_read for record in records] == [3 * 2498 + 8 * 2, 5 * 2500]


def test_the_controls_answer_each_question_of_a_shared_context(tmp_path):
    from atlas_bench.models.constant import Constant
    from atlas_bench.models.oracle import Oracle

    models = {"oracle": Oracle(), "constant": Constant()}
    cells = [
        Cell("mqar", subset, 2000, model, samples=samples)
        for subset, samples in (("8-spread", 20), ("128", 300))
        for model in models
    ]
    settings = runner.Settings(block=300, batch=2)
    for record in runner.run(cells, models, tmp_path, settings, Progress(quiet=True)):
        correct = record.scores["mqar/exact"]["correct"]
        constant = sum(row["targets"] == [record.answers[0]["answer"]] for row in record.answers)
        assert correct == (record.samples if record.model == "oracle" else constant)


def test_options_go_to_the_tasks_that_take_them():
    from atlas_bench.types import TaskOptions

    options, pairs = TaskOptions(background="books"), [("mqar", "8"), ("tiny", "a")]
    by_task = {c.task: c.options for c in plan.make(pairs, lengths=[64], models=["m"], options=options)}
    assert by_task == {"mqar": TaskOptions(), "tiny": options}
    (alone,) = plan.make(pairs[:1], lengths=[64], models=["hasher"], options=options)
    with pytest.raises(UserError, match=r"mqar has no --background 'books'.* Leave --background out"):
        plan.check([alone], {"hasher": Hasher()})


def test_the_plan_is_short_first_and_names_every_subset():
    assert plan.parse_tasks("tiny") == [("tiny", "a"), ("tiny", "b")]
    assert plan.parse_tasks("tiny:b,tiny") == [("tiny", "b"), ("tiny", "a")]
    cells = plan.make(plan.parse_tasks("tiny"), lengths=[64, 32, 64], models=["m", "n"], seeds=[0, 1])
    assert [c.length for c in cells] == [32] * 8 + [64] * 8
    with pytest.raises(UserError, match="unknown subset of tiny 'c'"):
        plan.parse_task("tiny:c")


def test_the_progress_line_shows_tokens_accuracy_and_time_left():
    from io import StringIO

    from rich.console import Console

    out = StringIO()
    progress = Progress(console=Console(file=out, width=80), every=0)
    progress.start("tiny 1M hasher", samples=20, tokens=20_000_000, read=0)
    time.sleep(0.01)
    progress.show(read=10_500_000, answered=10, correct=9, streams=8)
    progress.stop()
    title, line = out.getvalue().splitlines()
    assert title == "tiny 1M hasher: 20 samples, 20.0M tokens to read"
    assert "sample 11-18/20  10.5M/20.0M tokens" in line and "90 % (60-98)" in line and len(line) <= 80
    assert "\x1b" not in line


def main(out: Path, log: Path) -> None:
    """The run that the kill test kills: slow enough to be hit in the middle, counting what it reads."""

    class Slow(Hasher):
        def feed(self, state, tokens):
            time.sleep(0.002)
            with open(log, "ab") as file:
                file.write(bytes(tokens.size))
            return super().feed(state, tokens)

    registry.TASKS["tiny"] = "__main__:TINY"
    consistency.fault = lambda evaluation, batch: None  # the log counts what the cell itself feeds
    go(out, Slow(), cells=[replace(cell(20_000), samples=3)])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems cannot forget a peak")
def test_a_cell_does_not_begin_with_what_an_earlier_one_freed():
    """In a process of its own: freed memory is kept for the next block."""
    code = (
        "import torch\n"
        "from atlas_bench.kernels.cpu import keep_freed_memory\n"
        "from atlas_bench.running.resources import peak, reset_peak\n"
        "keep_freed_memory(); reset_peak(); before = peak()\n"
        "kept = [torch.ones(250_000) for _ in range(200)]; del kept\n"
        "high = peak(); reset_peak(); print(high - before, peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    high, after = map(int, done.stdout.split())
    assert high > 150e6 and after < 20e6


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
