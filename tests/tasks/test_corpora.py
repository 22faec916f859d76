"""Corpora: tokens equal the text's, made once, keyed by all that decides them, whole or absent on disk."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from atlas_bench.errors import UserError
from atlas_bench.tasks import corpora, prose, token_file
from atlas_bench.tasks.sentences import split_sentences
from atlas_bench.types import TaskOptions


class Letters:
    """One token a letter (or pair of letters), counting its calls."""

    def __init__(self, vocab_size: int = 256, key: str = "letters") -> None:
        self.vocab_size, self.key, self.calls = vocab_size, key, 0

    def encode(self, text: str) -> list[int]:
        return [min(ord(letter), 255) for letter in text]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        self.calls += 1
        return [self.encode(text) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(map(chr, ids))


def sentences_of(corpus: corpora.Corpus, tokenizer: Letters, i: int) -> list[str]:
    page = corpus.document(i)
    return [tokenizer.decode(page.tokens[a:b].tolist()) for a, b in zip(page.starts[:-1], page.starts[1:], strict=True)]


@pytest.fixture
def books(tmp_path: Path) -> Path:
    folder = tmp_path / "books"
    (folder / "deep").mkdir(parents=True)
    (folder / "b.txt").write_text("It was a\n  cold night. No. Who goes there, I wonder? Nobody answered him.")
    (folder / "deep" / "a.txt").write_text("The second book has a single sentence.")
    (folder / "left.md").write_text("This is not a book at all.")
    return folder


def test_generated_is_the_prose(tmp_path: Path) -> None:
    letters = Letters()
    corpus = corpora.generated(letters, cache=tmp_path, shard_tokens=5000)
    made = sentences_of(corpus, letters, 3)
    assert made == [f" {sentence}" for sentence in prose.document(3, len(made))]
    page = corpus.document(3)
    assert page.tokens.dtype == np.uint16 and page.starts.dtype == np.int64
    assert 5000 <= page.starts[-1] == len(page.tokens) < 5400
    assert corpus.n_documents is None and corpus.document_tokens == 5000
    assert not np.array_equal(page.tokens[:50], corpus.document(4).tokens[:50])


def test_folder_reads_txt_files_by_sentence(tmp_path: Path, books: Path) -> None:
    letters = Letters()
    corpus = corpora.folder(books, letters, cache=tmp_path)
    assert corpus.n_documents == 2
    # "No." is under 10 tokens
    assert sentences_of(corpus, letters, 0) == [
        " It was a cold night.",
        " Who goes there, I wonder?",
        " Nobody answered him.",
    ]
    assert sentences_of(corpus, letters, 1) == [" The second book has a single sentence."]
    assert corpora.folder(books, letters, exclude=["b"], cache=tmp_path).n_documents == 1
    with pytest.raises(IndexError, match="no number 2"):
        corpus.document(2)


def test_a_large_vocabulary_takes_32_bits(tmp_path: Path, books: Path) -> None:
    assert corpora.folder(books, Letters(65536), cache=tmp_path).document(0).tokens.dtype == np.uint32


def test_split_does_not_depend_on_the_pieces() -> None:
    text = " ".join(prose.document(0, 300)).replace(" the ", "\nthe ")
    whole = list(split_sentences([text]))
    for block in (997, 4096):
        assert list(split_sentences([text[i : i + 311] for i in range(0, len(text), 311)], block)) == whole
        assert list(split_sentences([text], block)) == whole
    endless = "word " * 2000  # no stop anywhere: still in pieces, nothing lost
    assert "".join(split_sentences([endless], 4096)).replace(" ", "") == endless.replace(" ", "")
    assert list(split_sentences([])) == list(split_sentences([" \n" * 5000], 4096)) == []


def test_made_once(tmp_path: Path) -> None:
    letters = Letters()
    first = corpora.generated(letters, cache=tmp_path, shard_tokens=2000).document(0)
    calls = letters.calls
    again = corpora.generated(letters, cache=tmp_path, shard_tokens=2000).document(0)
    assert letters.calls == calls and np.array_equal(first.tokens, again.tokens)


@pytest.mark.parametrize("damage", ["cut", "empty", "longer", "other"])
def test_a_damaged_file_is_made_again(tmp_path: Path, damage: str) -> None:
    def corpus() -> corpora.Corpus:
        return corpora.generated(Letters(), cache=tmp_path, shard_tokens=2000)

    path = corpus().path(0)
    good = np.array(corpus().document(0).tokens)
    raw = path.read_bytes()
    path.unlink()
    damaged = {"cut": raw[:-100], "empty": b"", "longer": raw + b"x", "other": b"\0" * len(raw)}
    path.write_bytes(damaged[damage])
    assert np.array_equal(corpus().document(0).tokens, good)
    assert path.read_bytes() == raw


def test_a_kill_while_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    letters = Letters()
    corpus = corpora.generated(letters, cache=tmp_path, shard_tokens=2000)

    def killed(texts: Sequence[str]) -> list[list[int]]:
        raise KeyboardInterrupt

    monkeypatch.setattr(letters, "encode_batch", killed)
    with pytest.raises(KeyboardInterrupt):
        corpus.document(0)
    assert not list(corpus.path(0).parent.iterdir())
    monkeypatch.undo()
    assert len(corpus.document(0).tokens) >= 2000


def test_key_and_file_change_with_all_that_decides_the_tokens(
    tmp_path: Path, books: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def generated(letters: Letters, shard: int = 2000) -> corpora.Corpus:
        return corpora.generated(letters, cache=tmp_path, shard_tokens=shard)

    corpora_made = [
        generated(Letters()),
        generated(Letters(key="other")),
        generated(Letters(), 3000),
        corpora.folder(books, Letters(), cache=tmp_path),
        corpora.folder(books, Letters(), exclude=["a"], cache=tmp_path),
        corpora.pg19(Letters(), cache=tmp_path),
        corpora.pg19(Letters(), "validation", cache=tmp_path),
    ]
    with (books / "b.txt").open("a") as file:
        file.write("One more sentence is added here.")
    corpora_made.append(corpora.folder(books, Letters(), cache=tmp_path))
    monkeypatch.setattr(token_file, "MIN_TOKENS", 11)
    corpora_made.append(generated(Letters()))
    monkeypatch.undo()
    monkeypatch.setattr(prose, "VERSION", "next")
    corpora_made.append(generated(Letters()))
    keys = [corpus.key for corpus in corpora_made]
    assert len(set(keys)) == len(keys) and generated(Letters()).key == keys[-1]
    # one book, one file: the same text in another selection is not tokenised again
    assert corpora_made[3].path(0) == corpora_made[4].path(0)
    assert corpora_made[3].path(0) != corpora_made[7].path(0)


def test_open_maps_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpora, "OPEN_DOCUMENTS", 3)
    corpus = corpora.generated(Letters(), cache=tmp_path, shard_tokens=100)
    for i in range(6):
        corpus.document(i)
    assert list(corpus._open) == [3, 4, 5]
    assert corpus.document(3) is corpus.document(3)


def test_cache_folder_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATLAS_BENCH_CACHE", str(tmp_path / "here"))
    corpora.open_corpus("generated", Letters())  # opening writes nothing
    assert not (tmp_path / "here").exists()
    monkeypatch.setattr(corpora, "SHARD_TOKENS", 100)
    corpora.generated(Letters(), shard_tokens=100).document(0)
    assert len(list((tmp_path / "here").rglob("*.tok"))) == 1


def test_open_corpus_says_what_is_wrong(tmp_path: Path) -> None:
    assert corpora.open_corpus("pg19", Letters()).name == "pg19:test"
    with pytest.raises(UserError, match="is not a folder"):
        corpora.open_corpus(str(tmp_path / "nowhere"), Letters())
    with pytest.raises(UserError, match=r"has no \.txt file"):
        corpora.open_corpus(str(tmp_path), Letters())
    with pytest.raises(UserError, match="no split 'tset'"):
        corpora.pg19(Letters(), "tset")


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's clients may ask, whatever the environment says, and the hub is there."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("atlas_bench.files.hub._unreachable", lambda: None)


class FakeHub:
    """Stands in for the datasets library: three short books, counting how often it is streamed."""

    def __init__(self) -> None:
        self.streams = 0

    def load_dataset(self, name: str, *, split: str, streaming: bool) -> list[dict[str, str]]:
        assert (name, split, streaming) == ("emozilla/pg19", "test", True)
        self.streams += 1
        return [{"text": f"This is the book of number {i}. It ends after this."} for i in range(3)]


@pytest.mark.usefixtures("online")
def test_pg19_streams_the_hub_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub, letters = FakeHub(), Letters()
    monkeypatch.setitem(sys.modules, "datasets", hub)
    corpus = corpora.pg19(letters, cache=tmp_path)
    assert sentences_of(corpus, letters, 2)[0] == " This is the book of number 2."
    streams = hub.streams
    assert sentences_of(corpus, letters, 0)[0] == " This is the book of number 0."
    assert hub.streams == streams == 1  # books passed on the way are cached


@pytest.mark.usefixtures("online")
def test_pg19_without_library_or_hub_gives_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match="pip install datasets"):
        corpora.pg19(Letters(), cache=tmp_path).document(0)

    class Unreachable:
        def load_dataset(self, *_: object, **__: object) -> None:
            raise ConnectionError("no route to host")

    monkeypatch.setitem(sys.modules, "datasets", Unreachable())
    with pytest.raises(UserError, match=r"no route to host.*folder of \.txt files"):
        corpora.pg19(Letters(), cache=tmp_path).document(0)
    assert not list(tmp_path.rglob("*.part"))


def test_what_a_killed_process_left_in_the_cache_is_deleted(tmp_path: Path) -> None:
    kill_itself = (
        "import os, signal, sys, pathlib; from atlas_bench.tasks import token_file\n"
        "with token_file.cached_file(pathlib.Path(sys.argv[1])) as file:\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", kill_itself, str(tmp_path / "document.tok")], check=False)
    (left,) = tmp_path.iterdir()
    with token_file.cached_file(tmp_path / "document.tok") as other:
        with token_file.cached_file(tmp_path / "document.tok") as file:
            file.write(b"mine")
        assert not left.exists()
        other.write(b"the other's")  # a live one's stays
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("document.tok", b"the other's")]


def test_the_key_is_a_sha256(tmp_path: Path) -> None:
    assert len(corpora.generated(Letters(), cache=tmp_path).key) == hashlib.sha256().digest_size * 2


def test_a_folder_is_opened_again_where_a_file_of_it_has_changed(tmp_path: Path, books: Path) -> None:
    known, options = corpora.CorpusCache(), TaskOptions(background=str(books))
    first = known.open(options, Letters())
    assert known.open(options, Letters()) is first
    file = next(books.glob("*.txt"))
    file.write_text(file.read_text() + " And this was never said before by anybody at all in here.")
    assert known.open(options, Letters()).key != first.key
    with pytest.raises(UserError, match="has changed since it was opened"):  # never under the old text's hash
        for i in range(first.n_documents):
            first.document(i)
