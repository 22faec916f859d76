"""`list`, `describe` and `doctor`: what exists, what it means, what runs on this machine."""

from __future__ import annotations

import typer

from atlas_bench.cli import options as opt
from atlas_bench.cli import output


def list_(kind: opt.Kind = None, as_json: opt.Json = False) -> None:
    """List tasks, models, memories and sizes, with one line on each."""
    from atlas_bench.cli import describe
    from atlas_bench.running import listing

    listings = {name: listing.listing(name) for name in ([kind] if kind else listing.KINDS)}
    output.show(listings, as_json, describe.listed)


def describe(name: opt.Name, as_json: opt.Json = False) -> None:
    """Tell what a task asks, a memory computes, a model is made of.

    A task is shown with one real sample, a size with its cost for each memory.
    """
    from atlas_bench.cli import describe as about

    output.show(about.describe(name), as_json, about.lines)


def doctor(as_json: opt.Json = False) -> None:
    """Tell what runs on this machine, and why no faster kernels do.

    Each is first compared with its slow definition; exit code 1 if one differs, or torch is missing.
    """
    from atlas_bench.cli import doctor as examination

    report = examination.examine()
    output.show(report, as_json, examination.lines)
    if not examination.well(report):
        raise typer.Exit(1)
