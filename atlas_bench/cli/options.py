"""The options and arguments of commands, without defaults; names are completed without importing torch.

def command(task: options.Task, samples: options.Samples = 100, as_json: options.Json = False): ...
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Argument, BadParameter, Exit, Option, echo

from atlas_bench.errors import UserError, clip
from atlas_bench.types import PromptName
from atlas_bench.units import SEEDS


def _completing(*kinds: str) -> Callable[[str], list[str]]:
    """A function from the text typed so far to the names that may complete it."""

    def complete(incomplete: str) -> list[str]:
        from atlas_bench.cli import completion

        return completion.complete(incomplete, *kinds)

    return complete


# Checks of a value, before anything heavy is imported. A message that begins with a blank follows the value
def _reading(reader: str) -> Callable[[Any], Any]:
    """A check that a function of units can read the value, which stays as it was typed."""

    def check(value: Any) -> Any:
        from atlas_bench import units

        try:
            if value is not None:
                getattr(units, reader)(value)
        except UserError as error:
            message, written = str(error), f"'{clip(str(value))}'"
            named = (f"{what} {written}" for what in ("length", "length range", "length list", "shard"))
            for beginning in (*named, f"threads {value}", f"threshold {value}"):
                message = message.removeprefix(beginning)
            raise BadParameter(message) from None
        return value

    return check


def _questions(value: Any) -> Any:
    """The number of questions, or the numbers by length, as typed."""
    from atlas_bench import units

    try:
        numbers = units.parse_samples(value)
    except UserError as error:
        raise BadParameter(str(error).removeprefix(f"samples '{clip(str(value))}': ")) from None
    return numbers[None] if numbers.keys() == {None} else value


def _points(value: float | None) -> float | None:
    """A width of an interval in points."""
    if value is not None and not 0 < value < 100:
        raise BadParameter(" is no width. Give points between 0 and 100, such as 5.")
    return value


def _page(file: Path | None) -> Path | None:
    if file and file.suffix.lower() not in (".html", ".htm"):
        raise BadParameter(" is no page. Give a file that ends in .html.")
    return file


def _encoding(name: str | None) -> str | None:
    """The encoding as Python calls it, None for UTF-8: one name for one encoding."""
    from atlas_bench.files import text_files

    try:
        return name and text_files.known(name)
    except UserError as error:
        raise BadParameter(str(error).removeprefix(f"encoding '{name}'")) from None


_length, _lengths = _reading("parse_length"), _reading("parse_lengths")
_few, _per_cent = _reading("few"), _reading("share_of")
_tasks, _models, _memories = _completing("tasks"), _completing("models"), _completing("memories")
_candidates, _names = _completing("memories", "models"), _completing("tasks", "models", "memories", "sizes")

_TASKS, _LENGTHS, _SAMPLES = "TASK[:SUBSET][,..]", "L[,L..]", "N[,L=N..]"
_LENGTH_HELP = "16K, 4Ki, 10M, 1K..64K"
_TEXTS = "generated, pg19, or a folder of .txt files"

# The options of a command stand in its help under these heads
_asked = partial(Option, rich_help_panel="What is asked")
_run = partial(Option, rich_help_panel="How models are run")
_trained = partial(Option, rich_help_panel="How models are trained")
_written = partial(Option, rich_help_panel="What is written and printed")


# Arguments
RunTask = Annotated[
    str,
    Argument(metavar=_TASKS, help="babilong:qa1, niah, ./my_task.py (is run), lm-eval:piqa", autocompletion=_tasks),
]
Candidates = Annotated[
    list[str], Argument(metavar="BASELINE OTHER..", help="titans, ./my_memory.py, ..", autocompletion=_candidates)
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
        help="A task, TASK:SUBSET, file of yours, model, memory[:option=value,..], size or model folder.",
        autocompletion=_names,
    ),
]
ProbedModel = Annotated[
    str,
    Argument(
        metavar="MODEL",
        help="An embedded model, a folder that `train` wrote, hf:NAME or py:FILE.py.",
        autocompletion=_models,
    ),
]
TrainedModel = Annotated[
    str, Argument(metavar="MODEL", help="Name or folder of a trained model.", autocompletion=_models)
]
Records = Annotated[list[Path], Argument(metavar="PATHS..", help="Files of records (.jsonl), or folders of them.")]
Old = Annotated[Path, Argument(metavar="OLD", help="A file of records (.jsonl), or a folder of them.")]
New = Annotated[Path, Argument(metavar="NEW", help="Those to compare them with.")]
Index = Annotated[int, Argument(metavar="INDEX", help="Number of the question, from 0.")]
NewFolder = Annotated[Path, Argument(metavar="FOLDER", help="Where to write; new or empty.")]

# What is asked, and of whom
Task = Annotated[str, _asked(metavar=_TASKS, help="mqar:32,babilong:qa1", autocompletion=_tasks)]
Tasks = Annotated[list[str] | None, _asked(metavar=_TASKS, help="Only these; repeatable.", autocompletion=_tasks)]
Lessons = Annotated[
    list[str] | None,
    _asked(metavar=_TASKS, help="What to learn; repeatable [babilong:qa1].", autocompletion=_tasks),
]
Length = Annotated[str, _asked("--len", metavar=_LENGTHS, help=_LENGTH_HELP, callback=_lengths)]
FirstLength = Annotated[
    str | None, _asked("--len", metavar=_LENGTHS, help=f"{_LENGTH_HELP} [1K,16K].", callback=_lengths)
]
RunModels = Annotated[
    list[str],
    _asked(
        "--model",
        metavar="MODEL[,..]",
        help="Name, folder, hf:NAME, openai:URL#MODEL, py:FILE.py; SHOWN=hf:NAME; repeatable.",
        autocompletion=_models,
    ),
]
Models = Annotated[list[str] | None, _asked(metavar="MODEL", help="Only these; repeatable.", autocompletion=_models)]
ShownTask = Annotated[
    str | None, _asked("--task", metavar="TASK[:SUBSET]", help="The record's task.", autocompletion=_tasks)
]
ShownLength = Annotated[str | None, _asked("--len", metavar="L", help="Its length: 16K.", callback=_length)]
ShownModel = Annotated[
    str | None, _asked("--model", metavar="MODEL", help="Its model, as the record names it.", autocompletion=_models)
]
ShownSeed = Annotated[int | None, _asked("--seed", metavar="N", min=-SEEDS, max=SEEDS, help="Its seed.")]
ShownData = Annotated[
    str | None, _asked("--data", metavar="WHERE", help="Its data; a folder: where they are now [where it says].")
]
ShownBackground = Annotated[
    str | None, _asked("--background", metavar="TEXTS", help="Its background, in the same way.")
]
ShownPrompt = Annotated[str | None, _asked("--prompt", metavar="NAME", help="bare or official.")]
ShownSamples = Annotated[int | None, _asked("--samples", metavar="N", min=1, help="Its number of questions.")]
ShownWeights = Annotated[
    str | None, _asked("--weights", metavar="HASH", help="First 8 digits of its weights' hash or more.")
]
ShownTokenizer = Annotated[
    str | None,
    _asked(
        "--tokenizer", metavar="NAME",
        help="That lengths are in: Hugging Face name, folder, tokenizer.json [the embedded models'].",
    ),
]  # fmt: skip
Reset = Annotated[
    str | None,
    _asked(
        metavar=_LENGTHS,
        help="Forget all but that many tokens before a question [a quarter of the context].",
        callback=_lengths,
    ),
]
Samples = Annotated[
    str, _asked(metavar=_SAMPLES, help="Questions in each cell, or at each length.", callback=_questions)
]
RunSamples = Annotated[
    str | None,
    _asked(metavar=_SAMPLES, help="Questions in each cell, or at each length [docs/tasks.md].", callback=_questions),
]
Until = Annotated[
    float | None,
    _asked(metavar="POINTS", help="Stop asking once a cell's interval is so wide.", callback=_points),
]
Sequential = Annotated[
    bool, _asked("--sequential", help="Stop asking once a verdict is decided; --samples is the most.")
]
Seeds = Annotated[
    list[int], _asked("--seed", metavar="N", min=-SEEDS, max=SEEDS, help="Decides every sample; repeatable.")
]
QuestionSeed = Annotated[int, _asked(metavar="N", min=-SEEDS, max=SEEDS, help="Decides the questions.")]
CompareSeed = Annotated[int, _asked(metavar="N", min=-SEEDS, max=SEEDS, help="Decides weights, lessons and questions.")]
TrainSeed = Annotated[int, _asked(metavar="N", min=-SEEDS, max=SEEDS, help="Decides weights and data.")]
Data = Annotated[str, _asked(metavar="WHERE", help="generated, hub, or a folder: see `describe TASK`")]
Background = Annotated[str, _asked(metavar="TEXTS", help=_TEXTS)]
Encoding = Annotated[
    str | None, _asked(metavar="NAME", help="Of the files in those folders [utf-8].", callback=_encoding)
]
Prompt = Annotated[PromptName, _asked(help="official: BABILong's instruction and examples.")]
NumFewshot = Annotated[int | None, _asked(metavar="N", min=0, help="Of lm-eval's tasks [the task's own].")]
Shard = Annotated[
    str | None,
    _asked(
        "--shard",
        metavar="I/N",
        help="Ask the I-th of N parts of every cell; see `merge`.",
        callback=_reading("parse_shard"),
    ),
]

# How models are run
Engine = Annotated[
    str, _run(metavar="ENGINE", help="local; ray or ray:ADDRESS spreads cells over a Ray cluster: docs/cluster.md.")
]
Batch = Annotated[int | None, _run(metavar="N", min=1, help="Contexts read side by side [up to 8].")]
Block = Annotated[
    str | None, _run(metavar="TOKENS", help="Tokens fed at once [4096 over all streams].", callback=_length)
]
CheckpointEvery = Annotated[
    str, _run(metavar="TOKENS", help="Tokens of a stream between checkpoints.", callback=_length)
]
Checkpoints = Annotated[
    str | None, _run(metavar="URL", help="Copy checkpoints there, and go on from these; s3://bucket/run, for example.")
]
Timeout = Annotated[float | None, _run(metavar="SECONDS", min=0, help="Seconds a cell may take.")]
Readers = Annotated[
    int, _run(metavar="N", min=1, help="Blocks of a stream made and searched at once, and processes that make text.")
]
Threads = Annotated[int | None, _run(metavar="N", min=1, help="CPU threads.", callback=_few)]
Device = Annotated[Literal["cpu", "cuda"] | None, _run(help="Where to compute [a GPU where there is one].")]
MatmulPrecision = Annotated[
    Literal["fp32", "tf32", "bf16"] | None, _run(help="Precision of matrix products [fastest available].")
]
Code = Annotated[list[Path], _run(metavar="FILE.py", help="Memory file (.py) of a model folder; is run; repeatable.")]
Canary = Annotated[bool, _run("--canary", help="See if an endpoint's cache or batches change answers.")]
DryRun = Annotated[bool, _run("--dry-run", help="Tell what it would take, and run nothing.")]
Debug = Annotated[bool, _run("--debug", help="Show the traceback of a model's failure.")]

# How models are trained
Memory = Annotated[
    str,
    _trained(
        metavar="MEMORY",
        help="See `list memories`; :option=value,..; or a .py file, which is run.",
        autocompletion=_memories,
    ),
]
Train = Annotated[str | None, _trained(metavar="TOKENS", help="Train memories first: 20M for each.", callback=_length)]
Init = Annotated[
    str | None, _trained(metavar="MODEL", help="A model to begin from, by name or folder.", autocompletion=_models)
]
TrainingSeeds = Annotated[
    int, _trained(metavar="N", min=1, max=100, help="Trainings of each, with seeds from --seed on.")
]
Rates = Annotated[int, _trained(metavar="N", min=1, max=9, help="Learning rates to choose from, a factor of 3 apart.")]
Rate = Annotated[float, _trained(metavar="FACTOR", help="Factor on the recipe's learning rates.")]
Validate = Annotated[bool, _trained("--validate", help="Put the loss on held-out lessons into the card.")]
Jobs = Annotated[int, _trained(metavar="N", min=1, help="Trainings at once, one thread each.")]
Tokens = Annotated[str | None, _trained(metavar="TOKENS", help="Training budget: 20M.", callback=_length)]
Backgrounds = Annotated[
    list[str] | None, _trained(metavar="TEXTS", help=f"{_TEXTS}; hf:DATASET for loss:text; repeatable.")
]
HoldOut = Annotated[
    list[str] | None,
    _trained(metavar="NAME", help="A text of the folders, without .txt, never to be seen; repeatable."),
]
Size = Annotated[str, _trained(metavar="NAME", help="See `list sizes`.", autocompletion=_completing("sizes"))]
AttentionWindow = Annotated[
    int | None, _trained(metavar="TOKENS", min=0, help="Tokens; 0 for full attention [the size's].")
]
Layers = Annotated[int | None, _trained(metavar="N", min=1, help="Of attention, memory and MLP [the size's].")]
Placement = Annotated[str, _trained(metavar="NAME", help="behind, lmm, mal, mag or mac: docs/placements.md.")]
Persistent = Annotated[int, _trained(metavar="N", min=0, help="Learnt tokens of each layer, always in sight.")]
Segment = Annotated[int, _trained(metavar="TOKENS", min=1, help="Tokens that attention spans in placement mac.")]
Screen = Annotated[
    int, _trained("--screen", metavar="N", min=0, help="Tokens that a gate before all write gates sees; 0: none.")
]
TextContext = Annotated[
    str, _trained("--context", metavar="TOKENS", help="Of a context of running text.", callback=_length)
]
TextBatch = Annotated[int, _trained("--batch", metavar="N", min=1, help="Contexts of running text in a step.")]
FixedSchedule = Annotated[bool, _trained("--fixed-schedule", help="Lengths by tokens spent, not by what is learnt.")]
ShardWeights = Annotated[bool, _trained("--shard-weights", help="Of running text: processes share the weights, too.")]
LogTo = Annotated[
    list[str] | None,
    _trained("--log-to", metavar="TRACKER", help="A tracker: wandb, trackio, tensorboard; repeatable."),
]
NoExamine = Annotated[bool, _trained("--no-examine", help="Skip the check on fresh contexts at the end.")]

# What is written and printed
RecordsFolder = Annotated[Path, _written(metavar="FOLDER", help="Folder of the records.")]
CompareFolder = Annotated[Path, _written(metavar="FOLDER", help="Folder of models and records.")]
ModelFolder = Annotated[Path, _written(metavar="FOLDER", help="Folder of the model; the same command goes on there.")]
ReportFile = Annotated[
    Path | None, _written("-o", "--out", metavar="FILE", help="Write it, in the form of its suffix.")
]
AnswersFile = Annotated[
    Path | None,
    _written("--answers", metavar="FILE.html", help="Write every answer as a page, too.", callback=_page),
]
Page = Annotated[
    Path | None, _written("-o", "--page", metavar="FILE.html", help="Write it as a page, too.", callback=_page)
]
Form = Annotated[
    Literal["text", "md", "csv", "tex", "json", "html"] | None, _written("--format", help="[by FILE's suffix, or text]")
]
Threshold = Annotated[
    float,
    _written(
        metavar="PERCENT",
        min=0,
        max=100,
        help="Of effective length: per cent that lower bounds must reach.",
        callback=_per_cent,
    ),
]
NoPublished = Annotated[bool, _written("--no-published", help="Leave others' numbers out.")]
To = Annotated[Literal["dataset", "babilong-evals"], _written(help="What it is to be: docs/push.md.")]
Scorer = Annotated[
    str,
    _asked(
        metavar="SCORER",
        help="A scorer of our tasks, or a .py file, which is run.",
        autocompletion=_completing("scorers"),
    ),
]
Folders = Annotated[list[Path], Argument(metavar="FOLDER..", help="Folders that `run --shard` wrote.")]
MergedFolder = Annotated[Path, _written("--out", metavar="FOLDER", help="Folder of the records put together.")]
NewRecords = Annotated[Path, _written("-o", "--out", metavar="FILE.jsonl", help="New file of the records.")]
Repository = Annotated[str | None, _written("--name", metavar="ORG/MODEL", help="What it is to be called.")]
Json = Annotated[bool, _written("--json", help="Print plain data and nothing else.")]
Quiet = Annotated[bool, _written("--quiet", "-q", help="No progress.")]


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
