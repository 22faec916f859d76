"""The words around a context: nothing ("bare"), or BABILong's instruction and examples ("official").

    prompt = load("official", "qa1")
    prompt.before                        # "I will give you context ... <context>\n"
    prompt.after("Where is Mary?")       # "\n</context>\n\nQuestion: Where is Mary?"

The official words are read at run time from the task files of the installed lm-eval package, whose texts
these are, and set into BABILong's own template; lm-eval itself puts the same words together in another way.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from atlas_bench.errors import UserError, unknown

_EXAMPLE = "<example>\n{input} {question}\nAnswer: {target}\n</example>"
_POST_PROMPT = re.compile(r"\n(?=Always return|Your answer)")  # where a description comes to the answer


@dataclass(frozen=True)
class Prompt:
    """Text before the context, and a template for the text after it that holds {question}."""

    name: str
    before: str
    template: str

    @property
    def hash(self) -> str:
        """16 hex digits of sha256: equal hashes mean equal words."""
        return hashlib.sha256(f"{self.before}\0{self.template}".encode()).hexdigest()[:16]

    def after(self, question: str) -> str:
        """The text that follows the context and ends where the answer starts."""
        return self.template.replace("{question}", question)


@cache
def load(name: str, subset: str) -> Prompt:
    """The prompt of that name for a bAbI task; UserError for an unknown name or without lm-eval's files."""
    if name not in PROMPTS:
        raise unknown("prompt", name, PROMPTS)
    return PROMPTS[name](subset)


def _bare(subset: str) -> Prompt:
    return Prompt("bare", "", " {question}")


def _official(subset: str) -> Prompt:
    task = _task_file(subset)
    instruction, *post_prompt = _POST_PROMPT.split(task["description"].strip(), maxsplit=1)
    examples = [_EXAMPLE.format(**example) for example in task["fewshot_config"]["samples"]]
    before = "\n\n".join([instruction, "\n".join(examples), *post_prompt, "<context>\n"])
    return Prompt("official", before, "\n</context>\n\nQuestion: {question}")


PROMPTS = {"bare": _bare, "official": _official}


def _task_file(subset: str) -> dict[str, Any]:
    package = find_spec("lm_eval")  # finds the folder; imports nothing
    roots = package.submodule_search_locations if package else None
    advice = "Install it (pip install lm-eval), or use --prompt bare."
    if not roots:
        raise UserError(f"prompt 'official' takes its words from the lm-eval package, which is not installed. {advice}")
    path = Path(roots[0]) / "tasks" / "babilong" / f"babilong_{subset}.yaml"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(
            f"prompt 'official' has no words for '{subset}': lm-eval has no file {path}. Use --prompt bare."
        ) from None
    return _parse(text)


def _parse(text: str) -> dict[str, Any]:
    import yaml  # 20 ms: only where a file is read

    class Loader(yaml.SafeLoader):
        """Reads '!function module.name' as nothing."""

    Loader.add_multi_constructor("!", lambda loader, suffix, node: None)
    return yaml.load(text, Loader)
