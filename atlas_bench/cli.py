"""The commands: parse, call, render. Everything heavy is imported inside them, so that --help is quick."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from atlas_bench.errors import UserError


class _Commands(TyperGroup):
    """A UserError is one message on stderr and exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(2) from None


# plain help: rich's costs as much to import as all the rest
app = typer.Typer(
    cls=_Commands,
    help="How far does a sequence model really remember?",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """The console command."""
    app()


def _version(asked: bool) -> None:
    if asked:
        from atlas_bench import __version__

        typer.echo(f"atlas-bench {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def run(
    task: Annotated[str, typer.Argument(metavar="TASK[:SUBSET][,..]", help="babilong:qa1; all subsets without one")],
    length: Annotated[str, typer.Option("--len", metavar="L[,L..]", help="16K, 4Ki, 10M, 1K..64K")],
    model: Annotated[list[str], typer.Option(help="Name or folder; repeatable.")] = ["atlas-nano"],  # noqa: B006
    samples: Annotated[int, typer.Option(min=1, help="Questions in each cell.")] = 100,
    seed: Annotated[list[int], typer.Option(help="Decides every sample; repeatable.")] = [0],  # noqa: B006
    data: Annotated[str, typer.Option(help="generated, hub, or a folder of bAbI files")] = "generated",
    background: Annotated[str, typer.Option(help="generated, pg19, or a folder of .txt files")] = "generated",
    prompt: Annotated[str, typer.Option(help="bare or official")] = "bare",
    out: Annotated[Path, typer.Option(help="Folder of the records.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the records as JSON, nothing else.")] = False,
    batch: Annotated[int | None, typer.Option(min=1, help="Streams read side by side [min(samples, 8)].")] = None,
    block: Annotated[str | None, typer.Option(help="Tokens fed at once [4096 over all streams].")] = None,
    checkpoint_every: Annotated[str, typer.Option(help="Tokens of a stream between checkpoints.")] = "1M",
    timeout: Annotated[float | None, typer.Option(min=0, help="Seconds a cell may take.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of the model.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    debug: Annotated[bool, typer.Option(help="Show the traceback of a model's failure.")] = False,
) -> None:
    """Ask models about long contexts; the same command again runs only what is missing.

    Exit code: 0, 1 where a cell failed, 2 for a mistake in the command, 130 after Ctrl-C.
    """
    from atlas_bench import plan, runner
    from atlas_bench.models import loading
    from atlas_bench.progress import Progress
    from atlas_bench.results import store
    from atlas_bench.types import TaskOptions
    from atlas_bench.units import parse_length, parse_lengths

    cells = plan.make(
        plan.parse_tasks(task),
        lengths=parse_lengths(length),
        models=model,
        seeds=seed,
        samples=samples,
        options=TaskOptions(data=data, background=background, prompt=prompt),
    )
    streams = min(batch or 8, samples)
    settings = runner.Settings(
        # fewer leave the second core idle, more leave the cache; it changes the speed alone
        block=parse_length(block) if block else max(256, 4096 // streams),
        batch=streams,
        checkpoint_tokens=parse_length(checkpoint_every),
        timeout=timeout,
        debug=debug,
    )
    store.check_writable(out)
    models = {name: loading.load(name, threads=threads) for name in dict.fromkeys(model)}
    plan.check(cells, models)  # the last thing that can be the user's mistake; from here on files are written
    try:
        records = runner.run(cells, models, out, settings, Progress(quiet=quiet))
    except KeyboardInterrupt as stop:
        typer.echo(str(stop) or "stopped", err=True)
        raise typer.Exit(130) from None
    _print(records, as_json)
    if any(record.status == "failed" for record in records):
        raise typer.Exit(1)


def _print(records: list[Any], as_json: bool) -> None:
    if as_json:
        typer.echo(f"[{', '.join(record.to_json() for record in records)}]")
        return
    from rich.console import Console

    from atlas_bench.results import table

    table.render(records, Console(file=sys.stdout))


@app.command("list")
def list_(what: Annotated[Literal["tasks", "models", "memories"], typer.Argument()]) -> None:
    """The names a command takes."""
    from atlas_bench import registry

    if what == "models":
        from atlas_bench.models import loading

        lines = loading.names()
    elif what == "memories":
        lines = list(registry.MEMORIES)
    else:
        lines = [f"{name}: {', '.join(registry.task(name).subsets)}" for name in registry.TASKS]
    typer.echo("\n".join(lines))


@app.command()
def describe(name: Annotated[str, typer.Argument(help="A task, model, memory or model folder.")]) -> None:
    """What a task asks, what a model is made of, what a memory computes."""
    import inspect
    import json

    from atlas_bench import registry
    from atlas_bench.errors import unknown
    from atlas_bench.models import loading

    if name in registry.TASKS:
        typer.echo(registry.task(name).describe())
    elif name in registry.MODELS:
        typer.echo(inspect.getdoc(type(registry.control(name))))
    elif name in registry.MEMORIES:
        variant = registry.memory(name)  # a memory's file opens with its equation
        typer.echo(inspect.getdoc(inspect.getmodule(variant)) if variant else "No memory: attention alone.")
    elif name in loading.names() or Path(name).expanduser().is_dir():
        typer.echo(json.dumps(loading.card(name), indent=2))
    else:
        known = [*registry.TASKS, *loading.names(), *registry.MEMORIES]
        raise unknown("task, model or memory", name, known)


@app.command()
def train(
    memory: Annotated[str, typer.Option(help="See `list memories`; none for attention alone.")],
    out: Annotated[Path, typer.Option(help="Folder of the model; the same command goes on there.")],
    init: Annotated[str | None, typer.Option(help="A model to begin from, by name or folder.")] = None,
    tokens: Annotated[str | None, typer.Option(help="Training budget: 20M.")] = None,
    subset: Annotated[list[str] | None, typer.Option(help="What to learn, qa1 by default; repeatable.")] = None,
    seed: Annotated[int, typer.Option(help="Decides weights and data.")] = 0,
    background: Annotated[
        list[str] | None, typer.Option(help="generated, pg19, or a folder of .txt files; repeatable.")
    ] = None,
    hold_out: Annotated[
        list[str] | None,
        typer.Option(help="A text of the folders, without .txt, never to be seen; repeatable."),
    ] = None,
    attention_window: Annotated[int, typer.Option(min=0, help="Tokens; 0 for full attention.")] = 16,
    layers: Annotated[int, typer.Option(min=1, help="Of attention, memory and MLP.")] = 2,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
) -> None:
    """Train a model by the one fixed recipe; the same command resumes."""
    from atlas_bench.train import command
    from atlas_bench.units import parse_length

    command.main(
        memory=memory, out=out, init=init, tokens=parse_length(tokens) if tokens else None,
        subsets=subset or ["qa1"], seed=seed, backgrounds=background or ["generated"],
        hold_out=hold_out or [], attention_window=attention_window, layers=layers, threads=threads,
    )  # fmt: skip
