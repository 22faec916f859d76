"""Does a memory stay finite and bounded on a million random tokens, every one of them written?

    python -m benchmarks.stability [--tokens 1M] [--memory atlas:most_momentum=1 ..] [--write 3] [--width 16]

Each memory, at its defaults where no option is written, with random fast weights, inputs N(0, 1) in float32, gates from
weights of standard deviation 1 (a third of it in rules as printed, which write every token). --write is the write
gate's bias: 3 holds it open on most tokens, which training never does. Forget gates are shut: nothing but the rule
itself then bounds the memory (and an MLP that has forgotten everything, all its weights 0, has no gradient left and
would be finite for the wrong reason). --momentum holds the momentum gate at one value. Shown is the largest absolute
value of the memory after 1 %, 10 % and all of the tokens.
"""

from __future__ import annotations

import argparse
import sys
import time

import torch

from atlas_bench import registry
from atlas_bench.comparison import verify
from atlas_bench.models.alterations import hold
from atlas_bench.units import parse_length
from benchmarks.processor import processor


@torch.no_grad()
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=parse_length, default=1_000_000)
    parser.add_argument("--memory", action="append")
    parser.add_argument("--write", type=float, default=3.0)
    parser.add_argument("--momentum", type=float, help="0 to 1; left out, as random weights have it")
    parser.add_argument("--width", type=int, default=16)
    options = parser.parse_args()
    torch.set_num_threads(1)
    failed = False
    print(processor())
    print(f"{options.tokens:,} tokens of width {options.width}; largest absolute value of the state")
    print(f"{'memory':<40}{'write rate':>11}{'after 1 %':>12}{'10 %':>12}{'100 %':>12}{'seconds':>9}")
    for spec in options.memory or [name for name in registry.MEMORIES if name != "none"]:
        name, given = registry.typed_memory(spec)
        memory = verify.builder(registry.memory(name), given)(
            write_bias=options.write, gate_std=1.0, dtype=torch.float32, width=options.width, head=options.width // 2
        )
        held = {"forget": 0.0} | ({} if options.momentum is None else {"momentum": options.momentum})
        for gate in held.keys() & memory.gate.keys():
            hold(memory, gate, held[gate])
        own = memory.init_state(1)
        began, state, block, rate = time.perf_counter(), None, max(1, options.tokens // 1000), 0.0
        largest = []
        generator = torch.Generator().manual_seed(0)
        for i in range(1000):
            _, state = memory(torch.randn(1, block, options.width, generator=generator), state, output=False)
            rate += float(memory.write_rate) / 1000
            if i + 1 in (10, 100, 1000):
                largest.append(max(float(x.abs().max()) for x in (state[key] for key in own)))
        failed |= not all(x < float("inf") for x in largest)
        figures = "".join(f"{x:>12.3g}" for x in largest)
        print(f"{spec:<40}{rate:>11.2f}{figures}{time.perf_counter() - began:>9.0f}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
