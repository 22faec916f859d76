"""Whatever a server sends: read, or a Failure or UserError that says what was wrong; never anything else."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_bench.errors import NoAnswer, UserError
from atlas_bench.models import answers
from atlas_bench.models.endpoint import reply as replies
from atlas_bench.models.endpoint.client import ApiError, Failure
from atlas_bench.models.endpoint.parameters import INSTEAD, refused_names

KEYS = [
    *("choices", "message", "content", "text", "type", "thinking", "reasoning", "reasoning_content", "refusal"),
    *("finish_reason", "usage", "prompt_tokens", "completion_tokens", "model", "data", "id", "meta", "n_ctx"),
    *("max_model_len", "error", "param", "detail", "loc"),
]
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.sampled_from([*KEYS, "stop"])
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=30,
)
OBJECT = st.dictionaries(st.sampled_from(KEYS), JSON, max_size=6)


@given(reply=OBJECT, message=OBJECT, chat=st.booleans())
@settings(max_examples=100, deadline=None)
def test_any_object_is_read_or_refused(reply, message, chat):
    for each in (reply, {"choices": [{"message": message, **message}]}):
        try:
            choice = replies.first_choice(each, chat=chat)
        except Failure:
            continue
        assert choice.text is None or isinstance(choice.text, str)
        assert all(isinstance(field, str) for field in choice[1:])


@given(reply=OBJECT, usage=OBJECT)
@settings(max_examples=80, deadline=None)
def test_counts_are_whole_numbers_or_none(reply, usage):
    for each in (reply, {"usage": usage}):
        counts = replies.usage(each)
        assert counts is None or all(type(n) is int and 0 <= n <= replies.MOST_TOKENS for n in counts)


@given(reply=OBJECT, cards=st.lists(OBJECT, max_size=3))
@settings(max_examples=80, deadline=None)
def test_any_list_of_models_is_read_or_refused(reply, cards):
    for each in (reply, {"data": cards}):
        try:
            context = replies.context_of("tiny", each)
        except UserError:
            continue
        assert context is None or (type(context) is int and context > 0)


@given(
    body=OBJECT | st.text(max_size=200), words=st.lists(st.sampled_from(["unknown", *INSTEAD, ". ", ", "]), max_size=9)
)
@settings(max_examples=80, deadline=None)
def test_any_refusal_names_parameters_or_nothing(body, words):
    for reply in (json.dumps(body), f"unsupported {' '.join(words)}", json.dumps({"error": " ".join(words)})):
        error = ApiError("HTTP 400", url="http://h", tries=1, status=400, reply=reply)
        assert set(refused_names(error)) <= set(INSTEAD)


PIECES = ["garden", "Hm", "\n", " ", ".", "<think>", "</think>", "[THINK]", "[/THINK]", "</s>", "<answer>", "</answer>"]


@given(pieces=st.lists(st.sampled_from(PIECES), max_size=12), stop=st.sampled_from([(), ("\n",), (".", "\n")]))
@settings(max_examples=300, deadline=None)
def test_an_answer_has_no_marks_no_blanks_around_it_and_nothing_of_the_thoughts(pieces, stop):
    reply = "".join(pieces)
    try:
        answer = answers.answer(reply, stop=stop)
    except NoAnswer:
        assert "THINK]" in reply or "think>" in reply
        return
    assert answer == answer.strip() and answers.answer(answer, stop=stop) == answer
    assert not any(mark in answer for mark in [*PIECES[5:], *stop])
    if not {"[THINK]", "<think>"} & set(pieces):  # opened before: all up to the last mark is thought
        last = max((i for i, x in enumerate(pieces) if x in ("</think>", "[/THINK]")), default=-1)
        assert answer == answers.answer("".join(pieces[last + 1 :]), stop=stop)


@pytest.mark.parametrize("piece", ["<think>", "</think>", "<|channel|>final", "[THINK]x", "<", "</", "a:", "<|", " \n"])
def test_a_long_reply_is_read_in_linear_time(piece):
    began = time.process_time()  # others may have the processor meanwhile
    answers.read(piece * (2_000_000 // len(piece)), stop=("\n",))
    assert time.process_time() - began < 5
