"""The words around a context: nothing ("bare"), or BABILong's instruction and examples ("official").

    prompt = load("official", "qa1")
    prompt.before                        # "I will give you context ... <context>\n"
    prompt.after("Where is Mary?")       # "\n</context>\n\nQuestion: Where is Mary?"

BABILong's own words are in its file babilong/prompts.py, and not in this package. lm-eval's task files hold nearly
the same ones: they are read at run time, set into BABILong's template, and corrected where the two differ (line
breaks, quotes, single words). `babilong_prompts.json` has the corrections of each task, and the SHA-256 of the text
that they lead to: any other text is refused.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from atlas_bench.errors import UserError, unknown
from atlas_bench.files import text_files

LM_EVAL = "0.4.13"  # whose words the corrections are for
CORRECTIONS = Path(__file__).with_name("babilong_prompts.json")

_EXAMPLE = "<example>\n{input} {question}\nAnswer: {target}\n</example>"
_POST_PROMPT = re.compile(r"\n(?=Always return|Your answer)")  # where a description comes to the answer


@dataclass(frozen=True)
class Prompt:
    """Text before the context, and a template for the text after it that holds {question}.

    separator  what stands between `before` and the context
    """

    name: str
    before: str
    template: str
    separator: str = " "

    @property
    def hash(self) -> str:
        """16 hex digits of sha256: equal hashes mean equal words."""
        parts = [self.before, self.template, *([self.separator] if self.separator != " " else [])]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

    def after(self, question: str) -> str:
        """The text that follows the context and ends where the answer starts."""
        return self.template.replace("{question}", question)


@cache
def load(name: str, subset: str) -> Prompt:
    """The prompt of that name for a bAbI task.

    Raises UserError for an unknown name, and for "official" where lm-eval's files are absent or have other words.
    """
    if name not in PROMPTS:
        raise unknown("prompt", name, PROMPTS)
    return PROMPTS[name](subset)


def _bare(subset: str) -> Prompt:
    return Prompt("bare", "", " {question}")


def _official(subset: str) -> Prompt:
    task = _task_file(subset)
    instruction, *post_prompt = _POST_PROMPT.split(task["description"].strip(), maxsplit=1)
    examples = [_EXAMPLE.format(**example) for example in task["fewshot_config"]["samples"]]
    words = "\n\n".join([instruction, "\n".join(examples), *post_prompt, "<context>\n"])
    return Prompt("official", _corrected(subset, words), "\n</context>\n\nQuestion: {question}", separator="")


PROMPTS = {"bare": _bare, "official": _official}


def _corrected(subset: str, words: str) -> str:
    """BABILong's own text before the context; UserError if lm-eval's words do not lead to it."""
    correction = json.loads(CORRECTIONS.read_text(encoding="utf-8"))[subset]
    for start, deleted, inserted in reversed(correction["edits"]):  # offsets are those of the uncorrected text
        words = words[:start] + inserted + words[start + deleted :]
    if hashlib.sha256(words.encode()).hexdigest() != correction["sha256"]:
        raise _moved_on(subset)
    return words


def _moved_on(subset: str) -> UserError:
    try:
        installed = version("lm-eval")
    except PackageNotFoundError:
        installed = "of an unknown version"
    return UserError(
        f"prompt 'official' of {subset} cannot be made: the task file of lm-eval {installed}, which is installed, has"
        f" other words than that of lm-eval {LM_EVAL}, and BABILong's own prompt does not follow from them."
        f" Install that one (pip install lm-eval=={LM_EVAL}), or use --prompt bare."
    )


def _task_file(subset: str) -> Mapping[str, Any]:
    package = find_spec("lm_eval")  # finds the folder; imports nothing
    roots = package.submodule_search_locations if package else None
    advice = f"Install it (pip install lm-eval=={LM_EVAL}), or use --prompt bare."
    if not roots:
        raise UserError(f"prompt 'official' takes its words from the lm-eval package, which is not installed. {advice}")
    path = Path(roots[0]) / "tasks" / "babilong" / f"babilong_{subset}.yaml"
    try:
        text = text_files.read(path)
    except FileNotFoundError:
        raise UserError(
            f"prompt 'official' has no words for '{subset}': lm-eval has no file {path}. Use --prompt bare."
        ) from None
    return _parse(text)


def _parse(text: str) -> Mapping[str, Any]:
    import yaml  # 20 ms: only where a file is read

    class Loader(yaml.SafeLoader):
        """Reads '!function module.name' as nothing."""

    Loader.add_multi_constructor("!", lambda loader, suffix, node: None)
    return yaml.load(text, Loader)
