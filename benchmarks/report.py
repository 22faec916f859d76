"""What a report of 10,000 records costs, in every form.

    python -m benchmarks.report [FORM ..] [--models 40] [--subsets 10] [--lengths 25] [--keep FOLDER]

Makes one record of about 1.7 KB for each model, subset and length in a temporary folder, then the report in each form,
in a process of its own that has imported nothing before. `seconds` are the processor's, on one core, from the first
line read to the file written, imports included; `waited` is the clock's, longer on a busy machine; `peak` the process's
peak resident memory. First a gate: the report must know every record and every score, or no time is printed. More than
10 s of the processor or 1 GB is too much, and exit code 1.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FORMS = ("text", "md", "csv", "tex", "json", "html")
MOST_SECONDS, MOST_MEGABYTES = 10, 1000  # what a report may take


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("forms", nargs="*", metavar="FORM", help=", ".join(FORMS))
    parser.add_argument("--models", type=int, default=40)
    parser.add_argument("--subsets", type=int, default=10)
    parser.add_argument("--lengths", type=int, default=25)
    parser.add_argument("--keep", type=Path, help="Where the records and reports stay.")
    options = parser.parse_args()
    from benchmarks.processor import processor

    print(processor())
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        lines, size = make(folder / "records", options.models, options.subsets, options.lengths)
        print(f"{lines:,} records, {size / 1e6:.0f} MB, {size / lines:.0f} bytes a line")
        if fault := gate(folder / "records", lines):
            print(f"no time: {fault}")
            return 1
        print(f"{'form':<6}{'seconds':>9}{'waited':>9}{'peak MB':>9}{'output MB':>11}")
        return max([measure(form, folder) for form in options.forms or FORMS])


def make(folder: Path, models: int, subsets: int, lengths: int) -> tuple[int, int]:
    """Write the records, a file for each subset; how many, and their bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    draw, size = random.Random(0), 0
    for number in range(1, subsets + 1):
        with open(folder / f"qa{number}.jsonl", "w") as file:
            for model in range(models):
                for step in range(lengths):
                    size += file.write(json.dumps(_record(draw, f"qa{number}", f"model-{model}", 1000 << step)) + "\n")
    return models * subsets * lengths, size


def gate(folder: Path, lines: int) -> str:
    """What the report lost of the records; empty where nothing."""
    from atlas_bench.results import leaderboard, store, summary

    told: list[str] = []
    made = leaderboard.make(summary.summaries(store.scan([folder], told.append)))
    cells = [cell for panel in made.panels for row in panel.rows for cell in row.cells.values()]
    asked = sum(cell.n for cell in cells)
    if told or (len(cells), asked) != (lines, 200 * sum(cell.status == "ok" for cell in cells)):
        return f"{lines} records became {len(cells)} cells with {asked} questions; {told[:1]}"
    return ""


def measure(form: str, folder: Path) -> int:
    """One form in a process of its own, as a row; 1 where it took too much."""
    command = [sys.executable, "-c", "from benchmarks.report import one; one()", form, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    if done.returncode:
        print(f"{form:<6}{(done.stderr.strip().splitlines() or ['failed'])[-1][:70]}")
        return 1
    told = json.loads(done.stdout.splitlines()[-1])
    over = told["seconds"] > MOST_SECONDS or told["peak"] > MOST_MEGABYTES
    figures = f"{told['seconds']:>9.1f}{told['waited']:>9.1f}{told['peak']:>9.0f}{told['output']:>11.2f}"
    print(f"{form:<6}{figures}{'  too much' if over else ''}", flush=True)
    return int(over)


def one() -> None:
    """The measurement of one form, as JSON on stdout; form and folder from the command line."""
    form, folder = sys.argv[1], Path(sys.argv[2])
    began = time.perf_counter()
    from atlas_bench.results import report
    from atlas_bench.running import resources

    file = folder / f"report.{form}"
    file.write_text(report.main([folder / "records"], form=form))
    told = {"seconds": time.process_time(), "waited": time.perf_counter() - began}
    print(json.dumps(told | {"peak": resources.peak() / 1e6, "output": file.stat().st_size / 1e6}))


def _record(draw: random.Random, subset: str, model: str, length: int) -> dict:
    """A record as `run` writes it, its score drawn; one in a hundred ran out of memory."""
    tried = {
        "schema": "1", "status": "ok", "reason": "", "task": "babilong", "task_version": "1", "subset": subset,
        "length": length, "model": model, "seed": 0, "samples": 200,
        "options": {"data": "generated", "background": "generated", "prompt": "bare"},
    }  # fmt: skip
    answers = [
        {"index": i, "question": "Where is Mary?", "targets": ["kitchen"], "answer": draw.choice(["kitchen", "garden"]),
         "correct": {"babilong/official": bool(i), "babilong/word": False},
         "needle_positions": [draw.randrange(length), draw.randrange(length)]}
        for i in range(2)
    ]  # fmt: skip
    right, some_hash = draw.randrange(201), f"{draw.getrandbits(64):016x}"
    scored = {
        "scores": {"babilong/official": {"correct": right, "n": 200}, "babilong/word": {"correct": right, "n": 200}},
        "scorer_version": {"babilong/official": "1", "babilong/word": "1"},
        "headline": "babilong/official", "chance": 1 / 6, "metrics": {}, "curve": [], "answers": answers,
    }  # fmt: skip
    if draw.random() < 0.01:
        tried |= {"status": "oom", "reason": "the state of 80 GiB does not fit; needs a machine with more memory"}
        scored = {"scores": {}, "answers": [], "headline": "babilong/official", "scorer_version": {}}
    return tried | scored | {
        "plan_hash": some_hash, "corpus_key": "generated-1", "tokenizer_key": "atlas-8k", "data_hash": some_hash,
        "prompt_hash": some_hash, "parameters": 903_424, "state_bytes": 230_400, "training_tokens": 24_000_000,
        "weights_hash": model.encode().hex(), "kernel": "events, omega (torch)",
        "kernel_why": "Triton kernels need a GPU", "device": "cpu", "products": "bf16", "chunk_size": 1,
        "memory": "atlas", "chat_template": None, "tokens_read": 200 * length, "seconds": draw.uniform(1, 1000),
        "tokens_per_second": draw.uniform(1e4, 3e5), "block": 4096, "batch": 2, "peak_rss_bytes": 612_368_384,
        "resumed": False, "usage": None, "endpoint": None,
        "versions": {"atlas_bench": "0.1.0", "python": "3.11.9", "torch": "2.13.0", "numpy": "2.4.6"},
        "hardware": {"cpu": "Xeon", "cores": 2, "gpu": None},
        "command": f"atlas-bench run babilong:{subset} --len {length} --model {model} --samples 200",
        "started": "2026-01-02T03:04:05Z", "ended": "2026-01-02T03:20:46Z",
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
