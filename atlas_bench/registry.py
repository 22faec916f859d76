"""Names to things, looked up lazily so that listing costs no import of torch."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from atlas_bench.errors import UserError, clip, did_you_mean, unknown
from atlas_bench.files import user_file
from atlas_bench.types import Rules, Scorer

TASKS = {
    "babilong": "atlas_bench.tasks.babilong:BABILONG",
    "niah": "atlas_bench.tasks.niah:NIAH",
    "ruler": "atlas_bench.tasks.ruler:RULER",
    "mqar": "atlas_bench.tasks.mqar:MQAR",
    "zoology": "atlas_bench.tasks.zoology:ZOOLOGY",
    "recall": "atlas_bench.tasks.recall:RECALL",
    "mad": "atlas_bench.tasks.mad:MAD",
    "track": "atlas_bench.tasks.track:TRACK",
    "retention": "atlas_bench.tasks.retention:RETENTION",
    "robust": "atlas_bench.tasks.robust:ROBUST",
    "ordinal": "atlas_bench.tasks.ordinal:ORDINAL",
    "aggregate": "atlas_bench.tasks.lines.aggregate:AGGREGATE",
    "graph": "atlas_bench.tasks.lines.graph:GRAPH",
    "icl": "atlas_bench.tasks.lines.icl:ICL",
    "nolink": "atlas_bench.tasks.nolink:NOLINK",
    "loss": "atlas_bench.tasks.loss:LOSS",
}

# variant -> class; a memory's file is its equation. "none" leaves attention alone.
MEMORIES = {
    "none": None,
    "linear-attention": "atlas_bench.models.memory.linear_attention:LinearAttention",
    "deltanet": "atlas_bench.models.memory.deltanet:DeltaNet",
    "gated-deltanet": "atlas_bench.models.memory.gated_deltanet:GatedDeltaNet",
    "mamba2": "atlas_bench.models.memory.mamba2:Mamba2",
    "gla": "atlas_bench.models.memory.gla:GLA",
    "deltaproduct": "atlas_bench.models.memory.deltaproduct:DeltaProduct",
    "kda": "atlas_bench.models.memory.kda:KDA",
    "gated-deltanet-2": "atlas_bench.models.memory.gated_deltanet_2:GatedDeltaNet2",
    "rwkv7": "atlas_bench.models.memory.rwkv7:RWKV7",
    "comba": "atlas_bench.models.memory.comba:Comba",
    "mesanet": "atlas_bench.models.memory.mesanet:MesaNet",
    "yaad": "atlas_bench.models.memory.yaad:Yaad",
    "moneta": "atlas_bench.models.memory.moneta:Moneta",
    "ttt-linear": "atlas_bench.models.memory.ttt:TTTLinear",
    "ttt-mlp": "atlas_bench.models.memory.ttt:TTTMLP",
    "dla": "atlas_bench.models.memory.dla:DLA",
    "swla": "atlas_bench.models.memory.dla:SWLA",
    "titans": "atlas_bench.models.memory.titans:Titans",
    "omeganet": "atlas_bench.models.memory.omeganet:OmegaNet",
    "surprise-omeganet": "atlas_bench.models.memory.surprise_omeganet:SurpriseOmegaNet",
    "atlas": "atlas_bench.models.memory.atlas:Atlas",
    "atlas++": "atlas_bench.models.memory.atlas:AtlasPlus",
    "deep-transformer": "atlas_bench.models.memory.deep_transformer:DeepTransformer",
    "swdt": "atlas_bench.models.memory.deep_transformer:SWDT",
    "dot": "atlas_bench.models.memory.deep_transformer:Dot",
}

# Controls: what a perfect and an ignorant reader score. Trained models are found by models/loading.py.
MODELS = {
    "oracle": "atlas_bench.models.oracle:Oracle",
    "constant": "atlas_bench.models.constant:Constant",
}

MOST = 10**9  # of a memory's whole-number options: no tensor is as long

_FILES: dict[str, tuple[type, bytes]] = {}  # name_file's: name -> class, source
_TASK_FILES: dict[str, tuple[Any, bytes]] = {}  # name_task's: name -> task, source


def _load(path: str) -> Any:
    module, name = path.split(":")
    return getattr(import_module(module), name)


def task(name: str) -> Any:
    """The task of that name; a user's file must have been named before."""
    if name in _TASK_FILES:
        return _TASK_FILES[name][0]
    if name not in TASKS:
        raise unknown("task", name, TASKS)
    return _load(TASKS[name])


def reads_text(name: str) -> bool:
    """Whether the task takes data, a background or a prompt; a user's task may leave it unsaid."""
    return bool(getattr(task(name), "reads_text", True))


def teaches(name: str) -> bool:
    """Whether models can be trained on the task: see tasks/lessons.py."""
    return hasattr(task(name), "lessons")


@cache
def scorers() -> dict[str, Scorer]:
    """Name -> scorer, of all our tasks."""
    rules = [task(name).rules(subset) for name in TASKS for subset in task(name).subsets]
    return {name: scorer for each in rules for name, scorer in each.scorers.items()}


def name_task(path: str | Path) -> str:
    """Execute a user's task file and return the task's name, 'my_task.py@1f2e3d4c'.

    Only for a path that the user has typed. Raises UserError for a file that does not run, or does not define
    exactly one task: a class with `samples` and `rules` that is made without arguments.
    """
    name, module, source = user_file.execute(path, "task")
    file = name.partition("@")[0]
    own = [each for each in user_file.own_classes(module) if hasattr(each, "samples") and hasattr(each, "rules")]
    own = [each for each in own if not any(issubclass(other, each) for other in own if other is not each)]  # no bases
    if len(own) != 1:
        listed = f"{len(own)} tasks ({', '.join(each.__name__ for each in own)})" if own else "no task"
        raise UserError(
            f"task file '{file}' defines {listed}. It needs one class derived from HaystackTask, which "
            "`from atlas_bench.tasks.haystack_task import HaystackTask` gives, or any with the methods of types.Task."
        )
    try:
        made = own[0]()
    except Exception as error:
        cause = user_file.describe_error(error, path)
        raise UserError(f"task file '{file}': {own[0].__name__}() fails: {cause}.") from None
    missing = [part for part in ("name", "subsets", "version", "check", "describe") if not hasattr(made, part)]
    if missing:
        raise UserError(f"task file '{file}': {own[0].__name__} has no {' and no '.join(missing)}. See types.Task.")
    if isinstance(made.subsets, str):
        raise UserError(
            f"task file '{file}': subsets is the text {made.subsets!r}. Write a tuple: ({made.subsets!r},)."
        )
    for subset in made.subsets:
        try:
            rules = made.rules(subset)
        except Exception as error:
            cause = user_file.describe_error(error, path)
            raise UserError(f"task file '{file}': rules({subset!r}) fails: {cause}.") from None
        if not isinstance(rules, Rules):
            raise UserError(f"task file '{file}': rules({subset!r}) gives a {type(rules).__name__}, no types.Rules.")
        if hasattr(made, "hide") and not rules.scorers:
            raise UserError(
                f"task file '{file}': rules({subset!r}) has no scorers, so nothing would judge the answers. "
                "Write Rules({'NAME/contains': Scorer(contains)}, ..)."
            )
    made.name = name
    _TASK_FILES[name] = made, source
    return name


def is_task_file(path: str | Path) -> bool:
    """Whether a user's file, which is executed, defines a task and not a memory; only for a path that was typed."""
    _, module, _ = user_file.execute(path, "memory or task")
    return any(hasattr(each, "samples") and hasattr(each, "rules") for each in user_file.own_classes(module))


def memory(name: str) -> Any:
    """The memory class of that name, None for "none"; a user's file must have been named before."""
    if name in _FILES:
        return _FILES[name][0]
    if is_file(name):
        raise _not_named(name)
    if name not in MEMORIES:
        raise unknown("memory", name, MEMORIES)
    where = MEMORIES[name]
    return _load(where) if where else None


def is_file(name: str) -> bool:
    """Whether a name is that of a user's file, 'my_memory.py', 'my_memory.py@1f2e3d4c', or a path to one."""
    return re.fullmatch(user_file.NAME, name, re.DOTALL) is not None


def name_file(path: str | Path) -> str:
    """Execute a user's memory file and return the memory's name, 'my_memory.py@1f2e3d4c'.

    Only for a path that the user has typed: nothing that is read from disk may call this. The name holds the
    first digits of the source's sha256, so that a model is never loaded with another version of its memory.
    A path that ends in such digits, './my_memory.py@1f2e3d4c', takes no other version.
    Raises UserError for a file that is absent, is of another version, does not run, or does not define exactly
    one memory.
    """
    name: str
    name, variant, source = _load("atlas_bench.models.memory.user_file:load")(path)
    _FILES[name] = variant, source
    return name


def source_of(name: str) -> bytes | None:
    """The source of a memory or task that is a user's file, as it was executed; None for every other."""
    found = _FILES.get(name) or _TASK_FILES.get(name)
    return found and found[1]


def parted(text: str) -> tuple[str, str | None]:
    """(name or path of a file, the part after its colon) of a task or memory as typed; None without a colon."""
    parts = re.fullmatch(r"(.*?\.py(?:@[0-9a-f]+)?|[^:]*)(?::(.*))?", text, re.DOTALL)
    assert parts, "the pattern takes any text"
    return parts[1], parts[2]


def split_tasks(text: str) -> list[str]:
    """The comma-separated tasks, each with its subset: 'babilong:qa1,qa2' -> ['babilong:qa1', 'babilong:qa2'].

    Only names of our own tasks have subsets here; no file is executed.
    """
    parts: list[str] = []
    for part in map(str.strip, text.split(",")):
        name, subset = parted(parts[-1]) if parts else ("", None)
        follows = subset is not None and name in TASKS and part not in TASKS and part in task(name).subsets
        parts.append(f"{name}:{part}" if follows else part)
    return parts


def parse_memory(spec: str) -> tuple[str, dict[str, Any]]:
    """(name or path, options) of a written memory: 'atlas:degree=1,omega_window=16', './my_memory.py:tau=0.5'.

    Values are Python literals, true, false, or text. Nothing is looked up or executed.
    """
    name, options = parted(spec)
    parsed: dict[str, Any] = {}
    for part in filter(None, (options or "").split(",")):
        key, equals, value = (x.strip() for x in part.partition("="))
        if not equals or not key or not value:
            raise UserError(f"memory '{spec}': '{part}' is not option=value. Write {name}:option=value,option=value.")
        parsed[key] = _literal(value)
    return name.strip(), parsed


def typed_memory(spec: str, *, feed: bool = True) -> tuple[str, dict[str, Any]]:
    """(name, all options) of a memory that the user has typed: a file is executed, every mistake a UserError.

    feed  also run the memory on a few tokens; `verify` does that itself, and says more
    """
    name, given = parse_memory(spec)
    if is_file(name):
        name = name_file(name)
    options = memory_options(name, given)
    if memory(name) is not None:
        memory_file = "atlas_bench.models.memory.user_file"
        built = _load(f"{memory_file}:check_builds")(spec, memory(name), options)
        if feed:
            _load(f"{memory_file}:check_runs")(spec, built)
    return name, options


def memory_options(name: str, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Every option of a memory, those given over the class's defaults, and those given of the block around it.

    A model's card has all of them, so that a later default changes no model. A default may depend on whether the rule
    is `printed` (memory/inner_optimizer.py). Raises UserError for an option that the memory does not have, and for a
    value of another type than its default.
    """
    variant = memory(name)
    own = {} if variant is None else _keywords(variant)
    printed = bool((given or {}).get("printed"))
    own |= {option: values[printed] for option, values in getattr(variant, "forms", {}).items() if option in own}
    around = {} if variant is None else _load("atlas_bench.models.memory.surroundings:OPTIONS")
    known = {**around, **own}
    for option, value in (given or {}).items():
        if option not in known:
            raise UserError(
                f"memory '{name}' has no option '{option}'.{did_you_mean(option, known)} Its options: {_listed(own)}. "
                f"Of the block around it: {_listed(around)}."
            )
        if isinstance(value, int) and abs(value) > MOST:
            raise UserError(f"memory '{name}': {option} is {clip(str(value), 40)}. Give {MOST} or less.")
        default = known[option]
        fits = isinstance(value, type(default)) or (isinstance(default, float) and isinstance(value, int))
        if default is not None and (not fits or isinstance(value, bool) != isinstance(default, bool)):
            raise UserError(
                f"memory '{name}': {option} is {value!r}, which is no {type(default).__name__}. "
                f"Its default is {default!r}."
            )
    return {**own, **(given or {})}


def _listed(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={default!r}" for name, default in options.items()) or "none"


def control(name: str) -> Any:
    """A new control model of that name."""
    return _load(MODELS[name])()


def _keywords(variant: type) -> dict[str, Any]:
    """The variant's keyword-only parameters with their defaults; **options includes its parent's."""
    found: dict[str, Any] = {}
    for cls in variant.__mro__:
        if "__init__" not in vars(cls):
            continue
        if cls is _load("atlas_bench.models.memory.base:Memory"):
            break
        parameters = inspect.signature(vars(cls)["__init__"]).parameters.values()
        own = {p.name: None if p.default is p.empty else p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
        found = {**own, **found}
        if all(p.kind is not p.VAR_KEYWORD for p in parameters):
            break
    return found


def _literal(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _not_named(name: str) -> UserError:
    """A card may ask for code; only the command line may have it run."""
    file, _, version = name.partition("@")
    for other in _FILES:
        if other.partition("@")[0] == file:
            return UserError(
                f"memory '{file}' has changed: the model was trained with version {version}, this is "
                f"{other.partition('@')[2]}. Name the copy in the model's folder, or train again."
            )
    return UserError(
        f"memory '{file}' is a user's file, and a file is only run when the command names it. "
        f"Add --code PATH/{file} (a copy lies in the model's folder); read it first."
    )
