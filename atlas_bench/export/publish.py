"""`atlas-bench push`: a folder to publish, and the command that would upload it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from atlas_bench.export import babilong
from atlas_bench.results import store
from atlas_bench.results.record import Warn


def write(paths: store.Paths, folder: Path, *, to: str, name: str | None, warn: Warn) -> dict[str, Any]:
    """Write the records as a Hugging Face dataset (to="dataset"), or as BABILong's results; nothing is uploaded.

    name  of the repository on the hub, or of the model for BABILong; None: a placeholder

    Returns {"files": [..], "upload": the command, None where nothing in the folder compares with the leaderboard}.
    """
    records = store.scan(paths, warn)
    if to == "dataset":
        from atlas_bench.export import dataset  # needs pyarrow

        files, repository, more = dataset.write(records, folder), name or "ORG/NAME", []
    else:
        files = babilong.write(records, folder, name=name, warn=warn)
        repository, more = "RMT-team/babilong_evals", ["--create-pr"]
    fit = to == "dataset" or babilong.comparable(files)
    upload = shlex.join(["hf", "upload", repository, str(folder), "--repo-type", "dataset", *more])
    return {"files": [str(file) for file in files], "upload": upload if fit else None}


def lines(found: dict[str, Any]) -> Iterator[str]:
    """The files, and how to upload them."""
    yield from found["files"]
    if found["upload"]:
        yield f"To upload it: {found['upload']}"
