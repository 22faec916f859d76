"""Files are read in the encoding they are in, or refused by name and offset: nothing is replaced in silence."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from atlas_bench import registry
from atlas_bench.cli.app import app
from atlas_bench.comparison import candidates, trainings
from atlas_bench.errors import UserError
from atlas_bench.files import text_files
from atlas_bench.models import loading
from atlas_bench.models.tokenizer import Tokenizer, embedded
from atlas_bench.results import store
from atlas_bench.results.record import Record
from atlas_bench.running import plan
from atlas_bench.tasks import babi, corpora, recall, token_file
from atlas_bench.tasks.babilong import Babilong
from atlas_bench.tasks.recall import Recall
from atlas_bench.tasks.ruler import data as ruler
from atlas_bench.types import TaskOptions

TEXT = "The café stood by the rivière. Señor Núñez drank tea, as he did every day of the week. "
STORY = "1 Mary moved to the café.\n2 Where is Mary?\tcafé\t1\n"
ROW = {"text": f"Menu. {TEXT}", "key": "Menu", "value": "café"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATLAS_BENCH_CACHE", str(tmp_path / "cache"))


@given(before=st.text(max_size=30), after=st.binary(max_size=30), block=st.integers(1, 9))
def test_the_offset_is_that_of_the_first_byte_that_does_not_decode(tmp_path_factory, before, after, block) -> None:
    file = tmp_path_factory.mktemp("text") / "a.txt"
    data = before.replace("\0", "").encode() + b"\xff" + after.replace(b"\0", b"")
    file.write_bytes(data)
    with pytest.raises(UnicodeDecodeError) as python:
        data.decode()
    expected = rf"'{file}' is not UTF-8 text \(byte 0x{data[python.value.start]:02x} at offset {python.value.start}\)"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_files, "BLOCK", block)
        with pytest.raises(UserError, match=expected):
            text_files.read(file)
    with pytest.raises(UserError, match=expected):
        text_files.decode(data, file)


@given(text=st.text(st.characters(exclude_characters="\0\r", codec="utf-8"), max_size=60), block=st.integers(1, 9))
@pytest.mark.parametrize("encoding", [None, "utf-8", "utf-16", "utf-16-le", "utf-32", "gb18030"])
def test_what_was_written_in_an_encoding_is_read(tmp_path_factory, encoding, text, block) -> None:
    file = tmp_path_factory.mktemp("text") / "a.txt"
    text = text.removeprefix("\ufeff")
    file.write_bytes(text.encode(encoding or "utf-8"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_files, "BLOCK", block)
        assert "".join(text_files.blocks(file, encoding)) == text
    assert text_files.decode(file.read_bytes(), file, encoding) == text


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(codecs.BOM_UTF8 + TEXT.encode())
    assert text_files.read(file) == text_files.decode(file.read_bytes(), file) == TEXT


def test_the_advice_fits_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(TEXT.encode("utf-16"))
    with pytest.raises(UserError, match=r"Add --encoding NAME \(utf-16\), or save it as UTF-8"):
        text_files.read(file, choice=True)
    file.write_bytes(TEXT.encode("utf-16-le"))  # no mark: half of its bytes are NULs
    with pytest.raises(UserError, match=r"not UTF-8 text|has a NUL at character 1, .*utf-16-le"):
        text_files.read(file, choice=True)
    file.write_bytes("no accents".encode("utf-16-le"))
    with pytest.raises(UserError, match=r"has a NUL at character 1, .*utf-16-le"):
        text_files.read(file, choice=True)
    file.write_bytes(TEXT.encode("latin-1"))
    with pytest.raises(UserError, match=r"'.*a\.txt' is not UTF-8 text \(byte 0xe9 at offset 7\)\. Save it as UTF-8"):
        text_files.read(file)
    with pytest.raises(UserError, match=r"is not ascii text \(byte 0xe9 at offset 7\)"):
        text_files.read(file, "ascii")
    file.write_bytes("é".encode()[:1])
    with pytest.raises(UserError, match=r"\(byte 0xc3 at offset 0\)"):
        text_files.read(file)


def test_one_encoding_has_one_name() -> None:
    assert {text_files.known(name) for name in ("latin-1", "latin1", "ISO-8859-1", "L1")} == {"iso8859-1"}
    assert {text_files.known(name) for name in ("utf-8", "UTF8", "utf_8_sig")} == {None}
    for name in ("latin-11", "hex", "rot13", "", "a\0b"):
        with pytest.raises(UserError, match="is unknown to Python"):
            text_files.known(name)
    with pytest.raises(UserError, match="Did you mean 'latin-1'"):
        text_files.known("latin-11")


# name -> (file, its text, what reads it)
READERS: dict[str, tuple[str, str, Callable[[Path], Any]]] = {
    "a background": ("book.txt", TEXT, lambda folder: corpora.folder(folder, embedded())),
    "a bAbI file": ("qa1_test.txt", STORY, lambda folder: babi.load_folder(folder)),
    "recall's rows": ("swde.jsonl", json.dumps(ROW, ensure_ascii=False), lambda f: recall._load(str(f), "swde", None)),
    "RULER's questions": ("squad.json", '{"data": "é"}', lambda folder: ruler.load("qa_1", str(folder))),
    "a configuration": ("a.toml", '[run]\nout = "café"', lambda folder: _ran(folder, "--config", folder / "a.toml")),
    "a task file": ("task.py", "x = 1  # café", lambda folder: registry.name_task(folder / "task.py")),
    "a memory file": ("memory.py", "x = 1  # café", lambda folder: registry.name_file(folder / "memory.py")),
    "a model card": (loading.CARD, '{"config": "é"}', lambda folder: loading.card(str(folder))),
    "a tokenizer": ("tokenizer.json", '{"model": "é"}', lambda folder: Tokenizer(folder / "tokenizer.json")),
}


def _ran(folder: Path, *words: Any) -> None:
    result = CliRunner().invoke(app, [*map(str, words), "run", "mqar:4", "--len", "1K", "--out", str(folder / "runs")])
    assert result.exit_code == 2
    raise UserError(result.stderr)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
@pytest.mark.parametrize("reader", READERS)
def test_every_reader_refuses_what_is_not_utf8(reader: str, encoding: str, tmp_path: Path) -> None:
    name, text, read = READERS[reader]
    folder = tmp_path / "folder"
    folder.mkdir()
    data = text.encode(encoding)
    (folder / name).write_bytes(data)
    at = 0 if encoding == "utf-16" else data.index(b"\xe9")
    with pytest.raises(UserError, match=rf"{name}' is not UTF-8 text \(byte 0x{data[at]:02x} at offset {at}\)"):
        read(folder)


def test_a_record_that_is_not_utf8_is_left_out_and_said(tmp_path: Path) -> None:
    good = Record(status="ok", task="t", task_version="1", subset="", length=1, model="m", seed=0, samples=1).to_json()
    bad = good.replace('"m"', '"é"').encode("latin-1")
    (tmp_path / "t.jsonl").write_bytes(bad + b"\n" + good.encode() + b"\n")
    records, said = store.read(tmp_path / "t.jsonl")
    assert [record.model for record in records] == ["m"]
    assert f"t.jsonl:1: not JSON (not UTF-8 text: byte 0xe9 at offset {bad.index(0xE9)} of the line)" in said[0]


def test_every_task_that_reads_files_reads_them_in_the_encoding_given(tmp_path: Path) -> None:
    for encoding in ("latin-1", "utf-16"):
        folder = tmp_path / encoding
        folder.mkdir()
        for name, text in (
            ("book.txt", TEXT * 40),
            ("qa1_test.txt", STORY),
            ("swde.jsonl", json.dumps(ROW, ensure_ascii=False)),
        ):
            (folder / name).write_bytes(text.encode(encoding))
        options = TaskOptions(str(folder), str(folder), encoding=encoding)
        (sample,) = Babilong().samples("qa1", 400, 1, 0, embedded(), options)
        text = embedded().decode(sample.context.read(0, sample.context.length - 2).tolist())  # the last word is cut
        assert "The café stood" in text and "Mary moved to the café." in text and "\ufffd" not in text
        (sample,) = Recall().samples("swde", 400, 1, 0, embedded(), TaskOptions(str(folder), encoding=encoding))
        assert "rivière" in embedded().decode(sample.context.read(0, sample.context.length).tolist())
        assert sample.meta["data_key"].endswith(encoding)


def test_every_text_of_a_folder_is_checked_before_any_is_used(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.txt").write_text(TEXT * 9, encoding="latin-1" if name == "c" else "utf-8")
    with pytest.raises(UserError, match=r"c\.txt' is not UTF-8 text"):
        corpora.folder(tmp_path, embedded())
    corpus = corpora.folder(tmp_path, embedded(), exclude=["c"])
    assert token_file.load(corpus.path(0)) is None  # nothing is tokenised before it is read
    assert len(corpus.document(0).tokens)


def test_an_encoding_is_part_of_what_a_corpus_and_a_cell_are(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_bytes((TEXT * 9).encode())
    keys = {corpora.folder(tmp_path, embedded(), encoding).key for encoding in (None, "latin-1", "cp1252")}
    assert len(keys) == 3
    named = TaskOptions(background=str(tmp_path), encoding="latin-1")
    assert named.given()["encoding"] == "latin-1" and "encoding" not in TaskOptions().given()
    (cell,) = plan.make([("babilong", "qa1")], lengths=[1000], models=["constant"], options=named)
    assert cell.options == named


@pytest.mark.parametrize(
    "command",
    [
        ["run", "babilong:qa1", "--len", "1K"],
        ["compare", "titans", "atlas", "--task", "babilong:qa1", "--len", "1K", "--train", "20M"],
        ["train", "--memory", "titans"],
    ],
)
def test_an_encoding_without_a_file_to_read_is_refused(command: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [*command, "--encoding", "latin1", "--out", str(tmp_path / "out")])
    assert result.exit_code == 2 and "--encoding 'iso8859-1' would do nothing" in result.stderr
    assert not (tmp_path / "out").exists()


def test_the_trainings_of_a_comparison_read_the_encoding_given(tmp_path: Path) -> None:
    entrants = candidates.resolve(["titans", "atlas"], train=True)
    named, plain = (
        trainings.trainings(entrants, {"babilong": ["qa1"]}, 20_000_000, tmp_path, backgrounds=["books"], encoding=e)
        for e in ("cp1252", None)
    )
    for with_it, without in zip(named, plain, strict=True):
        assert with_it.words[-2:] == ("--encoding", "cp1252") and "--encoding" not in without.words
        assert with_it.folder != without.folder
