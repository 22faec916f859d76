"""The Python API: what the commands do, as functions. docs/python.md shows each at work.

    import atlas_bench

    records = atlas_bench.run("babilong:qa1", lengths="1K,16K", models=["atlas-nano", MyModel()], samples=20)
    table = atlas_bench.load("runs")                                  # a pandas DataFrame
    print(atlas_bench.report("runs", format="markdown"))

Arguments have the names and the defaults of the command's options, in the plural where they take several; the commands
read their defaults here. A mistake is an atlas_bench.UserError, with the message that the command prints. Everything
heavy is imported inside the functions: `import atlas_bench` takes a few milliseconds.
"""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlas_bench.errors import UserError
from atlas_bench.types import Model

if TYPE_CHECKING:
    import pandas as pd

    from atlas_bench.results.record import Record
    from atlas_bench.results.store import Source
    from atlas_bench.types import Sample, Scorer

PathLike = str | Path
Samples = int | str | Mapping[str | int, int]
Lengths = str | int | Iterable[str | int]
Models = str | Path | Model | Sequence[str | Path | Model] | Mapping[str, str | Path | Model]


def run(
    task: str | Sequence[str], lengths: Lengths | None = None, models: Models = "gated-deltanet-nano",
    samples: Samples | None = None, seeds: int | Iterable[int] = 0, *, until: float | None = None,
    data: PathLike = "generated", background: PathLike = "generated", prompt: str = "bare",
    encoding: str | None = None, num_fewshot: int | None = None, shard: str | None = None, engine: str = "local",
    out: PathLike = "runs", batch: int | None = None, block: str | int | None = None,
    checkpoint_every: str | int = "1M", checkpoints: str | None = None, timeout: float | None = None,
    readers: int = 1, threads: int | None = None,
    device: str | None = None, matmul_precision: str | None = None, code: PathLike | Iterable[PathLike] = (),
    canary: bool = False, debug: bool = False, quiet: bool = True,
) -> list[Record]:  # fmt: skip
    """Ask models about long contexts: `atlas-bench run`.

    task      'babilong:qa1', 'niah,mqar:8', './my_task.py' (is executed), 'lm-eval:piqa'; several in a list
    lengths   tokens of a prompt: 16_000, '16K', '4Ki,10M', '1K..64K', or a list; None: a first look at 1K and 16K
    models    names, model folders, 'hf:..', 'openai:..', Model objects of your own, or a mapping of names to them
    samples   questions in each cell, or at each length: 100, {"1K": 500}, '100,10M=20'; None: those of docs/tasks.md
    until     points; a cell is asked no more once its 95 % interval is so wide, and `samples` is the most
    seeds     decide every sample
    shard     '2/4': the second of four parts of every cell; merge() puts all four folders together
    engine    'ray' or 'ray:ADDRESS' spreads cells over a Ray cluster; models are then names
    out       folder of the records; what it has a final record of is not run again
    checkpoints  URL where checkpoints are copied, and taken from by a machine that has none
    timeout   seconds that a cell may take
    readers   blocks of a stream that are made and searched for writes at once, and processes that make generated text
    quiet     shows no progress; warnings are shown on stderr

    `atlas-bench run --help` explains the others. Returns the records of all cells, those of earlier runs too, failures
    too. Raises UserError for a mistake before anything is written, KeyboardInterrupt after a checkpoint on Ctrl-C.
    """
    given = locals()
    from atlas_bench import job
    from atlas_bench.running import unread
    from atlas_bench.running.progress import Progress

    written = ",".join(_several(task))
    for why, names in unread.by_run(written):
        _refuse(run, given, why, names)
    return job.prepare(
        written, lengths=lengths, models=models, samples=samples, until=until, seeds=_each(seeds),
        data=str(data), background=str(background), prompt=prompt, encoding=encoding, num_fewshot=num_fewshot,
        out=Path(out), batch=batch, block=block, checkpoint_every=checkpoint_every, checkpoints=checkpoints,
        timeout=timeout, readers=readers, threads=threads, device=device, matmul_precision=matmul_precision,
        code=_several(code), canary=canary, debug=debug, shard=shard, engine=engine,
        progress=Progress(quiet=quiet), command=_written(run, given),
    ).run()  # fmt: skip


def load(records: Source) -> pd.DataFrame:
    """Records as a tidy table: a row per record and scorer, one where a record has no score.

    records  a file, a folder, several of them, or what run() returned

    Of several records of one cell the latest counts, as in a report. docs/python.md lists the columns, which
    results/leaderboard.py defines. Lines that are not records are skipped with a warning. Raises UserError for a path
    that is not there.
    """
    from atlas_bench.results import leaderboard, store, summary

    return leaderboard.make(summary.summaries(store.scan(records, _warn))).frame


def report(
    records: Source,
    format: str | None = None,
    *,
    out: PathLike | None = None,
    answers: PathLike | None = None,
    threshold: float = 80,
    published: bool = True,
    task: str | Sequence[str] = (),
    model: str | Sequence[str] = (),
) -> str:
    """Results, models x lengths, as one text: `atlas-bench report`.

    records    a file, a folder, several of them, or what run() returned
    format     'text', 'markdown', 'html', 'csv', 'latex' or 'json'; None: by the suffix of `out`, else text
    out        file to write the text into, too
    answers    .html file to write every answer into, too, in parts (answers-2.html, ..) where one would be too large
    threshold  per cent that the lower bound of an effective length must reach
    published  whether others' numbers stand beside
    task       only these, 'babilong' or 'babilong:qa1'
    model      only these, as the records name them

    Raises UserError for an unknown form, and where no record is left.
    """
    given = locals()
    from atlas_bench import units
    from atlas_bench.files import output_file
    from atlas_bench.results import report as results

    file, page = (None if path is None else Path(path) for path in (out, answers))
    output_file.check(file)
    output_file.check(page, "answers")
    form = results.chosen({f"format={format!r}": format}, file)
    text, pages = results.with_answers(
        records, page, leaderboard=file if form == "html" else None, form=form, threshold=units.share_of(threshold),
        published=published, tasks=_tasks(task),
        models=_several(model), warn=_warn, command=_written(report, given),
    )  # fmt: skip
    for part, html in pages.items():
        output_file.write(part, html)
    if file:
        output_file.write(file, text)
    return text


def show(
    records: Source,
    index: int,
    *,
    task: str | None = None,
    length: str | int | None = None,
    model: str | None = None,
    seed: int | None = None,
    data: PathLike | None = None,
    background: PathLike | None = None,
    prompt: str | None = None,
    samples: int | None = None,
    weights: str | None = None,
    tokenizer: str | None = None,
) -> dict[str, Any]:
    """One question of a record with its surroundings, made again from the record: `atlas-bench show`.

    records  a file, a folder, several of them, or what run() returned
    index    of the question, from 0

    The others choose one record of several, `atlas-bench show --help` explains them. Returns plain data: 'context'
    (the prompt's ends and what surrounds the facts), 'question', 'targets', 'answer', 'correct' by scorer, 'facts'
    and their positions. Raises UserError if several records are left, and where the sample cannot be made again.
    """
    from atlas_bench.results import store
    from atlas_bench.running import remake

    return remake.show(
        store.scan(records, _warn), index, task=task, length=length, model=model, seed=seed, data=_path(data),
        background=_path(background), prompt=prompt, samples=samples, weights=weights, tokenizer=tokenizer,
    )  # fmt: skip


def score(
    records: Source,
    scorer: str | Path | Scorer | Callable[[str, Sample], bool | float],
    *,
    out: PathLike | None = None,
    task: str | Sequence[str] = (),
    model: str | Sequence[str] = (),
    data: PathLike | None = None,
    background: PathLike | None = None,
    tokenizer: str | None = None,
) -> list[Record]:
    """Judge recorded answers by another scorer: `atlas-bench score`. No model runs.

    records  a file, a folder, several of them, or what run() returned
    scorer   'babilong/word', a scorer of our tasks; './my_scorer.py' (is executed), which defines
             score(answer, sample); such a function itself, or a types.Scorer
    out      new .jsonl file to write the new records into, too
    task     only these, 'babilong' or 'babilong:qa1'
    model    only these, as the records name them

    data, background and tokenizer are as in show(); they matter if a scorer reads fields that the record does not have.
    Returns the new records, in the order of the old ones, less those without answers: each is the old one with the
    scorer's verdicts beside the old ones, its score as the headline, and its source in `rescored`. Raises UserError
    where the scorer fails, where no record has answers, and where `out` is there already.
    """
    given = locals()
    from atlas_bench.results import store
    from atlas_bench.running import rescore

    file = None if out is None else rescore.new_file(Path(out))
    new = rescore.records(
        store.scan(records, _warn), rescore.load(scorer), models=_several(model),
        tasks=_tasks(task), data=_path(data),
        background=_path(background), tokenizer=tokenizer, command=_written(score, given), warn=_warn,
    )  # fmt: skip
    made = list(new)
    if file is not None:
        rescore.write(made, file)
    return made


def merge(folders: PathLike | Iterable[PathLike], out: PathLike) -> dict[str, list[str]]:
    """Put the records of shards together: `atlas-bench merge`.

    folders  that run(.., shard="i/N") wrote; cells that were not split are copied as they are
    out      folder of the records that one run would have written; what it has already is not written again

    Returns "written" and "already" (one text for each cell) and "missing" (what keeps a cell from being whole). Raises
    UserError for a folder without records, and where `out` cannot be written.
    """
    given = locals()
    from atlas_bench.running import merge as merging

    return merging.merge(_several(folders), Path(out), warn=_warn, command=_written(merge, given))


def compare(
    candidates: Sequence[str | Model],
    task: str | Sequence[str],
    lengths: Lengths,
    *,
    train: str | int | None = None,
    seeds: int = 1,
    rates: int = 1,
    init: PathLike | None = None,
    samples: Samples = 200,
    sequential: bool = False,
    seed: int = 0,
    data: PathLike = "generated",
    background: PathLike = "generated",
    prompt: str = "bare",
    encoding: str | None = None,
    out: PathLike = "compare",
    jobs: int = 2,
    device: str | None = None,
    code: PathLike | Iterable[PathLike] = (),
    quiet: bool = True,
) -> dict[str, Any]:
    """Compare memories or models on the same questions, in pairs: `atlas-bench compare`.

    candidates  the baseline first: memories to be trained ('titans', './my_memory.py', which is executed), attention
                alone ('transformer', 'swa'), trained models ('atlas-nano', a folder), Model objects of your own
    train       tokens to train each memory with, '20M'; None: all candidates are trained models
    seeds       trainings of each memory; the verdict is then about trainings, and not about single weights
    rates       learning rates to choose from by the loss on held-out lessons, a factor of 3 apart
    init        model that trainings begin from
    samples     questions in each cell, or at each length, as run() takes them
    sequential  asks a cell no more once its verdict is decided; `samples` is then the most
    seed        of the first training, and of its questions
    prompt      'bare', or 'official' for BABILong's, which models other than ours need
    jobs        trainings at once

    Returns the comparison as plain data, comparison/paired.py: "rows" with each score and its paired difference to the
    baseline, "costs", "warnings". A candidate that fails is a row with that status. Raises UserError for a mistake
    before anything is trained, KeyboardInterrupt on Ctrl-C.
    """
    given = locals()
    from atlas_bench.comparison import compare as comparison
    from atlas_bench.running.progress import Progress

    compared, _ = comparison.prepare(
        candidates, task=",".join(_several(task)), lengths=lengths, out=Path(out), init=_path(init),
        samples=samples, sequential=sequential, seed=seed, train=train, seeds=seeds, rates=rates, data=str(data),
        background=str(background), prompt=prompt, encoding=encoding, jobs=jobs, device=device, code=_several(code),
        progress=Progress(quiet=quiet), command=_written(compare, given),
    ).run()  # fmt: skip
    return compared


def train(
    memory: str,
    out: PathLike,
    *,
    init: PathLike | None = None,
    tokens: str | int | None = None,
    task: str | Sequence[str] = "babilong:qa1",
    seed: int = 0,
    background: PathLike | Sequence[PathLike] = (),
    encoding: str | None = None,
    hold_out: str | Sequence[str] = (),
    size: str = "nano",
    attention_window: int | None = None,
    layers: int | None = None,
    placement: str = "behind",
    persistent: int = 0,
    screen: int = 0,
    segment: int = 16,
    context: str | int = "4Ki",
    batch: int = 4,
    fixed_schedule: bool = False,
    rate: float = 1.0,
    validate: bool = False,
    log_to: str | Sequence[str] = (),
    threads: int | None = None,
    device: str | None = None,
    shard_weights: bool = False,
    examine: bool = True,
    quiet: bool = True,
) -> Path:
    """Train a model by the one fixed recipe, or go on where a call was stopped: `atlas-bench train`.

    memory  'titans', 'atlas:degree=1', './my_memory.py' (is executed); 'none' leaves attention alone
    out     folder of the model, which is a model's name from then on: run(.., models=out)
    tokens  budget over all stages, '2M'; None: the recipe's own
    task    what to learn; "loss:text" is a language model of the background
    quiet   prints no progress; warnings are shown

    `atlas-bench train --help` explains the others. Returns the folder. Raises UserError before anything is written.
    """
    given = locals()
    from atlas_bench.running import unread
    from atlas_bench.training import command

    for why, names in unread.by_train(placement, _several(task)):
        _refuse(train, given, why, names)

    def say(line: str) -> None:
        if line.startswith("warning: "):
            _warn(line.removeprefix("warning: "))
        elif not quiet:
            print(line)

    return command.main(
        memory=memory, out=Path(out), init=_path(init), tokens=tokens, task=_several(task), seed=seed,
        background=_several(background), encoding=encoding, hold_out=_several(hold_out), size=size,
        attention_window=attention_window, layers=layers, placement=placement, persistent=persistent, screen=screen,
        segment=segment, context=context, batch=batch, fixed_schedule=fixed_schedule, rate=rate, validate=validate,
        log_to=_several(log_to), threads=threads, device=device, shard_weights=shard_weights, examine=examine, say=say,
    )  # fmt: skip


def list_models() -> dict[str, str]:
    """Name -> one line on it, of the embedded models and the controls: `atlas-bench list models`."""
    from atlas_bench.running.listing import listing

    return listing("models")


def list_tasks() -> dict[str, str]:
    """Name -> one line on it, of the tasks: `atlas-bench list tasks`."""
    from atlas_bench.running.listing import listing

    return listing("tasks")


def defaults(function: Callable[..., Any]) -> dict[str, Any]:
    """Name -> default of the function's arguments; the command of its name has the same defaults."""
    parameters = inspect.signature(function).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters if parameter.default is not parameter.empty}


def _each(given: Any) -> Iterable[Any]:
    """Several, where one or several are given."""
    return [given] if isinstance(given, (str, os.PathLike)) or not isinstance(given, Iterable) else given


def _several(given: Any) -> list[str]:
    """One or several, as a list of texts."""
    return [str(value) for value in _each(given)]


def _tasks(given: Any) -> list[str]:
    """Tasks, where one, several or comma-separated ones are given."""
    from atlas_bench import registry

    return registry.split_tasks(",".join(several)) if (several := _several(given)) else []


def _path(given: PathLike | None) -> str | None:
    return None if given is None else str(given)


def _refuse(function: Callable[..., Any], given: Mapping[str, Any], why: str, names: Iterable[str]) -> None:
    """Raise UserError for the first of some arguments that is not as by default."""
    usual = defaults(function)
    for name in names:
        if repr(given[name]) != repr(usual[name]):
            raise UserError(f"{name} {why}. Leave it out.")


def _written(function: Callable[..., Any], given: Mapping[str, Any]) -> str:
    """The call as a line of Python, which records and reports name as the command; defaults are left out."""
    usual = defaults(function)
    shown = {name: _shown(value) for name, value in given.items()}
    named = [f"{name}={text}" for name, text in shown.items() if name in usual and text != _shown(usual[name])]
    needed = [text for name, text in shown.items() if name not in usual]
    return f"atlas_bench.{function.__name__}({', '.join(needed + named)})"


def _shown(value: Any) -> str:
    """A value as Python source; for an object, its class."""
    if value is None or isinstance(value, (str, int, float)):
        return repr(value)
    if isinstance(value, os.PathLike):
        return repr(str(value))
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_shown(name)}: {_shown(item)}' for name, item in value.items())}}}"
    if isinstance(value, (list, tuple, set, range)):
        return f"[{', '.join(map(_shown, value))}]"
    return type(value).__name__


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=2)
