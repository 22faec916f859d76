"""Values of options: command line before variable before file before default, and what --print-config says of them."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.main import get_command
from typer.testing import CliRunner

from atlas_bench.cli import found_file, renamed
from atlas_bench.cli.app import app
from atlas_bench.cli.commands import Command
from atlas_bench.cli.config import FILE
from atlas_bench.cli.origins import key_of, line_of
from atlas_bench.results import store

EXAMPLE = Path(__file__).parents[2] / "examples" / FILE
COMMANDS = (
    *("run", "report", "show", "score", "merge", "compare", "probe", "changes", "train"),
    *("verify", "list", "describe", "doctor", "push", "export"),
)
QUICK = ("run", "mqar:8", "--len", "1K", "--model", "oracle", "--quiet")


def call(*words: str, **variables: str):
    return CliRunner().invoke(app, list(words), env=variables)


def values(*words: str, **variables: str) -> dict[str, tuple[object, str]]:
    """Option -> (value, origin) of `run`."""
    result = call("run", "--json", "--print-config", *words, **variables)
    assert result.exit_code == 0, result.output
    return {name: (each["value"], each["origin"]) for name, each in json.loads(result.stdout)["values"].items()}


def refused(*words: str, **variables: str) -> str:
    result = call(*words, **variables)
    assert result.exit_code == 2 and not result.stdout and result.stderr.count("\n") == 1, result.output
    return result.stderr


@pytest.mark.parametrize("typed", [None, "4"])
@pytest.mark.parametrize("variable", [None, "3"])
@pytest.mark.parametrize("written", [None, 2])
def test_what_is_nearer_to_the_command_holds(here, typed, variable, written):
    if written:
        (here / FILE).write_text(f"# a comment\n[report]\n[run]\nsamples = {written}\n")
    found = values(
        *(["--samples", typed] if typed else []), **({"ATLAS_BENCH_RUN_SAMPLES": variable} if variable else {})
    )
    origins = {"4": "command line", "3": "ATLAS_BENCH_RUN_SAMPLES", "2": f"{FILE}:4", "None": "default"}
    winner = typed or variable or written
    assert found["samples"] == (winner and int(winner), origins[str(winner)])


def test_a_file_and_variables_reach_the_run_and_its_command(here):
    (here / FILE).write_text('[run]\ntask = "mqar:8"\nlen = "1K"\nmodel = "oracle"\nquiet = true\ndebug = false\n')
    result = call("run", "--json", ATLAS_BENCH_RUN_SAMPLES="2", ATLAS_BENCH_RUN_SEED="3 4")
    assert result.exit_code == 0 and not result.stderr, result.output
    records, _ = store.read(here / "runs" / "mqar.jsonl")
    assert [(r.model, r.samples, r.seed) for r in records] == [("oracle", 2, 3), ("oracle", 2, 4)]
    assert records[0].command.endswith(" mqar:8 --len 1K --model oracle --samples 2 --seed 3 --seed 4 --quiet")


def test_a_dash_may_be_an_underscore_and_one_value_a_list(here):
    (here / FILE).write_text('[run]\ncheckpoint_every = "2M"\nnum-fewshot = 3\nseed = 7\n"len" = 4096\n')
    found = values()
    assert found["checkpoint-every"] == ("2M", f"{FILE}:2") and found["num-fewshot"] == (3, f"{FILE}:3")
    assert found["seed"] == ([7], f"{FILE}:4") and found["len"] == ("4096", f"{FILE}:5")


@pytest.mark.parametrize(
    ("text", "words", "variables", "origin"),
    [
        ("", ["--products", "fp32"], {}, "command line"),
        ("", ["--products=fp32"], {}, "command line"),
        ("", [], {"ATLAS_BENCH_RUN_PRODUCTS": "fp32"}, "ATLAS_BENCH_RUN_PRODUCTS"),
        ('[run]\nproducts = "fp32"\n', [], {}, f"{FILE}:2"),
    ],
)
def test_an_option_s_last_name_goes_on_working_with_a_note(here, text, words, variables, origin):
    if text:
        (here / FILE).write_text(text)
    assert values(*words, **variables)["matmul-precision"] == ("fp32", origin)
    result = call("run", "--print-config", *words, **variables)
    assert (
        result.stderr == "note: --products is called --matmul-precision now; the old name goes with the next version.\n"
    )


def test_what_was_renamed_was_an_option():
    assert set(renamed.RENAMED.values()) <= set(KEYS) and not set(renamed.RENAMED) & set(KEYS)


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        ("[run]\n\nsampels = 3\n", ["list"], [f"{FILE}:3", "[run] sampels", "Did you mean 'samples'?"]),
        ("[rum]\nsamples = 3\n", ["list"], [FILE, "'[rum]'", "Did you mean '[run]'?"]),
        ("samples = 3\n", ["list"], [FILE, "'samples'", "[run]"]),
        ("[run\n", ["list"], [FILE, "is not TOML", "line 1"]),
        ('[run]\nlen = ["1K", "2K"]\n', ["list"], [f"{FILE}:2", "len", "one value"]),
        ("[run.samples]\nx = 1\n", ["list"], [FILE, "samples", "one value"]),
        ('[run]\nsamples = "many"\n', QUICK, ["--samples", '"many"', f"{FILE}:2", "whole number"]),
        ("[run]\nsamples = 2.5\n", QUICK, ["--samples", '"2.5"', f"{FILE}:2", "whole number"]),
        ("[run]\nsamples = true\n", QUICK, ["--samples", '"true"', f"{FILE}:2", "whole number"]),
        ("[run]\nsamples = 0\n", QUICK, ["--samples", '"0"', f"{FILE}:2", "1"]),
        ('[run]\ndebug = "maybe"\n', QUICK, ["--debug", '"maybe"', f"{FILE}:2"]),
        ('[run]\ndevice = "gpu"\n', QUICK, ["--device", '"gpu"', f"{FILE}:2", "'cuda'"]),
    ],
)
def test_a_mistake_in_the_file_names_file_and_key(here, text, words, said):
    (here / FILE).write_text(text)
    message = refused(*words)
    assert all(part in message for part in said), message


def test_other_mistakes_are_told(here):
    assert "'none.toml' cannot be read" in refused("--config", "none.toml", "list")
    assert "Did you mean 'ATLAS_BENCH_RUN_SAMPLES'" in refused("list", ATLAS_BENCH_RUN_SAMPELS="3")
    message = refused(*QUICK, ATLAS_BENCH_RUN_SAMPLES="many")
    assert '--samples "many" (ATLAS_BENCH_RUN_SAMPLES)' in message and "no whole number" in message
    assert "has no values to print" in refused("--print-config", "lm-eval")
    (here / FILE).write_bytes(b"\xff\xfe")
    assert f"'{FILE}' is not UTF-8 text (byte 0xff at offset 0)" in refused("list")
    (here / FILE).write_text("[run]\nsamples = \n")
    assert "is not TOML" in refused("list")


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ("run", 'code = ["evil.py"]'),
        ("run", 'task = "niah,./evil.py:one"'),
        ("run", 'task = "evil.py@1f2e3d4c"'),
        ("run", 'task = "mqar:8.py"'),
        ("run", 'task = "lm-eval:piqa"'),
        ("run", 'model = "openai:http://evil.example/v1#m"'),
        ("run", 'model = ["oracle", "hf:a/b:trust_remote_code=true"]'),
        ("run", 'model = ["oracle", "a-folder"]'),
        ("run", 'out = "../.bashrc"'),
        ("run", 'out = "runs"'),
        ("run", 'data = "/etc"'),
        ("run", 'background = "~"'),
        ("report", 'out = "../.bashrc"'),
        ("report", 'paths = ["/etc"]'),
        ("compare", 'page = "../x.html"'),
        ("compare", 'candidates = ["titans", "./evil.py"]'),
        ("train", 'memory = "./evil.py"'),
        ("train", 'memory = "atlas:degree=1"'),
        ("train", 'hold-out = ["../x"]'),
        ("push", 'name = "evil/records"'),
        ("export", 'folder = "../x"'),
    ],
)
def test_a_file_that_only_lies_there_sets_nothing_that_could_do_harm(here, table, line):
    (here / FILE).write_text(f"[{table}]\n{line}\n")
    message = refused("list")
    assert f"{FILE}:2: [{table}] {line.partition(' ')[0]}" in message and f"--config {FILE}" in message
    assert call("--config", FILE, "--print-config", table).exit_code == 0
    assert call("--print-config", table, ATLAS_BENCH_CONFIG=FILE).exit_code == 0


KEYS = sorted({key_of(p) for c in get_command(app).commands.values() if isinstance(c, Command) for p in c.params})


@given(
    key=st.sampled_from(KEYS),
    value=st.one_of(
        st.sampled_from(["../x", "/etc/passwd", "~/x", "a/b", "x.py", "x.yaml", "hf:a/b", "openai:http://h/v1#m", "."]),
        st.text("abc./:~\\@#=", min_size=1).filter(lambda text: set(text) & set("/\\~@#=")),
    ),
)
def test_no_path_address_or_code_is_harmless(key, value):
    assert not found_file.is_harmless(key, value) and not found_file.is_harmless(key, ["8", value])


def test_amounts_switches_and_names_of_ours_are_harmless(here):
    (here / FILE).write_text(
        '[run]\ntask = "babilong:qa1,mqar"\nlen = "1K..16K,64K"\nmodel = ["atlas-nano", "oracle"]\nsamples = 8\n'
        'seed = [0, 1]\ndata = "hub-1k"\nbackground = "pg19"\nquiet = true\ntimeout = 2.5\nproducts = "fp32"\n'
        '[compare]\ncandidates = ["titans", "swa", "atlas-nano"]\ntrain = "20M"\n[train]\nmemory = "atlas++"\n'
    )
    assert call("list", "tasks").exit_code == 0


def test_an_empty_value_is_told(here):
    assert refused(*QUICK, "--out", "") == 'error: --out "" is empty. Give it a value.\n'
    assert '--model "" is empty' in refused("run", "mqar:8", "--len", "1K", "--model", "")
    assert "is empty" in refused("report", "")
    (here / "mine.toml").write_text('[run]\nout = ""\n')
    assert 'mine.toml:2: [run] out is empty ("")' in refused("--config", "mine.toml", "list")
    assert not list(here.glob("*.jsonl"))


def test_no_secret_in_an_address_is_printed(here):
    spec = "openai:https://me:hunter2@host/v1?key=hunter3#m"
    (here / "mine.toml").write_text(f'[run]\nmodel = ["{spec}"]\n')
    for words in (("--model", spec), ("--json", "--model", spec)):
        said = call("run", "--print-config", *words).output
        assert "hunter" not in said and "https://[hidden]@host/v1?[hidden]#m" in said
    assert "hunter" not in call("--config", "mine.toml", "--print-config", "run").output
    for wrong in (spec, spec.replace("openai", "opnai"), f"./{spec}"):
        assert "hunter" not in refused("run", "mqar:8", "--len", "1K", "--model", wrong)
    assert "hunter" not in refused(*QUICK, "--data", "https://me:hunter2@host/x")


@pytest.mark.parametrize("command", COMMANDS)
def test_print_config_runs_nothing_and_asks_for_nothing(here, command):
    result = call("--print-config", command)
    assert result.exit_code == 0 and not list(here.iterdir()), result.output
    assert set(tomllib.loads(result.stdout)) == {command} and "# cache: " in result.stdout
    assert call(command, "--print-config").stdout == result.stdout


def test_the_example_is_a_configuration(here):
    said = tomllib.loads(EXAMPLE.read_text())
    for command, keys in said.items():
        result = call("--config", str(EXAMPLE), "--print-config", command)
        found = tomllib.loads(result.stdout)[command]
        assert {key: found[key] for key in keys} == keys
        assert all(f"{EXAMPLE}:{line_of(EXAMPLE, command, key)}" in result.stdout for key in keys)


text = st.text(min_size=1, max_size=12).filter(lambda said: "\x00" not in said)


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=text, models=st.lists(text, max_size=3), samples=st.integers(1, 10**9), quiet=st.booleans())
def test_what_is_printed_is_a_file_with_the_same_values(here, data, models, samples, quiet):
    (here / FILE).unlink(missing_ok=True)
    words = [f"--data={data}", *(f"--model={model}" for model in models), f"--samples={samples}", *["-q"] * quiet]
    typed, printed = values(*words), call("--print-config", "run", *words).stdout
    assert all(c.isprintable() or c == "\n" for c in printed)
    (here / "again.toml").write_text(printed, encoding="utf-8")
    result = call("--config", "again.toml", "run", "--json", "--print-config")
    assert result.exit_code == 0, result.output
    again = json.loads(result.stdout)["values"]
    assert all(again[name]["value"] == value for name, (value, _) in typed.items())
