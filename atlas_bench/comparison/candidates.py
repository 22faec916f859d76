"""Who is compared: the words of a command as trained models, or as memories to train by the one recipe.

titans  atlas:degree=1  ./my_memory.py     memories, with --train
transformer  swa                           attention alone, full or over a window; with --train
atlas-nano  some/folder  small=hf:..       trained models, as `run` takes them; `atlas` without --train
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from atlas_bench import __version__, registry
from atlas_bench.errors import UserError
from atlas_bench.files.atomic import replacing
from atlas_bench.models import loading, specs
from atlas_bench.models.adapted import as_model
from atlas_bench.training.recipe import Recipe
from atlas_bench.types import Model

WINDOW = 16  # tokens of attention beside a memory, and of "swa"
ATTENTION = {"transformer": 0, "swa": WINDOW}  # no memory -> attention window, 0 for full attention
ATTENTION_LAYERS = 3  # have as many weights as 2 with a memory


@dataclass(frozen=True)
class Contender:
    """One word of the command.

    label  its name in records and tables
    model  name or folder of a trained model, or a model object; None for one that is to be trained
    flags  the architecture, as `train` takes it
    key    everything that decides the architecture, a file's version included; of a trained model, its folder
    file   name of a memory that is a user's file, 'my_memory.py@1f2e3d4c'
    """

    label: str
    model: str | Model | None = None
    flags: tuple[str, ...] = ()
    key: str = ""
    file: str = ""


@dataclass(frozen=True)
class Training:
    """One model to be trained: a contender's, on one task's lessons."""

    contender: Contender
    task: str
    folder: Path
    words: tuple[str, ...]  # of the command line


def resolve(words: Sequence[str | Model], *, train: bool) -> list[Contender]:
    """The contenders of the command line, in order; files that it names are executed. A model object is one as it is.

    Raises UserError for fewer than two, one named twice, an unknown one, or a memory that nobody has trained.
    """
    found = [_contender(word, train) for word in words]
    first: dict[str, str | Model] = {}  # key -> word
    for word, contender in zip(words, found, strict=True):
        if contender.key in first:
            raise UserError(
                f"contender '{contender.label}' is named twice, as '{_said(first[contender.key])}' and "
                f"'{_said(word)}'. Name each once; the first is the baseline."
            )
        first[contender.key] = word
    if len(found) < 2:
        raise UserError("one contender cannot be compared. Name the baseline and at least one other.")
    return _told_apart(words, found)


def trainings(
    contenders: Sequence[Contender], wanted: Mapping[str, Sequence[str]], tokens: int, folder: Path,
    *, seed: int = 0, init: str | None = None, backgrounds: Sequence[str] = (),
    encoding: str | None = None,
) -> list[Training]:  # fmt: skip
    """One training for every contender without a model and every task.

    wanted  task -> subsets that its lessons are of
    tokens  budget of one training
    init    model whose weights begin the trainings on tasks that it was taught itself; others begin from nothing
    folder  gets one model folder per training, named after all that decides it
    """
    known = loading.taught(loading.card(init)) if init else set()
    program = [__version__, asdict(replace(Recipe(), paced=True))]
    planned = []
    for contender in (each for each in contenders if each.model is None):
        for task, subsets in wanted.items():
            begun = init if task in known else None
            origin = loading.weights_hash(loading.folder_of(begun)) if begun else None
            texts = backgrounds if registry.reads_text(task) else ()
            tasks = _written(task, subsets)
            read = [*texts, *(["encoding", encoding] if texts and encoding else [])]
            decided = json.dumps([contender.key, tasks, tokens, seed, origin, read, program])
            digest = hashlib.sha256(decided.encode()).hexdigest()[:8]
            name = contender.flags[1] if contender.file else contender.label  # a file's label depends on the others
            out = folder / (re.sub(r"[^A-Za-z0-9_.=-]+", "-", f"{name}-{task}") + f"-{digest}")
            # of a file, the copy that _train() writes: the user may edit his own meanwhile
            if registry.is_file(task):
                tasks = _written(f"{out}/{task}", subsets)
            flags = ("--memory", f"{out}/{name}") if contender.file else contender.flags
            words = ["train", *flags, "--task", tasks, "--tokens", str(tokens), "--seed", str(seed)]
            words += ["--out", str(out), "--threads", "1", "--fixed-schedule", "--no-examine"]
            words += ["--init", begun] if begun else []
            words += [word for text in texts for word in ("--background", text)]
            words += ["--encoding", encoding] if texts and encoding else []
            planned.append(Training(contender, task, out, tuple(words)))
    return planned


def _written(task: str, subsets: Sequence[str]) -> str:
    return ",".join(f"{task}:{subset}" if subset else task for subset in subsets)


def beginning(init: str | None, wanted: Iterable[str]) -> str:
    """In words, where training on each task begins."""
    known = loading.taught(loading.card(init)) if init else set()
    warm = [task for task in wanted if task in known]
    cold = [task for task in wanted if task not in known]
    if not warm:
        return "from nothing" + (f", since {init} was not taught {' or '.join(cold)}" if init else "")
    return f"from the weights of {init}" + (
        f" ({', '.join(cold)} from nothing: it was not taught that)" if cold else ""
    )


def train_all(planned: Sequence[Training], *, jobs: int, say: Callable[[str], Any]) -> dict[tuple[str, str], str]:
    """Train what is not trained yet, `jobs` at once; (label, task) -> reason of those that failed.

    A training that was stopped goes on from its checkpoint; one that another process is at is waited for. Ctrl-C ends
    those that run, then raises; so does any other end of this process: child.py.
    """
    running: list[subprocess.Popen] = []
    with ThreadPoolExecutor(jobs) as pool:
        try:
            reasons = list(pool.map(lambda training: _train(training, say, running), planned))
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in running:
                process.terminate()
            raise
    found = zip(planned, reasons, strict=True)
    return {(training.contender.label, training.task): reason for training, reason in found if reason}


def _contender(word: str | Model, train: bool) -> Contender:
    if not isinstance(word, str):
        model = as_model(word)
        return Contender(model.name, model=model, key=model.name)
    return (_trainable(word) if train else None) or _trained(word)


def _trainable(word: str) -> Contender | None:
    """The contender of a word that `train` can make a model of, else None."""
    if loading.is_elsewhere(word):
        return None
    if word in ATTENTION:
        flags = ("--memory", "none", "--attention-window", str(ATTENTION[word]), "--layers", str(ATTENTION_LAYERS))
        return Contender(word, flags=flags, key=" ".join(flags))
    name, given = registry.parse_memory(word)
    if not _is_memory(name):
        return None
    name, options = registry.typed_memory(word)
    written = ",".join(f"{option}={value}" for option, value in given.items())
    written = f":{written}" if written else ""
    file = name if registry.source_of(name) is not None else ""
    key = f"{name} {json.dumps(options, sort_keys=True)}"
    return Contender(name.partition("@")[0] + written, flags=("--memory", name + written), key=key, file=file)


def _trained(word: str) -> Contender:
    """The contender of a word that is a trained model, which may have a name to be shown: 'small=hf:..'."""
    shown, spec = specs.shown(word)
    if shown != spec or loading.is_elsewhere(word):
        specs.check(spec)
        return Contender(shown, model=spec, key=spec)
    name, _ = registry.parse_memory(word)
    if word in specs.names():
        return Contender(word, model=word, key=word)
    if f"{word}-nano" in specs.names():
        return Contender(f"{word}-nano", model=f"{word}-nano", key=f"{word}-nano")
    if _is_memory(name):
        raise UserError(f"memory '{word}' has no trained model. Add --train TOKENS, such as --train 20M.")
    if not Path(word).expanduser().is_dir():
        known = [*specs.names(), *filter(_is_memory, registry.MEMORIES), *ATTENTION]
        raise specs.unknown_model(word, known, kind="contender")
    return Contender(word, model=word, key=str(loading.folder_of(word).resolve()))


def _said(word: str | Model) -> str:
    return word if isinstance(word, str) else type(word).__name__


def _told_apart(words: Sequence[str | Model], found: Sequence[Contender]) -> list[Contender]:
    """Contenders whose labels differ: versions of one file by the folders they lie in, else by their digits."""
    labels = [contender.label for contender in found]
    shared = [label for label in labels if labels.count(label) > 1]
    for other in (_with_folder, _with_version):
        labels = [
            other(word, each) if each.label in shared and isinstance(word, str) else each.label
            for word, each in zip(words, found, strict=True)
        ]
        if len(set(labels)) == len(labels):
            break
    return [replace(contender, label=label) for contender, label in zip(found, labels, strict=True)]


def _with_folder(word: str, contender: Contender) -> str:
    return f"{Path(registry.parse_memory(word)[0]).expanduser().resolve().parent.name}/{contender.label}"


def _with_version(word: str, contender: Contender) -> str:
    return contender.flags[1]


def _is_memory(name: str) -> bool:
    return registry.is_file(name) or registry.MEMORIES.get(name) is not None


def _put(path: Path, source: bytes) -> None:
    """Write a file that another process may be reading, where it is not there yet."""
    if not path.exists() or path.read_bytes() != source:
        with replacing(path) as draft:
            draft.write_bytes(source)


def _train(training: Training, say: Callable[[str], Any], running: list[subprocess.Popen]) -> str:
    """Run one training; '' or why it failed."""
    title = f"{training.contender.label} {training.task}"
    if (training.folder / loading.CARD).exists():  # the last thing that training writes
        say(f"{title}: already trained, {training.folder}")
        return ""
    for file in filter(registry.is_file, (training.contender.file, training.task)):
        _put(training.folder / file.partition("@")[0], registry.source_of(file))
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(  # -P: a file of the working folder, such as copy.py, is no module
            [sys.executable, "-P", "-m", "atlas_bench.cli.child", *training.words], text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=errors, env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        running.append(process)
        with process:
            for line in process.stdout:
                say(f"{title}: {line.rstrip()}")
        errors.seek(0)
        said = [line.strip() for line in errors if line.strip()]
    if process.returncode in (-signal.SIGTERM, 130):
        return "stopped"
    reason = ""
    if process.returncode:
        reason = said[-1].removeprefix("error: ") if said else f"it ended with code {process.returncode}"
        say(f"{title}: training failed, {reason}")
    return reason
