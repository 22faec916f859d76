"""A training run on disk: weights, optimiser state and progress in one file, checkpoint_file.py's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from pydantic import TypeAdapter, ValidationError

from atlas_bench.errors import UserError
from atlas_bench.files import checkpoint_file
from atlas_bench.files.checkpoint_file import Damaged
from atlas_bench.models.config import Config
from atlas_bench.models.decoder import Decoder
from atlas_bench.training.recipe import Progress, Recipe

FILE = "checkpoint.safetensors"
_PROGRESS = TypeAdapter(Progress)


def save(
    out: Path,
    model: Decoder,
    average: Decoder,
    optimizers: Sequence[torch.optim.Optimizer],
    config: Config,
    recipe: Recipe,
    progress: Progress,
) -> None:
    """Replace the file by weights, their average, optimiser state and progress; raises what keeps it from that."""
    tensors = {f"model.{name}": x for name, x in model.state_dict().items()}
    tensors |= {f"average.{name}": x for name, x in average.state_dict().items()}
    for i, optimizer in enumerate(optimizers):
        for j, entry in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{j}.{name}": torch.as_tensor(x) for name, x in entry.items()}
    values = {"config": config.to_dict(), "recipe": asdict(recipe), "progress": asdict(progress)}
    checkpoint_file.save(out / FILE, {name: x.detach().cpu().numpy() for name, x in tensors.items()}, values)


def restore(
    out: Path,
    model: Decoder,
    average: Decoder,
    optimizers: Sequence[torch.optim.Optimizer],
    config: Config,
    recipe: Recipe,
) -> Progress:
    """Load what save() wrote into model, average and optimisers; returns the progress.

    Raises Damaged for a damaged file, before anything is loaded; UserError for a file of another run.
    """
    path = out / FILE
    arrays, text = checkpoint_file.load(path)
    values = json.loads(text)
    wanted = json.loads(json.dumps({"config": config.to_dict(), "recipe": asdict(recipe)}))
    for part in ("config", "recipe"):
        different = [name for name in wanted[part] if values[part].get(name) != wanted[part][name]]
        if different:
            raise UserError(
                f"checkpoint {path} is of another run: {part} differs in {', '.join(different)}."
                f" Train into an empty folder, or give the same options to go on."
            )
    try:
        progress = _PROGRESS.validate_json(json.dumps(values["progress"]), strict=True)
    except ValidationError as error:
        raise Damaged(f"its progress is wrong: {error.errors()[0]['msg']}") from None
    tensors = {name: torch.tensor(x) for name, x in arrays.items()}
    for part, module in (("model.", model), ("average.", average)):
        weights = {name.removeprefix(part): x for name, x in tensors.items() if name.startswith(part)}
        own = module.state_dict()
        if {name: x.shape for name, x in weights.items()} != {name: x.shape for name, x in own.items()}:
            raise Damaged("its weights are none of this model")
        module.load_state_dict(weights)
    for i, optimizer in enumerate(optimizers):
        entries: dict[int, dict[str, torch.Tensor]] = {}
        for name, x in tensors.items():
            if name.startswith(f"optimizer.{i}."):
                _, _, j, key = name.split(".", 3)
                entries.setdefault(int(j), {})[key] = x
        optimizer.load_state_dict({**optimizer.state_dict(), "state": entries})
    return progress
