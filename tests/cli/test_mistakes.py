"""Twenty plausible mistakes at the command line, and for each what the one message says to type.

The whole table runs in one process, so that it also shows that none of them waits for torch.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MISTAKES = {  # what is typed -> what the message tells to type
    "run mqar:8 --config c.toml": "--config stands before the command: `",
    "run babilon": "Did you mean 'babilong'?",
    "run babilong:qa21": "Did you mean 'qa2'?",
    "run babilong niah": "babilong,niah",
    "run babilong --len 4K, 8K": "4K,8K",
    "run babilong --len 4K 8K": "--len 4K,8K",
    "run babilong --len 10Q": "Write 512, 16K",
    "run babilong --len 1K..100K": "Write 1K..64K,100K.",
    "run babilong --len 4K --len 8K": "--len L[,L..]",
    "run babilong --sampels 5": "--samples",
    "run babilong --samples many": "Write 100, or 1K=500,10M=20.",
    "run babilong --model Qwen/Qwen2.5-0.5B": "hf:Qwen/Qwen2.5-0.5B",
    "run babilong --model https://huggingface.co/Qwen/Qwen2.5-0.5B": "hf:Qwen/Qwen2.5-0.5B",
    "run babilong --model ./nothere": "there is no such folder. Did you mean 'nowhere'?",
    "run babilong --model hf:./nothere": "no folder './nothere'",
    "run babilong --model ./nowhere": "hf:./nowhere",
    "run babilong --model ./my_memory.py": "atlas-bench train --memory ./my_memory.py --out MODEL",
    "run babilong --model titans": "Did you mean 'titans-nano'?",
    "run babilong --model titans:chunk_size=16": "atlas-bench compare gated-deltanet titans:chunk_size=16",
    "run babilong --model atlas-nano,swa-nan": "Did you mean 'swa-nano'?",
    "run babilong --model hf:gpt2,swa-nan": "Did you mean 'swa-nano'?",
    "run babilong --model http://localhost:8000": "'openai:http://localhost:8000/v1#MODEL'",
    "run babilong --model openai:http://localhost:8000/v1": "openai:http://localhost:8000/v1#MODEL",
    "run babilong --model openai:localhost#qwen": "openai:http://localhost:8000/v1#MODEL",
    "run babilong --model a=oracle --model a=constant": "Give each its own.",
    "probe openai:http://localhost:9/v1#m": "--len 1K,4K,16K --model openai:http://localhost:9/v1#m",
    "probe atlas-nan": "Did you mean 'atlas-nano'?",
    "train --memory titan --out m": "Did you mean 'titans'?",
    "compare ttt-mlp titans --task mqar:8 --len 1K": "--train 20M",
    "report nothere": "no results at 'nothere'",
    "describe gated-deltanet:printd=true": "Did you mean 'printed'?",
    "describe atlas-nan": "Did you mean 'atlas-nano'?",
    "rum babilong": "Did you mean 'run'?",
}
PROGRAM = """
import json, os, sys
from typer.testing import CliRunner
from atlas_bench.cli.app import app
os.makedirs("nowhere"); open("nowhere/config.json", "w").close()
before, said = sorted(os.listdir(".")), {}
for typed in json.load(sys.stdin):
    result = CliRunner().invoke(app, typed.split())
    said[typed] = [result.exit_code, result.stdout, result.stderr, "torch" in sys.modules]
assert sorted(os.listdir(".")) == before
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], input=json.dumps(list(MISTAKES)), text=True, capture_output=True,
        cwd=tmp_path_factory.mktemp("here"), env={"PYTHONPATH": str(ROOT), "COLUMNS": "80", "HOME": "/nonexistent"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("typed", MISTAKES)
def test_a_mistake_is_one_message_that_names_what_to_type(told, typed):
    code, out, error, torch = told[typed]
    assert code == 2 and not out and error.startswith("error: ") and error.count("\n") == 1, (code, out, error)
    assert MISTAKES[typed] in error, error
    assert not torch or not typed.startswith(("run ", "probe "))


def test_there_are_twenty_of_run_alone():
    assert sum(typed.startswith("run ") for typed in MISTAKES) >= 20
