"""The trainings of a comparison: every memory, task, seed and learning rate by the one recipe; and the rate to compare.

planned = trainings(candidates, {"mqar": ["8"]}, 2_000_000, Path("compare/models"), seeds=[0, 1, 2], rates=factors(3))
first = [each for each in planned if each.seed == 0]
rates = choose(first, workers.train_all(first, jobs=2, say=print))   # one for each memory and task
# then the other seeds, at these rates alone
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from atlas_bench import __version__, registry
from atlas_bench.comparison.candidates import Candidate
from atlas_bench.models import loading
from atlas_bench.training.recipe import Recipe

STEP = 3.0  # factor between two learning rates: two of them span what papers' grids of 1, 3, 10 do
USUAL = 1.0  # the recipe's own rates
MOST_RATES = 9  # to choose from


@dataclass(frozen=True)
class Training:
    """One model to be trained: a candidate's, on one task's lessons.

    seed, rate  of the training; rate is a factor on the recipe's learning rates
    title       what progress calls it
    words       of the command line
    validated   whether its card is to have the loss on held-out lessons
    """

    candidate: Candidate
    task: str
    seed: int
    rate: float
    folder: Path
    title: str
    words: tuple[str, ...]
    validated: bool = False


def factors(rates: int) -> list[float]:
    """So many factors on the recipe's learning rates, STEP apart, the recipe's own in the middle: 1/3, 1, 3."""
    return [STEP**power for power in range(-(rates // 2), rates - rates // 2)]


def trainings(
    candidates: Sequence[Candidate], wanted: Mapping[str, Sequence[str]], tokens: int, folder: Path, *,
    seeds: Sequence[int] = (0,), rates: Sequence[float] = (USUAL,), init: str | None = None,
    backgrounds: Sequence[str] = (), encoding: str | None = None, device: str | None = None,
) -> list[Training]:  # fmt: skip
    """One training for every candidate without a model, every task, seed and rate.

    wanted  task -> subsets that its lessons are of
    tokens  budget of one training
    rates   factors on the recipe's learning rates
    init    model whose weights begin the trainings on tasks that it was taught itself; others begin from nothing
    folder  gets one model folder per training, named after all that decides it
    device  that trainings run on, which `train` chooses where it is None; a folder is the same on each
    """
    known = loading.taught(loading.card(init)) if init else set()
    program = [__version__, asdict(replace(Recipe(), paced=True))]
    planned = []
    for candidate in (each for each in candidates if each.model is None):
        for task, subsets in wanted.items():
            begun = init if task in known else None
            origin = loading.weights_hash(loading.folder_of(begun)) if begun else None
            texts = backgrounds if registry.reads_text(task) else ()
            read = [*texts, *(["encoding", encoding] if texts and encoding else [])]
            name = candidate.flags[1] if candidate.file else candidate.label  # a file's label depends on the others
            for seed, rate in ((seed, rate) for seed in seeds for rate in rates):
                tasks = _written(task, subsets)
                decided = [candidate.key, tasks, tokens, seed, origin, read, program, *([rate] * (rate != USUAL))]
                digest = hashlib.sha256(json.dumps(decided).encode()).hexdigest()[:8]
                out = folder / (re.sub(r"[^A-Za-z0-9_.=-]+", "-", f"{name}-{task}") + f"-{digest}")
                # of a file, the copy that workers.py writes: the user may edit his own meanwhile
                if registry.is_file(task):
                    tasks = _written(f"{out}/{task}", subsets)
                flags = ("--memory", f"{out}/{name}") if candidate.file else candidate.flags
                words = ["train", *flags, "--task", tasks, "--tokens", str(tokens), "--seed", str(seed)]
                words += ["--out", str(out), "--threads", "1", "--fixed-schedule", "--no-examine"]
                words += ["--rate", repr(rate)] if rate != USUAL else []
                validated = len(rates) > 1 and seed == seeds[0]
                words += ["--validate"] if validated else []
                words += ["--init", begun] if begun else []
                words += [word for text in texts for word in ("--background", text)]
                words += ["--encoding", encoding] if texts and encoding else []
                words += ["--device", device] if device else []
                title = f"{candidate.label} {task}" + f" seed {seed}" * (len(seeds) > 1)
                title += f" rate x{rate:.3g}" * (len(rates) > 1)
                planned.append(Training(candidate, task, seed, rate, out, title, tuple(words), validated))
    return planned


def choose(planned: Sequence[Training], failed: Iterable[Path]) -> list[dict[str, Any]]:
    """For each candidate and task, the rate whose loss on held-out lessons is least.

    planned  trainings of one seed
    failed   folders of trainings that failed: such a rate is not chosen, unless training failed at every rate

    Returns [{"candidate", "task", "chosen": factor, "tried": [{"factor", "loss"}, ..]}]; loss is None if training
    failed, or if there is only one rate.
    """
    lost = set(failed)
    by_task: dict[tuple[str, str], dict[float, float]] = {}
    for each in planned:
        loss = math.nan if each.folder in lost or not each.validated else _loss(each.folder)
        by_task.setdefault((each.candidate.label, each.task), {})[each.rate] = loss
    chosen = []
    for (label, task), losses in by_task.items():
        order = sorted(losses, key=lambda rate: (math.isnan(losses[rate]), losses[rate], abs(math.log(rate))))
        usable = [rate for rate in order if math.isfinite(losses[rate])] or [
            min(losses, key=lambda r: abs(math.log(r)))
        ]
        tried = [{"factor": rate, "loss": None if math.isnan(loss) else loss} for rate, loss in losses.items()]
        at_edge = len(losses) > 1 and usable[0] in (min(losses), max(losses))
        beyond = len(losses) + 2 if at_edge and len(losses) + 2 <= MOST_RATES else None
        chosen.append({"candidate": label, "task": task, "chosen": usable[0], "beyond": beyond, "tried": tried})
    return chosen


def beginning(init: str | None, wanted: Iterable[str]) -> str:
    """A sentence on where training on each task begins."""
    known = loading.taught(loading.card(init)) if init else set()
    warm = [task for task in wanted if task in known]
    cold = [task for task in wanted if task not in known]
    if not warm:
        return "from nothing" + (f", since {init} was not taught {' or '.join(cold)}" if init else "")
    return f"from the weights of {init}" + (
        f" ({', '.join(cold)} from nothing: it was not taught that)" if cold else ""
    )


def _loss(folder: Path) -> float:
    """The loss on held-out lessons of a trained model, from its card; nan if the card has no finite one."""
    found = ((loading.card(str(folder)).get("final") or {}).get("validation") or {}).get("loss")
    return float(found) if isinstance(found, (int, float)) and math.isfinite(found) else math.nan


def _written(task: str, subsets: Sequence[str]) -> str:
    return ",".join(f"{task}:{subset}" if subset else task for subset in subsets)
