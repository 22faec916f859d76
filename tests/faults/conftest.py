"""`make test-faults`: marks the tests of this folder, and prints what was injected and what survived it.

A test injects faults through the fixture `inject`; they have survived where the test passes, that is where the
program ended with the records of a run that nothing went wrong in, none lost and none doubled.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.faults import program

INJECTED, SURVIVED = pytest.StashKey[Counter](), pytest.StashKey[Counter]()


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.faults)


def pytest_configure(config):
    config.stash[INJECTED], config.stash[SURVIVED] = Counter(), Counter()


@pytest.fixture
def inject(request):
    """inject("kill -9") counts a fault, of this test."""
    own = request.node.stash.setdefault(INJECTED, Counter())

    def count(kind: str, n: int = 1) -> None:
        own[kind] += n

    return count


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == "call" and (own := item.stash.get(INJECTED, None)):
        item.config.stash[INJECTED].update(own)
        if report.passed:
            item.config.stash[SURVIVED].update(own)
    return report


def pytest_terminal_summary(terminalreporter, config):
    injected, survived = config.stash[INJECTED], config.stash[SURVIVED]
    if not injected:
        return
    terminalreporter.section("faults")
    for kind, n in sorted(injected.items()):
        terminalreporter.write_line(f"{kind:<52}{n:>5} injected{survived[kind]:>6} survived")
    terminalreporter.write_line(
        f"{'all':<52}{injected.total():>5} injected{survived.total():>6} survived; of {program.COUNTS['cells']} cells "
        f"{program.COUNTS['lost']} lost, {program.COUNTS['doubled']} doubled"
    )
