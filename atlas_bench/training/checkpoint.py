"""A training run on disk: weights, optimiser state and progress in one file, checkpoint_file.py's."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from atlas_bench.errors import UserError
from atlas_bench.files import checkpoint_file
from atlas_bench.files.checkpoint_file import Damaged
from atlas_bench.models.config import Config
from atlas_bench.models.decoder import Decoder
from atlas_bench.training.optimizers import Optimizers
from atlas_bench.training.recipe import Progress, Recipe

FILE = "checkpoint.safetensors"
_OPTIONS = {  # of `train` -> what it decides in a recipe; the first one that explains a difference is named
    "--tokens": ("curriculum_tokens", "mixed_tokens", "stay_tokens", "stream_tokens", "longest", "stream_length",
                 "contexts", "least_tokens", "most_tokens"),
    "--context": ("context", "segment", "longest", "first_length", "stream_length", "most_tokens"),
    "--batch": ("contexts", "most_tokens"),
    "--rate": ("muon_lr", "adam_lr"),
    "--init": ("first_length", "long_rate"),
    "--seed": ("seed",),
    "--task": ("tasks",),
    "--fixed-schedule": ("paced",),
}  # fmt: skip
_PROGRESS = TypeAdapter(Progress)


def save(
    out: Path, model: Decoder, state: Mapping[str, Tensor], config: Config, recipe: Recipe, progress: Progress
) -> None:
    """Replace the file by weights, what Optimizers.state() returned, and progress; raises what keeps it from that."""
    own = model.state_dict()  # buffers, which are not averaged, among them
    tensors = {f"{part}.{name}": x for part in ("model", "average") for name, x in own.items()} | dict(state)
    values = {"config": config.to_dict(), "recipe": asdict(recipe), "progress": asdict(progress)}
    checkpoint_file.save(out / FILE, {name: x.detach().cpu().numpy() for name, x in tensors.items()}, values)


def restore(out: Path, model: Decoder, optimizers: Optimizers, config: Config, recipe: Recipe) -> Progress:
    """Load what save() wrote into model and optimisers; returns the progress.

    Raises Damaged for a damaged file, before anything is loaded; UserError for a file of another run.
    """
    path = out / FILE
    arrays, text = checkpoint_file.load(path)
    values = json.loads(text)
    wanted = json.loads(json.dumps({"config": config.to_dict(), "recipe": asdict(recipe)}))
    for part in ("config", "recipe"):
        different = [name for name in wanted[part] if values[part].get(name) != wanted[part][name]]
        if different:
            shown = _typed(different) if part == "recipe" else different
            raise UserError(
                f"checkpoint {path} is of another run: {part} differs in {', '.join(shown)}."
                f" Train into an empty folder, or give the same options to go on."
            )
    try:
        progress = _PROGRESS.validate_json(json.dumps(values["progress"]), strict=True)
    except ValidationError as error:
        raise Damaged(f"its progress is wrong: {error.errors()[0]['msg']}") from None
    tensors = {name: torch.tensor(x) for name, x in arrays.items()}
    shapes = {name: x.shape for name, x in model.state_dict().items()}
    weights, average = (
        {name.removeprefix(part): x for name, x in tensors.items() if name.startswith(part)}
        for part in ("model.", "average.")
    )
    if any({name: x.shape for name, x in found.items()} != shapes for found in (weights, average)):
        raise Damaged("its weights are none of this model")
    optimizers.put(weights)
    for name, buffer in model.named_buffers():
        if name in weights:  # not all of them are saved
            buffer.copy_(weights[name])
    optimizers.load_state(tensors)
    return progress


def _typed(fields: Iterable[str]) -> list[str]:
    """The options of `train` by which recipes differ in these fields; a field that no option decides, by its name."""
    left, options = list(fields), []
    for option, decided in _OPTIONS.items():
        if decided[0] in left:
            options.append(option)
            left = [field for field in left if field not in decided]
    return [*options, *left]
