"""The course of a training in trackers that the user has installed, beside log.py's file and with its figures.

    with tracking(chosen(["trackio"]), out, {"seed": 0}, warn) as track:
        track(progress)      # after each round

Each start of a training is a run of its own under the folder's name; their x axis is the training's step. Where a
tracker sends its runs is decided by its own environment variables, such as WANDB_MODE=offline.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from atlas_bench.errors import UserError, needs, reason, unknown
from atlas_bench.training.log import figures
from atlas_bench.training.recipe import Progress

PROJECT = "atlas-bench"
Run = tuple[Callable[..., Any], Callable[[], Any]]  # log(figures, step=step), and what ends the run
Start = Callable[[Path, Mapping[str, Any]], Run]  # of the model's folder and what the run is described by


def _wandb() -> Start:
    with needs("wandb", to="log to Weights & Biases"):
        import wandb

    def start(out: Path, about: Mapping[str, Any]) -> Run:
        run = wandb.init(project=PROJECT, name=out.name, group=out.name, dir=str(out), config=dict(about))
        return run.log, run.finish

    return start


def _trackio() -> Start:
    with needs("trackio", to="log to trackio"):
        import trackio

    def start(out: Path, about: Mapping[str, Any]) -> Run:
        trackio.init(project=PROJECT, name=out.name, group=out.name, config=dict(about))
        return trackio.log, trackio.finish

    return start


def _tensorboard() -> Start:
    with needs("tensorboard", to="log to TensorBoard"):
        import tensorboard  # noqa: F401 - without it, torch's writer does not say what to install
    from torch.utils.tensorboard import SummaryWriter

    def start(out: Path, about: Mapping[str, Any]) -> Run:
        writer = SummaryWriter(str(out / "tensorboard"))
        writer.add_text("about", "\n".join(f"- {name}: {value}" for name, value in about.items()))

        def log(values: Mapping[str, float], *, step: int) -> None:
            for name, value in values.items():
                writer.add_scalar(name, value, step)

        return log, writer.close

    return start


TRACKERS = {"wandb": _wandb, "trackio": _trackio, "tensorboard": _tensorboard}


def chosen(names: Iterable[str]) -> dict[str, Start]:
    """What starts each of these trackers; UserError for one that is not known or not installed.

    names  as users type them, "wandb,trackio" among them
    """
    starts = {}
    for name in ",".join(names).split(","):
        if name := name.strip():
            if name not in TRACKERS:
                raise unknown("tracker", name, TRACKERS)
            starts[name] = TRACKERS[name]()
    return starts


@contextmanager
def tracking(
    starts: Mapping[str, Start], out: Path, about: Mapping[str, Any], warn: Callable[[str], Any]
) -> Iterator[Callable[[Progress], None]]:
    """Runs of these trackers, to be called after each round; they end with the block.

    A tracker that cannot start raises UserError; one that fails later is warned of once, and ends no training.
    """
    runs: dict[str, Run] = {}

    def attempt(name: str, call: Callable[..., Any], *given: Any, **options: Any) -> None:
        try:
            call(*given, **options)
        except Exception as error:  # a library's, a server's, a full disk's: none of them is worth a training
            runs.pop(name)
            warn(f"the tracker '{name}' failed: {reason(error)}. Training goes on without.")

    def track(progress: Progress) -> None:
        values = numbers(progress)
        for name, (log, _) in list(runs.items()):
            attempt(name, log, values, step=progress.step)

    try:
        for name, start in starts.items():
            try:
                runs[name] = start(out, about)
            except Exception as error:
                raise UserError(
                    f"the tracker '{name}' cannot start: {reason(error)}. Set it up, or leave --log-to {name} out: "
                    "training.ndjson in the folder has the same figures."
                ) from error
        yield track
    finally:
        for name, (_, end) in list(runs.items()):
            attempt(name, end)


def numbers(progress: Progress) -> dict[str, float]:
    """The figures of a round that are numbers, but for the step; accuracies as kinds/NAME."""
    found = figures(progress)
    del found["step"]  # the x axis
    found |= {f"kinds/{kind}": accuracy for kind, accuracy in found.pop("kinds", {}).items()}
    return {name: value for name, value in found.items() if isinstance(value, int | float)}
