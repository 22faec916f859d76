"""constraints.txt: one version of everything that pyproject.toml asks for, within the bounds that it gives."""

from __future__ import annotations

import tomllib
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


def locked() -> dict[str, list[Requirement]]:
    """Name -> its pins, one for each range of Pythons or platforms."""
    pins: dict[str, list[Requirement]] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            pin = Requirement(line)
            pins.setdefault(pin.name.lower().replace("_", "-"), []).append(pin)
    return pins


def test_everything_is_pinned_to_one_version_within_its_bounds():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = locked()
    assert all(str(pin.specifier).startswith("==") for pin in chain(*pins.values()))
    for text in [*project["dependencies"], *chain(*project["optional-dependencies"].values())]:
        wanted = Requirement(text)
        if wanted.name == "atlas-bench":
            continue
        found = pins.get(wanted.name.lower().replace("_", "-"), [])
        versions = [str(pin.specifier).removeprefix("==") for pin in found]
        assert versions and all(wanted.specifier.contains(version) for version in versions), (
            f"constraints.txt has {versions or 'no version'} for '{text}' of pyproject.toml. Type: make lock"
        )


def test_torch_is_the_same_for_the_lock_and_for_those_who_make_it():
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]
    assert [str(pin) for pin in locked()["torch"]] == tool["constraint-dependencies"][:1]
