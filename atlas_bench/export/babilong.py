"""Answers to BABILong as the files that its leaderboard is made from.

    files = write(store.scan("results/", print), "evals", name="me/my-model", warn=print)

    evals/NOTICE.md                     what every file is, what was left out and why
    evals/me/my-model/README.md         the model, and whether its files are comparable
    evals/me/my-model/qa1_16k_instruction_no_examples_no_post_prompt_no_chat_template_no.csv   target, output, question
    evals/me/my-model/qa1_16k_instruction_no_examples_no_post_prompt_no_chat_template_no.json  prompt, generation, cell

The layout is that of the dataset RMT-team/babilong_evals, read by babilong/collect_results.py of
github.com/booydar/babilong: ORG/MODEL, then task, length and prompt in the file's name. That reader shows nothing but
the names, so answers on contexts that are not the published ones stand in folders ORG/MODEL-own-contexts. Nothing is
uploaded.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from atlas_bench.errors import UserError
from atlas_bench.export.folder import code, files_below, filled, new_folder
from atlas_bench.results.record import ANSWER_CHARS, EARLIER_OFFICIAL, Record, Warn
from atlas_bench.units import counted

TASK = "babilong"
SUBSETS = frozenset(f"qa{number}" for number in range(1, 21))
LENGTHS = {
    **{1000 * k: f"{k}k" for k in (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512)},
    **{1_000_000 * m: f"{m}M" for m in (1, 2, 10)},
}
PUBLISHED = frozenset({"hub", "hub-1k"})  # values of the option `data`
PROMPTS = {  # name -> template; the words of "official" are not in a record
    "bare": "{context} {question}",
    "official": "{instruction}\n\n{examples}\n\n{post_prompt}\n\n"
    "<context>\n{context}\n</context>\n\nQuestion: {question}",
}
PARTS = ("instruction", "examples", "post_prompt")
GREEDY = {"num_beams": 1, "do_sample": False, "temperature": None, "top_p": None, "top_k": None}
OLDER = {"max_answer_tokens": 20, "stop": ["\n"]}  # how answers of records without `protocol` were generated
OWN = "-own-contexts"
_READ_AS_EMPTY = "None"  # pandas.read_csv takes it for a missing value; of all such texts it alone holds a label, "no"


class _Model(NamedTuple):
    """What one folder is of: one model's weights, and one source of contexts."""

    model: str
    weights: str | None
    source: str  # of own contexts; empty for the published ones


_Chosen = dict[tuple[_Model, str], Record]  # folder, file name without its ending -> the record that it is made from


def write(
    records: Iterable[Record], folder: str | Path, *, name: str | None = None, warn: Warn | None = None
) -> list[Path]:
    """Make the folder, and return its files.

    records  in any number; of those that make a file of one name the one with the most answers is taken, of as many
             that with the lowest seed, then the last
    folder   does not exist yet, or is empty
    name     ORG/MODEL, for the records of one model; without it the folder of each is atlas-bench/MODEL
    warn     is told what is not comparable, and what was left out

    Raises UserError where there is nothing to write, for a name that is none, for one name of several models, and
    for a folder that holds something; then there is no new folder.
    """
    if name is not None and not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name, re.ASCII):
        raise UserError(
            f"name '{name}' is not ORG/MODEL: two parts of letters, digits, '.', '_' and '-', each beginning with a "
            "letter or a digit. Write for instance --name my-group/my-model."
        )
    chosen, left_out = _choose(records)
    if not chosen:
        reasons = "; ".join(_left_out(left_out)) or "there are none"
        raise UserError(f"no records for BABILong's leaderboard: {reasons}. It takes those of `run babilong`.")
    folders = _folders([who for who, _ in chosen], name)
    notes = _notes(chosen, left_out)
    with new_folder(folder) as draft:
        for (who, stem), record in chosen.items():
            (draft / folders[who]).mkdir(parents=True, exist_ok=True)
            _write_file(draft / folders[who] / stem, record)
        for who, path in folders.items():
            files = sum(each == who for each, _ in chosen)
            (draft / path / "README.md").write_text(_readme(Path(path).name, who, files), encoding="utf-8")
        (draft / "NOTICE.md").write_text(_notice(chosen, folders, notes), encoding="utf-8")
    for note in notes if warn else ():
        warn(note)
    return files_below(folder)


def _choose(records: Iterable[Record]) -> tuple[_Chosen, Counter[str]]:
    """(the records that files are made from, reason -> how many others were left out for it)."""
    chosen: _Chosen = {}
    left_out: Counter[str] = Counter()
    for record in records:
        if reason := _unfit(record):
            left_out[reason] += 1
            continue
        place = _Model(record.model, record.weights_hash, _source(record)), _stem(record)
        if place in chosen:
            left_out["another record of the same file has more answers, a lower seed or a later line"] += 1
        if place not in chosen or _rank(record) >= _rank(chosen[place]):
            chosen[place] = record
    return chosen, left_out


def _source(record: Record) -> str:
    data = _option(record, "data")
    return "" if data in PUBLISHED else f"data {data}, background {_option(record, 'background')}"


def _option(record: Record, name: str) -> str:
    return str(record.options.get(name, "not recorded"))


def _unfit(record: Record) -> str:
    """Why no file can be made of the record; empty where one can."""
    if record.task != TASK or record.subset not in SUBSETS:
        return "not of the task babilong, qa1 to qa20"
    if record.status != "ok":
        return f"status {record.status}"
    if record.length not in LENGTHS:
        return f"BABILong has no name for a length of {record.length} tokens"
    if _option(record, "prompt") == EARLIER_OFFICIAL:
        return "the official prompt of an earlier atlas-bench, which was not the benchmark's; run its command again"
    if _option(record, "prompt") not in PROMPTS:
        return f"the prompt is none of {', '.join(PROMPTS)}"
    try:
        _lost(record)
        return "" if _rows(record) else "no answers in the record"
    except (AttributeError, KeyError, IndexError, TypeError):
        return "answers without question, targets or answer"


def _rank(record: Record) -> tuple[int, int]:
    return len(_rows(record)), -record.seed


def _rows(record: Record) -> list[tuple[str, str, str]]:
    """(target, output, question) of each sample that was answered; the mark of a cut is no part of an output."""
    answered = [row for row in record.answers if "failed" not in row]
    return [(row["targets"][0], row["answer"][:ANSWER_CHARS], f"{row['question'].rstrip()} ") for row in answered]


def _stem(record: Record) -> str:
    """'qa1_16k_instruction_yes_examples_yes_post_prompt_yes_chat_template_no'."""
    says = dict.fromkeys(PARTS, record.options["prompt"] == "official") | {"chat_template": _has_template(record)}
    parts = (f"{part}_{'yes' if said else 'no'}" for part, said in says.items())
    return "_".join([record.subset, LENGTHS[record.length], *parts])


def _has_template(record: Record) -> bool:
    return record.chat_template not in (None, "none")


def _folders(chosen: Iterable[_Model], name: str | None) -> dict[_Model, str]:
    """Model -> ORG/MODEL; those that would share a folder, on a disk that ignores case too, get a hash behind."""
    weights = {(who.model, who.weights) for who in chosen}
    if name and len(weights) > 1:
        known = ", ".join(sorted(f"{model} (weights {(digest or 'unknown')[:8]})" for model, digest in weights))
        raise UserError(
            f"name '{name}' is for one model, and the records are of {len(weights)}: {known}. "
            "Give the records of one, or no name."
        )
    folders = {who: (name or f"atlas-bench/{_slug(who.model)}") + (OWN if who.source else "") for who in chosen}
    times = Counter(folder.lower() for folder in folders.values())
    for who, folder in folders.items():
        if times[folder.lower()] > 1:
            folders[who] = f"{folder}-{hashlib.sha256(repr(who).encode('utf-8', 'replace')).hexdigest()[:8]}"
    return folders


def comparable(files: Iterable[Path]) -> bool:
    """Whether all written files answer the published contexts."""
    return not any(OWN in file.parent.name for file in files)


def _slug(model: str) -> str:
    """A model's name as a folder's: 'openai:http://x/v1#qwen' -> 'openai-http-x-v1-qwen'."""
    return re.sub(r"[^A-Za-z0-9._-]+|\.{2,}", "-", model).strip(".-_")[:80] or "model"


def _write_file(path: Path, record: Record) -> None:
    """The answers as CSV, and how they were asked for as JSON."""
    with open(f"{path}.csv", "w", encoding="utf-8", errors="replace", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")  # else a bare \r would end a line
        writer.writerows([("target", "output", "question"), *_rows(record)])
    Path(f"{path}.json").write_text(json.dumps(_settings(record), indent=4, default=str) + "\n", encoding="ascii")


def _settings(record: Record) -> dict[str, Any]:
    """What stands beside the answers: their keys, then ours."""
    words = None if record.options["prompt"] == "official" else ""  # null: there were words, and no record holds them
    prompt = {**dict.fromkeys(PARTS, words), "template": PROMPTS[record.options["prompt"]]}
    rules = OLDER | record.protocol
    named = (
        "model", "weights_hash", "task_version", "options", "length", "seed", "samples", "plan_hash", "corpus_key",
        "tokenizer_key", "data_hash", "prompt_hash", "versions",
    )  # fmt: skip
    return {
        "prompt": {**prompt, "chat_template": _has_template(record), "system_prompt": ""},
        "generate_kwargs": GREEDY | {"max_new_tokens": rules["max_answer_tokens"], "stop_strings": rules["stop"]},
        "atlas_bench": {name: getattr(record, name) for name in named},
    }


def _notes(chosen: _Chosen, left_out: Mapping[str, int]) -> list[str]:
    """What whoever reads the files has to know, one sentence each."""
    made = list(chosen.values())
    own = sum(bool(who.source) for who, _ in chosen)
    cut = sum(len(row["answer"]) > ANSWER_CHARS for record in made for row in record.answers)
    short = sum(len(record.answers) - len(_rows(record)) for record in made)
    empty = sum(_lost(record) for record in made)
    told = {
        f"NOT COMPARABLE with the leaderboard: {own} of {len(made)} files answer contexts that are not the published "
        f"ones; their folders have '{OWN}' in their names. --data hub asks on the published ones": own,
        f"answers cut at {ANSWER_CHARS} characters, as in the records: {cut}": cut,
        f"samples that were not answered, and have no row: {short}": short,
        f"right answers '{_READ_AS_EMPTY}', which pandas.read_csv takes for none, so that the leaderboard counts less "
        f"than the records: {empty}": empty,
    }
    return [f"{note}." for note, count in told.items() if count] + [f"{note}." for note in _left_out(left_out)]


def _left_out(left_out: Mapping[str, int]) -> list[str]:
    return [
        f"{counted(count, 'record')} left out: {reason}"
        for reason, count in sorted(left_out.items(), key=lambda e: -e[1])
    ]


def _lost(record: Record) -> int:
    """Right answers that its reader takes for missing values."""
    rows = (row for row in record.answers if row.get("answer") == _READ_AS_EMPTY)
    return sum(bool(row.get("correct", {}).get("babilong/official")) for row in rows)


def _readme(folder: str, who: _Model, files: int) -> str:
    verdict = (
        f"{NOT_COMPARABLE} Here: {code(who.source, 300)}." if who.source else "The contexts are the published ones."
    )
    return (
        f"# {folder}\n\nAnswers of {code(who.model)}, weights {code(who.weights or 'unknown')}, measured by "
        f"atlas-bench; files: {files}.\n\n{verdict}\n"
    )


def _notice(chosen: _Chosen, folders: Mapping[_Model, str], notes: Sequence[str]) -> str:
    head = ("folder", "file", "model", "data", "background", "prompt", "chat template", "seed", "n")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for (who, stem), record in sorted(chosen.items(), key=lambda item: (folders[item[0][0]], item[0][1])):
        asked = [code(_option(record, option)) for option in ("data", "background", "prompt")]
        template = "yes" if _has_template(record) else "no"
        row = [folders[who], "_".join(stem.split("_")[:2]), code(who.model), *asked, template]
        lines.append(f"| {' | '.join([*row, str(record.seed), str(len(_rows(record)))])} |")
    return filled(
        "babilong_notice.md",
        comparable=f"{NOT_COMPARABLE}\n\n" if any(who.source for who, _ in chosen) else "",
        notes="\n".join(f"- {note}" for note in notes) or "- Nothing was left out.",
        table="\n".join(lines),
    )


NOT_COMPARABLE = f"""\
**Not comparable with BABILong's leaderboard:** a folder with `{OWN}` in its name holds answers on contexts that are
not the published ones. Stories, background or both were made or chosen by whoever ran this, and lengths are tokens of
the model's own tokenizer with question and prompt, where BABILong's leave both out."""
