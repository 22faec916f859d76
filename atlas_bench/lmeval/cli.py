"""lm-eval's own command line, with our models and tasks among its own.

    atlas-bench lm-eval run --model atlas-bench --model_args name=atlas-nano --tasks lambada_openai,wikitext
    atlas-bench lm-eval run --model atlas-bench --model_args name=atlas-nano --tasks atlas_babilong_qa1 \
        --metadata '{"length": "16K", "samples": 100}'
    atlas-bench lm-eval ls tasks

Everything else is lm-eval's: options, files written, tables. lm-eval finds models of others by no entry point
(0.4.13), so ours is registered here, in the process; its built-in ones are registered first, since it looks for
them only where there are none.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def main(args: list[str]) -> int:
    """Run `lm-eval ARGS`; its exit code, 2 for a mistake, which is one message."""
    import lm_eval.models  # noqa: F401 - its own models first
    from lm_eval.__main__ import cli_evaluate
    from lm_eval.api import registry

    from atlas_bench.errors import UserError
    from atlas_bench.lmeval.model import NAME, AtlasLM

    if NAME not in registry.model_registry:
        registry.register_model(NAME)(AtlasLM)
    try:
        with tempfile.TemporaryDirectory() as folder, _tasks_of(Path(folder)), _typed(args):
            cli_evaluate()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (ImportError, ConnectionError) as error:  # what lm-eval's own models need; data sets without a network
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    except SystemExit as stop:  # argparse's
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


@contextmanager
def _tasks_of(folder: Path) -> Iterator[None]:
    """Our tasks before those of the user's --include_path, in every TaskManager that the command makes."""
    from lm_eval import tasks as theirs

    from atlas_bench.lmeval import tasks as ours

    ours.write(folder)
    plain = theirs.TaskManager

    class WithOurs(plain):
        def __init__(self, verbosity: str | None = None, include_path: Any = None, **options: Any) -> None:
            users = include_path if isinstance(include_path, (list, tuple)) else filter(None, [include_path])
            super().__init__(verbosity, [folder, *users], **options)

    theirs.TaskManager = WithOurs
    try:
        yield
    finally:
        theirs.TaskManager = plain


@contextmanager
def _typed(args: list[str]) -> Iterator[None]:
    """sys.argv as if lm-eval had been called: it reads no other."""
    before, sys.argv = sys.argv, ["lm-eval", *args]
    try:
        yield
    finally:
        sys.argv = before
