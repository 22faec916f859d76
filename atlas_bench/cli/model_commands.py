"""`train`, `verify` and `export`: models and memories of one's own."""

from __future__ import annotations

import json
import textwrap
from types import SimpleNamespace

import typer

from atlas_bench import api
from atlas_bench.cli import config, output
from atlas_bench.cli import options as opt
from atlas_bench.errors import UserError

_train = SimpleNamespace(**api.defaults(api.train))


def train(
    ctx: typer.Context,
    memory: opt.Memory,
    out: opt.ModelFolder,
    init: opt.Init = _train.init,
    tokens: opt.Tokens = _train.tokens,
    task: opt.Lessons = None,
    seed: opt.TrainSeed = _train.seed,
    background: opt.Backgrounds = None,
    encoding: opt.Encoding = _train.encoding,
    hold_out: opt.HoldOut = None,
    size: opt.Size = _train.size,
    attention_window: opt.AttentionWindow = _train.attention_window,
    layers: opt.Layers = _train.layers,
    placement: opt.Placement = _train.placement,
    persistent: opt.Persistent = _train.persistent,
    screen: opt.Screen = _train.screen,
    segment: opt.Segment = _train.segment,
    context: opt.TextContext = _train.context,
    batch: opt.TextBatch = _train.batch,
    fixed_schedule: opt.FixedSchedule = _train.fixed_schedule,
    rate: opt.Rate = _train.rate,
    validate: opt.Validate = _train.validate,
    log_to: opt.LogTo = None,
    shard_weights: opt.ShardWeights = _train.shard_weights,
    threads: opt.Threads = _train.threads,
    device: opt.Device = _train.device,
    no_examine: opt.NoExamine = not _train.examine,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Train a model by the one fixed recipe; the same command resumes."""
    output.quieten(quiet)
    output.loading(quiet)
    from atlas_bench.models import loading
    from atlas_bench.running import unread
    from atlas_bench.training import command

    for why, names in unread.by_train(placement, task or [_train.task]):
        config.refuse(ctx, why, *names)

    def say(line: str) -> None:
        if not quiet or line.startswith("warning: "):
            typer.echo(line, err=as_json)

    command.main(
        memory=memory, out=out, init=init, tokens=tokens, task=task or [_train.task], seed=seed,
        background=background or [], encoding=encoding, hold_out=hold_out or [], size=size,
        attention_window=attention_window, layers=layers, placement=placement, persistent=persistent, screen=screen,
        segment=segment, context=context, batch=batch, fixed_schedule=fixed_schedule, rate=rate, validate=validate,
        log_to=log_to or [], threads=threads, device=device, shard_weights=shard_weights, examine=not no_examine,
        say=say,
    )  # fmt: skip
    if as_json:
        typer.echo(json.dumps({"folder": str(out), "card": loading.card(str(out))}, indent=2))


def verify(memory: opt.VerifiedMemory, as_json: opt.Json = False) -> None:
    """Check a memory: is it causal, is its state of one size, ..

    A .py file is executed. Exit code 1 if a contract is broken.
    """
    output.loading(as_json)
    from atlas_bench import registry
    from atlas_bench.comparison import verify as contracts

    name, options = registry.typed_memory(memory, feed=False)
    variant = registry.memory(name)
    if variant is None:
        raise UserError(f"memory '{name}' is no memory: there is nothing to verify. See `atlas-bench list memories`.")
    results = []
    for contract, sentence in contracts.verify(variant, options):
        text = sentence or "ok"
        results.append({"contract": contract, "well": not contracts.is_broken(sentence), "said": text})
        if not as_json:  # each as soon as it is known
            typer.echo(textwrap.fill(text, 79, initial_indent=f"{contract:<16}", subsequent_indent=" " * 16))
    if as_json:
        typer.echo(json.dumps(results, indent=2))
    if not all(result["well"] for result in results):
        raise typer.Exit(1)


def export(model: opt.TrainedModel, folder: opt.NewFolder, as_json: opt.Json = False) -> None:
    """Write a model as transformers has them."""
    output.loading()
    from transformers.utils import logging

    from atlas_bench.models import causal_lm

    logging.disable_progress_bar()  # one file of a few megabytes
    causal_lm.export(model, folder)
    written = {"folder": str(folder), "files": sorted(path.name for path in folder.iterdir())}
    output.show(written, as_json, lambda written: [f"{folder}: {', '.join(written['files'])}"])
