"""Any lm-eval task on our models, its results in our records: `atlas-bench run lm-eval:piqa --model atlas-nano`.

    records = run(["papers"], {"atlas-nano": loading.load("atlas-nano")}, Path("runs"), progress=Progress())

A name is lm-eval's own, of a task, a group or a tag (`atlas-bench lm-eval ls tasks` lists them); the path of a YAML
file that defines one; or "papers": what the Titans and Atlas papers measure language modelling and common sense by.

Each task is one record: task "lm-eval", subset the task's name, length 0 (documents are as long as they are), seed that
of lm-eval's few-shot examples, `samples` the limit, 0 for every document. It is appended when the task ends. Answered
requests survive a stop, and the same command runs only what is missing. Results are lm-eval's own, see results.py.
Tasks that want lm-eval's --metadata, its RULER among them, are for `atlas-bench lm-eval run`.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import redirect_stdout, suppress
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from atlas_bench.errors import UserError, did_you_mean
from atlas_bench.files import locks
from atlas_bench.lmeval import results as theirs
from atlas_bench.lmeval.model import BLOCK, NAME, AtlasLM, Unsupported
from atlas_bench.results import score, store
from atlas_bench.results.record import Record, cell_key
from atlas_bench.running import plan, recording, resources, runner
from atlas_bench.running.evaluation import Cell, Evaluation
from atlas_bench.running.progress import Progress
from atlas_bench.types import Model, Rules

FILE = "lm-eval.jsonl"  # of the records' folder
SEED = 1234  # lm-eval's own default
BOOTSTRAP = 1000  # draws for the standard error of a perplexity; lm-eval's 100,000 take minutes

# The set of Titans' and Atlas' tables, and the score that they print
PAPERS = {
    "wikitext": None,
    "lambada_openai": "acc",
    "piqa": "acc",
    "hellaswag": "acc_norm",
    "winogrande": "acc",
    "arc_easy": "acc",
    "arc_challenge": "acc_norm",
    "social_iqa": "acc",
    "boolq": "acc",
}


def run(
    names: Iterable[str],
    models: Mapping[str, Model],
    folder: Path,
    *,
    limit: int | None = None,
    num_fewshot: int | None = None,
    progress: Progress,
    command: str | None = None,
) -> list[Record]:
    """Run what `folder` has no record of yet, appending to folder/lm-eval.jsonl; records of all tasks and models.

    names        of tasks, groups, tags and YAML files, "papers" among them
    limit        documents of each task, None for all
    num_fewshot  examples before each question, None for the task's own number; 0 in a task's definition stays 0
    command      that records name as theirs; None: what was typed

    Raises UserError for an unknown name, runner.Interrupted on Ctrl-C.
    """
    from lm_eval.tasks import TaskManager

    if ignorant := [name for name, model in models.items() if model.is_control]:
        raise UserError(f"'{ignorant[0]}' is a control: it is shown our own samples, and lm-eval's are none of them.")
    names = [task for name in names for task in (PAPERS if name == "papers" else [name])]
    manager = TaskManager(include_defaults=not all(map(_is_file, names)))  # it reads 14,000 files
    wanted = _named(names, manager)
    kept = store.Followed(folder, warn=progress.warn)

    def done(key: str) -> Record | None:
        record = kept.record(key, FILE)
        return record if record and record.status == "ok" else None

    records: dict[str, Record] = {}
    for name in wanted:
        known = manager.task_index.get(name)
        file = name if _is_file(name) else None
        blank_of = partial(_blank, limit=limit, num_fewshot=num_fewshot, file=file, command=command)
        blanks = [blank_of(name, known.cfg if known else {}, key, model) for key, model in models.items()]
        if all(done(cell_key(blank)) for blank in blanks):  # no need to load its data
            records |= {cell_key(blank): _already(done(cell_key(blank)), folder, progress) for blank in blanks}
            continue
        try:
            tasks = _loaded(manager, name)
        except Exception as error:  # a data set's, the hub's, a task's own code
            records |= {cell_key(blank): _kept(_failed(blank, error), folder, progress) for blank in blanks}
            continue
        for leaf, task in tasks.items():
            definition = {"num_fewshot": task.get_config("num_fewshot"), "metadata": {"version": task.VERSION}}
            for blank, model in [(blank_of(leaf, definition, *pair), pair[1]) for pair in models.items()]:
                key = cell_key(blank)
                lock = folder / ".checkpoints" / f"lm-eval-{key}.lock"
                title = f"{plan.LM_EVAL}{blank.subset} {blank.model}"
                with locks.held(lock, title, wait=True, say=progress.warn):
                    if ready := done(key):
                        records[key] = _already(ready, folder, progress)
                    else:
                        ended = _evaluate(task, blank, model, folder, num_fewshot, manager)
                        records[key] = _kept(ended, folder, progress)
    return list(records.values())


def _loaded(manager: Any, name: str) -> dict[str, Any]:
    """The tasks of that name; their prints go to stderr, since stdout is for records."""
    with redirect_stdout(sys.stderr):
        return manager.load([name])["tasks"]


def _named(names: Iterable[str], manager: Any) -> list[str]:
    """Names of lm-eval's tasks and groups, and files, each once; tags stand for their tasks."""
    known_names: dict[str, None] = {}
    for name in names:
        if _is_file(name):
            known_names[name] = None
        elif known := manager.task_index.get(name):
            known_names |= dict.fromkeys(sorted(known.tags) if known.kind.name == "TAG" else [name])
        else:
            raise UserError(
                f"lm-eval has no task '{name}'.{did_you_mean(name, ['papers', *manager.all_tasks])} "
                "`atlas-bench lm-eval ls tasks` lists all; a file ends in .yaml."
            )
    return list(known_names)


def _is_file(name: str) -> bool:
    return name.endswith(".yaml") and Path(name).is_file()


def _blank(
    name: str,
    definition: Mapping[str, Any],
    key: str,
    model: Model,
    *,
    limit: int | None,
    num_fewshot: int | None,
    file: str | None = None,
    command: str | None = None,
) -> Record:
    """The record before anything has run; its cell_key is known without the task's data.

    definition  of the task: its number of few-shot examples and its version
    file  that defines it, where it is the user's: another version is another task
    """
    own, version_ = definition.get("num_fewshot"), (definition.get("metadata") or {}).get("version")
    source = {} if file is None else {"file": hashlib.sha256(Path(file).read_bytes()).hexdigest()[:8]}
    task = SimpleNamespace(version=str(version_), rules=lambda subset: Rules({}, 0.0, 0))
    cell = Cell("lm-eval", name, 0, key, SEED, limit or 0)
    blank = recording.blank(Evaluation(cell, task, model))
    shots = own if own == 0 or num_fewshot is None else num_fewshot
    versions = blank.versions | {library: version(library) for library in ("lm_eval", "datasets")}
    return replace(
        blank, options={"num_fewshot": shots or 0, **source}, versions=versions, block=BLOCK, batch=1,
        command=command or blank.command,
    )  # fmt: skip


def _evaluate(task: Any, blank: Record, model: Model, folder: Path, num_fewshot: int | None, manager: Any) -> Record:
    """lm-eval's own run of one task as a record; what goes wrong is its status and reason."""
    from lm_eval import simple_evaluate

    lm = AtlasLM(model)
    answered = folder / ".checkpoints" / f"lm-eval-{cell_key(blank)}"  # lm-eval does not tell models apart in it
    resumed, started, began = Path(f"{answered}_rank0.db").exists(), resources.now(), time.perf_counter()
    resources.reset_peak()
    measured, status, reason = {}, "ok", ""
    try:
        if getattr(task, "UNSAFE_CODE", False):
            raise Unsupported(
                f"lm-eval marks {blank.subset} as a task that may run code which the model wrote, so nothing was run."
                f" Where that is safe: `atlas-bench lm-eval run --model {NAME} --model_args name={blank.model} --tasks"
                f" {blank.subset} --confirm_run_unsafe_code`."
            )
        with redirect_stdout(sys.stderr):  # stdout is for records
            results = simple_evaluate(
                lm, tasks=[task], num_fewshot=num_fewshot, limit=blank.samples or None, use_cache=str(answered),
                apply_chat_template=lm.strings.chats, bootstrap_iters=BOOTSTRAP, task_manager=manager,
            )  # fmt: skip
        measured = theirs.read(results, blank.subset, PAPERS.get(blank.subset))
    except Unsupported as error:
        status, reason = "unsupported", str(error)
    except KeyboardInterrupt:
        raise runner.Interrupted(
            f"stopped {plan.LM_EVAL}{blank.subset}. The same command goes on from there."
        ) from None
    except Exception as error:  # of lm-eval, the task or the model
        status, reason = resources.status_of(error)
    finally:
        _close(lm, answered, keep=not measured and status != "unsupported")
    seconds = time.perf_counter() - began
    facts = model.facts()  # again: which kernels ran is known only now
    return replace(
        blank,
        status=status,
        reason=reason,
        **measured,
        kernel=facts.get("kernel"),
        kernel_why=facts.get("kernel_why"),
        usage=facts.get("usage"),
        state_bytes=lm.state_bytes or None,
        tokens_read=lm.tokens_read,
        seconds=round(seconds, 3),
        tokens_per_second=round(lm.tokens_read / seconds, 1),
        peak_rss_bytes=resources.peak(),
        resumed=resumed,
        started=started,
        ended=resources.now(),
    )


def _close(lm: AtlasLM, answered: Path, *, keep: bool) -> None:
    """Close lm-eval's file of answers; a task that has ended needs it no more."""
    if (kept := lm.cache_hook.dbdict) is not None:
        kept.close() if keep else kept.terminate()
    with suppress(OSError):  # not empty: other tasks' files
        answered.parent.rmdir()


def _failed(blank: Record, error: Exception) -> Record:
    """The record of a task that could not be loaded."""
    cause = " ".join(f"{type(error).__name__}: {error}".split())
    reason = (
        f"the task could not be loaded: {cause}. Its data come from the Hugging Face hub; once they have been fetched "
        "with a network, they are read from the cache without one."
    )
    return replace(blank, reason=reason, started=resources.now(), ended=resources.now())


def _kept(record: Record, folder: Path, progress: Progress) -> Record:
    """The record, appended to the folder's file."""
    store.append(folder / FILE, record)
    progress.note(f"{plan.LM_EVAL}{record.subset} {record.model}: {score.outcome(record)}")
    return record


def _already(record: Record, folder: Path, progress: Progress) -> Record:
    progress.note(f"{plan.LM_EVAL}{record.subset} {record.model}: already in '{folder}', not run again")
    return record
