"""Background text as documents of sentences, tokenised once and read through memory maps.

    corpus = open_corpus("generated", tokenizer)     # or "pg19", or a folder of .txt files
    page = corpus.document(3)
    page.tokens[page.starts[7] : page.starts[8]]     # sentence 7 of document 3

A document is one cache file: a header of eight int64, the tokens, then the sentence starts. It is written
under a temporary name and renamed, so neither a kill nor a second process leaves half a file; the header
records the file's size, so a file cut short by other means is noticed and made again.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import socket
import tempfile
from array import array
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache as memoise
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import psutil

from atlas_bench.errors import MachineError, UserError, needs, reason
from atlas_bench.files import hub, text_files
from atlas_bench.files.home import expanded
from atlas_bench.tasks import prose
from atlas_bench.types import TaskOptions, Tokenizer

FORMAT = 1  # raise when the file layout or a splitting rule changes: old caches are then ignored
MIN_TOKENS = 10  # BABILong skips shorter sentences
SHARD_TOKENS = 1_000_000
OPEN_DOCUMENTS = 64  # maps held open per corpus
BATCH = 1024  # sentences per encode_batch
TEXT_BLOCK = text_files.BLOCK  # characters of a book split into sentences at once
DATA_SET = "hf:"  # what a data set's name begins with;
DATA_SET_ROWS, DATA_SET_TOKENS = 500, 250_000  # a document is so many rows, which mostly have so many tokens or more
DATA_SET_AHEAD = 16  # documents that are read on the way to a later one, rather than skipped
PG19 = "emozilla/pg19"
PG19_BOOKS = {"test": 100, "validation": 50, "train": 28_602}

_MAGIC = int.from_bytes(b"ATLASDOC", "little")
_HEADER = 64  # bytes: magic, format, token bytes, tokens, starts, file size, 0, 0


@dataclass(frozen=True, slots=True)
class Document:
    """Sentence i is tokens[starts[i]:starts[i + 1]]; len(starts) is the number of sentences + 1."""

    tokens: np.ndarray  # uint16 or uint32, mapped
    starts: np.ndarray  # int64, mapped


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
            FORMAT,
            tokenizer.key,
            tokenizer.vocab_size,
            MIN_TOKENS,
            *([separator] if separator != " " else []),
        ]
        self.key = _sha([*self._rules, *identity])
        self._tokenizer, self._separator = tokenizer, separator
        self._sentences = sentences
        self._document_identity = document_identity
        self._cache = Path(cache) if cache else cache_folder()
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
        found = load(path)
        if found is None:
            write(path, self._sentences(i), self._tokenizer, limit=self.document_tokens, separator=self._separator)
            found = load(path)
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
        if load(corpus.path(i)) is None:
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
            if load(corpus.path(j)) is None:
                write(corpus.path(j), split_sentences([text]), tokenizer)
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
            if load(corpus.path(following - 1)) is None:  # the stream does not come back
                write(corpus.path(following - 1), chain.from_iterable(split_sentences([x]) for x in found), tokenizer)

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


def cache_folder() -> Path:
    """$ATLAS_BENCH_CACHE, or ~/.cache/atlas-bench."""
    return Path(os.environ.get("ATLAS_BENCH_CACHE") or Path.home() / ".cache" / "atlas-bench")


def split_sentences(texts: Iterable[str]) -> Iterator[str]:
    """Sentences of a text given in pieces of any size, by untrained Punkt as in BABILong, one space a gap."""
    punkt = _punkt()
    rest = ""
    for text in texts:
        for at in range(0, len(text), TEXT_BLOCK):
            rest += text[at : at + TEXT_BLOCK]
            if len(rest) < TEXT_BLOCK:
                continue
            spans = list(punkt.span_tokenize(rest))
            # the last sentence may go on in the next piece, unless it is a whole block without any stop
            open_end = bool(spans) and len(rest) - spans[-1][0] < TEXT_BLOCK
            keep = len(spans) - open_end
            for start, stop in spans[:keep]:
                yield " ".join(rest[start:stop].split())
            rest = rest[spans[keep][0] :] if open_end else ""
    for sentence in punkt.tokenize(rest):
        yield " ".join(sentence.split())


def write(
    path: Path, sentences: Iterable[str], tokenizer: Tokenizer, *, limit: int | None = None, separator: str = " "
) -> None:
    """Tokenise separator + sentence for each into `path`, until `limit` tokens where one is given."""
    dtype = np.dtype(np.uint16 if tokenizer.vocab_size < 65536 else np.uint32)
    starts, total = array("q", [0]), 0
    with cached_file(path) as file:
        file.write(bytes(_HEADER))
        stream = iter(sentences)
        while (limit is None or total < limit) and (batch := list(islice(stream, BATCH))):
            kept: list[int] = []
            for ids in tokenizer.encode_batch([separator + sentence for sentence in batch]):
                if len(ids) >= MIN_TOKENS and (limit is None or total < limit):
                    kept += ids
                    total += len(ids)
                    starts.append(total)
            file.write(np.array(kept, dtype=dtype).tobytes())
        file.write(bytes(-total * dtype.itemsize % 8))  # starts begin on a multiple of 8
        file.write(starts.tobytes())
        size = file.tell()
        file.seek(0)
        header = [_MAGIC, FORMAT, dtype.itemsize, total, len(starts), size, 0, 0]
        file.write(np.array(header, dtype=np.int64).tobytes())


@contextmanager
def cached_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which becomes `path` in the cache as a whole; several processes may write the same one.

    Raises MachineError if the cache is read-only or full.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = _draft(path)
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # the name must never outlive the bytes
        os.replace(temporary, path)
    except OSError as error:
        raise MachineError(
            f"the cache of tokenised texts cannot be written in '{path.parent}': {reason(error)}. Make room, or set "
            "ATLAS_BENCH_CACHE to another folder."
        ) from None
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def _draft(path: Path) -> tuple[int, str]:
    """(descriptor, path) of a new file of this process beside `path`; those of killed processes are deleted."""
    mine = f"{path.stem}.{socket.gethostname()}."
    for left in path.parent.glob(f"{glob.escape(mine)}*.part"):
        number = left.name.removeprefix(mine).partition(".")[0]
        if number.isdigit() and not psutil.pid_exists(int(number)):
            left.unlink(missing_ok=True)
    return tempfile.mkstemp(dir=path.parent, prefix=f"{mine}{os.getpid()}.", suffix=".part")


def load(path: Path) -> Document | None:
    """The mapped document, or None if the file is missing, cut short or in another format."""
    try:
        size = path.stat().st_size
        if size < _HEADER:
            return None
        raw = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))  # plain view: memmap slices are slow
    except (FileNotFoundError, NotADirectoryError):
        return None
    magic, version, width, total, n_starts, recorded, *_ = raw[:_HEADER].view(np.int64).tolist()
    if (magic, version, recorded) != (_MAGIC, FORMAT, size) or width not in (2, 4):
        return None
    middle = _HEADER + -(-total * width // 8) * 8
    if middle + 8 * n_starts != size:
        return None
    tokens = raw[_HEADER : _HEADER + total * width].view(np.uint16 if width == 2 else np.uint32)
    return Document(tokens, raw[middle:].view(np.int64))


@memoise
def _punkt() -> Any:
    advice = "Or use --background generated."
    with needs("nltk", extra="books", to="find the sentences of books", advice=advice):
        from nltk.tokenize.punkt import PunktSentenceTokenizer  # 0.3 s: only where books are read

    return PunktSentenceTokenizer()


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
