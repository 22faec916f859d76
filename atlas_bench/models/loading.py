"""Models by name or by folder; a model's folder holds model.safetensors and card.json."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from atlas_bench import registry
from atlas_bench.errors import MachineError, UserError, clip, reason, unknown
from atlas_bench.files.atomic import replacing
from atlas_bench.models import specs
from atlas_bench.models.specs import CARD, SCHEMES, folder_of, is_elsewhere
from atlas_bench.types import Model

WEIGHTS = "model.safetensors"
PRECISIONS = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "tf32")}  # of float32 matrices


def card(name: str) -> dict[str, Any]:
    """The card of an embedded model or a model folder: config, recipe, training, figures."""
    from atlas_bench.models.card import read

    return read(folder_of(name) / CARD)


def taught(about: Mapping[str, Any]) -> set[str]:
    """The tasks that a card's recipe trained on; version 1 knew BABILong alone."""
    return {task.partition(":")[0] for task in (about.get("recipe") or {}).get("tasks", ["babilong"])}


def load_all(models: Any, *, say: Callable[[str], Any] = lambda text: None, **options: Any) -> dict[str, Model]:
    """Name in records -> model, for everything that specs.typed() takes; options as for load().

    That is the user's own name for it, or the word as it was typed; a Hugging Face model or an endpoint has a name of
    its own, without the options that change no answer. A model object is passed through.

    say  is told what is being loaded, where that takes seconds
    """
    loaded = {}
    for name, spec in specs.typed(models).items():
        if not isinstance(spec, str):
            loaded[name] = spec
            continue
        if spec not in registry.MODELS:
            say(f"loading {name} ..")
        model = named(name, spec, **options)
        loaded[model.name if is_elsewhere(spec) and name == spec else name] = model
    return loaded


def named(name: str, spec: str, **options: Any) -> Model:
    """The model of a spec, which says what it is where the user gave it another name to be shown."""
    model = load(spec, **options)
    if name != spec:
        model.spec = model.name if is_elsewhere(spec) else spec
    return model


def load(
    name: str, *, threads: int | None = None, device: str | None = None, matmul_precision: str | None = None
) -> Model:
    """The types.Model of that name: a control, an embedded model, a folder written by `train`, `hf:..` or `openai:..`.

    threads   of torch on the CPU; None leaves torch's own choice
    device    "cpu" or "cuda"; None: a GPU where torch sees one
    matmul_precision  of matrices, "fp32", "tf32" or "bf16"; None: the fastest that leave answers as they are

    Raises UserError for a name, folder or device that is not there.
    """
    if name in registry.MODELS:
        control: Model = registry.control(name)
        return control
    if is_elsewhere(name):
        module, loader = SCHEMES[name.partition(":")[0]].split(":")
        load_it: Callable[..., Model] = getattr(import_module(module), loader)
        return load_it(name, threads=threads, device=device, matmul_precision=matmul_precision)
    import torch

    from atlas_bench.models.config import Config
    from atlas_bench.models.decoder import Decoder
    from atlas_bench.models.lm import LanguageModel
    from atlas_bench.models.tokenizer import embedded

    if threads:
        torch.set_num_threads(threads)
    device = checked(device, matmul_precision)
    folder = folder_of(name)
    about = card(name)
    try:
        config = Config(**about["config"])
        registry.memory_options(config.memory, config.memory_options)
        with torch.device("meta"):
            model = Decoder(config)
    except UserError as error:
        if registry.is_file(about["config"]["memory"]):
            raise  # which says what to do
        raise UserError(f"model card '{folder / CARD}': {error}") from None
    except Exception as error:  # torch's and the memories' own
        raise UserError(
            f"model card '{folder / CARD}' states no architecture of this version ({clip(reason(error))}). Train again."
        ) from None
    weights = read_weights(folder / WEIGHTS)
    check_weights(folder / WEIGHTS, weights, model.state_dict())
    model = Decoder(config)
    model.load_state_dict(weights)
    about["weights_hash"] = weights_hash(folder)
    name = folder.resolve().name
    return LanguageModel(name, model, embedded(), about, device=device, matmul_precision=matmul_precision)


def checked(device: str | None, matmul_precision: str | None) -> str:
    """The device to run on, by default torch's GPU if there is one; UserError for a missing device."""
    import torch

    if device is not None and device not in PRECISIONS:
        raise unknown("device", device, PRECISIONS)
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            f"device 'cuda' is not there: torch {torch.__version__} sees no GPU. Leave --device out, or see "
            "`atlas-bench doctor`."
        )
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if matmul_precision is not None and matmul_precision not in PRECISIONS[device]:
        raise UserError(
            f"matmul precision '{matmul_precision}' is not there on device '{device}'. "
            f"Give {' or '.join(PRECISIONS[device])}, or leave --matmul-precision out for the fastest."
        )
    return device


def read_weights(path: Path) -> dict[str, Any]:
    """The tensors of a safetensors file; a UserError names a file that is missing or corrupt."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except FileNotFoundError:
        raise UserError(f"weights {path} do not exist. Train again, or restore the file.") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"weights {path} cannot be read ({error}). Restore the file, or train again.") from None


def check_weights(path: Path, weights: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raises UserError if weights are of another architecture than the card says."""
    wrong = [
        f"{name} is {tuple(weights[name].shape) if name in weights else 'absent'}, not {tuple(x.shape)}"
        for name, x in wanted.items()
        if name not in weights or weights[name].shape != x.shape
    ] + [f"{name} is not part of it" for name in weights if name not in wanted]
    if wrong:
        raise UserError(
            f"weights {path} are of another architecture than the card beside them: {wrong[0]}"
            f"{f' (and {len(wrong) - 1} more)' if len(wrong) > 1 else ''}. Use the card that was saved with them."
        )


def weights_hash(folder: Path) -> str:
    """First 16 hex digits of the weights file's sha256."""
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()[:16]


def save(folder: Path, model: Any, about: Mapping[str, Any]) -> None:
    """Writes a model folder: weights and card, and the source of a memory that is a user's file.

    The card is written last: a folder without one is not yet a model. Raises MachineError if it cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        if (source := registry.source_of(model.config.memory)) is not None:
            file = model.config.memory.partition("@")[0]
            with replacing(folder / file) as draft:
                draft.write_bytes(source)
            about = {"memory_file": {"name": file, "sha256": hashlib.sha256(source).hexdigest()}, **about}
        with replacing(folder / WEIGHTS) as draft:
            save_file({name: x.contiguous() for name, x in model.state_dict().items()}, draft)
        with replacing(folder / CARD) as draft:
            draft.write_text(json.dumps({"config": model.config.to_dict(), **about}, indent=2) + "\n")
    except (SafetensorError, OSError) as error:
        raise MachineError(
            f"model folder '{folder}' cannot be written: {reason(error)}. Make room, or make it writable: the same "
            "command goes on from the last checkpoint."
        ) from None
