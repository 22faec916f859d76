"""A data set as texts, streamed by the datasets library from a folder here: what is read, in which order, how often."""

from __future__ import annotations

import json

import pytest

from atlas_bench.errors import UserError
from atlas_bench.files import hub
from atlas_bench.models.tokenizer import embedded
from atlas_bench.tasks import corpora
from atlas_bench.tasks.loss_lessons import LossLessons

ROWS, SENTENCE = 7, " The {} ships of the northern fleet went home before the winter storms came."


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data set of 7 rows of two sentences each; documents of it are 2 rows."""
    monkeypatch.setattr(corpora, "DATA_SET_ROWS", 2)
    monkeypatch.setattr(corpora, "DATA_SET_AHEAD", 2)
    (tmp_path / "data").mkdir()
    rows = [{"text": 2 * SENTENCE.format(f"row{i}")} for i in range(ROWS)]
    (tmp_path / "data" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(tmp_path / "data")


@pytest.fixture
def corpus(folder, tmp_path):
    return corpora.data_set(f"hf:{folder}", embedded(), cache=tmp_path / "cache")


def rows_of(corpus, number):
    text = embedded().decode(corpus.document(number).tokens.tolist())
    return [i for i in range(ROWS) if f"row{i}" in text]


def test_a_document_is_some_rows_wherever_reading_begins(corpus, folder, tmp_path, monkeypatch):
    asked = []
    rows = hub.rows
    monkeypatch.setattr(hub, "rows", lambda *name, **how: asked.append(how["skip"]) or rows(*name, **how))
    assert rows_of(corpus, 1) == [2, 3] and rows_of(corpus, 3) == [6] and rows_of(corpus, 2) == [4, 5]
    assert asked == [2]  # document 2 was kept on the way
    assert rows_of(corpus, 0) == [0, 1] and asked == [2, 0]
    assert len(corpus.document(9).tokens) == 0  # beyond the end
    again = corpora.data_set(f"hf:{folder}", embedded(), cache=tmp_path / "cache")
    assert rows_of(again, 3) == [6] and asked == [2, 0, 18] and again.key == corpus.key


def test_training_goes_on_in_the_stream_and_never_reads_what_is_held_out(corpus, monkeypatch):
    monkeypatch.setattr("atlas_bench.tasks.loss_lessons.WINDOW", 1)
    monkeypatch.setattr("atlas_bench.tasks.loss_lessons.DATA_SET_TOKENS", 100)
    lessons, read = LossLessons([corpus], 0), []
    for reached in (0, 100, 200, 300, 400):  # the data set ends with document 3
        lessons.reach(reached)
        (segment,) = lessons.seeded(reached).stream(20, 20)
        text = embedded().decode(segment.tokens.tolist())
        read.append(next(i // 2 for i in range(ROWS) if f"row{i}" in text))
    assert read == [1, 2, 3, 1, 2]
    lessons.reach(0)
    (whole,) = lessons.stream(10_000, 10_000)
    assert "row0" not in embedded().decode(whole.tokens.tolist()) and len(whole.tokens) == 10_000


def test_a_data_set_without_texts_is_refused(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"words": "no"}\n')
    with pytest.raises(UserError, match=r"no column 'text'; it has: words"):
        corpora.data_set(f"hf:{tmp_path}", embedded(), cache=tmp_path / "cache").document(0)
    (tmp_path / "train.jsonl").write_text('{"text": "short"}\n')
    short = corpora.data_set(f"hf:{tmp_path}", embedded(), cache=tmp_path / "cache2")
    with pytest.raises(UserError, match="no text behind its first 500 rows"):
        next(LossLessons([short], 0).stream(10, 10))
