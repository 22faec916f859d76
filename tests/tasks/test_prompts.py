"""Prompts: bare adds nothing; official is BABILong's own text to the byte, made from the words of lm-eval's files."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import pytest

from atlas_bench.errors import UserError
from atlas_bench.tasks import prompts
from atlas_bench.types import PromptName

SUBSETS = [f"qa{i}" for i in range(1, 21)]
CORRECTIONS = json.loads(prompts.CORRECTIONS.read_text(encoding="utf-8"))
needs_lm_eval = pytest.mark.skipif(find_spec("lm_eval") is None, reason="lm-eval is not installed")


def test_bare_adds_nothing_but_a_space() -> None:
    prompt = prompts.load("bare", "qa1")
    assert (prompt.before, prompt.after("Where is {Mary}?")) == ("", " Where is {Mary}?")


def test_every_name_has_its_words() -> None:
    assert set(prompts.PROMPTS) == set(get_args(PromptName))


def test_unknown_prompt() -> None:
    with pytest.raises(UserError, match=r"unknown prompt 'oficial'\. Did you mean 'official'"):
        prompts.load("oficial", "qa1")


@needs_lm_eval
@pytest.mark.parametrize("subset", SUBSETS)
def test_official_is_the_benchmarks_own_text(subset: str) -> None:
    prompt = prompts.load("official", subset)
    assert hashlib.sha256(prompt.before.encode()).hexdigest() == CORRECTIONS[subset]["sha256"]
    assert prompt.before.startswith("I ") and "you need to answer" in prompt.before.lower()
    for mark in ("<example>\n", "\nAnswer: ", "</example>"):
        assert prompt.before.count(mark) >= 2
    assert "anything else" in prompt.before and prompt.before.endswith("\n\n<context>\n")
    assert (prompt.separator, prompt.after("Why?")) == ("", "\n</context>\n\nQuestion: Why?")


@needs_lm_eval
@pytest.mark.parametrize("subset", SUBSETS)
def test_a_changed_word_in_lm_evals_file_is_refused(subset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task = prompts._task_file(subset)
    moved = {**task, "description": task["description"].replace(" to ", " for ", 1)}
    assert moved != task
    monkeypatch.setattr(prompts, "_task_file", lambda subset: moved)
    monkeypatch.setattr(prompts, "version", lambda name: "0.4.99")
    with pytest.raises(UserError, match=re.escape(subset)) as refused:
        prompts._official(subset)
    for said in ("lm-eval 0.4.99", f"lm-eval {prompts.LM_EVAL}", "pip install lm-eval==", "--prompt bare"):
        assert said in str(refused.value)


@needs_lm_eval
def test_lm_eval_without_a_version_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> str:
        raise PackageNotFoundError

    task = prompts._task_file("qa1")
    monkeypatch.setattr(prompts, "_task_file", lambda subset: {**task, "description": "Say something."})
    monkeypatch.setattr(prompts, "version", unknown)
    with pytest.raises(UserError, match="an unknown version"):
        prompts._official("qa1")


def test_corrections_are_of_all_tasks_and_in_order() -> None:
    assert list(CORRECTIONS) == SUBSETS
    for correction in CORRECTIONS.values():
        ends = [0, *(start + deleted for start, deleted, _ in correction["edits"])]
        assert all(start >= end for end, (start, *_) in zip(ends, correction["edits"], strict=False))


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
