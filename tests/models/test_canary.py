"""The canary finds servers of which the answers depend on what else they do, and says nothing of others."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from typer.testing import CliRunner

from atlas_bench.cli.app import app
from atlas_bench.errors import UserError
from atlas_bench.models import loading
from tests.openai_stub import Stub, error, say
from tests.solving import solve_qa1

PROMPTS = [f"{name} moved to the {room}. Where is {name}?" for name, room in (("Mary", "garden"), ("John", "kitchen"))]


@pytest.fixture(autouse=True)
def surroundings(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def honest(stub, request):
    return say(solve_qa1(request.prompt))


def wrong_when_cached(stub, request):
    """As with a wrong state under prefix caching: right for a prompt that it has not seen."""
    return say(solve_qa1(request.prompt) if request.tries == 1 else "hallway")


def wrong_in_a_batch(stub, request):
    time.sleep(0.1)  # until all of them are there
    together = stub.now > 1
    time.sleep(0.1)  # none leaves before the others have looked
    return say("hallway" if together else solve_qa1(request.prompt))


def wrong_behind_a_line(stub, request):
    return say("hallway" if request.prompt.startswith("(") else solve_qa1(request.prompt))


def refuses_behind_a_line(stub, request):
    return error(400, "no") if request.prompt.startswith("(") else honest(stub, request)


def ask(does, options=";canary=true", times=1):
    """(answers, what the record holds of the canary, the requests) of a server that behaves so."""
    with Stub(lambda request: does(stub, request)) as stub:
        model = loading.load(f"openai:{stub.url}#tiny{options}")
        texts = [np.array([model.tokenizer.encode(text)], dtype=np.int32) for text in PROMPTS]
        asked = [(model.feed(model.start(1), text), ()) for text in texts]
        for _ in range(times):
            answers = model.answer_all(asked, 16)
        return answers, model.facts()["endpoint"]["canary"], stub.requests


def test_nothing_is_said_of_a_server_that_answers_alike(capsys):
    answers, told, requests = ask(honest, times=2)
    ways = {"alone": "garden", "again": "garden", "in a batch": "garden"}
    assert told == {"without_line": ways, "with_line": ways, "differs": []}
    assert answers == ["garden", "kitchen"] and not capsys.readouterr().err
    assert len(requests) == 2 * (2 + 4) + 2 * 2  # once for a model, however often it is asked


def test_the_line_breaks_the_cache_in_every_run():
    lines = [{r.prompt.splitlines()[0] for r in ask(honest)[2] if r.prompt.startswith("(")} for _ in range(2)]
    assert [len(each) for each in lines] == [1, 1] and lines[0] != lines[1]


def test_without_the_option_no_canary_is_asked():
    _, told, requests = ask(honest, "")
    assert told is None and len(requests) == 2


def test_a_batch_is_no_larger_than_the_run_makes_it():
    _, told, requests = ask(wrong_in_a_batch, ";canary=true;concurrency=1")
    assert not told["differs"] and len(requests) == 2 * (2 + 1) + 2


@pytest.mark.parametrize(
    ("does", "said"),
    [
        (wrong_when_cached, "the same prompt was answered 'garden' alone and 'hallway' again"),
        (wrong_when_cached, "the same prompt after another first line was answered 'garden' alone and 'hallway'"),
        (wrong_in_a_batch, "the same prompt was answered 'garden' alone and 'hallway' in a batch"),
        (wrong_behind_a_line, "was answered 'garden', and 'hallway' after a first line that no cache has seen"),
        (refuses_behind_a_line, "'no answer: HTTP 400"),
    ],
)
def test_a_difference_is_told_and_recorded(capsys, does, said):
    _, told, _ = ask(does)
    err = capsys.readouterr().err
    assert any(said in line for line in told["differs"]), told
    assert f"endpoint: canary: {told['differs'][0]}" in err and "--no-enable-prefix-caching" in err


def test_run_canary(tmp_path):
    words = ["run", "babilong:qa1", "--len", "400", "--samples", "2", "--out", str(tmp_path), "--canary", "-q"]
    with Stub(lambda request: wrong_when_cached(stub, request)) as stub:
        result = CliRunner().invoke(app, [*words, "--model", f"openai:{stub.url}#tiny"])
    record = json.loads((tmp_path / "babilong.jsonl").read_text())
    assert result.exit_code == 0 and record["endpoint"]["canary"]["differs"]
    assert record["model"].endswith("#tiny") and "canary: the same prompt" in result.stderr


def test_a_canary_without_an_endpoint_is_refused():
    words = ["run", "mqar:8", "--len", "1K", "--model", "oracle", "--canary"]
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, UserError) or "--canary is for endpoints" in result.stderr
