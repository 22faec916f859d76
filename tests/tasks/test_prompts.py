"""Prompts: bare adds nothing; official is lm-eval's words in BABILong's template, read, not copied."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from atlas_bench.errors import UserError
from atlas_bench.tasks import prompts

needs_lm_eval = pytest.mark.skipif(find_spec("lm_eval") is None, reason="lm-eval is not installed")


def test_bare_adds_nothing_but_a_space() -> None:
    prompt = prompts.load("bare", "qa1")
    assert (prompt.before, prompt.after("Where is {Mary}?")) == ("", " Where is {Mary}?")


def test_unknown_prompt() -> None:
    with pytest.raises(UserError, match=r"unknown prompt 'oficial'\. Did you mean 'official'"):
        prompts.load("oficial", "qa1")


@needs_lm_eval
@pytest.mark.parametrize("subset", [f"qa{i}" for i in range(1, 21)])
def test_official_has_all_parts(subset: str) -> None:
    prompt = prompts.load("official", subset)
    instruction, examples, post_prompt, rest = prompt.before.split("\n\n")
    assert instruction.startswith("I ") and "you need to answer" in instruction.lower()
    assert examples.count("<example>\n") == examples.count("\nAnswer: ") == examples.count("</example>") >= 2
    assert post_prompt.startswith(("Always return", "Your answer")) and "anything else" in post_prompt
    assert rest == "<context>\n"
    assert prompt.after("Why?") == "\n</context>\n\nQuestion: Why?"


@needs_lm_eval
def test_hashes_tell_prompts_apart() -> None:
    hashes = {prompts.load("official", f"qa{i}").hash for i in range(1, 21)}
    assert len(hashes | {prompts.load("bare", "qa1").hash}) == 21
    assert prompts.load("bare", "qa1").hash == prompts.load("bare", "qa2").hash


@needs_lm_eval
def test_lm_eval_is_read_and_not_imported() -> None:
    code = (
        "import sys; from atlas_bench.tasks import prompts; assert prompts.load('official', 'qa1').before;"
        "assert 'lm_eval' not in sys.modules"
    )
    file = Path(prompts.__file__)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=file.parents[2])
    assert done.returncode == 0, done.stderr
    source = file.read_text()
    assert prompts.load("official", "qa1").before[:40] not in source


def test_without_lm_eval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"lm-eval.*not installed.*--prompt bare"):
        prompts._official("qa1")


@needs_lm_eval
def test_without_the_file() -> None:
    with pytest.raises(UserError, match=r"no words for 'qa99'"):
        prompts.load("official", "qa99")
