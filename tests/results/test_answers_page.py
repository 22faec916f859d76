"""The page of all answers: every one of them, in parts that lead to each other, with nothing in them obeyed."""

from __future__ import annotations

import html
import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from atlas_bench.errors import UserError
from atlas_bench.results import report, store
from atlas_bench.results.html import answers
from atlas_bench.results.record import answer_row, cell_key
from tests.results.pages import ATTACK, NASTY, ROOT, hostile_records, unscripted

RETENTION = ROOT / "results" / "retention.jsonl"


def rows(text: str) -> list[list[str]]:
    """The cells of every answer on a page, without tags."""
    found = re.findall(r"<tr class=\w+>(.*?)(?=\n<tr class|\n\n?</table>)", text, re.DOTALL)
    return [[html.unescape(re.sub(r"<[^>]*>", " ", cell)).strip() for cell in row.split("<td>")[1:]] for row in found]


def judged(index, **verdicts):
    return answer_row(index, question="Where?", targets=["garden"], answer="attic", correct=verdicts)


def test_every_answer_is_on_the_page():
    records = store.read(RETENTION)[0]
    written = answers.pages(records, name="answers.html")
    assert list(written.files) == ["answers.html"] and set(written.links) == set(map(cell_key, records))
    text = written.files["answers.html"]
    found = rows(text)
    assert len(found) == sum(len(record.answers) for record in records)
    for record in records:
        section = text.split(f'id="{written.links[cell_key(record)].partition("#")[2]}"', 1)[1].split("</details>")[0]
        for row, answer in zip(rows(section), record.answers, strict=True):
            index, verdict, far, question, targets, said = row
            assert (index, question, said) == (str(answer["index"]), answer["question"], answer["answer"])
            assert targets == " | ".join(answer["targets"]) and far == str(answer["distance"])
            right = answer["correct"][record.headline]
            assert verdict.split()[0] == ("right" if right else "wrong")
        assert html.escape(record.command) in section and f"--samples {record.samples}" in section


def test_a_part_ends_where_it_is_full_and_the_parts_have_all_of_it():
    records = store.read(RETENTION)[0]
    written = answers.pages(records, name="all answers.html", part_bytes=30_000)
    assert list(written.files)[:2] == ["all answers.html", "all answers-2.html"]
    whole = answers.pages(records, name="answers.html").files["answers.html"]
    assert [row for text in written.files.values() for row in rows(text)] == rows(whole)
    for number, (file, text) in enumerate(written.files.items(), start=1):
        assert f"This is part {number} of {len(written.files)}" in text
        others = set(re.findall(r'<li><a href="([^"]*)">', text))
        assert set(map(unquote, others)) == written.files.keys() - {file}
    for key, link in written.links.items():
        file, _, id = link.partition("#")
        assert written.files[unquote(file)].count(f'id="{id}"') == 1, key


def test_verdicts_are_words_and_scorers_that_differ_are_told(make):
    failed = {**judged(4), "answer": "", "failed": "error 500"}
    rated = [judged(0, a=True, b=False), judged(1, a=False, b=False), judged(2, a=0.25, b=1.0), judged(3), failed]
    scores = {"a": {"correct": 1.25, "n": 3}, "b": {"correct": 1, "n": 3}}
    record = make(answers=rated, headline="a", scores=scores, scorer_version={})
    text = answers.pages([record], name="answers.html").files["answers.html"]
    assert [" ".join(row[1].split()) for row in rows(text)] == [
        "right b: wrong", "wrong", "25 % right b: right", "", "failed",
    ]  # fmt: skip
    assert rows(text)[4][-1] == "not answered: error 500"
    assert re.findall(r"<tr class=(\w+)>", text) == ["right", "wrong", "wrong", "unjudged", "failed"]


def test_records_of_one_cell_are_all_there_the_latest_last(make):
    older = make(started="2026-01-01T00:00:00Z", ended="2026-01-01T01:00:00Z", answers=[judged(0, x=True)])
    written = answers.pages([make(), older], name="answers.html")
    text = written.files["answers.html"]
    ids = re.findall(r'<details class="record" id="([^"]*)"', text)
    assert len(set(ids)) == 2 and len(rows(text)) == len(older.answers) + len(make().answers)
    assert written.links[cell_key(make())] == f"answers.html#{ids[1]}"
    assert text.index("2026-01-01T01:00:00Z") < text.index(make().ended)


def test_a_record_without_answers_says_why(make, failed):
    text = answers.pages([failed("oom", "7 GB are missing")], name="answers.html").files["answers.html"]
    assert "7 GB are missing" in text and ": oom" in text and "<table" not in text
    assert "0 answers in 0 records" in answers.pages([], name="answers.html").files["answers.html"]


def test_hostile_text_is_shown_and_never_obeyed(make):
    records = hostile_records(make)
    text = answers.pages(records, name="answers.html", leaderboard="board.html", title=NASTY, command=NASTY)
    text = unscripted(text.files["answers.html"], "answers.js")
    assert html.escape(ATTACK) in text and "<script" not in text and "<img" not in text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text)
    assert len(text.encode()) < 60_000 * len(records)  # the 1 MB answers are cut, and say so
    assert "characters cut]" in text
    tags = [re.sub(r'"[^"]*"', "", tag) for tag in re.findall(r"<[a-z][^>]*>", text)]
    assert {name for tag in tags for name in re.findall(r"\s(\w[\w:-]*)=", tag)} <= {
        "lang", "charset", "http-equiv", "content", "name", "id", "class", "href", "scope", "type", "role", "value",
        "aria-label", "aria-live", "tabindex", "data-task", "data-at", "data-model",
    }  # fmt: skip
    assert set(re.findall(r'\shref="([^"]*)"', text)) == {"board.html"}
    assert all(re.fullmatch(r"a-[0-9a-f]{16}(-\d+)?", id) for id in re.findall(r'\sid="([^"]*)"', text))
    assert all(re.fullmatch(r"\d+", number) for number in re.findall(r'\sdata-\w+="([^"]*)"', text))


# The report that leads there


@pytest.mark.slow
def test_the_page_of_all_committed_records_is_small_and_leads_to_every_cell(tmp_path):
    (tmp_path / "all").mkdir()
    board, first = tmp_path / "board.html", tmp_path / "all" / "answers.html"
    text, files = report.with_answers(ROOT / "results", first, leaderboard=board, form="html")
    assert len(text.encode()) < 500 * 1024 and "cells are left out" not in text and 'class="cell"' not in text
    assert all(len(html.encode()) < answers.PART_BYTES + 2_000_000 for html in files.values()) and len(files) > 1
    links = set(re.findall(r'<td class="(?:h\d+|none \w+|plain)" data-at="[^"]*"><a href="([^"#]*)#([^"]*)">', text))
    cells = len(re.findall(r'<td class="(?:h\d+|none \w+|plain)" data-at=', text))
    assert len(links) == cells > 400
    assert all(f'id="{id}"' in files[tmp_path / file] for file, id in links)
    assert 'href="../board.html"' in files[first]


def test_a_report_of_another_form_has_answers_too_and_leads_nowhere(tmp_path):
    text, files = report.with_answers([RETENTION], tmp_path / "a.html", leaderboard=None, tasks=["retention:end"])
    assert text == report.main([RETENTION], tasks=["retention:end"])
    (page,) = files.values()
    assert "their scores are on" not in page and "retention:along" not in page


def test_no_answers_are_asked_for(tmp_path):
    assert report.with_answers(RETENTION, None, leaderboard=None) == (report.main(RETENTION), {})


def test_one_file_does_not_hold_both():
    with pytest.raises(UserError, match=r"Give the answers a file of their own"):
        report.with_answers(RETENTION, Path("a.html"), leaderboard=Path("./a.html"), form="html")


def test_warnings_are_told_once(tmp_path):
    (tmp_path / "bad.jsonl").write_text(RETENTION.read_text() + "{\n")
    said = []
    report.with_answers(tmp_path, tmp_path / "a.html", leaderboard=tmp_path / "b.html", form="html", warn=said.append)
    assert len(said) == 1
