"""Answers in whole runs: right ones score whatever stands around them, and no secret is in a record."""

from __future__ import annotations

import pytest

from atlas_bench.errors import UserError
from atlas_bench.models import loading
from atlas_bench.models.endpoint import client as http_client
from atlas_bench.running import runner
from atlas_bench.running.evaluation import Cell
from atlas_bench.running.progress import Progress
from atlas_bench.types import TaskOptions
from tests.marks import sweep
from tests.models.huggingface import saying
from tests.openai_stub import Reply, Stub, error, reply, say
from tests.solving import solve_qa1


@pytest.fixture(autouse=True)
def surroundings(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(http_client, "FIRST_WAIT", 0.005)


def test_a_key_is_in_no_record_wherever_the_server_puts_it(monkeypatch, tmp_path):
    key = "sk-1234567890"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    replies = [
        say(f"garden {key}"),
        say("", finish_reason=key, reasoning=key),
        say(None, refusal=f"not for {key}"),
        error(422, f"Incorrect API key provided: {key}"),
        error(400, key, headers={"Location": key}, param=key),
        say([{"type": key}]),
        reply({"choices": [{"message": {"content": "garden"}}], "model": key, "usage": {key: key}}),
    ]
    with Stub(lambda _: replies[len(stub.requests) % len(replies)]) as stub:
        model = loading.load(f"openai:{stub.url}#tiny;max_retries=0;concurrency=1")
        cells = [Cell("babilong", "qa1", 400, model.name, samples=len(replies))]
        settings = runner.Settings()
        (record,) = runner.run(cells, {model.name: model}, tmp_path, settings, Progress(quiet=True))
    assert len(record.answers) == len(stub.requests) == len(replies) and "[key]" in record.to_json()
    assert all(key not in path.read_text() for path in tmp_path.rglob("*") if path.suffix in (".jsonl", ".json"))
    assert key not in repr(record)
    with Stub(lambda _: Reply(307, headers={"Location": f"http://{key}/v1"})) as stub:
        model = loading.load(f"openai:{stub.url}#tiny")
        cells = [Cell("babilong", "qa1", 400, model.name, samples=2)]
        with pytest.raises(UserError, match=r"redirect to http://\[key\]/v1") as caught:
            runner.run(cells, {model.name: model}, tmp_path / "redirected", settings, Progress(quiet=True))
    assert key not in str(caught.value)


def test_the_bare_prompt_of_babilong_is_warned_of_once_for_models_of_others(tmp_path, capsys):
    with Stub(lambda _: say("garden")) as stub:
        spec = f"openai:{stub.url}#tiny"
        models = loading.load_all([spec, f"mine={spec}", "oracle"])

        def warned(prompt: str, *names: str) -> str:
            options, folder = TaskOptions(prompt=prompt), tmp_path / f"{prompt}-{len(names)}"
            cells = [
                Cell("babilong", "qa1", n, name, samples=1, options=options) for n in (1600, 1700) for name in names
            ]
            runner.run(cells, {name: models[name] for name in names}, folder, runner.Settings(), Progress(quiet=True))
            return " ".join(capsys.readouterr().err.split())

        said = warned("bare", *models)
        assert said.count("Add --prompt official.") == 1 and f"and mine, {spec} may not know it" in said
        assert not warned("official", *models) and not warned("bare", "oracle")


# with BABILong's own prompt and rules


def score(model, tmp_path, **options):
    chosen = TaskOptions(prompt="official", **options)
    cells = [Cell("babilong", "qa1", 1600, model.name, samples=4, options=chosen)]
    settings = runner.Settings()
    (record,) = runner.run(cells, {model.name: model}, tmp_path / "runs", settings, Progress(quiet=True))
    return record


@pytest.mark.parametrize("shape", ["{}", "\nAnswer: {}.", "\n\n{}\n\n<example>", " The person is in the {}.</s>"])
@pytest.mark.parametrize("options", ["", ";endpoint=completions"])
def test_a_server_that_knows_every_answer_scores_all_of_them(tmp_path, shape, options):
    def does(request):
        said = shape.format(solve_qa1(request.prompt))
        for stop in request.body.get("stop", ()):  # as vLLM applies them
            said = said.partition(stop)[0]
        return say(said)

    with Stub(does) as stub:
        record = score(loading.load(f"openai:{stub.url}#tiny{options}"), tmp_path)
    assert record.status == "ok" and set(map(str, record.scores.values())) == {"{'correct': 4, 'n': 4}"}


@sweep(
    "pieces",
    [["garden"], ["\n", "Answer:", " garden", "."], ["\n\n", "garden", "\n\n\n", "<example>"]],
    quick=[["\n", "Answer:", " garden", "."]],
)
def test_a_model_here_that_knows_every_answer_scores_all_of_them(tmp_path, pieces):
    """All stories end in the garden, so a model that always says so is right."""
    facts = ("Mary went to the garden.", "John moved to the garden.", "Sandra went to the garden.")
    stories = [
        f"1 {fact}\n2 Where is {fact.split()[0]}? \tgarden\t1\n" for fact in (*facts, "Daniel went to the garden.")
    ]
    (tmp_path / "qa1_all_test.txt").write_text("".join(stories))
    folder = saying.save(tmp_path / "model", pieces)
    record = score(loading.load(f"hf:{folder}", device="cpu"), tmp_path, data=str(tmp_path))
    assert record.status == "ok" and set(map(str, record.scores.values())) == {"{'correct': 4, 'n': 4}"}


@pytest.mark.slow
def test_a_model_here_that_only_thinks_fails_its_samples_and_not_the_cell(tmp_path):
    folder = saying.save(tmp_path / "model", ["<think>", *(f" {i}" for i in range(28))])
    record = score(loading.load(f"hf:{folder}", device="cpu"), tmp_path)
    assert record.status == "failed" and len(record.answers) == 4 and not record.scores
    assert all("set thinking=4096" in answer["failed"] for answer in record.answers)
