"""Strings as tokens: those that lm-eval's own HFLM would feed, of byte-level and Llama-2-like tokenizers."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_eval.api.model import TemplateLM
from transformers import PreTrainedTokenizerFast

from atlas_bench.errors import UserError
from atlas_bench.lmeval import tokenization
from atlas_bench.lmeval.tokenization import Strings
from atlas_bench.models import causal_lm
from atlas_bench.models.huggingface import tokenizer as hf_tokenizer
from atlas_bench.models.lm import END
from atlas_bench.models.tokenizer import embedded
from atlas_bench.tasks import texts

TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|> {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|go|>{% endif %}"
)


def llama_like() -> PreTrainedTokenizerFast:
    """A BPE that puts a space before a text, and <s> before that."""
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>"))
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(prepend_scheme="first")
    bpe.decoder = tokenizers.decoders.Metaspace(prepend_scheme="first")
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=200, special_tokens=["<unk>", "<s>", "</s>"])
    bpe.train_from_iterator(["John went to the garden. Mary moved to the office.\n Q: x"] * 3, trainer)
    bpe.post_processor = tokenizers.processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=bpe, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


class HFLMs(TemplateLM):
    """lm-eval's rule for pairs, over a transformers tokenizer as its HFLM calls it."""

    eot_token_id = loglikelihood_rolling = generate_until = _loglikelihood_tokens = None

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def tok_encode(self, string, add_special_tokens=None, **_):
        return self.inner.encode(string)


def model_of(tokenizer, chat=False):
    if not hasattr(tokenizer, "inner"):
        return SimpleNamespace(tokenizer=tokenizer, wrap=((), ()), opening=())
    opening, _ = hf_tokenizer.wrap(tokenizer, chat=False)
    return SimpleNamespace(tokenizer=tokenizer, wrap=hf_tokenizer.wrap(tokenizer, chat=chat), opening=opening)


KINDS = {
    "embedded": (embedded(), HFLMs(causal_lm.tokenizer())),
    "byte level": (hf_tokenizer.Tokenizer(causal_lm.tokenizer()), HFLMs(causal_lm.tokenizer())),
    "llama": (hf_tokenizer.Tokenizer(llama_like()), HFLMs(llama_like())),
}
TEXTS = st.text("ab Jonw.\n", min_size=1, max_size=30)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(context=TEXTS, continuation=TEXTS)
def test_a_pair_has_hflms_tokens(kind, context, continuation):
    tokenizer, theirs = KINDS[kind]
    strings, head = Strings(model_of(tokenizer)), context.rstrip()
    if not head:
        return
    before, after = theirs._encode_pair(context, continuation)
    ((tail, ids),) = strings.parts(head)
    assert strings.opening(ids) + ids == before
    (beyond, *_) = strings.beyond(tail, context[len(head) :] + continuation)
    assert beyond == after


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30, deadline=None)
@given(words=st.lists(st.sampled_from(["John", "went", "to", "the", "garden.", "\n", "Q:"]), max_size=60))
def test_parts_are_the_whole(kind, words):
    tokenizer, theirs = KINDS[kind]
    strings, text = Strings(model_of(tokenizer)), " ".join(["John", *words])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenization, "parts", partial(texts.parts, size=11))
        several = list(strings.parts(text))
    ids = [token for _, part in several for token in part]
    assert strings.opening(ids) + ids == theirs.tok_encode(text)
    assert [tail.first for tail, _ in several] == [i == 0 for i in range(len(several))]
    assert all(len(tail.text) < 30 for tail, _ in several) or "\n" in text


def test_what_stands_where_nothing_precedes():
    llama, plain = hf_tokenizer.Tokenizer(llama_like()), hf_tokenizer.Tokenizer(causal_lm.tokenizer())
    assert (Strings(model_of(llama)).before, Strings(model_of(llama)).nothing) == ([1], [1])
    for tokenizer in (plain, embedded()):
        assert (Strings(model_of(tokenizer)).before, Strings(model_of(tokenizer)).nothing) == ([], [END])
    assert causal_lm.tokenizer().convert_ids_to_tokens(END) == "<|end|>"


def test_a_first_token_in_the_text_is_not_doubled():
    strings = Strings(model_of(hf_tokenizer.Tokenizer(llama_like())))
    ((_, ids),) = strings.parts("<s>John")
    assert ids[0] == 1 and strings.opening(ids) == []


def test_a_continuation_that_melts_into_the_context_keeps_its_own_tokens():
    strings = Strings(model_of(embedded()))
    ((tail, _),) = strings.parts("garde")
    assert len(embedded().encode("garden")) <= tail.tokens
    assert [token for ids in strings.beyond(tail, "n") for token in ids] == embedded().encode("n")


def test_a_chat_template_is_applied_where_lm_eval_is_told_to():
    inner = llama_like()
    inner.chat_template = TEMPLATE
    tokenizer = hf_tokenizer.Tokenizer(inner)
    chatting, plain = Strings(model_of(tokenizer, chat=True)), Strings(model_of(tokenizer))
    assert (chatting.chats, chatting.before, chatting.template()) == (True, [1], TEMPLATE)
    messages = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "In"}]
    assert chatting.rendered(messages[:1], True) == "<|user|> Where?\n<|go|>"
    assert chatting.rendered(messages, False) == "<|user|> Where?\n<|assistant|> In"
    assert not plain.chats and plain.template() == ""
    with pytest.raises(UserError, match=r"no chat template\. Leave --apply_chat_template out"):
        plain.rendered(messages, True)
