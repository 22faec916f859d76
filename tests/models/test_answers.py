"""What counts as an answer: each row of the table in docs/models.md, behind an endpoint and here.

`row(kind, path)` marks the tests of a cell; the last test compares them with the table.
"""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from atlas_bench.errors import NoAnswer, UserError
from atlas_bench.models import answers, loading
from atlas_bench.models.endpoint import ask as asking
from atlas_bench.models.endpoint import client as http_client
from atlas_bench.models.endpoint import judge
from atlas_bench.models.endpoint.client import ApiError
from tests.models.huggingface import saying
from tests.openai_stub import Reply, Stub, error, reply, say

DOCS = Path(__file__).parents[2] / "docs" / "models.md"
QUESTION = "Mary moved to the garden. John went to the kitchen. Where is Mary?"
CHAT = "<|user|>{{ messages[0]['content'] }}{% if add_generation_prompt %}<|assistant|>{% endif %}"
THINKING_CHAT = CHAT.replace("<|assistant|>", "<|assistant|><think>\n")
ROWS: set[tuple[str, str]] = set()


def row(kind, path):
    """Marks a test of one cell of the table."""
    ROWS.add((kind, path))
    return lambda test: test


@pytest.fixture(autouse=True)
def surroundings(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(http_client, "FIRST_WAIT", 0.005)


def read(model, text):
    return model.feed(model.start(1), np.array([model.tokenizer.encode(text)], dtype=np.int32))


def endpoint_says(reply, options="", *, stop=("\n",), text=QUESTION):
    """(the answer, the requests) of an endpoint that gives that reply, or what a function of the request makes."""
    with Stub(reply if callable(reply) else lambda _: reply) as stub:
        model = loading.load(f"openai:{stub.url}#tiny;max_retries=1{options}")
        return model.answer(read(model, text), (), 16, stop), stub.requests


@pytest.fixture
def hf_says(tmp_path):
    """The answer of a Hugging Face model that says the pieces."""

    def answer(*pieces, options="", stop=("\n",), max_tokens=16, **config):
        folder = saying.save(tmp_path / str(len(list(tmp_path.iterdir()))), pieces, **config)
        model = loading.load(f"hf:{folder}{options}", device="cpu")
        asked = [*model.tokenizer.encode(" Where is Mary?"), *model.wrap[1]]
        return model.answer(read(model, QUESTION), asked, max_tokens, stop)

    return answer


def fails(told, reply, options="", **how):
    """The endpoint gives no answer, and the message says so."""
    with pytest.raises(ApiError, match=told):
        endpoint_says(reply, options, **how)


# empty, blanks, stop texts


@row("empty", "openai")
def test_an_empty_reply_is_an_empty_answer_unless_its_tokens_ran_out():
    assert endpoint_says(say(""))[0] == endpoint_says(say(" \n\n"))[0] == endpoint_says(say("</s>"))[0] == ""
    assert endpoint_says(say("\n" * 16, finish_reason="length"))[0] == ""  # its tokens are there to see
    fails("ran out before the answer began.*thinking=4096", say("", finish_reason="length"))


@row("empty", "hf")
def test_an_empty_reply_of_a_model_here_is_an_empty_answer(hf_says):
    assert hf_says() == hf_says("\n", " ") == ""


@row("blanks first", "openai")
@pytest.mark.parametrize("said", ["garden", "\ngarden", " \n\t\n garden\nMary", "\r\n\r\ngarden\r\n"])
def test_blanks_never_end_an_answer(said):
    for options in ("", ";endpoint=completions"):
        assert endpoint_says(say(said), options)[0] == "garden"


@row("blanks first", "hf")
def test_blanks_never_end_an_answer_of_a_model_here(hf_says):
    assert hf_says("\n", " \n ", "garden", "\nMary", " went") == "garden"


def as_vllm(text):
    """A server that applies the stop texts which it is sent, from the first character on."""

    def does(request):
        said, reason = text, "length"
        for stop in request.body.get("stop", ()):
            if stop in said:
                said, reason = said.partition(stop)[0], "stop"
        return say(said, finish_reason=reason)

    return does


@row("stop text", "openai")
@pytest.mark.parametrize("stop", [("\n",), ("\n\n", "."), (" Mary", "\n"), (".",)])
def test_a_stop_text_ends_an_answer_and_not_what_stands_before_it(stop):
    reply = as_vllm("\n\n Mary's is the garden\n\n Mary went.")
    wanted = {"\n": "Mary's is the garden", " Mary": "Mary's is the garden", ".": "Mary's is the garden\n\n Mary went"}
    for options in ("", ";endpoint=completions"):
        answer, requests = endpoint_says(reply, options, stop=stop)
        assert answer == wanted[stop[0] if stop[0] in wanted else "\n"]
        sent = requests[0].body.get("stop", [])
        assert sent == ([] if not options else [text for text in stop if not text[0].isspace()])


@row("stop text", "hf")
def test_a_stop_text_ends_an_answer_of_a_model_here(hf_says):
    pieces = ("\n\n", "The garden", ".\n", "Mary went")
    assert hf_says(*pieces, stop=(".",)) == hf_says(*pieces, stop=(".", "\n")) == hf_says(*pieces)[:-1] == "The garden"
    assert hf_says(*pieces, stop=()) == "The garden.\nMary went"


# thoughts

MARKED = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<|channel>thought\n", "<channel|>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("<|channel|>commentary<|message|>", "<|end|><|start|>assistant<|channel|>final <|constrain|>json<|message|>"),
    ("analysis", "assistantfinal"),
    ("Here is my thought process:", "Here is my response:"),
]
THOUGHT = "Where is Mary? Kitchen.\nNo."


@row("thoughts, closed", "openai")
@pytest.mark.parametrize(("opens", "closes"), MARKED)
def test_closed_thoughts_are_taken_off(opens, closes):
    for options in ("", ";thinking=100"):
        assert endpoint_says(say(f"{opens}{THOUGHT}{closes}\n\ngarden\nMary"), options)[0] == "garden"
        assert endpoint_says(say(f"\n{opens}{closes}garden") if opens != "analysis" else say("garden"))[0] == "garden"


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("<think>a</think>garden<think>b</think>", "garden"),
        ("<think>one <think> in another</think> garden", "garden"),
        ("<think>it says </think> once</think> garden", "garden"),
        ("garden\n<think>Or is", "garden"),  # what comes after the stop text changes nothing
        ("<think>Hm</think><answer>\ngarden\n</answer>", "garden"),
        ("<|START_THINKING|>Hm<|END_THINKING|><|START_RESPONSE|>garden<|END_RESPONSE|>", "garden"),
        ("<|channel|>final<|message|>garden<|return|>", "garden"),
        ("analysis of the text: garden", "analysis of the text: garden"),  # a word, not a mark
    ],
)
def test_thoughts_in_other_places(said, answer):
    assert answers.answer(said, stop=("\n",)) == answer


@row("thoughts, closed", "hf")
@pytest.mark.parametrize(
    ("pieces", "special"),
    [
        (("<think>", "Mary's\n", "</think>", "\n\n", "garden"), ()),
        (("[THINK]", "Mary's\n", "[/THINK]", "garden", "\n"), ("[THINK]", "[/THINK]")),  # which decode() leaves out
        (
            ("<|channel|>", "analysis", "<|message|>", "Hm\n", "<|start|>assistant",
             "<|channel|>final", "<|message|>\n", "garden", "<|return|>"),
            ("<|channel|>", "<|message|>", "<|return|>"),
        ),
    ],
)  # fmt: skip
def test_closed_thoughts_of_a_model_here_are_taken_off(hf_says, pieces, special):
    for options in ("", ":thinking=50"):
        assert hf_says(*pieces, special=special, options=options) == "garden"


@row("thoughts, opened by the template", "openai")
def test_thoughts_that_the_servers_template_opens_are_noticed():
    assert endpoint_says(say("Mary's\nHm.</think>\n\ngarden\n"))[0] == "garden"

    def thinks(request):
        whole = "Okay, so where is Mary? She moved to the kitchen first. No. </think>\n\ngarden"
        return say(whole) if request.body["max_tokens"] > 100 else say(whole[:40], finish_reason="length")

    with Stub(thinks) as stub:
        model = loading.load(f"openai:{stub.url}#tiny")
        asked = [(read(model, f"{QUESTION} {i}"), ()) for i in range(5)]
        told = [str(x) for x in model.answer_all(asked, 16, ("\n",))]
        assert all("server's chat template has opened" in x and "thinking=4096" in x for x in told), told
        assert [r.body["max_tokens"] for r in stub.requests].count(16 + asking.SECOND_LOOK) == 1
    assert endpoint_says(thinks, ";thinking=4096")[0] == "garden"
    rambles = say("Okay, so where is Mary? " * 50, finish_reason="length")
    fails("server's chat template has opened.*set thinking=4096", rambles, ";thinking=200")
    assert (
        endpoint_says(say("garden", finish_reason="length"), ";thinking=200")[0] == "garden"
    )  # its thoughts are hidden


def test_one_reply_that_was_cut_is_looked_at_again_and_no_more():
    def rambles(request):
        return say("The garden is where she " * (request.body["max_tokens"] // 10), finish_reason="length")

    with Stub(rambles) as stub:
        model = loading.load(f"openai:{stub.url}#tiny")
        for _ in range(2):
            answered = model.answer_all([(read(model, f"{QUESTION} {i}"), ()) for i in range(3)], 16, ("\n",))
            assert answered == ["The garden is where she"] * 3
    assert len(stub.requests) == 7
    assert len(endpoint_says(rambles, ";endpoint=completions")[1]) == 1  # no template, no thoughts that it opens


def test_a_question_that_comes_as_the_second_look_ends_pays_for_no_other(monkeypatch):
    """It runs before the one that asked for the look wakes up and hears of it."""
    with Stub(say("garden")) as stub:
        asker = loading.load(f"openai:{stub.url}#tiny")._asker
    thinks, looks, later = partial(asker._thinks, None, asking.Question(QUESTION, 9), 16, 9), [], []

    async def post(session, body, reads):
        looks.append(body)
        later.append(asyncio.create_task(thinks()))
        return True

    async def both():
        return await thinks(), await later[0]

    monkeypatch.setattr(asker, "_post", post)
    assert asyncio.run(both()) == (True, True) and len(looks) == 1


@row("thoughts, opened by the template", "hf")
def test_a_template_that_opens_thoughts_needs_room_for_them(hf_says):
    pieces = ("Mary's\n", " moved", "</think>", " \n", "garden", "\n\n", "Or")
    with pytest.raises(UserError, match=r"opens the model's thoughts.*thinking=4096.*chat=false"):
        hf_says(*pieces, template=THINKING_CHAT)
    assert hf_says(*pieces, template=THINKING_CHAT, options=":thinking=3", max_tokens=4) == "garden"
    assert hf_says("gard", "en", template=THINKING_CHAT, options=":chat=false") == "garden"
    closing = THINKING_CHAT.replace("{% endif", "{% if enable_thinking is false %}</think>{% endif %}{% endif")
    assert hf_says("gard", "en", template=closing) == "garden"  # it can be asked for none


@row("thoughts, cut off", "openai")
@pytest.mark.parametrize(("opens", "closes"), MARKED)
@pytest.mark.parametrize("reason", ["length", "stop"])
def test_thoughts_that_do_not_end_are_no_answer(opens, closes, reason):
    reply = say(f"{opens}Where is Mary? Gard", finish_reason=reason)
    if opens == "analysis":
        reply = say("analysisWhere is Mary? Gard", finish_reason=reason)
    fails("within the model's thoughts.*set thinking=4096", reply)
    fails("set thinking=6000", reply, ";thinking=3000")


@row("thoughts, cut off", "hf")
def test_thoughts_of_a_model_here_that_do_not_end_are_no_answer(hf_says):
    pieces = ("<think>", *(f" {i}" for i in range(20)), "</think>", "garden")
    with pytest.raises(NoAnswer, match=r"within the model's thoughts.*set thinking=4096"):
        hf_says(*pieces)
    with pytest.raises(NoAnswer, match="set thinking=4096"):
        hf_says(*pieces, options=":thinking=5")
    with pytest.raises(NoAnswer, match=r"before the answer began|within"):
        hf_says(*pieces[:14], "</think>", "\n", " ", "garden", max_tokens=16)
    with pytest.raises(NoAnswer, match="within"):  # it ends its turn in the middle of them
        hf_says(*pieces[:5], options=":thinking=50")
    assert hf_says(*pieces, options=":thinking=21") == "garden"


@row("thoughts alone", "openai")
def test_thoughts_without_an_answer_are_an_empty_one_only_where_they_had_room():
    fails("nothing follows the model's thoughts.*thinking=4096", say("<think>Hm</think>\n"))
    fails("ran out before the answer", say("<think>Hm</think>", finish_reason="length"), ";thinking=9")
    assert endpoint_says(say("<think>Hm</think>\n"), ";thinking=9")[0] == ""


@row("thoughts alone", "hf")
def test_thoughts_of_a_model_here_without_an_answer(hf_says):
    with pytest.raises(NoAnswer, match="nothing follows the model's thoughts"):
        hf_says("<think>", "Hm", "</think>")
    assert hf_says("<think>", "Hm", "</think>", options=":thinking=9") == ""


@row("thoughts in a field", "openai")
@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
@pytest.mark.parametrize("reason", ["stop", "length"])
def test_thoughts_in_a_field_are_no_answer(field, reason):
    assert endpoint_says(say("\n\ngarden", finish_reason=reason, **{field: THOUGHT}))[0] == "garden"
    for content in ("", "\n\n", None):
        reply = say(content, finish_reason=reason, **{field: THOUGHT})
        fails("thoughts in a field of their own.*thinking=4096.*reasoning parser", reply)


# what else stands around an answer


@row("prompt echoed", "openai")
@pytest.mark.parametrize("options", ["", ";endpoint=completions"])
def test_an_echoed_prompt_is_taken_off(options):
    assert endpoint_says(lambda r: say(f"{r.prompt} garden\nMary"), options)[0] == "garden"
    assert endpoint_says(lambda r: say(f"\n{r.prompt.strip()}\n\ngarden"), options)[0] == "garden"
    fails("repeats the prompt", lambda r: say(r.prompt), options)
    fails("repeats the prompt", lambda r: say(r.prompt[:60], finish_reason="length"), options)
    assert endpoint_says(lambda r: say("Mary moved to the garden."), options)[0] == "Mary moved to the garden."


@row("in parts", "openai")
def test_parts_of_text_are_joined_and_no_others():
    thoughts = {"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]}
    text = [{"type": "text", "text": "\ngar"}, {"type": "text", "text": "den\nMary"}]
    for parts in (text, [thoughts, *text], ["gar", "den"], [{"type": "output_text", "text": "garden"}]):
        assert endpoint_says(say(parts))[0] == "garden"
    assert endpoint_says(say([]))[0] == ""
    fails("thoughts in a field of their own", say([thoughts]))
    for kind in ("image_url", "str", ["text"], None):
        fails("a part of kind ", say([*text, {"type": kind}]))
    fails("a part of kind 'int'", say([*text, 5]))
    for odd in ({"text": "garden"}, 5, True):
        fails("holds no text", say(odd))


@row("end mark", "openai")
@pytest.mark.parametrize("mark", answers.END_MARKS)
def test_an_end_mark_ends_an_answer(mark):
    assert endpoint_says(say(f"\ngarden{mark}Mary: where"), stop=())[0] == "garden"


@row("end mark", "hf")
def test_an_end_mark_ends_an_answer_of_a_model_here(hf_says):
    for special in ((), ("<|im_end|>",)):
        assert hf_says("garden", "<|im_end|>", "user", special=special, stop=()) == "garden"
    assert hf_says("<pad>", "gar", "<unk>", "den", special=("<pad>", "<unk>")) == "garden"  # as decode() has it


@row("broken off", "openai")
@pytest.mark.parametrize("reason", ["content_filter", "tool_calls", "function_call", "error", "abort"])
def test_a_reply_that_broke_off_is_no_answer(reason):
    fails(f"broke off \\(finish_reason '{reason}'\\)", say("garden", finish_reason=reason))


# what the server says of itself


@row("prompt cut", "openai")
def test_half_a_prompt_is_noticed_in_prose_and_in_numbers():
    """By the embedded tokenizer, in place of the model's own; without it by words, of which prose has more tokens."""
    prose = QUESTION * 50
    assert judge.least_tokens(prose) <= len(loading.load("openai:http://h#m").tokenizer.encode(prose))
    fails("so it has cut it", say("garden", read=judge.least_tokens(prose) * 5 // 8), text=prose)
    for text in (prose, "key 73019284 is 11948276. " * 90, "汉字" * 500, "a-b-c/d_e " * 200, "\n" * 999, " hm" * 400):
        whole = say("garden", read=judge.least_tokens(text))
        assert endpoint_says(whole, text=text)[0] == "garden"
    for stated in (0, None, -1, 2.5, True, "9", int("9" * 4299)):  # nothing that can be held against it
        assert endpoint_says(say("garden", read=stated), text=prose)[0] == "garden"


@row("wrong token counts", "openai")
@pytest.mark.parametrize("count", [-3, 2.5, True, "12", None, [1], 10**13, int("9" * 4299), "NaN", "9" * 5000])
@pytest.mark.parametrize("name", ["prompt_tokens", "completion_tokens"])
def test_absurd_counts_are_not_counted(capsys, count, name):
    stated = json.dumps({"prompt_tokens": 10, "completion_tokens": 3, name: "HERE"})
    digits = count == "NaN" or (isinstance(count, str) and len(count) > 9)  # written as they are, without quotes
    stated = stated.replace(
        '"HERE"', count if digits else str(count) if isinstance(count, int) and count is not True else json.dumps(count)
    )
    body = say("garden").body.decode().partition('"usage"')[0] + f'"usage": {stated}}}'
    with Stub(lambda _: Reply(body=body.encode())) as stub:
        model = loading.load(f"openai:{stub.url}#tiny;usd_per_million_in=1;usd_per_million_out=1;max_retries=0")
        assert [model.answer(read(model, QUESTION), (), 16) for _ in range(2)] == ["garden"] * 2
        usage = model.facts()["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["unmetered"], usage["usd"]) == (0, 0, 2, 0)
    assert capsys.readouterr().err.count("as its token counts; what such replies cost is not counted") == 1


@row("refused parameter", "openai")
@pytest.mark.parametrize(
    ("refusal", "left_out"),
    [
        (error(400, "max_tokens is fine, but seed is not supported"), "seed"),
        (error(400, "Unsupported parameter: 'temperature'. Only max_tokens and seed may be given."), "temperature"),
        (error(400, "max_tokens, temperature: ok. Unknown parameter: `seed`."), "seed"),
        (error(400, "The model does not take this. See the list of unsupported values.", param="seed"), "seed"),
        (error(422, "Extra inputs are not permitted: [{'loc': ('body', 'temperature'), 'input': 0}]"), "temperature"),
        (reply({"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"]}]}, status=422), "seed"),
        (reply({"error": "unrecognized field seed"}, status=400), "seed"),
        (reply({"object": "error", "message": "unexpected keyword argument 'seed'", "param": ""}, status=400), "seed"),
    ],
)
def test_the_parameter_that_is_refused_is_left_out_and_no_other(refusal, left_out):
    with Stub(lambda r: refusal if left_out in r.body else say("garden")) as stub:
        model = loading.load(f"openai:{stub.url}#tiny")
        assert model.answer(read(model, QUESTION), (), 16) == "garden"
    first, second = (r.body for r in stub.requests)
    assert second == {name: value for name, value in first.items() if name != left_out}
    assert model.facts()["endpoint"]["left_out"] == [left_out]


@pytest.mark.parametrize(
    "refusal",
    [
        error(400, "We do not support streaming. max_tokens must be below 9"),
        error(400, "messages with images are not supported; temperature", param="messages"),
        error(400, "max_tokens_per_minute is not supported"),
        error(400, "max_tokens is too large: 16"),
    ],
)
def test_a_refusal_of_something_else_changes_nothing(refusal):
    with Stub(lambda _: refusal) as stub:
        model = loading.load(f"openai:{stub.url}#tiny")
        with pytest.raises(ApiError, match="HTTP 400"):
            model.answer(read(model, QUESTION), (), 16)
    assert len(stub.requests) == 1 and model.facts()["endpoint"]["left_out"] == []


def test_a_change_that_did_not_help_is_taken_back():
    """The first error is what the user is told, and later questions are asked as the first was."""

    def does(request):
        new = "max_completion_tokens"
        name = new if new in request.body else "max_tokens"
        return error(400, f"Unsupported parameter: '{name}' with this model")

    with Stub(does) as stub:
        model = loading.load(f"openai:{stub.url}#tiny")
        for requests in (2, 3):
            with pytest.raises(ApiError, match="'max_tokens' with this model"):
                model.answer(read(model, QUESTION), (), 16)
            assert len(stub.requests) == requests
    assert "max_tokens" in stub.requests[-1].body and model.facts()["endpoint"]["left_out"] == []


@row("endless reply", "openai")
def test_an_endless_reply_is_not_read_to_its_end(monkeypatch):
    monkeypatch.setattr(http_client, "MOST_BYTES", 1 << 20)
    fails("more than 104.* bytes", Reply(body=b'{"choices": "' + b"x" * (1 << 22)), ";timeout=20")
    endless = Reply(body=b"x" * (1 << 16), endless=True)
    fails("more than 104.* bytes", endless, ";timeout=20")


@row("key in it", "openai")
def test_a_key_is_in_no_answer_unless_it_is_too_short_for_one(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1234567890")
    said = say("garden sk-1234567890\n")
    assert endpoint_says(said)[0] == "garden [key]"
    monkeypatch.setenv("OPENAI_API_KEY", "garden")
    assert endpoint_says(said)[0] == "garden sk-1234567890"


# the table


def test_every_cell_of_the_table_has_a_test():
    text = DOCS.read_text().split("## What counts as an answer")[1].split("\n## ")[0]
    lines = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("|")]
    cells = {
        (kind.strip(), path)
        for kind, *told in lines[2:]
        for path, what in zip(("openai", "hf"), told, strict=True)
        if what.strip() != "cannot be"
    }
    assert cells == ROWS
