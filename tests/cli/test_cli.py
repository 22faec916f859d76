"""The commands as a user types them: what they print, what they refuse, and that a refusal writes nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from atlas_bench import __version__, registry
from atlas_bench.results import store
from tests.command import call

ROOT = Path(__file__).parents[2]
RECORDS = ROOT / "results" / "retention.jsonl"
ASKED = ["run", "babilong:qa1", "--model", "oracle", "--samples", "3"]
QUICK = [*ASKED, "--len", "1K"]


def refused(folder: Path, *words: str) -> str:
    """The one message of a command that must end with code 2 and write nothing."""
    before = sorted(folder.rglob("*"))
    result = call(*words)
    assert result.exit_code == 2, result.output
    assert not result.stdout and sorted(folder.rglob("*")) == before
    *said, error = result.stderr.splitlines()
    assert error.startswith("error: ") and all(re.fullmatch(r"loading .* \.\.", line) for line in said)
    return error


def test_run_prints_a_table_and_appends_records(here):
    result = call(*QUICK, "--model", "constant")
    assert result.exit_code == 0, result.output
    assert "babilong:qa1" in result.stdout and "oracle" in result.stdout and "100.0" in result.stdout
    records, warnings = store.read(here / "runs" / "babilong.jsonl")
    assert [(r.model, r.status, r.length, r.batch) for r in records] == [
        ("oracle", "ok", 1000, 3), ("constant", "ok", 1000, 3),
    ] and not warnings  # fmt: skip
    assert [path.name for path in (here / "runs").iterdir()] == ["babilong.jsonl"]


def test_json_is_all_that_is_on_stdout_and_a_second_run_reads_nothing(here):
    first, second = call(*QUICK, "--json"), call(*QUICK, "--json")
    (record,) = json.loads(first.stdout)
    assert record["scores"]["babilong/official"] == {"correct": 3, "n": 3}
    assert json.loads(second.stdout) == [record] and "not run again" in second.stderr
    assert not call(*QUICK, "--quiet").stderr


def test_a_torn_last_line_is_told_and_appended_after(here):
    call(*QUICK)
    file = here / "runs" / "babilong.jsonl"
    whole = file.read_text()
    file.write_text(whole + whole[:100])
    result = call(*QUICK, "--seed", "1")
    assert result.exit_code == 0 and "torn last line" in result.stderr
    records, warnings = store.read(file)
    assert [record.seed for record in records] == [0, 1] and not warnings


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "babilon", "--len", "1K"], ["unknown task 'babilon'", "Did you mean 'babilong'?"]),
        (["run", "babilong:qa21", "--len", "1K"], ["'qa21'", "Did you mean 'qa2'?"]),
        ([*QUICK, "--model", "oracel"], ["unknown model 'oracel'", "Did you mean 'oracle'?"]),
        ([*ASKED, "--len", "10Q"], ['--len "10Q" is not', "16K"]),
        ([*ASKED, "--len", "1K,10Q"], ['--len "1K,10Q"', "'10Q'"]),
        ([*ASKED, "--len", "10"], ["length 10 is too short", "Use --len"]),
        ([*ASKED, "--len", "64K..1K"], ['"64K..1K" runs backwards']),
        ([*ASKED, "--len", "1K..100K"], ["Write 1K..64K,100K."]),
        ([*QUICK, "--len", "2K"], ["--len stands twice", "--len L[,L..]"]),
        ([*QUICK, "--block", "0"], ['--block "0" is no whole number', "Write 512 or 4Ki."]),
        ([*QUICK, "--checkpoint-every", "often"], ['--checkpoint-every "often"', "16K"]),
        ([*QUICK, "--prompt", "oficial"], ['--prompt "oficial"', "'bare'", "'official'"]),
        ([*QUICK, "--threads", "99999"], ['--threads "99999" is too many', "or fewer."]),
        ([*QUICK, "--num-fewshot", "3"], ["--num-fewshot is for lm-eval's tasks", "'babilong:qa1'"]),
        (["run", "lm-eval:piqa", "--prompt", "bare"], ["--prompt does nothing for lm-eval's tasks"]),
        (["run", "lm-eval:piqa", "--checkpoint-every", "5"], ["--checkpoint-every does nothing"]),
        ([*QUICK, "--data", "empty"], ["'empty'"]),
        ([*QUICK, "--data", "prose"], ["prose"]),
        ([*QUICK, "--data", "nowhere"], ["'nowhere'"]),
        ([*QUICK, "--background", "empty"], ["'empty'", ".txt"]),
        ([*QUICK, "--out", "file"], ["'file'", "Choose another"]),
        ([*QUICK, "--out", "file/below"], ["'file/below'"]),
        ([*QUICK, "--out", "/proc/nowhere"], ["'/proc/nowhere'", "not writable"]),
        (["describe", "titan"], ["'titan'", "Did you mean 'titans'?"]),
    ],
)
def test_bad_input_is_one_message_naming_the_value(here, words, said):
    (here / "file").write_text("in the way")
    (here / "empty").mkdir()
    (here / "prose").mkdir()
    (here / "prose" / "qa1_single_train.txt").write_text("It was a dark night.\nNobody moved.\n")
    message = refused(here, *words)
    assert all(part in message for part in said), message


def test_too_few_questions_are_told_before_anything_is_written(here):
    (here / "babi").mkdir()
    story = "1 Mary moved to the bathroom.\n2 John went to the hallway.\n3 Where is Mary?\tbathroom\t1\n"
    (here / "babi" / "qa1_test.txt").write_text(story)
    assert "1 questions" in refused(here, *QUICK, "--data", "babi")


@pytest.mark.parametrize("damage", ["corrupt", "missing", "other", "card", "no card"])
def test_a_broken_model_folder_is_one_message_naming_it(here, damage):
    from atlas_bench.models import loading
    from atlas_bench.models.decoder import Config, Decoder

    folder = here / "model"
    loading.save(folder, Decoder(Config(d_model=32, n_heads=2)), {})
    weights, card = folder / loading.WEIGHTS, folder / loading.CARD
    if damage == "corrupt":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "missing":
        weights.unlink()
    elif damage == "other":
        loading.save(here / "wide", Decoder(Config(d_model=64, n_heads=2)), {})
        weights.write_bytes((here / "wide" / loading.WEIGHTS).read_bytes())
    elif damage == "card":
        card.write_text("{")
    else:
        card.unlink()
    assert "model" in refused(here, "run", "babilong:qa1", "--len", "1K", "--model", str(folder), "--samples", "1")


def test_a_trained_folder_runs(here):
    from atlas_bench.models import loading
    from atlas_bench.models.decoder import Config, Decoder

    loading.save(here / "model", Decoder(Config(d_model=32, n_heads=2)), {})
    result = call("run", "babilong:qa1", "--len", "1K", "--model", "model", "--samples", "2", "--json")
    (record,) = json.loads(result.stdout)
    assert (record["status"], record["model"], record["tokens_read"]) == ("ok", "model", 2000)


def test_a_cell_that_times_out_or_has_too_little_memory_exits_1(here, monkeypatch):
    from atlas_bench.running.attempt import Attempt

    for status in ("timeout", "oom", "failed", "unsupported"):
        monkeypatch.setattr(Attempt, "run", lambda self, status=status: (status, "so"))
        assert call(*QUICK, "--out", status).exit_code == (status != "unsupported"), status


def test_a_machine_that_is_in_the_way_is_one_message(here):
    """Of the real program: a cache that cannot be made, a working folder that is gone."""
    (here / "file").write_text("in the way")
    (here / "gone").mkdir()
    quick = [sys.executable, "-m", "atlas_bench", "run", "niah", "--model", "oracle", "--samples", "1", "--len", "1K"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def said(words, **options) -> str:
        done = subprocess.run(words, capture_output=True, text=True, **{"cwd": here, "env": environment} | options)
        assert done.returncode == 2 and not done.stdout, done.stderr
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
        return done.stderr

    for cache in ("/proc/nowhere", str(here / "file"), str(here / "file" / "below")):
        message = said(quick, env=environment | {"ATLAS_BENCH_CACHE": cache})
        assert cache in message and "set ATLAS_BENCH_CACHE to another folder" in message
    assert sorted(path.name for path in here.iterdir()) == ["file", "gone"]
    shell = ["sh", "-c", 'rmdir "$PWD"; exec "$@"', "sh", *quick]
    assert "working folder" in said(shell, cwd=here / "gone")


def test_a_record_s_command_can_be_typed(here):
    words = [sys.executable, "-m", "atlas_bench", *QUICK, "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    (record,) = json.loads(done.stdout)
    assert record["command"].startswith("python -m atlas_bench run babilong:qa1 ")


def test_ctrl_c_says_where_and_how_to_go_on(here):
    (here / "books").mkdir()  # quicker to tokenise than 20M tokens of generated prose
    (here / "books" / "one.txt").write_text(
        "It was a dark and stormy night, and nobody in the old house by the river moved. " * 2000
    )
    words = [*ASKED, "--len", "20M", "--background", "books", "--block", "500", "--checkpoint-every", "100K"]
    process = subprocess.Popen(
        [sys.executable, "-m", "atlas_bench", *words],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 60
    while not list(here.glob("runs/.checkpoints/*.safetensors")):
        assert process.poll() is None and time.monotonic() < end, "it ended too soon, or saves nothing"
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130 and not out and "Traceback" not in err
    assert "saved in runs/.checkpoints/" in err and "same command goes on" in err


@pytest.mark.slow
def test_ctrl_c_in_a_training_saves_it_and_the_same_command_goes_on(here):
    words = ["train", "--memory", "gated-deltanet", "--task", "mqar:8", "--tokens", "2M", "--out", "trained"]
    log, seen = here / "trained" / "training.ndjson", []
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-m", "atlas_bench", *words], env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        end = time.monotonic() + 60
        while not log.exists() or len(log.read_text().splitlines()) < (len(seen[-1]) if seen else 0) + 3:
            assert process.poll() is None and time.monotonic() < end, process.stderr.read()
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 130 and "Traceback" not in err and " tokens, about " in out
        assert re.search(r"^stopped at \S+ of at most 2.0M tokens; the same command goes on from there\.$", err, re.M)
        seen.append(log.read_text().splitlines())
    first, both = seen
    assert both[: len(first)] == first and len(both) > len(first)  # with their seconds: none was trained again


def test_list_and_describe_name_everything():
    assert call("--version").stdout == f"atlas-bench {__version__}\n"
    assert [line.split("\t")[0] for line in call("list", "tasks").stdout.splitlines()] == list(registry.TASKS)
    every = call("list").stdout
    assert all(f"\n{name}\t" in every for name in [*registry.TASKS, *registry.MEMORIES, *registry.MODELS])
    for name in ("babilong", "oracle", "none", "atlas"):
        result = call("describe", name)
        assert result.exit_code == 0 and len(result.stdout) > 20, name


def test_help_has_the_commands_in_the_order_of_use_and_fits_80_columns():
    listed = call("--help").stdout.partition("Commands:\n")[2].splitlines()
    commands = [line.split()[0] for line in listed]
    order = "run report show score merge compare probe changes train verify list describe doctor push export lm-eval"
    assert commands == order.split()
    assert not [line for line in listed if line.endswith("...")], "a sentence does not fit"
    for command in commands[:-1]:
        said = call(command, "--help").stdout
        assert max(map(len, said.splitlines())) <= 80 and "--json" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rum"], ["No such command 'rum'", "Did you mean 'run'? See `", "--help`"]),
        (["--foo"], ["No such option", "--foo", "--help`"]),
        (["run"], ["Missing argument 'TASK[:SUBSET][,..]'", "run --help`"]),
        (["run", "babilong", "niah", "--len", "1K"], ["unexpected extra argument", "(niah)"]),
        (["run", "babilong", "--len"], ["'--len' requires an argument", "run --help`"]),
        ([*QUICK, "--sampels", "3"], ["No such option", "--sampels", "--samples"]),
        (["run", "babilong:qa1", "--model", "oracle", "--samples", "many"], ['--samples "many"', "no whole number"]),
        (["run", "babilong:qa1", "--model", "oracle", "--samples", "0"], ['--samples "0"', "from 1 up"]),
        ([*QUICK, "--device", "gpu"], ['--device "gpu"', "'cpu', 'cuda'"]),
        (["list", "cats"], ["unknown kind 'cats'", "memories"]),
        (["describe", "babilong:qa21"], ["'qa21'", "Did you mean 'qa2'?"]),
        (["compare", "atlas-nano", "--len", "1K"], ["Missing option '--task'"]),
        (
            ["compare", "atlas-nano", "swa-nano", "--task", "mqar:8", "--len", "1K", "-o", "no/page.html"],
            ["'no'", "-o"],
        ),
        (["report", "nowhere"], ["no results at 'nowhere'"]),
        (["report", str(RECORDS), "-o", "board.docx"], ["'.docx'", ".html"]),
        (["report", str(RECORDS), "-o", "no/board.md"], ["'no/board.md' cannot be written", "'no' is no folder"]),
        (["report", str(RECORDS), "--task", "retenton"], ["'retenton'", "Did you mean 'retention'?"]),
        (["report", str(RECORDS), "--threshold", "200"], ['--threshold "200"', "100"]),
        (["report", str(RECORDS), "--threshold", "0.8"], ['--threshold "0.8" is 0.8 %. Write 80 for 80 %.']),
        (["report", str(RECORDS), "--json", "-o", "y.csv"], ["'--json' (json) and '-o y.csv' (csv)", "Leave one out."]),
        (["report", str(RECORDS), "--format", "csv", "-o", "x.md"], ["(csv)", "(md)"]),
        (["report", str(RECORDS), "--json", "--format", "csv"], ["'--json' (json) and '--format csv' (csv)"]),
        (["changes", str(RECORDS), str(RECORDS), "-o", "page.pdf"], ['--page "page.pdf" is no page', ".html"]),
        (["changes", "old", "new"], ["'old'"]),
        (["push"], ["Missing argument 'PATHS..'"]),
        (["push", str(RECORDS)], ["Missing argument 'FOLDER'"]),
        (["push", str(RECORDS), "prose"], ["prose' exists and is not an empty folder"]),
        (["push", str(RECORDS), "new", "--to", "dateset"], ['--to "dateset"', "'babilong-evals'"]),
        (["verify", "none"], ["'none' is no memory", "list memories"]),
        (["train", "--memory", "titans"], ["Missing option '--out'"]),
        (["train", "--memory", "titans", "--out", "m", "--segment", "32"], ["--segment does nothing", "'behind'"]),
        (["train", "--memory", "titans", "--out", "m", "--threads", "99999"], ["--threads", "too many"]),
        (["train", "--memory", "titans", "--out", "m", "--tokens", "0"], ['--tokens "0"', "Write 512"]),
        (["compare", "titans", "atlas", "--task", "mqar", "--task", "niah", "--len", "1K"], ["--task stands twice"]),
        (
            ["compare", "titans", "atlas", "--task", "lm-eval:piqa", "--len", "1K"],
            ["'lm-eval:piqa'", "lm-eval ls tasks"],
        ),
        (["export", "nobody", "new"], ["unknown model 'nobody'"]),
        ([*ASKED, "--len", "9" * 400], ["--len", "(402 characters)", "more than"]),
        ([*QUICK, "--seed", "9" * 400], ["--seed", "2147483647"]),
        ([*QUICK, "--batch", "9" * 400], ["--batch is 9", "below 2**63"]),
        ([*QUICK, "--checkpoint-every", "9" * 5000], ["--checkpoint-every", "more than"]),
        ([*ASKED, "--len", "1K", "--model", "x" * 5000], ["unknown model", "(5000 characters)"]),
        ([*ASKED, "--len", "1K", "--model", f"openai:http://h/v1#m;concurrency={'9' * 400}"], ["to a billion"]),
        ([*ASKED, "--len", "1K", "--model", f"openai:http://h/v1#m;timeout={'9' * 5000}"], ["seconds above 0"]),
        ([*ASKED, "--len", "1K", "--model", f"openai:http://h/v1#m;context={'9' * 5000}"], ["tokens, such as"]),
        ([*ASKED, "--len", "1K", "--model", f"hf:a/b:context_limit={'9' * 100}"], ["a number of tokens"]),
        (["verify", f"atlas:degree={'9' * 400}"], ["degree is 9", "1000000000 or less"]),
        (["train", "--memory", "titans", "--out", "m", "--layers", "1000000000"], ["n_layers is 1000000000"]),
        (["train", "--memory", "titans", "--out", "m", "--tokens", "9" * 400], ["--tokens", "more than"]),
    ],
)
def test_a_newcomer_s_mistakes_are_one_message_that_helps(here, words, said):
    (here / "prose").mkdir()
    (here / "prose" / "novel.txt").write_text("It was a dark night.")
    message = refused(here, *words)
    assert all(part in message for part in said), message


@pytest.mark.parametrize(
    "words",
    [
        ["list"],
        ["list", "memories"],
        ["describe", "niah:multi"],
        ["describe", "titans"],
        ["report", str(RECORDS)],
        ["show", str(RECORDS), "0", "--task", "retention:along", "--len", "100K"],
        ["changes", str(RECORDS), str(RECORDS)],
        ["push", str(RECORDS), "data"],
        ["verify", "linear-attention"],
        ["export", "swa-nano", "exported"],
        ["run", "mqar:8", "--len", "1K", "--samples", "2", "--model", "oracle", "--dry-run"],
        ["compare", "oracle", "constant", "--task", "mqar:8", "--len", "1K", "--samples", "2", "-o", "page.html"],
        ["--print-config", "doctor"],
    ],
    ids=lambda words: "-".join(words[:2]),
)
def test_with_json_stdout_is_plain_data(here, words):
    result = call(*words, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)


def test_doctor_is_data_and_lines():
    from atlas_bench.cli import doctor
    from atlas_bench.kernels import dispatch

    result = call("doctor", "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 0 and doctor.well(found) and found["device"] in ("cpu", "cuda")
    assert {"atlas-bench", "python", "torch", "triton", "transformers", "lm-eval", "numpy"} <= set(found["versions"])
    assert [kernel["op"] for kernel in found["kernels"]] == list(dispatch.OPS)
    lines = list(doctor.lines(found))
    assert max(map(len, lines)) <= 80 and all(any(line.startswith(op) for line in lines) for op in dispatch.OPS)
    broken = found | {"kernels": [found["kernels"][0] | {"well": False}]}
    assert not doctor.well(broken) and "DIFFERS FROM ITS DEFINITION" in " ".join(
        "\n".join(doctor.lines(broken)).split()
    )
    without = found | {"missing": "No module named 'torch'", "kernels": [], "device": None}
    assert not doctor.well(without) and "No module named 'torch'" in "\n".join(doctor.lines(without))


def test_a_dry_run_writes_nothing(here):
    result = call(*QUICK, "--dry-run")
    assert result.exit_code == 0 and "1K" in result.stdout and not list(here.iterdir()), result.output
    assert call("run", "lm-eval:piqa", "--dry-run").stdout == "lm-eval:piqa is not estimated.\n"


@pytest.mark.parametrize("wrong", [("--prompt", "oficial"), ("--block", "0"), ("--checkpoint-every", "0")])
def test_what_is_typed_is_checked_before_models_are_loaded(here, wrong):
    assert wrong[0] in refused(here, "run", "mqar:8", "--len", "1K", "--model", "no-such-model", *wrong)


@pytest.mark.parametrize(("file", "begins"), [("a.md", "#"), ("a.csv", "kind,"), ("a.tex", "%"), ("a.html", "<!")])
def test_a_report_is_written_whole_in_the_form_of_its_suffix(here, file, begins):
    (here / file).write_text("an older one")
    result = call("report", str(RECORDS), "-o", file, "--no-published")
    assert result.exit_code == 0 and not result.stdout and result.stderr.startswith(f"{file}: "), result.output
    assert (here / file).read_text().lower().startswith(begins) and [path.name for path in here.iterdir()] == [file]


def test_a_report_tells_what_it_left_out_and_chooses(here):
    (here / "r.jsonl").write_text(RECORDS.read_text() + '{"torn": "\\u202e')
    result = call("report", "r.jsonl", "--task", "retention:end", "--model", "gated-deltanet-retention-nano", "--json")
    (panel,) = json.loads(result.stdout)["panels"]
    assert panel["subset"] == "end" and [row["model"] for row in panel["rows"]] == ["gated-deltanet-retention-nano"]
    assert "warning: r.jsonl:" in result.stderr and "\u202e" not in result.stderr
    assert call("report", str(RECORDS)).stdout == call("report", str(RECORDS), "--format", "text").stdout


def test_a_report_writes_every_answer_beside_it(here):
    result = call("report", str(RECORDS), "-o", "board.html", "--answers", "answers.html", "--task", "retention:end")
    assert result.exit_code == 0 and not result.stdout, result.output
    assert [line.partition(":")[0] for line in result.stderr.splitlines()] == ["answers.html", "board.html"]
    assert 'href="answers.html#a-' in Path("board.html").read_text(encoding="utf-8")
    assert "retention:along" not in Path("answers.html").read_text(encoding="utf-8")
    assert "% right" in call("report", str(RECORDS), "--answers", "alone.html").stdout and Path("alone.html").exists()
    assert "--answers" in refused(here, "report", str(RECORDS), "--answers", "answers.md")
    assert "Choose another with --answers" in refused(here, "report", str(RECORDS), "--answers", "no/answers.html")
    assert "a file of their own" in refused(here, "report", str(RECORDS), "-o", "a.html", "--answers", "a.html")


def test_changes_are_told_and_made_a_page(here):
    call(*QUICK, "--out", "old")
    call("run", "babilong:qa1", "--len", "1K", "--model", "constant", "--samples", "3", "--out", "new")
    new = here / "new" / "babilong.jsonl"
    new.write_text(new.read_text().replace('"constant"', '"oracle"'))
    result = call("changes", "old", "new", "-o", "page.html")
    assert result.exit_code == 0 and "babilong:qa1" in result.stdout and "page.html: " in result.stderr
    assert (here / "page.html").read_text().lower().startswith("<!doctype html>")


def test_push_makes_both_folders_and_names_the_upload(here):
    call(*QUICK)
    result = call("push", "runs", "data", "--name", "me/records")
    assert result.exit_code == 0 and "hf upload me/records data --repo-type dataset" in result.stdout
    result = call("push", "runs", "evals", "--to", "babilong-evals", "--name", "me/oracle")
    assert result.exit_code == 0 and "evals/me/oracle" in result.stdout and "qa1_1k" in result.stdout, result.output
    assert "warning: " in result.stderr, "generated data is not the leaderboard's"


def test_an_endpoint_that_is_not_there_ends_the_run_and_keeps_what_was_done(here):
    pytest.importorskip("aiohttp")
    result = call(*QUICK, "--model", "openai:http://127.0.0.1:9/v1#q")
    assert result.exit_code == 2 and "error: no server answers at http://127.0.0.1:9/v1" in result.stderr
    records, _ = store.read(here / "runs" / "babilong.jsonl")
    assert [(record.model, record.status) for record in records] == [("oracle", "ok")]
