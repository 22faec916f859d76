"""Endpoints: what is sent, what is tried again, what counts as an answer; against a stub over real HTTP."""

from __future__ import annotations

import asyncio
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
from email.utils import formatdate
from time import time

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_bench import registry
from atlas_bench.errors import UserError
from atlas_bench.models.endpoint import client as http_client
from atlas_bench.models.endpoint import model as api
from atlas_bench.models.endpoint import spec as api_spec
from atlas_bench.models.endpoint.client import ApiError
from atlas_bench.models.tokenizer import PRETRAINED, embedded
from atlas_bench.results import store
from atlas_bench.results.record import timeless
from atlas_bench.running import runner
from atlas_bench.running.evaluation import Cell
from atlas_bench.running.progress import Progress
from atlas_bench.types import Rules, Sample, Scorer
from tests.openai_stub import Reply, Stub, error, reply, say

KEY = "sk-secret-of-the-test"
KITCHEN = say("kitchen")


@pytest.fixture(autouse=True)
def surroundings(monkeypatch):
    """A key, no proxies, short waits."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(http_client, "FIRST_WAIT", 0.005)


def model_at(stub: Stub, options: str = "") -> api.Endpoint:
    return api.load(f"openai:{stub.url}#tiny{options}")


def read(model: api.Endpoint, text: str):
    """The state of a stream that has read the text."""
    return model.feed(model.start(1), np.array([model.tokenizer.encode(text)], dtype=np.int32).reshape(1, -1))


def ask(stub: Stub, options: str = "", *, text: str = "Where is Mary?", stop=("\n",)) -> str:
    model = model_at(stub, options)
    return model.answer(read(model, text), (), 16, stop)


# how a model is written


def test_options_are_read_and_those_that_decide_answers_are_in_the_name():
    tokenizer = PRETRAINED / "tokenizer.json"
    model = api.load(
        f"openai:https://api.example.com/v1/#org/qwen:7b; tokenizer={tokenizer};endpoint=completions;concurrency=3;"
        "max_retries=0;timeout=1.5;context=128Ki;thinking=9;usd_per_million_in=0.5;usd_per_million_out=1.5;"
    )
    assert model.options == api_spec.Options(str(tokenizer), "completions", 3, 0, 1.5, 131072, 9, 0.5, 1.5)
    name = f"openai:https://api.example.com/v1#org/qwen:7b;tokenizer={tokenizer};endpoint=completions;thinking=9"
    assert model.name == name and api.load(name).name == name
    assert api.load("openai:http://h:1/v1#m;concurrency=3").name == "openai:http://h:1/v1#m"


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("http://h/v1", "names no model"),
        ("http://h/v1#;timeout=1", "names no model"),
        ("h/v1#m", "'h/v1' is no address"),
        ("ftp://h/v1#m", "no address"),
        ("http:///v1#m", "no address"),
        ("http://h:99999/v1#m", "no address"),
        ("http://h/v1#m;concurency=8", "no option 'concurency'. Did you mean 'concurrency'?"),
        ("http://h/v1#m;timeout=0", "timeout is '0'. Give seconds above 0"),
        ("http://h/v1#m;timeout=nan", "timeout is 'nan'"),
        ("http://h/v1#m;timeout", "timeout is ''"),
        ("http://h/v1#m;concurrency=0", "a whole number from 1 to a billion"),
        ("http://h/v1#m;max_retries=-1", "a whole number from 0 to a billion"),
        ("http://h/v1#m;max_retries=1.5", "a whole number from 0 to a billion"),
        ("http://h/v1#m;context=much", "tokens, such as 131072"),
        ("http://h/v1#m;endpoint=chats", "Give chat or completions"),
        ("http://h/v1#m;tokenizer=", "tokenizer is ''"),
        ("http://h/v1#m;usd_per_million_in=1", "one price"),
        ("http://h/v1#m;usd_per_million_in=-1;usd_per_million_out=1", "dollars from 0 to a billion"),
    ],
)
def test_a_mistake_in_the_spec_is_told(spec, told):
    with pytest.raises(UserError) as caught:
        api.load(f"openai:{spec}")
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://me:hush@h/v1", "http://hush@h/v1", "http://h/v1?key=hush", "http://hush@h:x/v1"]
)
def test_a_url_that_holds_a_secret_is_refused_and_not_repeated(url):
    with pytest.raises(UserError, match="OPENAI_API_KEY") as caught:
        api.load(f"openai:{url}#m")
    assert "hush" not in str(caught.value)


def test_aiohttp_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(UserError, match="pip install"):
        api.load("openai:http://h/v1#m")


def _bpe(path, **changes):
    """The embedded tokenizer with something changed, as a file."""
    bpe = tokenizers.Tokenizer.from_file(str(PRETRAINED / "tokenizer.json"))
    for name, value in changes.items():
        setattr(bpe, name, value)
    bpe.save(str(path))
    return bpe


def test_a_tokenizer_that_does_not_give_the_text_back_is_refused(tmp_path):
    file = tmp_path / "tokenizer.json"
    _bpe(file)
    assert api_spec.tokenizer(str(tmp_path)).encode("a b") == embedded().encode("a b")
    _bpe(file, normalizer=tokenizers.normalizers.Prepend(" "))  # Llama 2's way
    with pytest.raises(UserError, match="does not give back"):
        api_spec.tokenizer(str(file))
    _bpe(file, normalizer=tokenizers.normalizers.Lowercase())
    with pytest.raises(UserError, match="does not give back"):
        api_spec.tokenizer(str(file))


def test_a_tokenizer_that_cannot_be_read_is_told(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{")
    for name in (str(tmp_path), str(tmp_path / "nowhere" / "at" / "all")):
        with pytest.raises(UserError, match="cannot be read"):
            api_spec.tokenizer(name)


# what is sent


@pytest.fixture(scope="module")
def echo():
    with Stub(lambda request: say(request.prompt[-5:], read=len(request.raw))) as stub:
        yield stub


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
@given(
    text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=4),
    question=st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)
@settings(max_examples=25, deadline=None)
def test_the_planned_text_arrives_byte_for_byte(echo, endpoint, text, cuts, question):
    model = model_at(echo, f";endpoint={endpoint}")
    ids = np.array([model.tokenizer.encode(text)], dtype=np.int32).reshape(1, -1)
    state = model.start(1)
    for block in np.split(ids, sorted(min(cut, ids.shape[1]) for cut in cuts), axis=1):
        state = model.feed(state, block)
    model.answer(state, model.tokenizer.encode(question), 16)
    request = echo.requests[-1]
    assert request.prompt.encode() == (text + question).encode()
    assert request.path == {"chat": "/v1/chat/completions", "completions": "/v1/completions"}[endpoint]


def test_the_request_asks_for_the_greedy_answer():
    with Stub(lambda _: KITCHEN) as stub:
        ask(stub, text="Hi ß", stop=("\n", "", "a", "b", "c", "d"))
        ask(stub, ";endpoint=completions", text="Hi ß", stop=("\n", "", "a", "b", "c", "d", "e"))
        ask(stub, ";endpoint=completions", text="Hi ß", stop=("\n",))
    chat, raw, bare = stub.requests
    assert chat.body == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "Hi ß"}],
        "max_tokens": 16,
        "temperature": 0,
        "seed": 0,
    }
    assert bare.body == {"model": "tiny", "prompt": "Hi ß", "max_tokens": 16, "temperature": 0, "seed": 0}
    # at most four, and none that would end "\n\nkitchen" before it begins
    assert raw.body == {**bare.body, "stop": ["a", "b", "c", "d"]}
    assert chat.headers["Authorization"] == f"Bearer {KEY}"


def test_no_key_sends_none(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with Stub(lambda _: KITCHEN) as stub:
        assert ask(stub) == "kitchen"
    assert "Authorization" not in stub.requests[0].headers


@pytest.mark.parametrize(
    ("said", "stop", "answer"),
    [
        ("kitchen", (), "kitchen"),
        (" kitchen \nMary", ("\n",), "kitchen"),
        ("\n\nkitchen\n", ("\n",), "kitchen"),
        ("a b END c. d", (".", "END", "\n"), "a b"),
        ("1 2 3 4 5 e", ("a", "b", "c", "d", "e"), "1 2 3 4 5"),  # the fifth is not sent
        ("", ("\n",), ""),
        ("Küche 漢字", ("\n",), "Küche 漢字"),
    ],
)
def test_an_answer_ends_before_the_first_stop_text(said, stop, answer):
    with Stub(lambda _: say(said)) as stub:
        assert ask(stub, stop=stop) == ask(stub, ";endpoint=completions", stop=stop) == answer


def test_answers_come_in_order_with_so_many_requests_in_flight():
    waits = random.Random(0)
    delays = {i: waits.random() / 20 for i in range(40)}
    with Stub(lambda r: say(r.prompt.split()[1], read=9)) as stub:
        stub.does = lambda r: Reply(body=say(r.prompt.split()[1]).body, wait=delays[int(r.prompt.split()[1])])
        model = model_at(stub, ";concurrency=4")
        state = read(model, "number ")
        answers = model.answer_all([(state, model.tokenizer.encode(str(i))) for i in range(40)], 16)
    assert answers == [str(i) for i in range(40)]
    assert stub.most == 4 and len(stub.requests) == 40
    assert model.answer_all([], 16) == []


# what is tried again

CONTEXT_ERRORS = [
    error(400, "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens."),
    error(400, "request (4390 tokens) exceeds the available context size (4096 tokens), try increasing it"),
    error(500, "Context size has been exceeded."),
    error(400, "Too long", code="context_length_exceeded"),
]
PASSING = {
    "429": error(429, "Rate limit reached", {"Retry-After": "0"}),
    "500": error(500, "boom"),
    "502": Reply(502, b"<html>Bad gateway</html>"),
    "503": error(503, "loading"),
    "504": Reply(504),
    "malformed JSON": Reply(200, b'{"choices": [{"mess'),
    "not UTF-8": Reply(200, b"\xff\xfe\x00"),
    "deep JSON": Reply(200, b"[" * 100_000),
    "no object": Reply(200, b"[1]"),
    "empty body": Reply(200),
    "no choices": reply({"error": {"message": "upstream"}}),
    "empty choices": reply({"choices": []}),
    "null choice": reply({"choices": [None]}),
    "no message": reply({"choices": [{"finish_reason": "stop"}]}),
    "dropped": Reply(200, b'{"choices"', drop=True),
    "late": Reply(200, KITCHEN.body, wait=3.0),
    "aborted": say("kit", finish_reason="abort"),
}
FINAL = {
    "wrong key": (error(401, f"Incorrect API key provided: {KEY}"), "OPENAI_API_KEY"),
    "no model": (error(404, "The model `tiny` does not exist"), "no such model"),
    "bad request": (error(400, "messages: bad"), "HTTP 400"),
    "too large": (Reply(413), "larger than the server takes"),
    "no dollars": (error(429, "You exceeded your quota", type="insufficient_quota"), "HTTP 429"),
    "never fits a minute": (error(429, "Request too large for gpt-4o on tokens per min"), "HTTP 429"),
    "long wait": (error(429, "tomorrow", {"Retry-After": "86400"}), "left alone for 86400 s"),
    "redirect": (Reply(307, headers={"Location": "http://elsewhere/v1"}), "redirect to http://elsewhere/v1"),
    "no text": (say(None), "holds no text (finish_reason 'stop')"),
    "refusal": (say(None, refusal="I can't help"), "refusal 'I can't help'"),
    "thoughts only": (say(None, finish_reason="length", reasoning_content="Hm"), "thinking=4096"),
    "nothing in time": (say("", finish_reason="length"), "ran out before the answer began"),
    "filtered": (say("kit", finish_reason="content_filter"), "broke off"),
    **{f"too long {i}": (told, "longer than the server's context") for i, told in enumerate(CONTEXT_ERRORS)},
}


@pytest.mark.parametrize("trouble", PASSING)
def test_what_may_pass_is_tried_again_and_then_answered(trouble):
    with Stub(lambda request: PASSING[trouble] if request.tries < 3 else KITCHEN) as stub:
        model = model_at(stub, ";timeout=1" if trouble == "late" else "")
        assert model.answer(read(model, "Where is Mary?"), (), 16) == "kitchen"
    assert len({request.raw for request in stub.requests}) == 1 and len(stub.requests) == 3
    assert (model.facts()["usage"]["requests"], model.facts()["usage"]["retries"]) == (3, 2)


@pytest.mark.parametrize("trouble", PASSING)
def test_what_does_not_pass_is_an_exception_after_so_many_tries(trouble):
    with Stub(lambda _: PASSING[trouble]) as stub, pytest.raises(ApiError) as caught:
        ask(stub, ";timeout=0.2;max_retries=2")
    assert len(stub.requests) == 3
    assert f"{stub.url}/chat/completions, 3 tries" in str(caught.value)


@pytest.mark.parametrize("trouble", FINAL)
def test_what_cannot_pass_is_an_exception_at_once(trouble):
    told, why = FINAL[trouble]
    with Stub(lambda _: told) as stub, pytest.raises(ApiError) as caught:
        ask(stub)
    assert len(stub.requests) == 1 and why in str(caught.value)
    assert KEY not in str(caught.value) and KEY not in caught.value.reply


def test_retry_after_is_waited_for():
    with Stub(lambda r: error(429, "slow", {"Retry-After": "1"}) if r.tries == 1 else KITCHEN) as stub:
        assert ask(stub) == "kitchen"
    first, second = stub.requests
    assert second.at - first.at >= 1


def test_retry_after_may_be_a_date():
    tomorrow = formatdate(time() + 86400, usegmt=True)
    with Stub(lambda _: error(503, "later", {"Retry-After": tomorrow})) as stub:
        with pytest.raises(ApiError, match=r"left alone for 86[34]"):
            ask(stub)
        stub.does = lambda r: error(503, "?", {"Retry-After": "soon"}) if r.tries == 2 else KITCHEN
        assert ask(stub) == "kitchen"


@pytest.mark.parametrize("hours", [-12, 0, 12])
def test_a_retry_after_date_is_by_the_server_s_clock(hours):
    now = time() + 3600 * hours
    until, date = formatdate(now + 90, usegmt=True), formatdate(now, usegmt=True)
    assert http_client._retry_after(until, date) == 90


@pytest.mark.parametrize(
    "value",
    ["nan", "inf", "-inf", "1e999", "-5", "9" * 400, "Fri, 31 Dec 99999 23:59:59 GMT", "32 May", "", "\xb2", "1,5"],
)
def test_an_absurd_retry_after_is_none(value):
    assert http_client._retry_after(value) == 0


@given(
    st.text(max_size=40)
    | st.from_regex(r"[A-Z][a-z]{2}, \d{1,30} [A-Z][a-z]{2} \d{1,30} \d\d:\d\d:\d\d [A-Z+\-0-9]{1,8}")
)
def test_whatever_retry_after_holds_is_a_finite_wait(value):
    assert 0 <= http_client._retry_after(value) < float("inf")


def test_a_message_shows_the_reply_as_one_short_line():
    with Stub(lambda _: Reply(400, b"bad\x1b[31m\n\n  red" + b"x" * 5000)) as stub, pytest.raises(ApiError) as caught:
        ask(stub)
    assert "1 try: bad [31m redxxx" in str(caught.value) and len(str(caught.value)) < 400
    assert caught.value.status == 400


def test_the_key_does_not_go_to_another_address():
    with Stub(lambda _: KITCHEN) as other:
        moved = Reply(307, headers={"Location": f"{other.url}/chat/completions"})
        with Stub(lambda _: moved) as stub, pytest.raises(ApiError, match="give that address"):
            ask(stub)
    assert not other.requests


@pytest.mark.parametrize("options", ["", ";context=4096"])
def test_a_server_that_is_not_started_is_told_at_once(capsys, monkeypatch, options):
    monkeypatch.setattr(http_client, "FIRST_WAIT", 60.0)  # no try may follow
    with Stub(lambda _: KITCHEN) as stub:
        pass
    model, told = (
        model_at(stub, options),
        re.escape(f"no server answers at {stub.url} (connection refused by 127.0.0.1:"),
    )
    state = read(model, "Hi")
    asking = [lambda: model.answer_all([(state, ())] * 20, 16, keep=lambda i, answer: kept.append(i))]
    kept: list[int] = []
    for asks in asking if options else [*asking, lambda: model.supports(10)]:
        with pytest.raises(UserError, match=rf"{told}\d+\)\. Start it, or correct the address"):
            asks()
    assert not kept and not capsys.readouterr().err


def test_an_address_without_a_host_is_told_at_once(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    with pytest.raises(UserError, match=r"no server answers at http://nowhere\.invalid/v1 \(ClientConnector"):
        api.load("openai:http://nowhere.invalid/v1#m").supports(10)


def test_a_server_that_goes_away_is_waited_for():
    with Stub(lambda _: KITCHEN) as stub:
        model = model_at(stub, ";max_retries=1")
        assert model.supports(10) is None  # its list of models is a 404, and it was there
    for asks in (lambda: model.answer(read(model, "Hi"), (), 16), lambda: model.answer(model.start(1), (), 16)):
        with pytest.raises(ApiError, match=r"connection refused by 127.0.0.1:\d+; .*2 tries") as caught:
            asks()
        assert caught.value.status is None


def test_long_waits_are_told_once_for_requests_that_fail_alike(capsys):
    slow = error(503, "loading", {"Retry-After": "1"})
    with Stub(lambda request: slow if len(stub.requests) <= 4 else KITCHEN) as stub:
        model = model_at(stub, ";concurrency=4;max_retries=2")
        assert model.answer_all([(model.start(1), (i,)) for i in range(4)], 16) == ["kitchen"] * 4
    assert capsys.readouterr().err == "endpoint: HTTP 503, try 2 of 3 in 1 s\n"


def test_every_sample_is_answered_or_an_exception():
    every = re.compile("wrong key|no model|no dollars|redirect|too l")  # is about every question: asking ends
    kinds = [*PASSING.values(), *(told for name, (told, _) in FINAL.items() if not every.match(name)), KITCHEN]
    kinds = [kind for kind in kinds if not kind.wait]

    def does(request):
        return kinds[int(request.prompt.split()[1]) % len(kinds)]

    with Stub(does) as stub:
        model = model_at(stub, ";max_retries=1;concurrency=16")
        state = read(model, "number ")
        answers = model.answer_all([(state, model.tokenizer.encode(str(i))) for i in range(100)], 16)
    assert len(answers) == 100
    for i, answer in enumerate(answers):
        assert answer == "kitchen" if kinds[i % len(kinds)] is KITCHEN else isinstance(answer, ApiError)


# servers that differ


def test_what_a_server_refuses_to_be_asked_is_left_out_and_recorded():
    def does(request):
        body = request.body
        if "max_tokens" in body:
            return error(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        if "temperature" in body:
            return error(400, "Unsupported value: 'temperature' does not support 0 with this model.")
        if "seed" in body:
            return reply({"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"]}]}, status=422)
        return KITCHEN

    with Stub(does) as stub:
        model = model_at(stub)
        state = read(model, "Where is Mary?")
        assert [model.answer(state, (), 16) for _ in range(2)] == ["kitchen", "kitchen"]
    assert len(stub.requests) == 5  # the second answer knows
    assert stub.requests[-1].body["max_completion_tokens"] == 16
    assert model.facts()["endpoint"]["left_out"] == ["max_tokens", "seed", "temperature"]


def test_a_parameter_that_is_refused_under_either_name_is_an_exception():
    refusal = error(400, "Unsupported parameter: 'max_tokens' or 'max_completion_tokens'")
    with Stub(lambda _: refusal) as stub, pytest.raises(ApiError, match="HTTP 400"):
        ask(stub)
    assert len(stub.requests) == 2


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (say("kitchen\nor so", reasoning_content="Hm.\nWell."), "kitchen"),
        (say("<think>\nHm.\n</think>\n\nkitchen\n"), "kitchen"),
        (say("Hm.</think> kitchen"), "kitchen"),
        (say("kitch", finish_reason="length"), "kitch"),
        (say("<think>\nHm", finish_reason="length"), None),
        (say("", finish_reason="length", reasoning="Hm"), None),
    ],
)
def test_thoughts_are_no_part_of_an_answer(said, answer):
    with Stub(lambda _: said) as stub:
        if answer is None:
            with pytest.raises(ApiError, match="thinking=4096"):
                ask(stub, ";thinking=100")
        else:
            assert ask(stub, ";thinking=100") == answer
    assert stub.requests[0].body["max_tokens"] == 116 and "stop" not in stub.requests[0].body


def test_a_prompt_that_the_server_cut_is_no_answer():
    """Half of what any tokenizer would make of it; by the model's own tokenizer, which is known better."""
    text, own = "Mary went. " * 2000, f";tokenizer={PRETRAINED}"
    whole = len(embedded().encode(text))
    for options, least in (("", 3 * 2000), (own, whole)):
        with Stub(lambda _, read=least: say("kitchen", read=read)) as stub:
            assert ask(stub, options, text=text) == "kitchen"
        told = f"read {least // 2} tokens of a prompt of .*{least}.*num_ctx"
        with (
            Stub(lambda _, read=least // 2: say("kitchen", read=read)) as stub,
            pytest.raises(ApiError, match=told),
        ):
            ask(stub, options, text=text)
        assert len(stub.requests) == 1


@pytest.mark.parametrize(
    "models",
    [
        reply({"data": [{"id": "other", "max_model_len": 5}, {"id": "tiny", "max_model_len": 4096}]}),
        reply({"data": [{"id": "/models/tiny.gguf", "meta": {"n_ctx": 4096, "n_ctx_train": 9999}}]}),
        reply({"data": [{"id": "tiny", "context_length": 4096}]}),
    ],
)
def test_the_servers_own_context_is_the_limit(models):
    with Stub(lambda _: KITCHEN, models) as stub:
        model = model_at(stub)
        assert model.supports(4096) is None
        why = model.supports(4097)
        assert model_at(stub, ";context=8Ki").supports(4097) is None
    assert "reads 4096 tokens" in why and "4097 tokens" in why and stub.gets == 1 and not stub.requests


@pytest.mark.parametrize(
    "models", [Reply(404), reply({"data": [{"id": "tiny"}]}), reply({"data": 3}), Reply(200, b"<")]
)
def test_without_a_stated_context_the_server_decides(models):
    with Stub(lambda _: KITCHEN, models) as stub:
        assert model_at(stub, ";max_retries=1").supports(10**9) is None


def names(*ids: str) -> Reply:
    return reply({"data": [{"id": name, "owned_by": "somebody"} for name in ids]})


@pytest.mark.parametrize(
    ("listed", "told"),
    [
        (["tinny"], r"no model 'tiny'. Did you mean 'tinny'\? It names: tinny"),
        (["tinny", "other"], r"Did you mean 'tinny'\? It names: other, tinny"),
        (["qwen:7b", "openai/*"], "It names: openai/.*, qwen:7b"),
        ([f"model-{i}" for i in range(40)], "and 30 more"),
        (["a\x1b[31m\nb"], r"It names: a \[31m b"),
    ],
)
def test_a_model_that_the_server_does_not_name_is_told_before_anything_is_asked(listed, told):
    with Stub(lambda _: KITCHEN, names(*listed)) as stub, pytest.raises(UserError, match=told):
        model_at(stub).supports(10)
    assert not stub.requests
    with Stub(lambda _: KITCHEN, names(*listed)) as stub:
        assert model_at(stub, ";context=4096").supports(10) is None and stub.gets == 0


@pytest.mark.parametrize(
    ("listed", "model"),
    [
        (["tiny", "other"], "tiny"),
        (["llama3:latest", "other"], "llama3"),  # Ollama's tag
        (["org/qwen"], "org/qwen:free"),  # OpenRouter's variants
        (["openai/*"], "openai/gpt-4o"),  # LiteLLM's patterns
        ([], "tiny"),
    ],
)
def test_a_model_that_the_server_names_in_its_way_is_asked(listed, model):
    with Stub(lambda _: KITCHEN, names(*listed)) as stub:
        assert api.load(f"openai:{stub.url}#{model}").supports(10) is None and stub.gets == 1


def test_a_path_without_v1_is_told():
    with Stub(lambda _: Reply(404)) as stub:
        url = stub.url.removesuffix("/v1")
        model = api.load(f"openai:{url}#tiny")
        with pytest.raises(ApiError, match=rf"HTTP 404 .*try {re.escape(url)}/v1\)"):
            model.answer(read(model, "Hi"), (), 16)
        with pytest.raises(ApiError, match=r"HTTP 404 \(no such model or path\)"):
            ask(stub)


def test_thoughts_count_in_a_context():
    with Stub(lambda _: KITCHEN) as stub:
        model = model_at(stub, ";context=4096;thinking=1000")
        assert model.supports(3096) is None and "4097 tokens" in model.supports(3097)


def test_a_wrong_key_is_told_before_anything_is_sent():
    with Stub(lambda _: KITCHEN, Reply(401)) as stub, pytest.raises(ApiError, match="OPENAI_API_KEY"):
        model_at(stub).supports(10)


def test_usage_is_counted_as_the_server_states_it():
    replies = [say("a", read=1000, said=10), error(500, "boom"), say("b", read=3000, said=20), reply({"choices": []})]
    with Stub(lambda _: replies[len(stub.requests) - 1] if len(stub.requests) < 5 else KITCHEN) as stub:
        model = model_at(stub, ";usd_per_million_in=2;usd_per_million_out=8")
        state = read(model, "Hi")
        assert [model.answer(state, (), 16) for _ in range(3)] == ["a", "b", "kitchen"]
    assert model.facts()["usage"] == {
        "requests": 5,
        "retries": 2,
        "prompt_tokens": 4000 + 10**6,
        "completion_tokens": 33,
        "unmetered": 1,
        "usd": pytest.approx((2 * 1_004_000 + 8 * 33) / 1e6),
    }
    assert model.facts()["endpoint"]["served"] == ["tiny-1"]
    assert model_at(stub).facts()["usage"]["usd"] is None
    assert KEY not in repr(model.facts()) + repr(vars(model))


# state


def test_a_state_is_forked_weighed_and_packed():
    with Stub(lambda _: KITCHEN) as stub:
        model = model_at(stub)
        texts = ["0 1 2 3", "3 2 1 0"]
        ids = np.array([model.tokenizer.encode(text) for text in texts], dtype=np.int32)
        block = ids[:, :3].copy()
        state = model.feed(model.feed(model.start(2), block), ids[:, 3:])
        block[:] = 0  # the reader may use its buffer again
        packed = model.pack(state)
        assert packed["tokens"].dtype == np.int32 and np.array_equal(packed["tokens"], ids)
        again = model.unpack(packed)
        assert model.state_bytes(state) == model.state_bytes(again) == ids[0].nbytes
        assert model.pack(model.start(3))["tokens"].shape == (3, 0)
        fork = model.feed(model.row(state, 1), np.array([model.tokenizer.encode(" Then")], dtype=np.int32))
        assert model.feed(fork, block[:1]).before is fork  # nothing read before is copied
        for asked in (model.row(state, 0), model.row(again, 1), fork):
            model.answer(asked, model.tokenizer.encode(" Where?"), 16)
    assert [request.prompt for request in stub.requests] == [f"{t} Where?" for t in (*texts, f"{texts[1]} Then")]


# surroundings


def test_it_runs_inside_a_loop_as_a_notebook_has():
    async def notebook(stub):
        return ask(stub)

    with Stub(lambda _: KITCHEN) as stub:
        assert asyncio.run(notebook(stub)) == "kitchen"


@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT")
def test_ctrl_c_leaves_at_once():
    code = (
        "import sys\n"
        "from atlas_bench.models.endpoint import model as api\n"
        "model = api.load(f'openai:{sys.argv[1]}#tiny;timeout=300')\n"
        "try:\n"
        "    model.answer_all([(model.start(1), [i]) for i in range(20)], 16)\n"
        "except KeyboardInterrupt:\n"
        "    print('left')\n"
    )
    busy, answered = threading.Event(), threading.Event()

    def does(request):
        busy.set()
        answered.wait(120)
        return KITCHEN

    with Stub(does) as stub:
        process = subprocess.Popen([sys.executable, "-c", code, stub.url], stdout=subprocess.PIPE, text=True)
        assert busy.wait(60)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)  # the server never answers
        answered.set()
    assert (out, process.returncode) == ("left\n", 0)


ROOMS = ("garden", "kitchen", "hall")


class Rooms:
    """A task that a stub can solve by reading: sample i asks for the room of item i."""

    name, subsets, version, reads_text = "rooms", ("a",), "1", False

    def rules(self, subset):
        scorer = Scorer(lambda answer, sample: answer == sample.targets[0])
        return Rules({"rooms/exact": scorer}, chance=1 / 3, max_answer_tokens=5)

    def check(self, subset, length, tokenizer, options):
        pass

    def samples(self, subset, length, n, seed, tokenizer, options):
        for i in range(n):
            room = ROOMS[i % 3]
            question = tuple(tokenizer.encode(f" Item {i} is in the {room}. Where is it? It is in the"))
            prefill = tuple(tokenizer.encode(" room"))
            filler = tokenizer.encode(" hm" * length)[: length - len(question) - len(prefill)]
            yield Sample(i, _Tokens(filler), question, (room,), {"question": "Where?"}, prefill)


class _Tokens:
    def __init__(self, ids):
        self.ids, self.length = np.array(ids, dtype=np.int32), len(ids)

    def read(self, start, stop):
        return self.ids[start:stop]


TASK = Rooms()


def test_a_run_loses_no_sample_and_counts_no_failure_wrong(tmp_path, monkeypatch):
    monkeypatch.setitem(registry.TASKS, "rooms", f"{__name__}:TASK")
    broken = {
        1: error(500, "boom"),
        4: Reply(200, b"{"),
        8: error(400, "messages: bad"),
        11: say(None, refusal="no", read=100),
    }
    healed = []

    def does(request):
        item, room = request.prompt.partition(" Item ")[2].split()[0], request.prompt.split(" in the ")[1]
        assert request.prompt.endswith(" It is in the room")
        trouble = None if healed else broken.get(int(item))
        return trouble or say(room.partition(".")[0], read=100)

    def go():
        model = model_at(stub, ";max_retries=1")
        cell = Cell("rooms", "a", 64, "stub", samples=13)
        chosen = runner.Settings(block=16, batch=4)
        (record,) = runner.run([cell], {"stub": model}, tmp_path, chosen, Progress(quiet=True))
        return record

    with Stub(does) as stub:
        first, asked = go(), len(stub.requests)
        healed.append(True)
        second = go()
    failed = {row["index"]: row["failed"] for row in first.answers if "failed" in row}
    assert first.status == "failed" and [row["index"] for row in first.answers] == list(range(13))
    assert failed.keys() == broken.keys() and "HTTP 500" in failed[1] and "HTTP 400" in failed[8]
    assert first.scores["rooms/exact"] == {"correct": 9, "n": 9}
    assert first.usage["requests"] == asked == 15 and first.usage["prompt_tokens"] == 1000
    assert second.status == "ok" and second.scores["rooms/exact"] == {"correct": 13, "n": 13}
    assert len(stub.requests) == asked + len(broken)  # only what was missing is asked again
    assert {record.status for record in store.read_all(tmp_path)[0]} == {"failed", "ok"}


REFUSED = {
    "key": (error(401, f"Incorrect API key provided: {KEY}"), "HTTP 401"),
    "account": (error(402, "Insufficient credits"), "no credit"),
    "right": (error(403, "Project has no access to this model"), "HTTP 403"),
    "model": (error(404, "The model `tiny` does not exist"), "no such model or path"),
    "address": (Reply(308, headers={"Location": "https://h/v1"}), "redirect to https://h/v1; give that address"),
    "quota": (error(429, "You exceeded your quota", type="insufficient_quota"), "HTTP 429"),
}


def rooms(stub: Stub, folder, *lengths: int, options: str = ";concurrency=2", samples: int = 13):
    """The records of cells of a stub's rooms, run in a folder."""
    cells = [Cell("rooms", "a", length, "stub", samples=samples) for length in lengths or (64,)]
    chosen = runner.Settings(block=16, batch=4)
    return runner.run(cells, {"stub": model_at(stub, options)}, folder, chosen, Progress(quiet=True))


def right(request) -> Reply:
    return say(request.prompt.split(" in the ")[1].partition(".")[0])


@pytest.mark.parametrize("refused", REFUSED)
def test_a_refusal_of_every_question_stops_the_run_and_the_same_command_goes_on(tmp_path, monkeypatch, refused):
    monkeypatch.setitem(registry.TASKS, "rooms", f"{__name__}:TASK")
    told, why = REFUSED[refused]
    with Stub(right) as stub:
        rooms(stub, tmp_path, 64)
        stub.does, before = (lambda _: told), len(stub.requests)
        with pytest.raises(UserError, match=r"Nothing more is asked.*the same command goes on") as caught:
            rooms(stub, tmp_path, 64, 80, 96)
        asked = len(stub.requests) - before
        assert why in str(caught.value) and KEY not in str(caught.value) and 1 <= asked <= 2  # those under way
        assert [record.status for record in store.read_all(tmp_path)[0]] == ["ok"]
        stub.does = right
        assert [record.status for record in rooms(stub, tmp_path, 64, 80, 96)] == ["ok"] * 3
    assert len(stub.requests) == 3 * 13 + asked


def test_a_key_that_is_refused_on_the_way_loses_no_answer_and_a_prompt_that_is_forbidden_stops_no_run(
    tmp_path, monkeypatch
):
    monkeypatch.setitem(registry.TASKS, "rooms", f"{__name__}:TASK")
    with Stub(lambda request: right(request) if len(stub.requests) <= 6 else error(401, "expired")) as stub:
        with pytest.raises(UserError, match="HTTP 401"):
            rooms(stub, tmp_path / "key", options=";concurrency=1")
        stub.does = right
        assert rooms(stub, tmp_path / "key", options=";concurrency=1")[0].status == "ok"
        assert len(stub.requests) == 6 + 1 + 7
        stub.does = lambda request: error(403, "blocked") if " Item 5 " in request.prompt else right(request)
        (record,) = rooms(stub, tmp_path / "prompt")
    assert record.status == "failed" and [row["index"] for row in record.answers if "failed" in row] == [5]


@pytest.mark.parametrize("told", [*CONTEXT_ERRORS, Reply(413), error(400, "prompt is too long: 9 tokens > 4 maximum")])
def test_a_prompt_beyond_the_server_s_context_makes_its_cell_unsupported(tmp_path, monkeypatch, told):
    monkeypatch.setitem(registry.TASKS, "rooms", f"{__name__}:TASK")
    with Stub(lambda request: right(request) if len(request.prompt) < 300 else told) as stub:
        short, long = rooms(stub, tmp_path, 64, 300)
        assert (short.status, long.status) == ("ok", "unsupported") and not long.answers
        assert f"HTTP {told.status} (the prompt is l" in long.reason and "asks them again" not in long.reason
        assert len(stub.requests) <= 13 + 2
        stub.does = right  # started again, with a longer context
        assert [record.status for record in rooms(stub, tmp_path, 64, 300)] == ["ok", "ok"]


def test_every_answer_is_on_disk_as_it_comes(tmp_path, monkeypatch):
    """What a kill would leave after the tenth request: the answers before it, and no checkpoint."""
    monkeypatch.setitem(registry.TASKS, "rooms", f"{__name__}:TASK")
    killed = tmp_path / "killed"

    def does(request):
        if len(stub.requests) == 10:
            shutil.copytree(tmp_path / "plain" / ".checkpoints", killed / ".checkpoints")
        return say(request.prompt.split(" in the ")[1].partition(".")[0], read=100)

    def go(folder):
        model = model_at(stub, ";concurrency=1")
        cell, chosen = Cell("rooms", "a", 64, "stub", samples=13), runner.Settings(block=16, batch=13)
        (record,) = runner.run([cell], {"stub": model}, folder, chosen, Progress(quiet=True))
        return record

    with Stub(does) as stub:
        plain = go(tmp_path / "plain")
        (file,) = (killed / ".checkpoints").glob("*.answers")
        kept = [line for line in file.read_bytes().splitlines() if line]
        file.write_bytes(b"\n".join([*kept[:-1], kept[-1][:-9]]))  # the last one torn
        record = go(killed)
    assert len(kept) == 9 and len(stub.requests) == 13 + 13 - 8
    assert timeless(record) == timeless(plain) and record.resumed and record.usage["requests"] == 8 + 5
    assert not (killed / ".checkpoints").exists()
