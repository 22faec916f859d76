"""Every form says every number, tells what is missing apart, and takes what records say for nothing but text."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_bench.errors import UserError
from atlas_bench.results import labels, leaderboard, reference, report, store
from atlas_bench.results.formats import data
from atlas_bench.results.formats.latex import latex
from atlas_bench.results.formats.markdown import markdown
from atlas_bench.results.formats.text import WIDTH, table, text
from atlas_bench.results.record import Record, answer_row
from atlas_bench.results.ruler_summary import TASKS
from atlas_bench.results.summary import summaries
from atlas_bench.stats.intervals import wilson
from tests.records import FACTS, NOTED

ROOT = Path(__file__).parents[2]
READERS = {"text": text, "md": markdown, "tex": latex}
WRITERS = READERS | {"csv": data.table, "json": data.nested}
HOSTILE = "<script>alert(1)</script>|x & 50% \\input{a}$_#^~{}\x1b[31m\u202e\n`*[a](b)*\ud800"


def board(*records):
    return leaderboard.make(summaries(records))


def scored(correct, n, **changes) -> Record:
    return Record(**FACTS | {"scores": {"babilong/official": {"correct": correct, "n": n}}, "answers": []} | changes)


@pytest.fixture
def folder(tmp_path, make, failed):
    """Two models, two lengths, two seeds, two tasks, and one of each status."""
    for seed in (0, 1):
        store.append(tmp_path / "a.jsonl", scored(97, 100, length=1000, seed=seed, model="good"))
        store.append(tmp_path / "a.jsonl", scored(17, 100, length=1000, seed=seed, model="poor"))
    store.append(tmp_path / "a.jsonl", scored(95, 100, length=4096, model="good"))
    for i, status in enumerate(("oom", "timeout", "unsupported", "failed")):
        store.append(tmp_path / "a.jsonl", failed(status, f"why {status}", model=f"m{i}", length=1000))
    store.append(tmp_path / "b.jsonl", make(task="niah", subset="single", model="good", length=1000))
    return tmp_path


def rows(made: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(made)))


# the command's side


def test_suffixes():
    names = ["a.md", "a.csv", "a.tex", "a.json", "x/a.HTML", "a.htm", "a.txt"]
    assert list(map(report.form_of, names)) == ["md", "csv", "tex", "json", "html", "html", "text"]
    for name, said in (("a.pdf", "suffix '.pdf'"), ("report", "no suffix")):
        with pytest.raises(UserError, match=f"{re.escape(said)}.*Known: .csv, .htm"):
            report.form_of(name)


def test_filters(folder):
    told = report.main([folder], form="csv", tasks=["babilong:qa1"], models=["good"], published=False)
    assert {(row["task"], row["model"]) for row in rows(told)} == {("babilong", "good")}
    assert {row["task"] for row in rows(report.main([folder], form="csv", tasks=["niah"]))} == {"niah"}


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"form": "pdf"}, "unknown form 'pdf'. Known: csv, html"),
        ({"threshold": 80}, "threshold 80 is no share"),
        ({"tasks": ["babilong:qa2"]}, "no record of task 'babilong:qa2'. Did you mean 'babilong:qa1'"),
        ({"models": ["goods"]}, "no record of model 'goods'. Did you mean 'good'? There are: good, m0"),
        ({"tasks": ["niah"], "models": ["poor"]}, "no record of poor on niah, though of each elsewhere"),
    ],
)
def test_what_leaves_nothing_is_named(folder, named, said):
    with pytest.raises(UserError, match=re.escape(said)):
        report.main([folder], **named)


def test_no_records_and_lines_that_are_none(tmp_path):
    (tmp_path / "a.jsonl").write_text("{}\n")
    told: list[str] = []
    with pytest.raises(UserError, match="no records to report"):
        report.main([tmp_path], warn=told.append)
    assert len(told) == 1 and "a.jsonl:1" in told[0]


def test_no_torch_is_needed(folder):
    code = (
        "import sys; sys.modules.update(torch=None, transformers=None)\n"
        "from atlas_bench.results import report\n"
        f"print([len(report.main([{str(folder)!r}], form=form)) > 500 for form in report.FORMS if form != 'html'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "[True, True, True, True, True]\n", done.stderr


# what every form says


@pytest.mark.parametrize("form", READERS)
def test_numbers_scorer_chance_and_reasons(folder, form):
    told = report.main([folder], form=form, title="Our Title", command="atlas-bench report x").replace("\\%", "%")
    flat = " ".join(told.split())
    for said in ("Our Title", "babilong/official version 1", "chance 16.7 %", "atlas-bench report x", "niah:single"):
        assert said in flat
    for percent, low, high, n in (("97.0", 94, 99, 200), ("17.0", 12, 23, 200), ("95.0", 89, 98, 100)):
        assert percent in told and re.search(rf"\b{low}(-|, ){high}\b", told) and re.search(rf"\b(n=?)?{n}\b", told)
    for status in ("oom", "timeout", "unsupported", "failed"):
        assert f"{status}: why {status}" in flat
    assert reference.CAVEAT.split(":")[0] in flat and "GPT-4o-mini" in flat
    without = report.main([folder], form=form, published=False)
    assert "GPT-4o-mini" not in without and reference.CAVEAT[:30] not in " ".join(without.split())


@pytest.mark.parametrize("form", READERS)
@pytest.mark.parametrize(("changes", "mark"), NOTED)
def test_each_kind_of_note_has_a_mark_and_a_sentence_of_its_own(make, form, changes, mark):
    told = READERS[form](board(make(**changes)), []).replace(r"\textasciicircum{}", "^").replace("\\", "")
    flat = " ".join(told.split())
    for other, note in labels.NOTES.items():
        says = f"; {note.words} |" if form == "md" else f"{other}: {note.meaning}"
        assert (says in flat) == (other == mark), other
    assert form == "md" or re.search(rf"[ n{{]2{re.escape(mark)}", flat)
    assert ("95 % Wilson interval" in flat) == (mark != "^")


def test_parts_of_a_stopped_cell_have_intervals_that_hold_at_any_stop(make):
    answers = [{**make().answers[0], "index": i, "needle_depth": 0.5} for i in range(20)]
    scores = {"babilong/official": {"correct": 20, "n": 20}}
    plain, stopped = (
        leaderboard.make(summaries([make(answers=answers, scores=scores, protocol=protocol)])).summaries[0].depths[5]
        for protocol in ({}, {"stopping": {"rule": "width"}})
    )
    assert plain.interval == wilson(20, 20)
    assert stopped.interval[0] < plain.interval[0] and stopped.interval[1] == 1


def test_text_as_a_whole():
    many = [scored(97, 100, length=1000), scored(200, 400, length=16_000), scored(1, 3, model="b", length=1000)]
    oom = replace(many[0], model="b", status="oom", reason="too\nbig", scores={}, length=16_000)
    assert text(board(*many, oom), []) == (
        "atlas-bench report: 4 records\n\n"
        "babilong:qa1\n"
        "  task version 1; scorer babilong/official version 1; chance 16.7 %;\n"
        "  data=generated; background=generated; prompt=bare\n\n"
        "rank model eff.               1K              16K\n"
        "   1 atlas   1K  97.0 92-99 n100  50.0 45-55 n400\n"
        "   2 b        -     33.3 6-79 n3              oom\n\n"
        "Cells: % right, its 95 % Wilson interval, n questions; . or no line: not run.\n"
        "oom: out of memory.\n"
        "eff.: effective length, the longest whose lower bound, before it is rounded,\n"
        "    reaches 80 %. -: none does.\n"
        "rank: 1 + the number of models above it. A is above B where A's interval lies\n"
        "    wholly above B's at some length that both have, and B's above A's at none.\n"
        "    -: no other model has a score at its lengths.\n\n"
        "Without a score:\n"
        "babilong:qa1 16K b: oom: too big\n"
    )


def test_twelve_lengths_stand_in_parts():
    lengths = [1000 << i for i in range(12)]
    told = text(board(*(scored(9, 10, length=length, model="a-model-of-a-middling-name") for length in lengths)), [])
    assert max(map(len, told.splitlines())) <= 80 and told.count("rank model") >= 2
    assert told.count(" 90.0") == 12 and told.count("60-98") == 12 and told.count("n10\n") + told.count("n10 ") == 12


def test_marks(make, failed):
    shared = [answer_row(i, question="", targets=[], answer="", correct={}) | {"context": 0} for i in range(10)]
    found = board(scored(9, 10, answers=shared), failed("failed", "x", seed=1))
    assert "n10*!" in text(found, []) and "*: questions share" in text(found, []) and "!: another" in text(found, [])
    assert "90.0 (60-98), n=10 on 1 context; seed 1 failed |" in markdown(found, [])
    assert r"{\scriptsize 10*!}}" in latex(found, [])


def test_a_task_without_a_scorer_shows_its_metric(make):
    found = board(
        make(task="loss", scores={}, headline=None, metrics={"nats_per_token": 3.25}, answers=[], chance=None)
    )
    for write in READERS.values():
        said = write(found, []).replace("\\_", "_")
        assert "no scorer: nats_per_token" in said and "3.25" in said and "chance" not in said.split("effective")[0]
    (row,) = rows(data.table(found, []))
    assert (row["scorer"], row["accuracy"], row["metrics"]) == ("", "", '{"nats_per_token": 3.25}')


def test_seeds_of_a_metric_are_taken_together_and_metrics_are_not_mixed(make):
    facts = {"task": "loss", "scores": {}, "headline": None, "answers": [], "chance": None}
    one, two = (make(metrics={"nats_per_token": nats, "own": nats}, seed=i, **facts) for i, nats in enumerate((3, 4)))
    other = make(model="other", metrics={"own": 9.0}, **facts)
    lines = text(board(one, two, other), []).splitlines()
    assert [line.split()[-1] for line in lines if line.strip().startswith(("atlas ", "other "))] == ["3.5", "-"]


def test_older_records_of_a_cell_are_counted_whatever_their_order(make):
    older, newer = make(seconds=1.0, ended="2026-01-01"), make(seconds=2.0, ended="2026-01-02")
    for found in (board(older, newer), board(newer, older)):
        assert [each.record.seconds for each in found.summaries] == [2.0]
        assert "1 record, and 1 older of the same cells left out" in text(found, [])


def test_nothing_answered_is_no_score(make):
    found = board(make(scores={"babilong/official": {"correct": 0, "n": 0}}))
    assert "n0" in text(found, []) and " 0.0 " not in text(found, []) and "| n0 |" in markdown(found, [])
    assert json.loads(data.nested(found, []))["panels"][0]["rows"][0]["cells"][0]["accuracy"] is None
    (row,) = rows(data.table(found, []))
    assert (row["n"], row["accuracy"], row["low"]) == ("0", "", "")


def test_length_zero_is_a_length():
    found = board(scored(100, 100, length=0))
    assert re.search(r"1 atlas    0 ", text(found, [])) and "| 1 | atlas | 0 |" in markdown(found, [])


# CSV and JSON


def test_csv_has_a_row_for_each_seed_and_scorer(folder):
    told = rows(report.main([folder], form="csv"))
    assert tuple(told[0]) == tuple(leaderboard.COLUMNS)
    ours = [row for row in told if row["kind"] == "measured"]
    good = [row for row in ours if row["model"] == "good" and row["task"] == "babilong" and row["length"] == "1000"]
    assert [(row["seed"], row["correct"], row["n"], row["headline"]) for row in good] == [
        ("0", "97", "100", "true"),
        ("1", "97", "100", "true"),
    ]
    assert {row["effective_length"] for row in good} == {"4096"} and {row["rank"] for row in good} == {"1"}
    niah = [row for row in ours if row["task"] == "niah"]
    assert [(row["scorer"], row["headline"]) for row in niah] == [
        ("babilong/official", "true"),
        ("babilong/word", "false"),
    ]
    lost = {row["status"]: row for row in ours if row["status"] != "ok"}
    assert set(lost) == {"oom", "timeout", "unsupported", "failed"}
    assert all((row["accuracy"], row["n"], row["low"]) == ("", "", "") for row in lost.values())
    theirs = [row for row in told if row["kind"] != "measured"]
    assert {row["kind"] for row in theirs} <= {"quoted", "derived"} and all(row["source"] for row in theirs)
    assert len(theirs) == len(reference.of("babilong", "qa1")) and all(not row["n"] for row in theirs)


def test_rulers_means_stand_beside_records_of_all_13_tasks_alone(tmp_path, make):
    for subset in TASKS:
        before = report.main([tmp_path], form="md") if subset != TASKS[0] else ""
        assert "mean of 13" not in before
        store.append(tmp_path / "ruler.jsonl", make(task="ruler", subset=subset, length=4096))
    assert "Jamba-1.5-large (94B/398B)" in report.main([tmp_path], form="md")
    assert "Jamba" not in report.main([tmp_path], form="md", published=False)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=5))
def test_csv_and_json_give_the_records_back(counts):
    found = [scored(min(pair), max(pair), seed=seed) for seed, pair in enumerate(counts)]
    made = board(*found)
    told = rows(data.table(made, []))
    assert [(int(r["correct"]), int(r["n"])) for r in told] == [(min(pair), max(pair)) for pair in counts]
    (cell,) = json.loads(data.nested(made, []))["panels"][0]["rows"][0]["cells"]
    assert (cell["correct"], cell["n"]) == (sum(map(min, counts)), sum(map(max, counts)))
    for record, said in zip(found, cell["records"], strict=True):
        assert {name: said[name] for name in ("seed", "seconds", "state_bytes", "command", "hardware")} == {
            name: getattr(record, name) for name in ("seed", "seconds", "state_bytes", "command", "hardware")
        }


def test_json_holds_every_field_but_answers(folder):
    told = json.loads(report.main([folder], form="json", command="c"))
    keys = ["version", "title", "command", "threshold", "records", "panels", "grids", "published", "sources", "caveat"]
    assert list(told) == keys and (told["records"], told["command"], len(told["panels"])) == (10, "c", 2)
    panel = told["panels"][0]
    record = panel["rows"][0]["cells"][0]["records"][0]
    above = {"task", "subset", "task_version", "options", "length", "headline", "chance", "answers"}
    assert set(Record.__dataclass_fields__) - above <= set(record) and panel["scorer"] == "babilong/official"
    assert {"contexts", "right", "wrong"} <= set(record) and record["scores"]["babilong/official"]["low"] == 0.915481
    assert {row["source"] for row in told["published"]} == set(told["sources"])


@pytest.mark.parametrize("number", ["1e999", "-1e999"])
def test_a_number_beyond_a_float_is_null_in_json(tmp_path, number):
    line = scored(1, 2, usage={"cost": 1000.5}).to_json().replace('{"cost": 1000.5', f'{{"cost": {number}')
    (tmp_path / "a.jsonl").write_text(line + "\n")
    told = json.loads(report.main([tmp_path], form="json"), parse_constant=pytest.fail)
    assert told["panels"][0]["rows"][0]["cells"][0]["records"][0]["usage"] == {"cost": None}


# what records say is text


def hostile(name: str) -> Record:
    return scored(9, 10, model=name, command=name, kernel=name, options={"data": name}, task_version=name)


TEXTS = st.text(st.characters() | st.sampled_from("|<>&%$#_{}~^\\`*[]=+-@\n\r\x00\x1b\u202e\"'"), max_size=40)


@settings(max_examples=60, deadline=None)
@given(TEXTS)
def test_foreign_text_steers_nothing(name):
    found = board(hostile(name), replace(hostile(name + "b"), status="failed", scores={}, reason=name))
    for write in READERS.values():
        told = write(found, [], title=name, command=name)
        told.encode()
        assert all(char.isprintable() or char == "\n" for char in told)
    told = text(found, [], title=name, command=name)
    assert told.isascii() and max(map(len, told.splitlines())) <= 80
    unescaped = re.sub(r"\\.", "", markdown(found, [], title=name, command=name))
    assert "<" not in unescaped and not re.search(r"&(?!amp;|lt;|gt;|#8203;)", unescaped) and "`" not in unescaped
    columns = len(leaderboard.headed()) + 1  # and one length
    assert {line.count("|") for line in unescaped.splitlines() if line.startswith("|")} == {columns + 1}
    no_comments = re.sub(r"(?m)^%.*$", "", latex(found, [], title=name, command=name))
    free = re.sub(
        r"\\(text(backslash|asciitilde|asciicircum|less|greater|bar)\{\}|[{}&%$#_])",
        "",
        no_comments.replace("\\\\", " "),
    )
    assert not re.search(r"[%$#_~^<>|]", free) and free.count("{") == free.count("}")
    known = {"begin", "end", "centering", "small", "caption", "toprule", "midrule", "bottomrule", "shortstack"}
    assert set(re.findall(r"\\([A-Za-z]+)", free)) <= known | {"scriptsize"}


@settings(max_examples=60, deadline=None)
@given(
    TEXTS
    | st.sampled_from(["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", HOSTILE])
    | st.builds("{}{}1".format, st.text(" \u3000\xa0", max_size=2), st.sampled_from("=+-@＝＋－＠﹦﹢﹣﹫−"))
)
def test_no_cell_of_the_csv_is_a_formula_or_breaks_a_line(name):
    told = data.table(board(hostile(name)), [])
    told.encode()
    assert told.count("\n") == 2 and all(char.isprintable() or char == "\n" for char in told)
    (row,) = rows(told)
    signs = tuple("=+-@＝＋－＠﹦﹢﹣﹫−")
    assert not any(cell.lstrip().startswith((*signs, "\t", "\r")) for cell in row.values())
    if name.isprintable() and not name.lstrip().startswith((*signs, "₊", "₋", "⁺", "⁻")):
        assert row["model"] == name


def test_a_name_of_10000_characters_is_clipped(make):
    for form, write in READERS.items():
        told = write(board(scored(9, 10, model="x" * 10_000, options={"data": "y" * 10_000})), [])
        assert "characters cut" in " ".join(told.split()) and len(told) < 5000, form


@pytest.mark.parametrize("write", READERS.values())
def test_json_is_ascii_and_the_others_encode(write):
    write(board(hostile(HOSTILE)), []).encode()
    assert data.nested(board(hostile(HOSTILE)), []).isascii()


# the table of columns


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.text("abc -", min_size=1, max_size=60), min_size=1, max_size=4),
    st.lists(st.lists(st.sampled_from(["9.0\n1-99\nn10", "oom", "."]), min_size=4, max_size=4), max_size=14),
)
def test_tables_keep_to_80_columns_and_lose_nothing(names, cells):
    heads = [f"{i}K" for i in range(len(cells))]
    lines = [["1", name, "4K", *(cell[i] for cell in cells)] for i, name in enumerate(names)]
    told = list(table(["rank", "model", "eff.", *heads], lines, left=[1], stub=3))
    assert all(len(line) <= WIDTH for line in told)
    shown = "\n".join(told)
    for piece in ("oom", "1-99", "n10"):
        assert shown.count(piece) == sum(piece in cell.split() for line in lines for cell in line[3:])
    assert all(f" {head}" in shown for head in heads)


def test_a_long_name_stands_beside_what_comes_before_it():
    """The number of a source, or a rank, is on the line of its name."""
    lines = [["[3]", "Llama3-ChatQA-1.5-8B + RAG", *["58.5"] * 11], ["[4]", "short", *["60.5"] * 11]]
    told = list(table(["from", "model", *(f"{i}K" for i in range(11))], lines, left=[1], stub=2))
    assert [line.split()[0] for line in told[:4]] == ["from", "[3]", "58.5", "[4]"]
    assert told[1].split(maxsplit=1) == ["[3]", "Llama3-ChatQA-1.5-8B + RAG"] and max(map(len, told)) <= WIDTH


def test_published_lines_are_by_model_source_and_kind():
    (found,) = reference.beside({"babilong:qa1": ("babilong", "qa1")})
    assert found.name == "babilong:qa1" and len(found.rows) == len(reference.of("babilong", "qa1"))
    assert found.lengths == sorted(found.lengths)
    assert reference.beside({"mqar:8": ("mqar", "8")}) == []


# columns


def test_a_column_is_one_line_and_stands_in_every_form(make, monkeypatch):
    (line,) = re.findall(r'^    ("state_kib": Column.*),$', (ROOT / "docs" / "report.md").read_text(), re.MULTILINE)
    ((name, kib),) = eval(f"{{{line}}}", vars(leaderboard)).items()
    monkeypatch.setitem(leaderboard.COLUMNS, name, kib._replace(show="{:.1f}".format))
    sizes = {"a": 2048, "b": 1_000_000, "older": None}
    records = [make(model=model, state_bytes=size, length=1000) for model, size in sizes.items()]
    for form in report.FORMS:
        told = report.main(records, form=form, published=False)
        if form in ("csv", "json"):
            assert "state_kib" in told and "976.5625" in told, form
        else:
            assert re.search(r"\bKiB\b", told) and re.search(r"\b2\.0\b", told) and "976.6" in told, form
    table = leaderboard.make(summaries(records)).frame
    assert table.groupby("model").state_kib.first().dropna().to_dict() == {"a": 2.0, "b": 976.5625}
