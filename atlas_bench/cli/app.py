"""The commands: parse, call, render. Everything heavy is imported inside them, so that --help is quick.

    from atlas_bench.cli.app import app
    app(["run", "babilong:qa1", "--len", "16K", "--samples", "20"])         # as `atlas-bench run ..` does it

A mistake is one message on stderr and exit code 2. With --json standard output is plain data and nothing else.
"""

from __future__ import annotations

import os

import typer

from atlas_bench.cli import config, info_commands, model_commands, output, report_commands, run_commands
from atlas_bench.cli import options as opt
from atlas_bench.cli.commands import Command, Commands

# plain help: rich's costs as much to import as all the rest
app = typer.Typer(
    cls=Commands,
    help="How far does a sequence model really remember?",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
COMMANDS = {  # in the order of use -> examples of their help
    run_commands.run: (
        "run babilong",
        "run babilong:qa1 --len 16K,1M --model atlas-nano,omeganet-nano",
        "run niah --len 4K,64K --model small=hf:Qwen/Qwen2.5-0.5B",
        "run babilong:qa1 --len 1K,10M --samples 1K=500,10M=20",
    ),
    report_commands.report: (
        "report runs",
        "report runs -o leaderboard.html",
        "report runs -o leaderboard.html --answers answers.html",
    ),
    report_commands.show: (
        "show runs 3 --task babilong:qa2 --len 16K --model atlas-nano",
        "show runs/babilong.jsonl 0 --len 10M --json",
    ),
    report_commands.score: (
        "score runs --scorer ./my_scorer.py -o new.jsonl",
        "score runs --scorer babilong/word --task babilong -o new.jsonl",
    ),
    report_commands.merge: ("merge shard-1 shard-2 shard-3 --out runs",),
    run_commands.compare: (
        "compare atlas-nano omeganet-nano --task babilong:qa1 --len 1K,4K",
        "compare titans ./my_memory.py --task mqar:8 --len 1K --train 2M",
        "compare titans atlas --task mqar:8 --len 1K --train 2M --seeds 3",
    ),
    run_commands.probe: (
        "probe atlas-nano",
        "probe ./my-model --task mqar:8 --len 1K,16K --reset 500",
    ),
    report_commands.changes: (
        "changes runs-before runs",
        "changes runs-before runs -o changes.html",
    ),
    model_commands.train: (
        "train --memory titans --out my-titans --tokens 20M",
        "train --memory ./my_memory.py --task mqar:8 --out my-model",
    ),
    model_commands.verify: (
        "verify ./my_memory.py",
        "verify omeganet:omega_window=4",
    ),
    info_commands.list_: (
        "list",
        "list memories",
    ),
    info_commands.describe: (
        "describe babilong:qa2",
        "describe atlas-nano",
    ),
    info_commands.doctor: ("doctor",),
    report_commands.push: (
        "push runs dataset",
        "push runs evals --to babilong-evals --name ORG/MODEL",
    ),
    model_commands.export: ("export atlas-nano folder",),
}


def main() -> None:
    """The console command."""
    with output.guarded():
        output.check_working_folder()
        if os.environ.get("_ATLAS_BENCH_COMPLETE") == "complete_bash":
            from atlas_bench.cli.completion import complete_in_bash

            complete_in_bash(app)
        else:
            app()


@app.callback()
def _before(
    ctx: typer.Context, version: opt.Version = False, file: opt.Config = None, show: opt.PrintConfig = False
) -> None:
    config.prepare(ctx, file, show=show)


for _command, _examples in COMMANDS.items():
    _epilog = "\n".join(("Examples:", *(f"  atlas-bench {example}" for example in _examples)))
    app.command(_command.__name__.rstrip("_"), cls=Command, epilog=_epilog)(_command)


@app.command(
    "lm-eval", add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
)
def lm_eval(ctx: typer.Context) -> None:
    """Call lm-eval's own command line; it knows our models and tasks."""
    from atlas_bench.lmeval import cli

    raise typer.Exit(cli.main(ctx.args))
