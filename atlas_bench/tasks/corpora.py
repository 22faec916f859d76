"""Background text as documents of sentences, tokenised once and then read from the cache (token_file.py).

corpus = open_corpus("generated", tokenizer)     # or "pg19", or a folder of .txt files
page = corpus.document(3)
page.tokens[page.starts[7] : page.starts[8]]     # sentence 7 of document 3
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

from atlas_bench.errors import UserError, reason
from atlas_bench.files import hub, text_files
from atlas_bench.files.home import expanded
from atlas_bench.tasks import prose, token_file
from atlas_bench.tasks.sentences import split_sentences
from atlas_bench.tasks.token_file import Document
from atlas_bench.types import TaskOptions, Tokenizer

SHARD_TOKENS = 1_000_000
OPEN_DOCUMENTS = 64  # maps held open per corpus
DATA_SET = "hf:"  # what a data set's name begins with;
DATA_SET_ROWS, DATA_SET_TOKENS = 500, 250_000  # a document is so many rows, which mostly have so many tokens or more
DATA_SET_AHEAD = 16  # documents that are read on the way to a later one, rather than skipped
PG19 = "emozilla/pg19"
PG19_BOOKS = {"test": 100, "validation": 50, "train": 28_602}


class Corpus:
    """Documents by number, each tokenised on first use and then mapped from the cache.

    name             what a record shows: "generated", "pg19:test", a folder
    key              sha256 of everything that decides the tokens
    n_documents      None if documents are made without end
    document_tokens  the least number of tokens of a document, or None if books differ in length
    separator        what stands before every sentence
    streamed         documents are best read in their order, and may be empty from some number on
    """

    def __init__(
        self,
        name: str,
        tokenizer: Tokenizer,
        sentences: Callable[[int], Iterable[str]],
        *,
        identity: Sequence[Any],
        document_identity: Callable[[int], Any],
        n_documents: int | None = None,
        document_tokens: int | None = None,
        separator: str = " ",
        streamed: bool = False,
        cache: str | Path | None = None,
    ) -> None:
        self.name = name
        self.streamed = streamed
        self.n_documents = n_documents
        self.document_tokens = document_tokens
        self._rules = [
            token_file.FORMAT,
            tokenizer.key,
            tokenizer.vocab_size,
            token_file.MIN_TOKENS,
            *([separator] if separator != " " else []),
        ]
        self.key = _sha([*self._rules, *identity])
        self._tokenizer, self._separator = tokenizer, separator
        self._sentences = sentences
        self._document_identity = document_identity
        self._cache = Path(cache) if cache else token_file.cache_folder()
        self._open: OrderedDict[int, Document] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        """All but the open maps: another process opens its own."""
        return self.__dict__ | {"_open": OrderedDict()}

    def document(self, i: int) -> Document:
        """Document i, from the open maps, the cache, or made now."""
        found = self._open.get(i)
        if found is not None:
            self._open.move_to_end(i)
            return found
        if i < 0 or (self.n_documents is not None and i >= self.n_documents):
            raise IndexError(f"corpus '{self.name}' has {self.n_documents} documents; there is no number {i}")
        path = self.path(i)
        found = token_file.load(path)
        if found is None:
            sentences = self._sentences(i)
            token_file.write(path, sentences, self._tokenizer, limit=self.document_tokens, separator=self._separator)
            found = token_file.load(path)
            if found is None:
                raise OSError(f"cache file {path} cannot be read back after writing")
        self._open[i] = found
        if len(self._open) > OPEN_DOCUMENTS:
            self._open.popitem(last=False)
        return found

    def path(self, i: int) -> Path:
        """Where document i is cached; equal for equal text, tokenizer and rules."""
        name = _sha([*self._rules, self.document_tokens, self._document_identity(i)])
        return self._cache / "documents" / f"{name[:40]}.tok"


def open_corpus(
    spec: str, tokenizer: Tokenizer, encoding: str | None = None, *, document_tokens: int | None = None
) -> Corpus:
    """The corpus a user names: "generated", "pg19", or the path of a folder of .txt files in some encoding.

    document_tokens  of each document of generated text, at least; None: SHARD_TOKENS
    """
    if spec == "generated":
        return generated(tokenizer, **shards_of(document_tokens))
    if spec == "pg19":
        return pg19(tokenizer)
    return folder(spec, tokenizer, encoding)


class CorpusCache:
    """Corpora that are opened once for each background and tokenizer: their maps stay open."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], Corpus] = {}

    def open(self, options: TaskOptions, tokenizer: Tokenizer) -> Corpus:
        """The background of the options, reopened only if a file of its folder has changed."""
        spec, encoding, size = options.background, options.encoding, options.document_tokens
        edited = () if spec in ("generated", "pg19") else text_files.version(spec)
        key = spec, tokenizer.key, encoding, size, edited
        if key not in self._known:
            self._known[key] = open_corpus(spec, tokenizer, encoding, document_tokens=size)
        return self._known[key]


def shards_of(document_tokens: int | None) -> dict[str, int]:
    """The argument of endless() and generated() that TaskOptions.document_tokens is, where it is given."""
    return {} if document_tokens is None else {"shard_tokens": document_tokens}


def generated(tokenizer: Tokenizer, *, cache: str | Path | None = None, shard_tokens: int = SHARD_TOKENS) -> Corpus:
    """The embedded prose without end: document i is at least `shard_tokens` tokens of seed i."""
    return endless(
        "generated", tokenizer, prose.sentences, version=prose.VERSION, cache=cache, shard_tokens=shard_tokens
    )


def endless(
    name: str,
    tokenizer: Tokenizer,
    sentences: Callable[[int], Iterable[str]],
    *,
    version: Any,
    separator: str = " ",
    cache: str | Path | None = None,
    shard_tokens: int = SHARD_TOKENS,
) -> Corpus:
    """Sentences made without end: document i holds those of seed i, up to at least `shard_tokens` tokens.

    sentences  seed -> sentences without end, of MIN_TOKENS tokens or more (shorter ones are left out)
    version    whatever decides them besides name and seed, as JSON
    """
    identity = [name, version, shard_tokens]
    return Corpus(
        name,
        tokenizer,
        sentences,
        identity=identity,
        document_identity=partial(_numbered, identity),
        document_tokens=shard_tokens,
        separator=separator,
        cache=cache,
    )


def _numbered(identity: Sequence[Any], i: int) -> list[Any]:
    return [*identity, i]


def folder(
    path: str | Path,
    tokenizer: Tokenizer,
    encoding: str | None = None,
    *,
    exclude: Iterable[str] = (),
    only: Iterable[str] = (),
    cache: str | Path | None = None,
) -> Corpus:
    """Every .txt file below `path`, sorted by its path, one document each.

    encoding  of the files, None for UTF-8; it is part of the corpus's identity
    exclude   file stems to leave out;  only: those to take, all where none is given

    Raises UserError if there is no such file, or if one has another encoding.
    """
    root, skipped, taken = expanded(path), set(exclude), set(only)
    files = sorted(file for file in root.rglob("*.txt") if file.is_file() and file.stem not in skipped)
    files = [file for file in files if file.stem in taken] if taken else files
    if not files:
        why = "has no .txt file" if root.is_dir() else "is not a folder"
        left = f" besides {', '.join(sorted(skipped))}" if skipped and root.is_dir() else ""
        raise UserError(f"background '{path}' {why}{left}. Give 'generated', 'pg19', or a folder of .txt files.")
    hashes = [_file_hash(file) for file in files]
    named = [encoding] if encoding else []
    corpus = Corpus(
        str(path),
        tokenizer,
        lambda i: split_sentences(_unchanged(files[i], hashes[i], encoding)),
        identity=["punkt", hashes, *named],
        document_identity=lambda i: ["punkt, strict", hashes[i], *named],  # "punkt": bytes may have been replaced
        n_documents=len(files),
        cache=cache,
    )
    for i, file in enumerate(files):  # all of them now: a cell that has begun is not to end at a byte of the last one
        if token_file.load(corpus.path(i)) is None:
            deque(_read(file, encoding), maxlen=0)
    return corpus


def pg19(tokenizer: Tokenizer, split: str = "test", cache: str | Path | None = None) -> Corpus:
    """PG-19 from the Hugging Face hub, streamed once; later runs need the cache only."""
    if split not in PG19_BOOKS:
        raise UserError(f"PG-19 has no split '{split}'. Known: {', '.join(PG19_BOOKS)}.")

    def book(i: int) -> Iterator[str]:
        # the stream has no random access: books passed on the way are cached too
        for j, text in enumerate(_hub_texts(split)):
            if j == i:
                return split_sentences([text])
            if token_file.load(corpus.path(j)) is None:
                token_file.write(corpus.path(j), split_sentences([text]), tokenizer)
        raise UserError(f"PG-19 {split} on the hub has no book {i}; the download may have been cut short.")

    corpus = Corpus(
        f"pg19:{split}",
        tokenizer,
        book,
        identity=["punkt", PG19, split],
        document_identity=lambda i: ["punkt", PG19, split, i],
        n_documents=PG19_BOOKS[split],
        cache=cache,
    )
    return corpus


def data_set(spec: str, tokenizer: Tokenizer, cache: str | Path | None = None) -> Corpus:
    """The column "text" of a data set, streamed: document i is rows 500 i to 500 i + 499 of its training split.

    spec  "hf:NAME[:CONFIGURATION]", a name on the hub or a folder that the datasets library reads

    The corpus is without end for those who read it; beyond the data set's end documents are empty.
    """
    name = [part for part in spec.removeprefix(DATA_SET).split(":") if part]
    stream: Iterator[Any] = iter(())
    following = -1  # the document that the stream is at the beginning of

    def texts(i: int) -> list[str]:
        nonlocal stream, following
        if not 0 <= i - following <= DATA_SET_AHEAD or following < 0:
            stream = hub.rows(*name, split="train", skip=i * DATA_SET_ROWS, advice="Give a folder of .txt files.")
            following = i
        while True:
            rows = list(islice(stream, DATA_SET_ROWS))
            if rows and not isinstance(rows[0].get("text"), str):
                raise UserError(f"data set '{spec}' has no column 'text'; it has: {', '.join(rows[0])}.")
            found, following = [row["text"] for row in rows], following + 1
            if following > i:
                return found
            if token_file.load(corpus.path(following - 1)) is None:  # the stream does not come back
                sentences = chain.from_iterable(split_sentences([text]) for text in found)
                token_file.write(corpus.path(following - 1), sentences, tokenizer)

    corpus = Corpus(
        spec,
        tokenizer,
        lambda i: chain.from_iterable(split_sentences([text]) for text in texts(i)),
        identity=["punkt", name],
        document_identity=lambda i: ["punkt", name, DATA_SET_ROWS, i],
        streamed=True,
        cache=cache,
    )
    return corpus


def _hub_texts(split: str) -> Iterator[str]:
    for row in hub.rows(PG19, split=split, advice="Use --background generated, or a folder of .txt files."):
        yield row["text"]


def _read(file: Path, encoding: str | None) -> Iterator[str]:
    try:
        yield from text_files.blocks(file, encoding, choice=True)
    except OSError as error:
        raise UserError(f"background '{file}' cannot be read: {reason(error)}. Check the file.") from None


def _unchanged(file: Path, sha256: str, encoding: str | None) -> Iterator[str]:
    """The text of a file whose hash is known: another text would go into the cache under that hash."""
    if _file_hash(file) != sha256:
        raise UserError(f"background '{file}' has changed since it was opened. Run the command again.")
    yield from _read(file, encoding)


def _file_hash(file: Path) -> str:
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def _sha(parts: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
