"""The embedded tokenizer: ids of words that are looked up are those that the library gives for the whole text."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from atlas_bench.models import tokenizer
from atlas_bench.models.tokenizer import PRETRAINED, Tokenizer, embedded
from atlas_bench.tasks import corpora, prose

PIECES = [
    "",
    " ",
    "  ",
    "\n",
    " \n",
    "\t",
    "\u00a0",
    "\u2003",
    "\x1c",
    "the",
    "Mary's",
    "don't",
    "42,",
    "<|end|>",
    "é",
    "…",
]


@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=4)), max_size=8).map("".join))
def test_any_text_has_the_librarys_ids(text):
    ids = embedded()._bpe.encode(text, add_special_tokens=False).ids
    assert embedded().encode_batch([text, f" {text}"])[0] == ids == embedded().encode(text)


def test_words_are_kept_up_to_a_number(monkeypatch):
    monkeypatch.setattr(tokenizer, "MOST_WORDS", 10)
    ours, sentences = Tokenizer(PRETRAINED / "tokenizer.json"), [f" {each}" for each in prose.document(3, 50)]
    assert ours.encode_batch(sentences) == embedded().encode_batch(sentences)
    assert 0 < len(ours._words) <= 10


def test_another_kind_of_tokenizer_looks_no_words_up(tmp_path):
    bpe = tokenizers.Tokenizer.from_file(str(PRETRAINED / "tokenizer.json"))
    bpe.normalizer = tokenizers.normalizers.Lowercase()
    bpe.save(str(tmp_path / "lower.json"))
    lower = Tokenizer(tmp_path / "lower.json")
    assert lower.encode_batch([" An Apple"]) == embedded().encode_batch([" an apple"])
    assert lower._words is None and embedded()._words is not None


@pytest.mark.parametrize(("number", "digest"), [(0, "af58b787123ffe29"), (1, "f3f96e01f29258be")])
def test_generated_documents_have_these_tokens_for_good(number: int, digest: str, tmp_path: Path):
    """What records were measured on: if this fails, raise prose.VERSION, or the tokenizer's key does not change."""
    made = corpora.generated(embedded(), cache=tmp_path, shard_tokens=50_000).document(number)
    assert hashlib.sha256(made.tokens.tobytes() + made.starts.tobytes()).hexdigest()[:16] == digest
