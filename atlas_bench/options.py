"""The options and arguments that commands declare, but for their defaults; names are completed without importing torch.

def command(task: options.Task, samples: options.Samples = 100, as_json: options.Json = False): ...
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, BadParameter, Exit, Option, echo

from atlas_bench.errors import UserError


def _completing(*kinds: str) -> Callable[[str], list[str]]:
    """A function from what has been typed so far to the names that it may become."""

    def complete(incomplete: str) -> list[str]:
        from atlas_bench import describe

        return describe.complete(incomplete, *kinds)

    return complete


# Mistakes in a value, told before anything heavy is imported; what begins with a blank goes on behind the value
def _reading(reader: str) -> Callable[[str | None], str | None]:
    """A check that a function of units can read the value, which stays as it was typed."""

    def check(value: str | None) -> str | None:
        from atlas_bench import units

        try:
            if value is not None:
                getattr(units, reader)(value)
        except UserError as error:
            said = str(error)
            for what in ("length", "length range"):
                said = said.removeprefix(f"{what} '{value}'")
            raise BadParameter(said) from None
        return value

    return check


def _few(threads: int | None) -> int | None:
    cores = os.cpu_count() or 1
    if threads and threads > (most := max(16, 4 * cores)):  # torch takes any number, and crashes on large ones
        raise BadParameter(f" is too many for the {cores} cores of this machine. Give {most} or fewer.")
    return threads


def _per_cent(value: float | None) -> float | None:
    if value and value <= 1:
        raise BadParameter(f" is {value:g} %. Write {100 * value:g} for {100 * value:g} %.")
    return value


def _page(file: Path | None) -> Path | None:
    if file and file.suffix.lower() not in (".html", ".htm"):
        raise BadParameter(" is no page. Give a file that ends in .html.")
    return file


_length, _lengths = _reading("parse_length"), _reading("parse_lengths")
_tasks, _models, _memories = _completing("tasks"), _completing("models"), _completing("memories")
_contenders, _names = _completing("memories", "models"), _completing("tasks", "models", "memories", "sizes")

_TASKS, _LENGTHS = "TASK[:SUBSET][,..]", "L[,L..]"
_LENGTH_HELP = "16K, 4Ki, 10M, 1K..64K"
_TEXTS = "generated, pg19, or a folder of .txt files"

# Arguments
RunTask = Annotated[
    str,
    Argument(metavar=_TASKS, help="babilong:qa1, niah, ./my_task.py (is run), lm-eval:piqa", autocompletion=_tasks),
]
Contenders = Annotated[
    list[str], Argument(metavar="BASELINE OTHER..", help="titans, ./my_memory.py, ..", autocompletion=_contenders)
]
VerifiedMemory = Annotated[
    str, Argument(metavar="MEMORY", help="./my_memory.py or a name, :option=value,..", autocompletion=_memories)
]
Kind = Annotated[
    str | None,
    Argument(
        metavar="KIND", help="tasks, models, memories or sizes [all of them]", autocompletion=_completing("kinds")
    ),
]
Name = Annotated[
    str,
    Argument(
        metavar="NAME",
        help="A task, TASK:SUBSET, task file, model, memory, size or model folder.",
        autocompletion=_names,
    ),
]
TrainedModel = Annotated[
    str, Argument(metavar="MODEL", help="Name or folder of a trained model.", autocompletion=_models)
]
Records = Annotated[list[Path], Argument(metavar="PATHS..", help="Files of records (.jsonl), or folders of them.")]
Old = Annotated[Path, Argument(metavar="OLD", help="A file of records (.jsonl), or a folder of them.")]
New = Annotated[Path, Argument(metavar="NEW", help="Those to compare them with.")]
NewFolder = Annotated[Path, Argument(metavar="FOLDER", help="Where to write; new or empty.")]

# What is asked, and of whom
Task = Annotated[str, Option(metavar=_TASKS, help="mqar:32,babilong:qa1", autocompletion=_tasks)]
Tasks = Annotated[list[str] | None, Option(metavar=_TASKS, help="Only these; repeatable.", autocompletion=_tasks)]
Lessons = Annotated[
    list[str] | None,
    Option(metavar=_TASKS, help="What to learn; repeatable [babilong:qa1].", autocompletion=_tasks),
]
Length = Annotated[str, Option("--len", metavar=_LENGTHS, help=_LENGTH_HELP, callback=_lengths)]
LengthUnlessLmEval = Annotated[str | None, Option("--len", metavar=_LENGTHS, help=_LENGTH_HELP, callback=_lengths)]
RunModels = Annotated[
    list[str], Option(help="Name, folder, hf:NAME or openai:URL#MODEL; repeatable.", autocompletion=_models)
]
Models = Annotated[list[str] | None, Option(help="Only these; repeatable.", autocompletion=_models)]
Samples = Annotated[int, Option(min=1, help="Questions in each cell.")]
RunSamples = Annotated[int | None, Option(min=1, help="Questions in each cell [100; all of lm-eval's].")]
Seeds = Annotated[list[int], Option(help="Decides every sample; repeatable.")]
CompareSeed = Annotated[int, Option(help="Decides weights, lessons and questions.")]
TrainSeed = Annotated[int, Option(help="Decides weights and data.")]
Data = Annotated[str, Option(help="generated, hub, or a folder: see `describe TASK`")]
Background = Annotated[str, Option(help=_TEXTS)]
Prompt = Annotated[Literal["bare", "official"], Option(help="official: BABILong's instruction and examples.")]
NumFewshot = Annotated[int | None, Option(min=0, help="Of lm-eval's tasks [the task's own].")]

# How models are run
Batch = Annotated[int | None, Option(min=1, help="Streams read side by side [min(samples, 8)].")]
Block = Annotated[str | None, Option(help="Tokens fed at once [4096 over all streams].", callback=_length)]
CheckpointEvery = Annotated[str, Option(help="Tokens of a stream between checkpoints.", callback=_length)]
Timeout = Annotated[float | None, Option(min=0, help="Seconds a cell may take.")]
Threads = Annotated[int | None, Option(min=1, help="CPU threads.", callback=_few)]
Device = Annotated[Literal["cpu", "cuda"] | None, Option(help="Where models run [a GPU where there is one].")]
Products = Annotated[
    Literal["fp32", "tf32", "bf16"] | None, Option(help="Of matrices; see `doctor` [what is fastest here].")
]
Code = Annotated[list[Path], Option(help="Memory file (.py) of a model folder; is run; repeatable.")]
DryRun = Annotated[bool, Option("--dry-run", help="Tell what it would take, and run nothing.")]
Debug = Annotated[bool, Option("--debug", help="Show the traceback of a model's failure.")]

# How models are trained
Memory = Annotated[
    str, Option(help="See `list memories`; :option=value,..; or a .py file, which is run.", autocompletion=_memories)
]
Train = Annotated[str | None, Option(metavar="TOKENS", help="Train memories first: 20M for each.", callback=_length)]
Init = Annotated[str | None, Option(help="A model to begin from, by name or folder.", autocompletion=_models)]
Jobs = Annotated[int, Option(min=1, help="Trainings at once, one thread each.")]
Tokens = Annotated[str | None, Option(help="Training budget: 20M.", callback=_length)]
Backgrounds = Annotated[list[str] | None, Option(help=f"{_TEXTS}; repeatable.")]
HoldOut = Annotated[list[str] | None, Option(help="A text of the folders, without .txt, never to be seen; repeatable.")]
AttentionWindow = Annotated[int, Option(min=0, help="Tokens; 0 for full attention.")]
Layers = Annotated[int, Option(min=1, help="Of attention, memory and MLP.")]
Placement = Annotated[str, Option(help="behind, lmm, mal, mag or mac: docs/placements.md.")]
Persistent = Annotated[int, Option(min=0, help="Learnt tokens of each layer, always in sight.")]
Segment = Annotated[int, Option(min=1, help="Tokens that attention spans in placement mac.")]
Screen = Annotated[int, Option("--screen", min=0, help="Tokens that a gate before all write gates sees; 0: none.")]
Paced = Annotated[bool, Option("--paced", help="Lengths by tokens spent, not by what is learnt.")]
NoExamine = Annotated[bool, Option("--no-examine", help="Skip the check on fresh contexts at the end.")]

# What is written and printed
RecordsFolder = Annotated[Path, Option(help="Folder of the records.")]
CompareFolder = Annotated[Path, Option(help="Folder of models and records.")]
ModelFolder = Annotated[Path, Option(help="Folder of the model; the same command goes on there.")]
ReportFile = Annotated[Path | None, Option("-o", "--out", metavar="FILE", help="Write it, in the form of its suffix.")]
Page = Annotated[
    Path | None, Option("-o", "--page", metavar="FILE.html", help="Write it as a page, too.", callback=_page)
]
Form = Annotated[
    Literal["text", "md", "csv", "tex", "json", "html"] | None, Option("--format", help="[by FILE's suffix, or text]")
]
Threshold = Annotated[
    float,
    Option(min=0, max=100, help="Of effective length: per cent that lower bounds must reach.", callback=_per_cent),
]
NoPublished = Annotated[bool, Option("--no-published", help="Leave others' numbers out.")]
To = Annotated[Literal["dataset", "babilong-evals"], Option(help="What it is to be: docs/push.md.")]
Repository = Annotated[str | None, Option("--name", metavar="ORG/MODEL", help="What it is to be called.")]
Json = Annotated[bool, Option("--json", help="Print plain data and nothing else.")]
Quiet = Annotated[bool, Option("--quiet", "-q", help="No progress.")]


# Before every command
def _version(asked: bool) -> None:
    if asked:
        from atlas_bench import __version__

        echo(f"atlas-bench {__version__}")
        raise Exit


Version = Annotated[bool, Option("--version", callback=_version, is_eager=True, help="Print the version.")]
Config = Annotated[
    Path | None,
    Option(
        "--config",
        metavar="FILE",
        envvar="ATLAS_BENCH_CONFIG",
        show_envvar=False,
        help="Values of options [./atlas-bench.toml].",
    ),
]
PrintConfig = Annotated[
    bool, Option("--print-config", help="Print a command's values and where each is from; run nothing.")
]
