"""What a shell completes: names of tasks with their subsets, models, memories, sizes and scorers.

complete("niah,babilong:", "tasks")     # ['niah,babilong:qa1', 'niah,babilong:qa2', ..]
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from io import StringIO
from typing import Any

from atlas_bench import registry
from atlas_bench.running import listing


def complete(incomplete: str, *kinds: str) -> list[str]:
    """Names of those kinds, for a shell; of a task its subsets after its colon, the next one after a comma."""
    if kinds == ("tasks",) and "," in incomplete:
        before, comma, last = incomplete.rpartition(",")
        return [f"{before}{comma}{name}" for name in complete(last, *kinds)]
    name, colon, _ = incomplete.partition(":")
    if "tasks" in kinds and colon and name in registry.TASKS:
        return [f"{name}:{subset}" for subset in registry.task(name).subsets]
    names = {
        "kinds": lambda: listing.KINDS,
        "tasks": lambda: registry.TASKS,
        "models": listing.models,
        "memories": lambda: registry.MEMORIES,
        "sizes": listing.sizes,
        "scorers": registry.scorers,
    }
    return [name for kind in kinds for name in names[kind]()]


def complete_in_bash(app: Callable[[], Any]) -> None:
    """The app's completion for bash, which takes 'babilong:qa1' for three words and wants the end of the last.

    The app completes one word; we keep what follows the last colon.
    """
    words: list[str] = []
    for word in os.environ["COMP_WORDS"].split("\n")[: int(os.environ["COMP_CWORD"]) + 1]:
        if words and (word == ":" or words[-1].endswith(":")):
            words[-1] += word
        else:
            words.append(word)
    os.environ |= {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
    with redirect_stdout(StringIO()) as output, suppress(SystemExit):
        app()
    before = words[-1][: words[-1].rfind(":") + 1]
    print("\n".join(line.removeprefix(before) for line in output.getvalue().splitlines()))
