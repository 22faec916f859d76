"""Our tasks as lm-eval tasks, for any model that lm-eval knows.

    atlas-bench lm-eval run --model atlas-bench --model_args name=atlas-nano \
        --tasks atlas_babilong_qa1 --metadata '{"length": "16K", "samples": 100, "seed": 0}'
    atlas-bench lm-eval run --model hf --model_args pretrained=./llama --tasks atlas_babilong --metadata length=4K
                                                       (lm-eval's own hf model needs: pip install 'lm-eval[hf]')

A task is named atlas_TASK_SUBSET; atlas_TASK stands for all its subsets. --metadata takes

    length             tokens of the prompt in the model's tokenizer, to 128Ki; needed
    samples, seed      100 and 0
    data, background, prompt, encoding    as `atlas-bench run` takes them
    tokenizer          a Hugging Face name or folder, where --model_args names neither our model nor `pretrained`

Samples, answers' length, stop texts and scorers are those of `atlas-bench run`. One of our models reads the very
tokens of the sample, so that its score is the same as there; any other reads the text, which its tokenizer may cut
into a few tokens more or less. Few-shot examples and system instructions are added as lm-eval does, and then every
model reads the text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from datasets import Dataset, Features, Value
from lm_eval.api.task import ConfigurableTask

from atlas_bench import registry
from atlas_bench.errors import UserError
from atlas_bench.lmeval.model import Prompt, opened
from atlas_bench.running import plan, streams
from atlas_bench.running.evaluation import Cell, Evaluation
from atlas_bench.types import Model, Rules, Sample, TaskOptions, Tokenizer
from atlas_bench.units import format_length, parse_length

LONGEST = 131_072  # lm-eval keeps every prompt several times over, as text
OPTIONS = ("data", "background", "prompt", "encoding")
FEATURES = Features(
    {name: Value("large_string") for name in ("input", "prefix", "target", "question")}
    | {name: Value("int64") for name in ("index", "length")}
)


def names() -> Iterator[tuple[str, str, str]]:
    """(lm-eval's name, task, subset) of all our tasks that have an answer to score."""
    for task in registry.TASKS:
        for subset in registry.task(task).subsets or ("",):
            if registry.task(task).rules(subset).scorers:
                yield "_".join(filter(None, ("atlas", task, subset))), task, subset


def write(folder: Path) -> None:
    """One YAML file for each of our tasks: what lm-eval's --include_path takes."""
    for name, task, subset in names():
        lines = {"task": name, "tag": f"atlas_{task}", "output_type": "generate_until", "cell": [task, subset]}
        text = "\n".join(f"{key}: {json.dumps(value)}" for key, value in lines.items())
        (folder / f"{name}.yaml").write_text(f"class: !function {__name__}.AtlasTask\n{text}\n")


class AtlasTask(ConfigurableTask):
    """The samples of a cell as documents: text for every model, tokens for ours; made when lm-eval loads the task."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        name, (task_name, subset), metadata = config["task"], config["cell"], dict(config.get("metadata") or {})
        task, reader, cell = registry.task(task_name), _reader(name, metadata), _cell(name, task_name, subset, metadata)
        try:
            plan.check([cell], {cell.model: reader})
        except UserError as error:
            raise UserError(f"{error} In lm-eval such options go into --metadata: length=16K data=hub.") from None
        bare = list(task.samples(subset, cell.length, cell.samples, cell.seed, reader.tokenizer, cell.options))
        evaluation = Evaluation(cell, task, reader)
        rules, around = evaluation.rules, evaluation.around
        samples = list(streams.wrapped(bare, *around)) if any(around) else bare
        self._samples, self._key = samples, reader.tokenizer.key
        self._documents = _documents(bare, samples, reader.tokenizer)
        scorers = rules.scorers

        def score(document: Mapping[str, Any], results: list[str]) -> dict[str, float]:
            sample = samples[document["index"]]
            return {name: float(scorer(results[0].strip(), sample)) for name, scorer in scorers.items()}

        about = {"task": name, "process_results": score, "metadata": {**metadata, "version": task.version}}
        super().__init__(config=_config(rules) | about)

    def download(self, *_: Any, **__: Any) -> None:
        self.dataset = {"test": self._documents}

    def fewshot_context(self, doc: Mapping[str, Any], num_fewshot: int, **options: Any) -> str:
        """lm-eval's prompt; it remembers its sample where nothing but a chat template was put around it."""
        text = super().fewshot_context(doc, num_fewshot, **options)
        if num_fewshot or options.get("system_instruction"):
            return text
        return Prompt.of(text, self._samples[doc["index"]], self._key)

    def build_all_requests(self, **options: Any) -> None:
        """Never from lm-eval's cache of requests, which does not know length, samples and seed."""
        super().build_all_requests(**(options | {"cache_requests": False}))


def _config(rules: Rules) -> dict[str, Any]:
    """How lm-eval handles our documents."""
    return {
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "input",
        "doc_to_target": "target",
        "gen_prefix": "prefix",
        "target_delimiter": "",
        "num_fewshot": 0,
        "fewshot_config": {"samples": []},
        "generation_kwargs": {
            "until": list(rules.stop),
            "max_gen_toks": rules.max_answer_tokens,
            "do_sample": False,
            "temperature": 0.0,
        },
        "metric_list": [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in rules.scorers],
    }


def _documents(bare: Sequence[Sample], samples: Sequence[Sample], tokenizer: Tokenizer) -> Dataset:
    """The samples as text, without the model's own tokens around them; lengths are with those."""
    rows = []
    for plain, sample in zip(bare, samples, strict=True):
        ids = [*plain.context.read(0, plain.reads).tolist(), *plain.question, *plain.prefill]
        text, prefix = tokenizer.decode(ids), tokenizer.decode(plain.prefill)
        prefix = prefix if text.endswith(prefix) else ""
        rows.append(
            {
                "input": text.removesuffix(prefix),
                "prefix": prefix,
                "target": sample.targets[0],
                "question": str(sample.meta.get("question", "")),
                "index": sample.index,
                "length": sample.length,
            }
        )
    return Dataset.from_list(rows, features=FEATURES)


def _cell(name: str, task: str, subset: str, metadata: Mapping[str, Any]) -> Cell:
    """The cell that --metadata asks for."""
    if "length" not in metadata:
        raise UserError(f"task {name} has no length of its own. Add --metadata length=16K.")
    length = parse_length(str(metadata["length"]))
    if length > LONGEST:
        command = f"atlas-bench run {task}{subset and ':' + subset} --len {format_length(length)} --model NAME"
        raise UserError(
            f"length {format_length(length)} is too long for lm-eval, which holds every prompt as text, several times "
            f"over: {format_length(LONGEST)} at most. `{command}` streams it."
        )
    (cell,) = plan.make(
        [(task, subset)],
        lengths=[length],
        models=[name],
        seeds=[_whole(metadata, "seed", 0)],
        samples=_whole(metadata, "samples", 100),
        options=TaskOptions(**{key: str(metadata[key]) for key in OPTIONS if key in metadata}),
    )
    return cell


def _whole(metadata: Mapping[str, Any], key: str, default: int) -> int:
    value = metadata.get(key, default)
    if not str(value).isdecimal():
        raise UserError(f"--metadata {key} is {value!r}, which is no whole number. Leave it out for {default}.")
    return int(value)


def _reader(name: str, metadata: Mapping[str, Any]) -> Any:
    """Our model, or anything else with a tokenizer, which determines the tokens of the samples."""
    if "name" in metadata:
        return opened(str(metadata["name"]))
    source = next((metadata[key] for key in ("tokenizer", "pretrained", "model") if metadata.get(key)), None)
    if source is None:
        raise UserError(
            f"task {name} counts tokens and knows no tokenizer. Add --metadata tokenizer=NAME, a Hugging Face name or "
            "folder, or run one of our models: --model atlas-bench --model_args name=atlas-nano."
        )
    tokenizer = _tokenizer(str(source))
    return SimpleNamespace(name=str(source), tokenizer=tokenizer, wrap=Model.wrap, opening=Model.opening)


def _tokenizer(name: str) -> Tokenizer:
    from transformers import AutoTokenizer

    from atlas_bench.models.huggingface import tokenizer as hf_tokenizer

    try:
        return hf_tokenizer.Tokenizer(AutoTokenizer.from_pretrained(name, trust_remote_code=False))
    except Exception as error:  # the hub's, the system's and the library's own have nothing in common
        raise UserError(
            f"tokenizer '{name}' cannot be read ({' '.join(str(error).split())[:300]}). Add --metadata tokenizer=NAME, "
            "a Hugging Face name or folder."
        ) from None
