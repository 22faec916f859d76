"""The names there are of tasks, models, memories and sizes, each with one line on it; no torch is needed.

listing("memories")["titans"]           # 'Neural long-term memory of Titans (arXiv 2501.00663)'
"""

from __future__ import annotations

import ast
import re
from importlib.util import find_spec
from pathlib import Path

from atlas_bench import registry
from atlas_bench.errors import unknown

KINDS = ("tasks", "models", "memories", "sizes")


def listing(kind: str) -> dict[str, str]:
    """Name -> one line of what it is, of all tasks, models, memories or sizes; UserError for another kind."""
    if kind == "tasks":
        return {name: _first_sentence(registry.task(name).describe()) for name in registry.TASKS}
    if kind == "memories":
        return {name: _first_sentence(docs(where)[-1]) for name, where in registry.MEMORIES.items()}
    if kind == "models":
        return {name: _model(name) for name in models()}
    if kind == "sizes":
        from atlas_bench.models.sizes import line

        return {name: line(name) for name in sizes()}
    raise unknown("kind", kind, KINDS)


def models() -> list[str]:
    """Names of the controls and the embedded models."""
    from atlas_bench.models import specs

    return specs.names()


def sizes() -> list[str]:
    """Names of the published sizes."""
    from atlas_bench.models.sizes import SIZES

    return list(SIZES)


def _model(name: str) -> str:
    from atlas_bench.models import loading

    if name in registry.MODELS:
        return _first_sentence(docs(registry.MODELS[name])[-1])
    about = loading.card(name)
    memory, window = about["config"]["memory"], about["config"].get("attention_window")
    kind = "attention alone" if memory == "none" else memory
    seen = f"window {window}" if window else "no window"
    return f"{kind}, {seen}; trained on {', '.join(sorted(loading.taught(about)))}"


def docs(where: str | None) -> tuple[str, str]:
    """The docstrings of a module and of a class in it, read from the source: torch need not be there."""
    if where is None:
        return ("No memory: attention alone.",) * 2
    module, _, name = where.partition(":")
    tree = ast.parse(Path(find_spec(module).origin).read_text(encoding="utf-8"))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    of_module, of_class = ast.get_docstring(tree) or "", ast.get_docstring(classes[name]) if name in classes else ""
    return of_module or of_class or "", of_class or of_module


def _first_sentence(text: str) -> str:
    """The first sentence of the first paragraph, without its full stop."""
    paragraph = " ".join(text.split("\n\n")[0].split())
    return re.split(r"(?<=[\w)])\.(?:\s(?=[A-Z])|$)", paragraph, maxsplit=1)[0]
