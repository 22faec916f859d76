"""Fuzz every parser, guided by coverage: `make fuzz`, or

    python -m tests.fuzz --cases 100K record endpoint     # these parsers; all where none is named

An input that breaks a parser is written to tests/fuzz/found/NAME/, and a test runs it from then on. The exit code is 1
where there is one. Needs atheris (https://github.com/google/atheris); each parser runs in a process of its own.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

LONGEST = 16_384  # bytes of an input


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="parsers [all]")
    parser.add_argument("--cases", default="10M", help="inputs over all parsers, in equal parts [10M]")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--alone", metavar="FOLDER", help=argparse.SUPPRESS)  # this process is one parser's
    options = parser.parse_args()
    if options.alone:
        return fuzz(options.names[0], int(options.cases), options.seed, Path(options.alone))
    from atlas_bench.units import parse_length
    from tests.fuzz.parsers import PARSERS

    names = options.names or list(PARSERS)
    if unknown := set(names) - set(PARSERS):
        parser.error(f"no parser {', '.join(sorted(unknown))}; there are {', '.join(PARSERS)}")
    each, broken = parse_length(options.cases) // len(names), []
    for name in names:
        with tempfile.TemporaryDirectory() as corpus:
            words = [name, "--cases", str(each), "--seed", str(options.seed), "--alone", corpus]
            ended = subprocess.run([sys.executable, "-m", "tests.fuzz", *words], capture_output=True, text=True)
        if ended.returncode:
            broken.append(name)
            print(ended.stdout[-2000:] + ended.stderr[-2000:], file=sys.stderr)
        print(f"{name}: {each:,} inputs, {'BROKEN' if ended.returncode else 'none breaks it'}", flush=True)
    return bool(broken)


def fuzz(name: str, cases: int, seed: int, corpus: Path) -> int:
    """One parser on so many inputs; libFuzzer ends the process, with an exit code above 0 where one breaks it."""
    import atheris

    with atheris.instrument_imports(include=["atlas_bench"]):
        from tests.fuzz import parsers
        from tests.fuzz.shapes import reshaped
    warnings.simplefilter("ignore")  # of Python literals that hardly are some
    parser = parsers.PARSERS[name]
    for number, data in enumerate(parser.seeds):
        (corpus / f"seed{number}").write_bytes(data)
    found = parsers.FOUND / name
    found.mkdir(parents=True, exist_ok=True)
    words = [f"-runs={cases}", f"-seed={seed}", f"-max_len={LONGEST}", f"-artifact_prefix={found}/", "-verbosity=0"]

    def mutate(data: bytes, longest: int, seed: int) -> bytes:
        dice = random.Random(seed)
        made = reshaped(data, dice) if dice.random() < 0.5 else data
        return atheris.Mutate(data, longest) if made == data or len(made) > longest else made

    atheris.Setup([sys.argv[0], *words, "-timeout=10", str(corpus)], parser.check, custom_mutator=mutate)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
