"""The leaderboard's reader finds the records' own counts in the files, and nothing passes for what it is not."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_bench.errors import UserError
from atlas_bench.export import babilong as babilong_evals
from atlas_bench.results import store
from atlas_bench.results.record import Record, answer_row
from atlas_bench.tasks import prompts
from atlas_bench.tasks.babilong import BABILONG
from atlas_bench.tasks.scorers import LABELS, official
from atlas_bench.types import Sample

COMMITTED = Path(__file__).parents[2] / "results" / "babilong.jsonl"
BARE = "instruction_no_examples_no_post_prompt_no_chat_template_no"
HUB = {"data": "hub", "background": "generated", "prompt": "bare"}


def right(answer: str, target: str, question: str, subset: str) -> bool:
    return official(answer, Sample(0, None, (), (target,), {"question": question, "labels": LABELS[subset]}))


def leaderboard(file: Path) -> tuple[int, int]:
    """(right, n) as BABILong's collect_results.py comes to them: pandas, missing outputs empty, the official rule."""
    frame = pd.read_csv(file)
    outputs = frame["output"].astype(object).where(frame["output"].notna(), "").astype(str)
    subset = file.stem.split("_")[0]
    rows = zip(outputs, frame["target"], frame["question"], strict=True)
    return sum(right(output, target, question, subset) for output, target, question in rows), len(frame)


@pytest.fixture
def asked(make) -> Callable[..., Record]:
    """A record of as many answers as given, on the published contexts unless said otherwise."""

    def record(*said: str, subset: str = "qa1", target: str = "kitchen", question: str = "Where is Mary?", **changes):
        rows = [_row(i, answer, target, question, subset) for i, answer in enumerate(said or ("kitchen",))]
        return make(**{"options": HUB, "length": 16_000, "subset": subset, "answers": rows, **changes})

    return record


def _row(index: int, answer: str, target: str, question: str, subset: str) -> dict:
    verdict = {"babilong/official": right(answer, target, question, subset)}
    return answer_row(index, question=question, targets=[target], answer=answer, correct=verdict)


def test_the_leaderboard_counts_what_the_committed_records_say(tmp_path):
    records, _ = store.read(COMMITTED)
    babilong_evals.write(records, tmp_path / "out")
    known = {(r.model, r.weights_hash, r.subset, r.length, r.seed, str(r.options), r.samples): r for r in records}
    files = list((tmp_path / "out").glob("*/*/*.csv"))
    assert len(files) > 30
    for file in files:
        cell = json.loads(file.with_suffix(".json").read_text())["atlas_bench"]
        key = (cell["model"], cell["weights_hash"], file.stem.split("_")[0], cell["length"], cell["seed"])
        score = known[(*key, str(cell["options"]), cell["samples"])].scores["babilong/official"]
        assert leaderboard(file) == (score["correct"], score["n"])


WORDS = st.sampled_from([*LABELS["qa6"], *LABELS["qa1"], "None", "NaN", "NA", "no\r", ".", ",", '"', "1", "True", " "])
SAID = st.lists(WORDS | st.text(max_size=3), max_size=3).map("".join)


@settings(max_examples=60, deadline=None)
@given(said=st.lists(SAID, min_size=1, max_size=4), subset=st.sampled_from(["qa1", "qa6"]))
def test_the_leaderboard_counts_any_answers_as_we_do(said: list[str], subset: str):
    """But for the text 'None', which its reader takes for nothing: that is told."""
    target, question = {"qa1": ("kitchen", "Where is Mary?"), "qa6": ("no", "Is Mary in the kitchen?")}[subset]
    rows = [_row(i, answer, target, question, subset) for i, answer in enumerate(said)]
    record = Record(
        status="ok", task="babilong", task_version="1", subset=subset, length=0, model="m", seed=0, samples=len(said),
        options=HUB, answers=rows,
    )  # fmt: skip
    told: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        babilong_evals.write([record], out, warn=told.append)
        counted = leaderboard(out / "atlas-bench" / "m" / f"{subset}_0k_{BARE}.csv")
    ours = sum(row["correct"]["babilong/official"] for row in rows)
    lost = sum(answer == "None" for answer in said) if subset == "qa6" else 0
    assert counted == (ours - lost, len(said))
    assert told == (
        [
            "right answers 'None', which pandas.read_csv takes for none, so that the leaderboard counts less than "
            f"the records: {lost}."
        ]
        if lost
        else []
    )


def test_file_names_say_what_the_leaderboard_reads_of_them(tmp_path, asked):
    records = [
        asked(),
        asked(options={**HUB, "prompt": "official"}, chat_template="a1b2"),
        asked(options={**HUB, "prompt": "official"}, chat_template="none", length=10_000_000, subset="qa20"),
    ]
    files = babilong_evals.write(records, tmp_path / "out", name="me/my-model")
    assert [str(file.relative_to(tmp_path / "out")) for file in files if file.suffix == ".csv"] == [
        f"me/my-model/qa1_16k_{BARE}.csv",
        "me/my-model/qa1_16k_instruction_yes_examples_yes_post_prompt_yes_chat_template_yes.csv",
        "me/my-model/qa20_10M_instruction_yes_examples_yes_post_prompt_yes_chat_template_no.csv",
    ]
    assert all(file.with_suffix(".json") in files for file in files if file.suffix == ".csv")
    assert files[1].parent / "README.md" in files and tmp_path / "out" / "NOTICE.md" in files
    assert (tmp_path / "out" / f"me/my-model/qa1_16k_{BARE}.csv").read_text() == (
        '"target","output","question"\n"kitchen","kitchen","Where is Mary? "\n'
    )
    said = [json.loads(file.read_text())["prompt"] for file in files if file.suffix == ".json"]
    assert [prompt["chat_template"] for prompt in said] == [False, True, False]
    assert [prompt["instruction"] for prompt in said] == ["", None, None]  # None: no record holds the words


def test_lengths_are_those_of_the_leaderboard():
    assert " ".join(babilong_evals.LENGTHS.values()) == "0k 1k 2k 4k 8k 16k 32k 64k 128k 256k 512k 1M 2M 10M"
    assert sorted(babilong_evals.SUBSETS) == sorted(BABILONG.subsets)


@pytest.mark.parametrize("subset", BABILONG.subsets)
def test_the_files_say_the_prompt_and_the_generation_of_the_task(subset):
    bare, words = (prompts.load(name, subset) for name in ("bare", "official"))
    assert bare.before + "{context}" + bare.template == babilong_evals.PROMPTS["bare"]
    before, after = babilong_evals.PROMPTS["official"].split("{context}")
    assert words.template == after
    assert words.before.endswith(before.rsplit("}", 1)[1])
    rules = BABILONG.rules(subset)
    assert {"max_answer_tokens": rules.max_answer_tokens, "stop": list(rules.stop)} == babilong_evals.OLDER


def test_the_files_say_how_answers_were_generated(tmp_path, asked):
    official = {"options": {**HUB, "prompt": "official"}, "protocol": {"max_answer_tokens": 20, "stop": []}}
    files = babilong_evals.write([asked(protocol={}), asked(**official)], tmp_path / "out")
    said = [json.loads(file.read_text())["generate_kwargs"] for file in files if file.suffix == ".json"]
    assert [(each["max_new_tokens"], each["stop_strings"]) for each in said] == [(20, ["\n"]), (20, [])]


def test_an_official_prompt_of_an_earlier_version_is_not_called_official(tmp_path, asked):
    line = asked(options={**HUB, "prompt": "official"}, protocol={}).to_json()
    earlier = Record.from_json(line)
    assert earlier.options["prompt"] == "earlier-official"
    notes: list[str] = []
    babilong_evals.write([asked(), earlier], tmp_path / "out", warn=notes.append)
    assert "1 record left out: the official prompt of an earlier atlas-bench" in notes[-1]
    assert not list((tmp_path / "out").rglob("*instruction_yes*"))


def test_of_one_file_the_most_answers_then_the_lowest_seed_then_the_last(tmp_path, asked):
    told: list[str] = []
    records = [
        asked("a", "b", seed=2),
        asked("a", seed=0),
        asked("c", "d", seed=1),
        asked("e", "f", seed=1, started="later"),
        asked("a", "b", seed=3),
    ]
    babilong_evals.write(records, tmp_path / "out", warn=told.append)
    frame = pd.read_csv(tmp_path / "out" / "atlas-bench" / "atlas" / f"qa1_16k_{BARE}.csv")
    assert list(frame["output"]) == ["e", "f"]
    assert told == [
        "4 records left out: another record of the same file has more answers, a lower seed or a later line."
    ]


def test_own_contexts_never_pass_for_the_published_ones(tmp_path, asked):
    """Their folder says so in its name, its README and the NOTICE, and the caller is told."""
    told: list[str] = []
    own = [
        {"data": "generated", "background": "generated", "prompt": "bare"},
        {"data": "my babi", "background": "books", "prompt": "bare"},
        {"data": ["hub"], "prompt": "bare"},
        {"prompt": "bare"},
    ]
    records = [asked(), *(asked(options=options, model=f"m{i}") for i, options in enumerate(own)), asked(model="m0")]
    babilong_evals.write(records, tmp_path / "out", warn=told.append)
    names = sorted(path.name for path in (tmp_path / "out" / "atlas-bench").iterdir())
    assert names == ["atlas", "m0", *(f"m{i}-own-contexts" for i in range(4))]
    for name in names:
        marked = "Not comparable" in (tmp_path / "out" / "atlas-bench" / name / "README.md").read_text()
        assert marked == name.endswith("-own-contexts")
    notice = (tmp_path / "out" / "NOTICE.md").read_text()
    assert "Not comparable" in notice
    assert "| atlas-bench/m1-own-contexts | qa1_16k | `m1` | `my babi` | `books` | `bare` | no | 0 | 1 |" in notice
    assert len(told) == 1 and told[0].startswith("NOT COMPARABLE with the leaderboard: 4 of 6 files")
    babilong_evals.write([asked()], tmp_path / "clean")
    assert "ot comparable" not in "".join(file.read_text() for file in (tmp_path / "clean").rglob("*.md"))


def test_one_name_and_two_sources_or_weights_are_not_mixed(tmp_path, asked):
    own = {**HUB, "data": "generated"}
    other = {**own, "background": "books"}
    records = [
        asked(),
        asked(options=own),
        asked(options=other),
        asked(model="Atlas"),
        asked(model="b/c"),
        asked(model="b:c"),
    ]
    babilong_evals.write(records, tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out" / "atlas-bench").iterdir())
    assert len({name.lower() for name in names}) == 6
    assert len(list((tmp_path / "out").glob("*/*/*.csv"))) == 6
    shapes = sorted(re.sub("-[0-9a-f]{8}$", "-#", name) for name in names)
    assert shapes == ["Atlas-#", "atlas-#", "atlas-own-contexts-#", "atlas-own-contexts-#", "b-c-#", "b-c-#"]
    with pytest.raises(
        UserError, match=r"'me/x' is for one model, and the records are of 2: atlas \(weights a1b2c3d4\),"
    ):
        babilong_evals.write([asked(), asked(weights_hash=None)], tmp_path / "two", name="me/x")
    assert not (tmp_path / "two").exists()


@pytest.mark.parametrize(
    "name", ["x", "", "/x/y", "x/y/z", "../x", "x/..", "x/.y", "x\\y/z", "a b/c", "x/y\n", "ü/x", "C:/x"]
)
def test_a_name_that_is_no_org_and_model_is_refused(tmp_path, asked, name):
    with pytest.raises(UserError, match="is not ORG/MODEL"):
        babilong_evals.write([asked()], tmp_path / "out", name=name)
    assert not list(tmp_path.iterdir())


HOSTILE = st.sampled_from(
    ["..", "../../x", "/etc/passwd", "a/../..", "", "\0", ".", "C:\\x", "\ud800", "|", "con\x1b[1m"]
)


@settings(max_examples=40, deadline=None)
@given(models=st.lists(HOSTILE | st.text(max_size=8), min_size=1, max_size=3, unique=True))
def test_no_models_name_leads_out_of_the_folder(models: list[str]):
    row = _row(0, "kitchen", "kitchen", "Where is Mary?", "qa1")
    records = [
        Record(
            status="ok", task="babilong", task_version="1", subset="qa1", length=0, model=model, seed=0, samples=1,
            options=HUB, answers=[row],
        )
        for model in models
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        files = babilong_evals.write(records, out)
        assert len(files) == 1 + 3 * len(models)
        inside = {file.relative_to(out).parts for file in files}
        assert all(re.fullmatch(r"[A-Za-z0-9][\w.-]*", part, re.ASCII) for parts in inside for part in parts)
        assert list(Path(folder).iterdir()) == [out]
        assert not {"\x1b", "\0"} & set((out / "NOTICE.md").read_text(encoding="utf-8"))


def test_what_an_answer_lost_is_told(tmp_path, asked):
    told: list[str] = []
    record = asked("kitchen", "kitchen " * 300, "hall\ud800way")
    record.answers.append({**record.answers[0], "failed": "500", "correct": {}})
    babilong_evals.write([record], tmp_path / "out", warn=told.append)
    frame = pd.read_csv(tmp_path / "out" / "atlas-bench" / "atlas" / f"qa1_16k_{BARE}.csv")
    assert list(frame["output"]) == ["kitchen", ("kitchen " * 300)[:2000], "hall?way"]
    assert told == [
        "answers cut at 2000 characters, as in the records: 1.",
        "samples that were not answered, and have no row: 1.",
    ]
    assert all(f"- {note}" in (tmp_path / "out" / "NOTICE.md").read_text() for note in told)


def test_what_is_left_out_is_told_with_the_reason(tmp_path, asked, failed):
    told: list[str] = []
    unfit = [
        failed("oom", "10 GB", options=HUB, length=16_000),
        asked(length=16_384),
        asked(length=3_000),
        asked(options={**HUB, "prompt": "mine"}),
        asked(answers=[]),
        asked(answers=[{"index": 0, "question": None, "targets": ["x"], "answer": "x"}]),
        asked(answers=[{"index": 0, "question": "x", "targets": ["x"], "answer": "None", "correct": [1]}]),
        asked(task="lm-eval:babilong_qa1"),
        replace(asked(), subset="qa21"),
    ]
    babilong_evals.write([*unfit, asked()], tmp_path / "out", warn=told.append)
    assert sorted(told) == [
        "1 record left out: BABILong has no name for a length of 16384 tokens.",
        "1 record left out: BABILong has no name for a length of 3000 tokens.",
        "1 record left out: no answers in the record.",
        "1 record left out: status oom.",
        "1 record left out: the prompt is none of bare, official.",
        "2 records left out: answers without question, targets or answer.",
        "2 records left out: not of the task babilong, qa1 to qa20.",
    ]
    with pytest.raises(UserError, match="no records for BABILong's leaderboard: 2 records left out: "):
        babilong_evals.write(unfit, tmp_path / "none")
    with pytest.raises(UserError, match="there are none"):
        babilong_evals.write([], tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_folder_that_holds_something_is_refused(tmp_path, asked):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="is not an empty folder"):
        babilong_evals.write([asked()], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
