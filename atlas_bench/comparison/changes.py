"""What changed between two sets of records: the cells of both sets, compared question by question.

    found = changes(["before/"], ["results/"])      # plain data: lists, dicts, numbers
    found["rows"][0]["verdict"]                     # 'worse': the most important first

A cell is a task, subset, length, model, seed, number of samples and choice of data. Its weights may differ. Where the
task's version, the scorer, the prompt, .. differ, we take no difference and name what differs.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from atlas_bench.comparison import paired
from atlas_bench.comparison.change_labels import COSTS, VERDICTS
from atlas_bench.errors import UserError
from atlas_bench.results import store
from atlas_bench.results.naming import natural
from atlas_bench.results.record import Record, Warn, clip, timeless
from atlas_bench.results.score import is_sequential
from atlas_bench.results.summary import reported
from atlas_bench.running.tags import tag_text, tags
from atlas_bench.units import counted

Changes = dict[str, Any]
# In words -> where it stands in a record
_ALIKE = {  # else the two were not asked or judged alike
    "task version": "task_version", "tokenizer": "tokenizer_key", "prompt": "prompt_hash", "data": "data_hash",
    "background text": "corpus_key", "plan": "plan_hash",
}  # fmt: skip
_MODEL = {"weights": "weights_hash", "chunk size": "chunk_size", "chat template": "chat_template"}  # may differ
_AROUND = {  # told once, at the top
    "atlas-bench": "versions.atlas_bench", "torch": "versions.torch", "Python": "versions.python",
    "numpy": "versions.numpy", "kernel": "kernel", "products": "products", "device": "device",
    "processor": "hardware.cpu", "cores": "hardware.cores", "GPU": "hardware.gpu",
}  # fmt: skip


def changes(old_paths: store.Paths, new_paths: store.Paths, *, warn: Warn | None = None) -> Changes:
    """{"old", "new", "around", "rows", "identical", "only_old", "only_new", "comparisons"} as plain data, fit for JSON.

    old_paths, new_paths  files or folders of records, all in memory at once. Of several for one cell `store.latest`
                          chooses, and of several weights or versions the last counts
    warn                  receives a message for every line that is no record

    around     what differs around the cells of both sets: {"what", "old", "new", "cells"}
    rows       one per cell of both that is not identical, by VERDICTS: "old" and "new" with their scores; "versus" with
               the paired difference (new minus old), interval, p, Holm-corrected p and changed answers, or None;
               "notes" of what else differs; "ratios" of costs, new / old
    identical  how many "cells" gave equal answers on equal terms, with {cost: [least, median, most]} "ratios"

    Raises UserError where a set has no records.
    """
    old, new = _cells(old_paths, warn), _cells(new_paths, warn)
    both = sorted(old.keys() & new.keys(), key=lambda key: _order(old[key]))
    same = {key for key in both if _identical(old[key], new[key])}
    rows = [_row(old[key], new[key]) for key in both if key not in same]
    tested = [row["versus"] for row in rows if row["versus"]]
    paired.judge(tested)
    for row in rows:
        row["verdict"] = row["verdict"] or row["versus"]["verdict"]
    only_old, only_new = _missing(old, new), _missing(new, old)
    listed = [*rows, *only_old, *only_new]
    for row, tag in zip(listed, tags(listed, ("task", "subset"), ("seed", "samples")), strict=True):
        row["tags"] = tag_text(tag)
    return {
        "old": {"paths": _texts(old_paths), "cells": len(old)},
        "new": {"paths": _texts(new_paths), "cells": len(new)},
        "around": _around([(old[key], new[key]) for key in both]),
        "rows": sorted(rows, key=_importance),
        "identical": {"cells": len(same), "ratios": _spread([_ratios(old[key], new[key]) for key in same])},
        "only_old": only_old,
        "only_new": only_new,
        "comparisons": len(tested),
    }


def _cells(paths: store.Paths, warn: Warn | None) -> dict[str, Record]:
    warn = warn or (lambda _: None)
    records = store.latest(store.scan(paths, warn))
    where = ", ".join(_texts(paths))
    if not records:
        raise UserError(f"no records in '{where}'. Give .jsonl files, or folders of them.")
    cells = {json.dumps(_named(record), sort_keys=True, default=str): record for record in records}
    if more := len(records) - len(cells):
        left_out = f"{where}: {counted(more, 'record')} left out"
        warn(f"{left_out}: of several weights or task versions of one cell the last counts.")
    return cells


def _missing(here: Mapping[str, Record], there: Mapping[str, Record]) -> list[dict[str, Any]]:
    found = sorted((here[key] for key in here if key not in there), key=_order)
    return [_named(record) | {"status": record.status} for record in found]


def _named(record: Record) -> dict[str, Any]:
    names = ("task", "subset", "length", "model", "seed", "samples", "options")
    return {name: getattr(record, name) for name in names}


def _order(record: Record) -> tuple[Any, ...]:
    options = json.dumps(record.options, sort_keys=True, default=str)
    return (
        record.task, natural(record.subset), record.length, record.model, record.seed, record.samples, options,
    )  # fmt: skip


def _identical(old: Record, new: Record) -> bool:
    """Whether the results of two cells are equal, apart from times, machine and versions."""
    if old.answers != new.answers:
        return False
    before, after = (timeless(replace(record, answers=[], versions={})) for record in (old, new))
    return before == after


def _row(old: Record, new: Record) -> dict[str, Any]:
    """One cell of both sets; its verdict is None where a test has to decide."""
    chance = old.chance if new.chance is None else new.chance
    sides = {"old": _side(old), "new": _side(new), "versus": None, "ratios": _ratios(old, new)}
    row = _named(new) | {"chance": chance} | sides
    notes = [f"other {what}" for what, *_ in _unlike(_MODEL, old, new)]
    scorers = [("scorer", *(paired.scored_by(record) for record in (old, new)))]
    differs = [f"{what} {a} -> {b}" for what, a, b in (*scorers, *_unlike(_ALIKE, old, new)) if a != b]
    unlike: list[str] = []
    if old.status != new.status:
        verdict = "other status"
        notes.append(f"{old.status} -> {new.status}")
    elif old.status != "ok":
        verdict = "no score"
    elif differs:
        verdict, unlike = "not comparable", differs
    elif new.headline is None:
        verdict = "no score"
    elif both := paired.pairs(new, old):
        verdict, row["versus"] = None, _versus(both, new.headline, any(map(is_sequential, (old, new))))
    else:
        verdict, unlike = "not comparable", ["no question answered in both"]
    return row | {"verdict": verdict, "notes": [*unlike, *notes]}


def _unlike(facts: Mapping[str, str], old: Record, new: Record) -> list[tuple[str, str, str]]:
    """(what, before, after) of each fact that differs."""
    found = [(what, *(_fact(record, place) for record in (old, new))) for what, place in facts.items()]
    return [(what, _short(before), _short(after)) for what, before, after in found if before != after]


def _fact(record: Record, place: str) -> Any:
    name, _, inner = place.partition(".")
    if not inner:
        return getattr(record, name)
    return "none" if getattr(record, name).get(inner, "") is None else getattr(record, name).get(inner)  # no GPU


def _versus(both: Sequence[tuple[dict[str, Any], dict[str, Any]]], scorer: str, anytime: bool) -> dict[str, Any]:
    found = paired.difference(both, scorer=scorer, anytime=anytime)
    answers = {"wrong_to_right": found.pop("only_candidate"), "right_to_wrong": found.pop("only_baseline")}
    answers["other_text"] = sum(
        after["correct"][scorer] == before["correct"][scorer] and after.get("answer") != before.get("answer")
        for after, before in both
    )
    return found | answers


def _side(record: Record) -> dict[str, Any]:
    named = ("status", "reason", "task_version", "weights_hash", "metrics", *COSTS)
    facts = {name: getattr(reported(record), name) for name in named}
    return facts | {"scorer": paired.scored_by(record)} | paired.score(record)


def _ratios(old: Record, new: Record) -> dict[str, float]:
    """Cost -> new / old, where both have measured it."""
    old, new = reported(old), reported(new)
    costs = {name: (getattr(old, name), getattr(new, name)) for name in COSTS}
    return {name: after / before for name, (before, after) in costs.items() if before and after}


def _spread(ratios: Iterable[Mapping[str, float]]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = defaultdict(list)
    for each in ratios:
        for name, ratio in each.items():
            found[name].append(ratio)
    return {name: [min(found[name]), median(found[name]), max(found[name])] for name in COSTS if name in found}


def _around(both: Iterable[tuple[Record, Record]]) -> list[dict[str, Any]]:
    found = Counter(fact for old, new in both for fact in _unlike(_AROUND, old, new))
    order = list(_AROUND)
    return [
        {"what": what, "old": old, "new": new, "cells": cells}
        for (what, old, new), cells in sorted(found.items(), key=lambda item: (order.index(item[0][0]), -item[1]))
    ]


def _importance(row: Mapping[str, Any]) -> tuple[int, float]:
    size = abs(row["versus"]["difference"]) if row["verdict"] in ("worse", "better") else 0.0
    return list(VERDICTS).index(row["verdict"]), -size


def _short(value: Any) -> str:
    """A fact as a short text: a hash by its first digits."""
    if value is None:
        return "not recorded"
    text = str(value)
    return text[:12] if len(text) in (16, 32, 64) and not set(text) - set("0123456789abcdef") else clip(text, 60)


def _texts(paths: store.Paths) -> list[str]:
    return [str(paths)] if not isinstance(paths, Iterable) or isinstance(paths, str) else [str(path) for path in paths]
