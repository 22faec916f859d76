"""Tiny tensors on few cores: one thread is fastest, and many would fight over the machine.

Triton kernels run in Triton's interpreter, on the CPU; it must be asked for before Triton is imported. What tests
tokenise is kept from run to run, apart from the user's own cache. No test asks the hub for anything, on a machine with
a network too: what it would fetch fails at once.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.records import failed, make  # noqa: F401 fixtures of many

# A job in the background begins with Ctrl-C ignored, and so do its children: those that tests interrupt would not end.
signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("TRITON_INTERPRET", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("ATLAS_BENCH_CACHE", str(Path(__file__).parents[1] / ".pytest_cache" / "atlas-bench"))
settings.register_profile("tests", deadline=None)  # another worker may have the processor meanwhile
settings.load_profile("tests")

# environment variables that the program and its tests read
READ = ("ATLAS_BENCH_", "HF_DATASETS_OFFLINE", "HF_HOME", "HF_HUB_OFFLINE", "OMP_NUM_THREADS", "OPENAI_", "TRITON_")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """Fails a test that changes the process for those after it: they must pass alone, together and in any order."""
    before = process_state()
    yield
    after = process_state()
    changed = {name: (value, after[name]) for name, value in before.items() if after[name] != value}
    assert not changed, f"this test leaves the process changed, (before, after): {changed}"


def process_state() -> dict[str, Any]:
    """What one test can leave to the next; a library that is not imported yet has nothing to leave."""
    state: dict[str, Any] = {
        "environment": {name: value for name, value in os.environ.items() if name.startswith(READ)},
        "working directory": os.getcwd(),
        "foreign corpora": foreign_corpora(),
    }
    if torch := sys.modules.get("torch"):
        state["torch's precision"] = torch.get_float32_matmul_precision()
        state["torch's determinism"] = torch.are_deterministic_algorithms_enabled()
        state["torch's gradients"] = torch.is_grad_enabled()
        state["torch's dtype"] = torch.get_default_dtype()
        state["torch's threads"] = torch.get_num_threads()
    if hub := sys.modules.get("huggingface_hub.constants"):
        state["hub"] = hub.HF_HUB_OFFLINE, hub.HF_HUB_CACHE
    return state


def foreign_corpora() -> list[str]:
    """Corpora in a test's own cache that the registry's tasks remember: later samples would be made of them."""
    from atlas_bench import registry
    from atlas_bench.tasks.corpora import Corpus
    from atlas_bench.tasks.token_file import cache_folder

    def opened(x: Any) -> Iterator[Corpus]:
        if isinstance(x, Corpus):
            yield x
        elif isinstance(x, dict):
            for value in x.values():
                yield from opened(value)
        elif type(x).__module__.startswith("atlas_bench.tasks"):
            yield from opened(getattr(x, "__dict__", None))

    places = (path.split(":") for path in registry.TASKS.values())
    tasks = [getattr(sys.modules.get(module), name, None) for module, name in places]
    return sorted({corpus.name for corpus in opened(dict(enumerate(tasks))) if corpus._cache != cache_folder()})
