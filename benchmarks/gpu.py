"""Everything a GPU must be asked first, in one call of at most eight minutes, no install beyond torch and triton.

    python -m benchmarks.gpu [--out results/gpu] [--part op:omega ..] [--minutes 8]
    python -m benchmarks.gpu --cpu        # the same at tiny sizes, Triton kernels in their interpreter: a rehearsal

Every part runs in a process of its own with a time limit, so that a kernel that faults or hangs stops nothing else:

    machine         matrix products by dtype, copies, an empty launch
    op:NAME         a Triton kernel against its definition, forward and backward; its times beside the torch form
    rule            our gated delta rule on 65,536 tokens, beside flash-linear-attention's where that is installed
    read:MODEL      an embedded model, then 170M parameters, reading at batch 1 and 8
    train           the product's own training, each memory for a quarter of a minute
    hf              a small random Llama, read block by block

It writes OUT/DATE-DEVICE.json and prints a table of at most 60 lines. The exit code is the number of parts that failed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

OPS = ("gates", "recurrence", "omega", "newton_schulz", "anchored")
MODELS = ("atlas-nano", "gated-deltanet-nano", "170M:gated-deltanet")
PARTS = ("machine", *(f"op:{op}" for op in OPS), "rule", *(f"read:{model}" for model in MODELS), "train", "hf")
SECONDS = 90  # that one part may take
DTYPES = ("fp32", "bf16", "fp16")
REHEARSED = ("fp16",)  # Triton's interpreter does no bf16, and is slow; tests/kernels has fp32
LINES = 60  # of the table

Row = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results/gpu"), help="folder of the JSON file [results/gpu]")
    parser.add_argument("--part", action="append", choices=PARTS, help="this one alone; repeatable")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all parts together [8]")
    parser.add_argument("--cpu", action="store_true", help="rehearse on the CPU")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        (part,) = options.part
        options.child.write_text(json.dumps(run_part(part, options.cpu)))
        return 0
    if options.cpu:
        os.environ["TRITON_INTERPRET"] = "1"
    ends = time.monotonic() + 60 * options.minutes
    results = []
    for part in options.part or PARTS:
        results.append(guarded(part, options.cpu, min(SECONDS, ends - time.monotonic())))
        print("\n".join(lines(results[-1])), flush=True)
    failed = sum(result["status"] != "ok" for result in results)
    print(f"{len(results)} parts, {failed} failed: {write(options.out, results, options.cpu)}")
    return failed


def guarded(part: str, cpu: bool, seconds: float) -> Row:
    """{part, status, reason, seconds, rows} of a part, run in a process of its own for so many seconds at most."""
    if seconds <= 0:
        return {"part": part, "status": "not run", "reason": "no time was left", "seconds": 0.0, "rows": []}
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.json"
        words = [sys.executable, "-m", "benchmarks.gpu", "--part", part, "--child", str(file)] + ["--cpu"] * cpu
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=seconds)
            last = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
            reason = "" if done.returncode == 0 and file.exists() else f"code {done.returncode}: {last}"
        except subprocess.TimeoutExpired:
            reason = f"stopped after {seconds:.0f} s"
        rows = json.loads(file.read_text()) if file.exists() else []
    red = [row for row in rows if row.get("status") == "differs"]
    reason = reason or (f"{len(red)} of {len(rows)} differ from their definition" if red else "")
    status = "failed" if reason else "ok"
    return {"part": part, "status": status, "reason": reason, "seconds": time.monotonic() - began, "rows": rows}


def write(folder: Path, results: list[Row], cpu: bool) -> Path:
    """The results with machine and versions as one JSON file; its path."""
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() and not cpu else "cpu"
    about = {
        "device": device, "torch": torch.__version__, "python": sys.version.split()[0], "rehearsal": cpu,
        "triton": version_of("triton"), "transformers": version_of("transformers"), "fla": version_of("fla"),
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), "command": " ".join(sys.argv[1:]),
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{about['date'][:10]}-{device.lower().replace(' ', '-')}.json"
    file.write_text(json.dumps(about | {"parts": results}, indent=1) + "\n")
    return file


def version_of(package: str) -> str | None:
    """The version of an installed package, None without it."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version({"fla": "flash-linear-attention"}.get(package, package))
    except PackageNotFoundError:
        return None


def lines(result: Row) -> list[str]:
    """A part as lines of the table: one for each row, or one that says why there is none."""
    head = f"{result['part']:<24}"
    if result["status"] != "ok":
        head += f"{result['status'].upper()} {result['reason']}"[:150]
        return [head, *(f"  {show(row)}" for row in result["rows"] if row.get("status") == "differs")]
    return [f"{head if i == 0 else '':<24}{show(row)}" for i, row in enumerate(result["rows"])] or [f"{head}nothing"]


def show(row: Row) -> str:
    """'what: key value, key value' of a row."""
    values = ", ".join(f"{key} {short(value)}" for key, value in row.items() if key != "what")
    return f"{row['what']}: {values}"


def short(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


# The parts, each in a process of its own ------------------------------------------------------------------------


def run_part(part: str, cpu: bool) -> list[Row]:
    """Rows of one part."""
    import torch

    from atlas_bench.kernels.cpu import keep_freed_memory

    device = "cpu" if cpu else "cuda"
    if not cpu:
        if not torch.cuda.is_available():
            raise SystemExit("torch sees no CUDA GPU. Rehearse with --cpu.")
        torch.set_float32_matmul_precision("high")  # as streams are read
    keep_freed_memory()
    torch.manual_seed(0)
    name, _, argument = part.partition(":")
    return WORK[name](device, *([argument] if argument else []))


def machine(device: str) -> list[Row]:
    import torch

    from benchmarks.kernels import DTYPES as TYPES
    from benchmarks.kernels import ceilings, seconds

    rows = []
    for name in DTYPES if device == "cuda" else ():
        product, copy = ceilings(device, TYPES[name])
        rows.append({"what": f"GEMM {name}", "TFLOP/s": product / 1e12, "copy GB/s": copy / 1e9})
    x = torch.zeros(1, device=device)
    launches = [seconds(lambda: x.add_(1), device) for _ in range(200)]
    return [*rows, {"what": "one small kernel, waited for", "us": 1e6 * median(launches)}]


def op(device: str, name: str) -> list[Row]:
    from importlib import import_module

    from atlas_bench.kernels import selftest
    from benchmarks.kernels import DTYPES as TYPES
    from benchmarks.kernels import HALF_TOLERANCE, ceilings, time_forms, works

    dtypes = DTYPES if device == "cuda" else REHEARSED
    allowed = {dtype: selftest.TOLERANCE if dtype == "fp32" else HALF_TOLERANCE for dtype in dtypes}
    cases = 1 if device == "cpu" else None
    errors = {dtype: selftest.error(name, "triton", device, TYPES[dtype], cases=cases) for dtype in dtypes}
    agrees = all(errors[dtype] <= allowed[dtype] for dtype in dtypes)
    rows = [{"what": "error against its definition", **errors, "status": "ok" if agrees else "differs"}]
    large = device == "cuda"  # the interpreter's times say nothing: the torch form alone is rehearsed
    work = next(each for each in works(large) if each.op == name)
    forms = {form: import_module(f"atlas_bench.kernels.{name}.{form}") for form in ("chunk", "triton")[: 1 + large]}
    for dtype in ("bf16", "fp32") if large else ("fp32",):
        product = ceilings(device, TYPES[dtype])[0] if large else float("inf")
        for form, (forward, both) in time_forms(work, forms, device, TYPES[dtype], turns=5 if large else 1).items():
            row = {"what": f"{dtype} {form}, {work.size}", "forward ms": 1e3 * forward, "and back ms": 1e3 * both}
            rows.append(row | {"of GEMM": work.flops / forward / product})
    return rows


def rule(device: str) -> list[Row]:
    """The gated delta rule on queries, keys, values and gates, forward: without projections, attention or MLP."""
    import torch
    import torch.nn.functional as F

    from atlas_bench.kernels.omega.chunk import omega
    from benchmarks.kernels import seconds

    length, heads, width = (65_536, 8, 128) if device == "cuda" else (512, 2, 32)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    q, k, v = (torch.randn(1, length, heads, width, device=device, dtype=dtype) for _ in range(3))
    q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
    g = F.logsigmoid(torch.randn(1, length, heads, device=device))
    beta = torch.rand(1, length, heads, device=device)
    state = torch.zeros(1, heads, width, width, device=device)

    def ours(size: int):
        return omega(q.float(), k.float(), v.float(), beta=beta[..., None], retention=g.exp(), state=state,
                     decay_first=True, chunk_size=size)  # fmt: skip

    rows = []
    with torch.inference_mode():
        for size in (32, 64):
            taken = median(seconds(lambda size=size: ours(size), device) for _ in range(6))
            rows.append({"what": f"ours, chunks of {size}, {length:,} tokens, {heads} x {width}", "ms": 1e3 * taken})
        try:
            from fla.ops.gated_delta_rule import chunk_gated_delta_rule
        except ImportError as error:
            return [*rows, {"what": "flash-linear-attention", "status": f"not here: {error}"[:100]}]
        theirs = [seconds(lambda: chunk_gated_delta_rule(q, k, v, g=g, beta=beta.to(dtype)), device) for _ in range(6)]
    best = min(row["ms"] for row in rows)
    peer = 1e3 * median(theirs[1:])
    return [*rows, {"what": "flash-linear-attention, the same", "ms": peer, "ours / theirs": best / peer}]


def read(device: str, name: str) -> list[Row]:
    """Tokens/s, by events where the model can, and densely; whether two splits of a block agree comes first."""
    from benchmarks import stream

    large = name.startswith("170M")
    options = argparse.Namespace(device=device, matmul_precision=None, background="generated", batch=1, tokens=0)
    options.tokens = 4096 if device == "cpu" else 262_144 if large else 2_000_000
    model = stream.load(name if device == "cuda" else name.replace("170M", "nano"), options)
    worst = stream.gate(model, options.background)
    rows: list[Row] = [{"what": "blocks of 64 against 4096", "error": worst}]
    rows[0]["status"] = "ok" if worst <= 1e-2 else "differs"
    for batch in (1, 8) if device == "cuda" else (1,):
        options.batch = batch
        for events in [True] * bool(model.events) + [False]:
            held, model.events = model.events, model.events if events else None
            block = min(options.tokens // 8, model.block if model.events else 32_768 // batch)
            _, rate, state_bytes = stream.measure(model, options, block)
            row = {"what": f"batch {batch}, {'by events' if events else 'densely'}, blocks of {block:,}"}
            rows.append(row | {"tokens/s": rate, "s for 10M": 1e7 * batch / rate, "state KiB": state_bytes / 1024})
            model.events = held
    return rows


def train(device: str) -> list[Row]:
    """Each memory in turn trained by the recipe on BABILong's training data, for a quarter of a minute each."""
    from dataclasses import replace

    from atlas_bench import registry
    from atlas_bench.models.config import Config
    from atlas_bench.models.tokenizer import embedded
    from atlas_bench.tasks import corpora
    from atlas_bench.training import loop
    from atlas_bench.training.recipe import Recipe

    tokenizer, large = embedded(), device == "cuda"
    lessons = registry.task("babilong").lessons(["qa1"], tokenizer, 0, [corpora.open_corpus("generated", tokenizer)])
    recipe = replace(Recipe(), first_length=512) if large else Recipe().within(5_000)
    rows = []
    for memory in ("gated-deltanet", "omeganet", "titans", "atlas") if large else ("gated-deltanet",):
        rounds: list[tuple[int, float, float]] = []  # tokens and seconds so far, loss

        def note(progress, rounds=rounds):
            rounds.append((progress.tokens, progress.seconds, progress.last["loss"]))

        with tempfile.TemporaryDirectory() as folder:
            until = time.monotonic() + (15 if large else 2)
            loop.train(Config(memory=memory, n_layers=2), recipe, lessons.seeded, Path(folder), report=note,
                       until=until, device=device)  # fmt: skip
        rates = [(b[0] - a[0]) / (b[1] - a[1]) for a, b in pairwise([(0, 0.0, 0.0), *rounds])]
        row = {"what": f"{memory}, contexts of {recipe.first_length}", "tokens/s": median(rates), "rounds": len(rounds)}
        rows.append(row | {"loss before": rounds[0][2], "after": rounds[-1][2]})
    return rows


def hf(device: str) -> list[Row]:
    """A random Llama of a few million parameters, saved here and read as `hf:FOLDER`."""
    import numpy as np
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from atlas_bench.models import loading
    from atlas_bench.models.tokenizer import PRETRAINED

    with tempfile.TemporaryDirectory() as folder:
        config = LlamaConfig(vocab_size=4096, hidden_size=256, intermediate_size=512, num_hidden_layers=4,
                             num_attention_heads=4, max_position_embeddings=131_072)  # fmt: skip
        LlamaForCausalLM(config).save_pretrained(folder)
        PreTrainedTokenizerFast(tokenizer_file=str(PRETRAINED / "tokenizer.json"), eos_token="</s>").save_pretrained(
            folder
        )
        model = loading.load(f"hf:{folder}", device=device)
        length = 65_536 if device == "cuda" else 1024
        tokens = np.random.default_rng(0).integers(1, 4000, (1, length), dtype=np.int32)
        state, began = model.start(1), time.perf_counter()
        for at in range(0, length, 4096):
            state = model.feed(state, tokens[:, at : at + 4096])
        answer = model.answer(state, (5, 6, 7), 8, ())
        taken = time.perf_counter() - began
    return [{"what": f"{length:,} tokens, then an answer of {len(answer)} characters", "tokens/s": length / taken}]


WORK = {"machine": machine, "op": op, "rule": rule, "read": read, "train": train, "hf": hf}


if __name__ == "__main__":
    sys.exit(main())
