"""Models of Hugging Face by name or folder: `hf:NAME_OR_PATH:option=value,...`.

    atlas-bench run babilong:qa1 --len 64K --model hf:state-spaces/mamba-130m-hf
    atlas-bench run babilong:qa1 --len 64K --model hf:fla-hub/delta_net-1.3B-100B:import=fla
    atlas-bench run babilong:qa1 --len 64K --model hf:./my-model:dtype=bfloat16,chat=false

Any causal model of transformers: attention, recurrent, hybrids of both; model.py reads it. Weights are
safetensors, and no code of a repository is run unless that is written. Options, each of which may be left out:

    dtype              float32, bfloat16, float16 [the checkpoint's on a GPU, float32 on a CPU]
    chat               whether prompts are put in the tokenizer's chat template [true where it has one]
    thinking           tokens the model may think before its answer; thoughts are left out of it [0]
    revision           a branch, tag or commit of the repository
    attention          what transformers calls attn_implementation: sdpa, eager, flash_attention_2
    context_limit      tokens the model may read [what its configuration says]
    rope               long: the rotary frequencies of long streams from the first token on (Phi-3 and -4)
    trust_remote_code  true runs the repository's own code: read it first [false]
    import             fla or mamba_ssm: an installed package that is imported first, for the architectures it brings
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PretrainedConfig, PreTrainedModel
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.utils import cached_file

from atlas_bench.errors import UserError, reason, unknown
from atlas_bench.files import hub, text_files
from atlas_bench.files.home import expanded
from atlas_bench.models import causal_lm  # noqa: F401 - transformers then knows models that `export` has written
from atlas_bench.models.huggingface.model import DTYPES, HuggingFaceModel
from atlas_bench.models.huggingface.packages import PACKAGES, bring
from atlas_bench.models.huggingface.tokenizer import Tokenizer
from atlas_bench.models.loading import checked

OPTIONS: dict[str, tuple[str, Callable[[Any], bool]]] = {  # option -> what its value is, whether one is that
    "dtype": (", ".join(DTYPES), lambda x: x in DTYPES),
    "chat": ("true or false", lambda x: isinstance(x, bool)),
    "thinking": ("a number of tokens", lambda x: isinstance(x, int) and not isinstance(x, bool)),
    "revision": ("a branch, tag or commit", lambda x: True),
    "attention": ("sdpa, eager or flash_attention_2", lambda x: isinstance(x, str)),
    "context_limit": ("a number of tokens", lambda x: isinstance(x, int) and x > 1),
    "rope": ("long", lambda x: x == "long"),
    "trust_remote_code": ("true or false", lambda x: isinstance(x, bool)),
    "import": (f"{' or '.join(PACKAGES)}, a package that is installed", lambda x: x in PACKAGES),
}
SAME_ANSWERS = ("attention", "context_limit", "trust_remote_code", "import")  # options that no record names
SPEC = re.compile(r"hf:(.+?)(?:[:;](\w+(?:\s*=.*)?))?", re.DOTALL)
MOST_LAYERS = 1000
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PIECE, PIECES = 1 << 20, 64  # of a weights file, what is hashed: pieces of so many bytes, evenly spread


def parse(spec: str) -> tuple[str, dict[str, Any]]:
    """(name or path, options) of 'hf:NAME_OR_PATH:option=value,...'.

    Raises UserError for an option or a value that is not there.
    """
    if (whole := spec.removeprefix("hf:").strip()) and os.path.isdir(expanded(whole)):
        return whole, {}  # its path may hold ':'
    name, written = SPEC.fullmatch(spec).groups() if SPEC.fullmatch(spec) else ("", None)
    if not name.strip():
        raise UserError(f"model '{spec}' names nothing. Write hf:ORGANISATION/NAME or hf:./FOLDER.")
    options: dict[str, Any] = {}
    for part in filter(None, re.split("[,;]", written or "")):
        option, equals, text = (x.strip() for x in part.partition("="))
        if not equals or not text:
            raise UserError(f"model '{spec}': '{part}' is not option=value. Write hf:{name}:option=value,option=value.")
        if option not in OPTIONS:
            raise unknown(f"option of '{name}'", option, OPTIONS)
        options[option] = value = text if option == "revision" else _value(text)
        if not OPTIONS[option][1](value):
            raise UserError(f"model '{spec}': {option} is '{text}'. Write {OPTIONS[option][0]}.")
    return name.strip(), options


def _value(text: str) -> bool | int | str:
    """A written value: true, false, a whole number, or text."""
    words = {"true": True, "false": False}
    return int(text) if text.isdecimal() and len(text) < 18 else words.get(text.lower(), text)


def load(
    spec: str, *, threads: int | None = None, device: str | None = None, matmul_precision: str | None = None
) -> HuggingFaceModel:
    """The model of 'hf:NAME_OR_PATH:option=value,...', see above; records call it that, less SAME_ANSWERS.

    threads   of torch on the CPU; None leaves torch's own choice
    device    "cpu" or "cuda"; None: a GPU where torch sees one
    matmul_precision  of float32 matrices, "fp32", "tf32" or "bf16"; None: "fp32", as transformers makes them

    Raises UserError for a model that is not found, not safetensors, of an unknown architecture, or cannot be read in
    parts.
    """
    name, options = parse(spec)
    if threads:
        torch.set_num_threads(threads)
    device = checked(device, matmul_precision)
    name = _folder(name)
    if not os.path.isdir(name):
        hub.reach(name)
    if "import" in options:
        bring(options["import"])
    where = {"revision": options.get("revision", "main"), "trust_remote_code": options.get("trust_remote_code", False)}
    config = _try(name, "config", lambda: AutoConfig.from_pretrained(name, **where))
    layers = getattr(config.get_text_config(), "num_hidden_layers", None)
    if isinstance(layers, int) and layers > MOST_LAYERS:  # building them would take hours, and then all memory
        raise UserError(f"model '{name}': its config states {layers} layers. Download it again, or name another.")
    files = _weights(name, where["revision"])
    tokenizer = Tokenizer(_try(name, "tokenizer", lambda: AutoTokenizer.from_pretrained(name, **where)))
    chat = options.get("chat", bool(tokenizer.inner.chat_template))
    if chat and not tokenizer.inner.chat_template:
        raise UserError(f"the tokenizer of '{name}' has no chat template. Leave chat=true out.")
    model = _model(name, config, where, options, device)
    if options.get("rope") == "long":
        _pin_long_rope(model)
    try:
        return HuggingFaceModel(
            _called(spec, options), model.to(device), tokenizer, chat=chat, thinking=options.get("thinking", 0),
            matmul_precision=matmul_precision or "fp32", context_limit=options.get("context_limit"),
            weights_hash=weights_hash(files, tokenizer.key, str(tokenizer.inner.chat_template) if chat else ""),
        )  # fmt: skip
    except ValueError as error:
        raise UserError(
            f"model '{name}' cannot be streamed: {error}. A newer transformers than {transformers.__version__} may."
        ) from None
    except RuntimeError as error:
        if device != "cpu" or "import" not in options:
            raise
        raise UserError(
            f"model '{name}' does not run on a CPU ({reason(error)[:200]}): the kernels of {options['import']} are for "
            "GPUs. Run it on a machine with one."
        ) from None


def _called(spec: str, options: dict[str, Any]) -> str:
    """What records call the model: name and options, in one order."""
    words = {True: "true", False: "false"}
    kept = [f"{name}={words.get(x, x)}" for name, x in sorted(options.items()) if name not in SAME_ANSWERS]
    return f"hf:{parse(spec)[0]}" + (f":{','.join(kept)}" if kept else "")


def _folder(name: str) -> str:
    """The name, or the path if it is a folder; UserError for a missing path."""
    path = expanded(name)
    if os.path.isdir(path):  # of a name too long for a path it says no, where Path.is_dir() raises
        return str(path)
    if name.startswith(("/", ".", "~")) or name.count("/") > 1:
        raise UserError(f"model folder '{name}' does not exist. Give a folder that save_pretrained() has written.")
    return name


def _try(name: str, what: str, get: Callable[[], Any]) -> Any:
    """The result of transformers; its errors become UserErrors."""
    try:
        return get()
    except Exception as error:  # a configuration's own checks raise many kinds
        said = " ".join(str(error).split())
        if new := re.search(r"model type `(.+?)` but Transformers does not recognize", said):
            said = f"transformers {transformers.__version__} does not know its architecture '{new[1]}'"
            advice = (
                f"Where a package brings it, install that and name it, hf:{name}:import=fla ({', '.join(PACKAGES)}); a "
                "newer transformers may know it, too."
            )
        elif "trust_remote_code" in said:
            advice = "It brings its own code: read it, then add trust_remote_code=true."
        elif isinstance(error, ImportError):
            advice = "Install what it names."
        elif os.path.isdir(name):
            advice = f"Give a folder that holds a causal model's {what} as save_pretrained() writes it."
        else:
            advice = "Check the name, the connection (HF_HUB_OFFLINE) and, for a gated model, HF_TOKEN."
        raise UserError(f"the {what} of model '{name}' cannot be loaded ({said[:300]}). {advice}") from None


def _weights(name: str, revision: str) -> list[Path]:
    """config.json and the safetensors files, downloaded where they are not here yet.

    Raises UserError if there are none: a pickle runs code when it is read.
    """

    def get(file: str, needed: bool = True) -> Path | None:
        found = _try(
            name,
            file,
            lambda: cached_file(name, file, revision=revision, _raise_exceptions_for_missing_entries=needed),
        )
        return None if found is None else Path(found)

    files = [get("config.json")]
    if (one := get(WEIGHTS, needed=False)) is not None:
        return [*files, one]
    if (index := get(INDEX, needed=False)) is None:
        raise UserError(
            f"model '{name}' has no {WEIGHTS}: other formats are not read, as a pickle can run code. Convert the "
            "weights with transformers' save_pretrained(), or choose a revision that has them (revision=refs/pr/N)."
        )
    shards = _try(name, INDEX, lambda: sorted(set(json.loads(text_files.read(index))["weight_map"].values())))
    return [*files, *(get(shard) for shard in shards)]


def _model(
    name: str, config: PretrainedConfig, where: dict[str, Any], options: dict[str, Any], device: str
) -> PreTrainedModel:
    """The model on the CPU, in the dtype that was asked for; UserError if files lack a weight."""
    dtype = options.get("dtype") or ("auto" if device == "cuda" else "float32")
    asked = {"attn_implementation": options["attention"]} if "attention" in options else {}
    model, told = _try(
        name,
        "weights",
        lambda: AutoModelForCausalLM.from_pretrained(
            name, config=config, dtype=dtype, use_safetensors=True, output_loading_info=True, **where, **asked
        ),
    )
    if missing := sorted(told["missing_keys"]):  # transformers makes them up and says so in a warning
        raise UserError(
            f"the weights of model '{name}' lack {missing[0]} (and {len(missing) - 1} more): they are of no "
            f"{config.model_type} with a language-model head, or not complete. Download them again, or name another."
        )
    return model


def weights_hash(files: list[Path], *texts: str) -> str:
    """First 16 hex digits of a sha256 over the files: sizes, and 64 pieces of 1 MiB of each, all of one below 64 MiB.

    Enough to tell two models apart, without reading hundreds of gigabytes; the same wherever the files lie.

    texts  what else decides the answers: the tokenizer's key, the chat template
    """
    digest = hashlib.sha256("\0".join(texts).encode())
    for path in files:
        size = path.stat().st_size
        digest.update(f"{size} ".encode())
        with open(path, "rb") as file:
            for i in range(PIECES):
                if size <= PIECE * PIECES:
                    file.seek(i * PIECE)
                else:
                    file.seek((size - PIECE) * i // (PIECES - 1))
                digest.update(file.read(PIECE))
    return digest.hexdigest()[:16]


def _pin_long_rope(model: PreTrainedModel) -> None:
    """Rotary frequencies of kind "longrope" as they are for long streams, at any length."""
    for module in model.modules():
        if getattr(module, "rope_type", None) == "longrope":
            beyond = module.config.rope_parameters["original_max_position_embeddings"] + 1
            frequencies, _ = ROPE_INIT_FUNCTIONS["longrope"](module.config, module.inv_freq.device, seq_len=beyond)
            module.inv_freq.copy_(frequencies)
            module.rope_type = "long"  # which transformers' update leaves alone
