"""Fuzz every parser, guided by coverage: `make fuzz`, or

    python -m tests.fuzz --cases 100K record endpoint     # these parsers; all where none is named

An input that breaks a parser is written to tests/fuzz/found/NAME/, and a test runs it from then on. The exit code is 1
where there is one. Needs atheris (https://github.com/google/atheris) and a system that can fork: each parser runs in a
process of its own, and they share the imports, which take longer than 100,000 inputs.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import sys
import tempfile
import warnings
from contextlib import redirect_stderr
from pathlib import Path
from typing import NoReturn

import atheris

with redirect_stderr(io.StringIO()), atheris.instrument_imports(include=["atlas_bench"]):  # it names every module
    from atlas_bench.units import parse_length
    from tests.fuzz.parsers import FOUND, PARSERS, Parser
    from tests.fuzz.shapes import reshaped

LONGEST = 16_384  # bytes of an input


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="parsers [all]")
    parser.add_argument("--cases", default="10M", help="inputs over all parsers, in equal parts [10M]")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    names = options.names or list(PARSERS)
    if unknown := set(names) - set(PARSERS):
        parser.error(f"no parser {', '.join(sorted(unknown))}; there are {', '.join(PARSERS)}")
    each, broken = parse_length(options.cases) // len(names), []
    for name in names:
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as said:
            child = os.fork()
            if not child:
                for stream in (1, 2):
                    os.dup2(said.fileno(), stream)
                fuzz(PARSERS[name], each, options.seed, Path(folder), FOUND / name)
            _, ended = os.waitpid(child, 0)
            if ended:
                broken.append(name)
                said.seek(0)
                print(said.read().decode(errors="replace")[-4000:], file=sys.stderr)
        print(f"{name}: {each:,} inputs, {'BROKEN' if ended else 'none breaks it'}", flush=True)
    return bool(broken)


def fuzz(parser: Parser, cases: int, seed: int, corpus: Path, found: Path) -> NoReturn:
    """One parser on so many inputs; libFuzzer ends the process, with an exit code above 0 where one breaks it.

    found  folder for that input
    """
    warnings.simplefilter("ignore")  # of Python literals that hardly are some
    for number, data in enumerate(parser.seeds):
        (corpus / f"seed{number}").write_bytes(data)
    found.mkdir(parents=True, exist_ok=True)
    words = [f"-runs={cases}", f"-seed={seed}", f"-max_len={LONGEST}", f"-artifact_prefix={found}/", "-verbosity=0"]

    def mutate(data: bytes, longest: int, seed: int) -> bytes:
        dice = random.Random(seed)
        made = reshaped(data, dice) if dice.random() < 0.5 else data
        return atheris.Mutate(data, longest) if made == data or len(made) > longest else made

    atheris.Setup([sys.argv[0], *words, "-timeout=60", str(corpus)], parser.check, custom_mutator=mutate)
    atheris.Fuzz()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
