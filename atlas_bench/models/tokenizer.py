"""The embedded models' tokenizer: byte-level BPE, 4096 entries, in pretrained/tokenizer.json."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path

import tokenizers

from atlas_bench.files import text_files

PRETRAINED = Path(__file__).parent / "pretrained"
MOST_WORDS = 1 << 17  # kept with their ids: some 30 MB


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
        self._words: _Words | None = _Words(self.encode) if _splits_at_blanks(self._bpe) else None

    def encode(self, text: str) -> list[int]:
        return self._bpe.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text; those of words that were met before are looked up, which is many times faster."""
        if self._words is None:
            return [encoding.ids for encoding in self._bpe.encode_batch(list(texts), add_special_tokens=False)]
        return [self._words.ids(text) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        return self._bpe.decode(list(ids))


class _Words(dict[str, list[int]]):
    """The ids of a blank and a word, for every word met: GPT-2's pattern never joins what stands around a blank."""

    def __init__(self, encode: Callable[[str], list[int]]) -> None:
        self.encode = encode

    def ids(self, text: str) -> list[int]:
        """The ids of a text."""
        first, *rest = text.split(" ")
        ids = self.encode(first) if first else []
        try:
            for word in rest:
                ids += self[word]
        except KeyError:  # a line break, or two blanks in a row, which are tokens of their own
            return self.encode(text)
        return ids

    def __missing__(self, word: str) -> list[int]:
        """Encode and keep a word; KeyError for none, or one with a space of another kind in it."""
        if not word or any(map(str.isspace, word)):
            raise KeyError(word)
        if len(self) >= MOST_WORDS:
            self.clear()
        ids = self[word] = self.encode(f" {word}")
        return ids


def _splits_at_blanks(bpe: tokenizers.Tokenizer) -> bool:
    """Whether it cuts a text by GPT-2's pattern before anything else is done with it."""
    before = bpe.pre_tokenizer
    by_pattern = isinstance(before, tokenizers.pre_tokenizers.ByteLevel) and before.use_regex
    return bool(by_pattern and not before.add_prefix_space and bpe.normalizer is None)


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
