"""A model of the user's own file: 'py:my_model.py:WHAT' executes the file and calls its load(WHAT).

Only for what the user has typed: the file runs. What load() gives is any object that models/adapted.py takes.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import Any

from atlas_bench.errors import UserError
from atlas_bench.files import user_file
from atlas_bench.files.home import expanded
from atlas_bench.models.adapted import as_model
from atlas_bench.types import Model

SPEC = re.compile(r"py:(?P<file>.+?\.py(?:@[0-9a-f]+)?)(?::(?P<what>.+))?", re.DOTALL)
MEGABYTE = 1 << 20


def parse(spec: str) -> tuple[str, str | None]:
    """(file, what stands behind it or None); UserError for a spec of another form, and for a file that is not there."""
    found = SPEC.fullmatch(spec)
    if not found:
        raise UserError(f"'{spec}' names no Python file. Write py:FILE.py:FOLDER, or py:FILE.py.")
    path = expanded(found["file"].partition("@")[0])
    if not os.path.isfile(path):
        raise UserError(f"model file '{path}' is not there. Check the path.")
    return found["file"], found["what"]


def load(spec: str, **machine: Any) -> Model:
    """The model that the file's load() gives; its records name the file's version and the weights that it was given.

    machine  threads, device and matmul_precision: threads are set here, the others are the file's own affair

    Raises UserError for a file that does not run, has no load(), or gives no model.
    """
    file, what = parse(spec)
    if machine.get("threads"):
        import torch

        torch.set_num_threads(machine["threads"])
    name, module, _ = user_file.execute(file, "model")
    loader = getattr(module, "load", None)
    if not callable(loader):
        raise UserError(
            f"model file '{file}' has no function load(). It gives the model: def load(folder), or def load() where "
            "nothing stands behind the file."
        )
    try:
        model = as_model(loader() if what is None else loader(what), name=name)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"model '{spec}' cannot be loaded: {user_file.describe_error(error, file)}. Correct it."
        ) from None
    model.name = f"py:{name}" + (f":{what}" if what is not None else "")
    facts, version = model.facts(), f"{name} {_digest(what)}"
    if facts.get("weights_hash") is None:  # else two trainings of one file would be one model to the records
        facts = {"weights_hash": hashlib.sha256(version.encode()).hexdigest()[:16]}
        original = model.facts
        model.facts = lambda: {**original(), **facts}  # type: ignore[method-assign]
    return model


def _digest(what: str | None) -> str:
    """A hash of the safetensors files that lie in or at a path; of the words themselves where there are none."""
    path = expanded(what or "")
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors")) if what else []
    total = hashlib.sha256((what or "").encode() if not files else b"")
    for file in files:
        with file.open("rb") as opened:
            while part := opened.read(MEGABYTE):
                total.update(part)
    return total.hexdigest()
