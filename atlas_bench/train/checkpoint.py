"""A training run on disk: weights, optimiser state and progress in one file, replaced atomically."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from atlas_bench.errors import UserError
from atlas_bench.models.decoder import Config
from atlas_bench.train.recipe import Progress, Recipe

FILE = "checkpoint.safetensors"


def save(out: Path, model, average, optimizers, config: Config, recipe: Recipe, progress: Progress) -> None:
    """Writes weights, their average, optimiser state and progress as one file, atomically."""
    tensors = {f"model.{name}": x for name, x in model.state_dict().items()}
    tensors |= {f"average.{name}": x for name, x in average.state_dict().items()}
    for i, optimizer in enumerate(optimizers):
        for j, entry in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{j}.{name}": torch.as_tensor(x) for name, x in entry.items()}
    meta = {"config": config.to_dict(), "recipe": asdict(recipe), "progress": asdict(progress)}
    new = out / "checkpoint.tmp"
    save_file({k: x.contiguous().clone() for k, x in tensors.items()}, new, {"meta": json.dumps(meta)})
    new.replace(out / FILE)


def restore(out: Path, model, average, optimizers, config: Config, recipe: Recipe) -> Progress:
    """Loads what save() wrote; a checkpoint of another run is an error."""
    path = out / FILE
    with safe_open(path, "pt") as file:
        meta = json.loads(file.metadata()["meta"])
    wanted = json.loads(json.dumps({"config": config.to_dict(), "recipe": asdict(recipe)}))
    for part in ("config", "recipe"):
        different = [k for k in wanted[part] if meta[part].get(k) != wanted[part][k]]
        if different:
            raise UserError(
                f"checkpoint {path} is of another run: {part} differs in {', '.join(different)}."
                f" Train into an empty folder, or give the same options to go on."
            )
    tensors = load_file(path)
    for part, module in (("model.", model), ("average.", average)):
        module.load_state_dict({k.removeprefix(part): x for k, x in tensors.items() if k.startswith(part)})
    for i, optimizer in enumerate(optimizers):
        entries: dict[int, dict[str, torch.Tensor]] = {}
        for name, x in tensors.items():
            if name.startswith(f"optimizer.{i}."):
                _, _, j, key = name.split(".", 3)
                entries.setdefault(int(j), {})[key] = x
        optimizer.load_state_dict({**optimizer.state_dict(), "state": entries})
    return Progress(**meta["progress"])
