"""`score`: judge recorded answers by another scorer."""

from __future__ import annotations

from atlas_bench.cli import config, output
from atlas_bench.cli import options as opt


def score(
    paths: opt.Records,
    scorer: opt.Scorer,
    out: opt.NewRecords,
    task: opt.Tasks = None,
    model: opt.Models = None,
    data: opt.ShownData = None,
    background: opt.ShownBackground = None,
    tokenizer: opt.ShownTokenizer = None,
    as_json: opt.Json = False,
) -> None:
    """Judge recorded answers by another scorer.

    Writes new records: the old ones with the new verdicts beside the old, and the record and scorer that they are of.
    No model runs. A file defines score(answer, sample), which gives True, False or a number from 0 to 1.
    """
    from atlas_bench.results import store
    from atlas_bench.running import rescore

    file, by = rescore.new_file(out), rescore.load(scorer)
    new = rescore.records(
        store.scan(paths, output.warn), by, tasks=[name for typed in task or [] for name in typed.split(",")],
        models=model or [], data=data, background=background, tokenizer=tokenizer, command=config.typed(),
        warn=output.warn,
    )  # fmt: skip
    output.show(rescore.write(new, file), as_json, rescore.lines)
