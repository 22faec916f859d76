"""The embedded models' tokenizer: byte-level BPE, 4096 entries, in pretrained/tokenizer.json."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import tokenizers

from atlas_bench.files import text_files

PRETRAINED = Path(__file__).parent / "pretrained"


class Tokenizer:
    """types.Tokenizer over a tokenizers JSON file."""

    def __init__(self, path: Path):
        data = path.read_bytes()
        self.key = hashlib.sha256(data).hexdigest()[:16]
        self._bpe = tokenizers.Tokenizer.from_str(text_files.decode(data, path))
        self._bpe.no_truncation()  # published files may hold a length
        self._bpe.no_padding()
        self._bpe.encode_special_tokens = True  # "<|end|>" in a text is text
        self.vocab_size = self._bpe.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        return self._bpe.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._bpe.encode_batch(list(texts), add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        return self._bpe.decode(list(ids))


@cache
def embedded() -> Tokenizer:
    """The tokenizer of the embedded models."""
    return Tokenizer(PRETRAINED / "tokenizer.json")


def train(texts: Iterable[str], path: Path, vocab_size: int = 4096) -> None:
    """Writes a byte-level BPE of the texts to path; the same texts give the same file."""
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<|end|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    bpe.save(str(path))
