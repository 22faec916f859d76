"""What leaves a command: standard output that takes no more or not every character, and files, links and devices."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from atlas_bench.cli import output
from atlas_bench.errors import UserError
from atlas_bench.files import output_file
from atlas_bench.results import report

ROOT = Path(__file__).parents[2]
RECORDS = str(ROOT / "results" / "retention.jsonl")


def ran(*words: str, **options):
    """A finished process; `environment` is added to this one's."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | options.pop("environment", {})
    options = {"stdout": subprocess.PIPE} | options
    return subprocess.run(
        [sys.executable, "-m", "atlas_bench", *words], env=environment, stderr=subprocess.PIPE, check=False, **options
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [["list", "tasks"], ["report", RECORDS, "--format", "csv"], ["--help"]])
def test_a_full_device_is_one_message(words, unbuffered):
    with open("/dev/full", "w") as full:
        done = ran(*words, stdout=full, environment={"PYTHONUNBUFFERED": unbuffered})
    assert done.returncode == 1
    assert done.stderr == b"error: cannot write standard output: No space left on device.\n"


def test_a_closed_pipe_ends_in_silence():
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe:
        assert not ran("list", stdout=pipe).stderr


@pytest.mark.parametrize("form", ["html", "csv", "md"])
def test_what_a_file_would_hold_is_utf8_on_any_terminal(form, tmp_path):
    text = (ROOT / "results" / "retention.jsonl").read_text().replace('"gated-deltanet-', '"δ-')
    (tmp_path / "records.jsonl").write_text(text, encoding="utf-8")
    words = ["report", str(tmp_path / "records.jsonl"), "--format", form]
    done = ran(*words, environment={"PYTHONIOENCODING": "latin-1"})
    assert done.returncode == 0 and not done.stderr and "δ-" in done.stdout.decode("utf-8")


def test_a_terminal_without_a_character_is_given_its_escape(monkeypatch, capfdbinary):
    with open(1, "w", encoding="latin-1", closefd=False) as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        with output.guarded():
            output.show(None, False, lambda found: ["é δ \ud800"])
    assert capfdbinary.readouterr().out == b"\xe9 \\u03b4 \\ud800\n"


def test_another_error_stays_what_it_is(capfd):
    with pytest.raises(FileNotFoundError), output.guarded():
        Path("/nowhere/at/all").read_text()
    with pytest.raises(SystemExit) as ended, output.guarded():
        signal.raise_signal(signal.SIGINT)
    assert ended.value.code == 130 and capfd.readouterr().err == "stopped.\n"


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path):
    (tmp_path / "below").mkdir()
    for name, there in (("old", True), ("new", False)):
        target, link = tmp_path / "below" / name, tmp_path / f"{name}.link"
        if there:
            target.write_text("an older one")
        link.symlink_to(f"below/{name}")
        output_file.check(link)
        output_file.write(link, "text")
        assert link.is_symlink() and target.read_text() == "text"
    assert sorted(path.name for path in (tmp_path / "below").iterdir()) == ["new", "old"]
    (tmp_path / "dangling").symlink_to("nowhere/file")
    with pytest.raises(UserError, match=r"'.*nowhere' is no folder"):
        output_file.check(tmp_path / "dangling")


def test_a_pipe_is_written_into(tmp_path):
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    output_file.write(pipe, "text")
    reader.join(10)
    assert read == ["text"] and pipe.is_fifo()


def test_standard_output_by_name_is_added_to(tmp_path):
    with open(tmp_path / "log", "wb") as log:
        log.write(b"before\n")
        log.flush()
        done = ran("report", RECORDS, "--format", "csv", "-o", "/dev/stdout", stdout=log)
    assert done.returncode == 0 and (tmp_path / "log").read_text().startswith("before\nkind,")


def test_a_folder_in_the_way_is_told_and_stays(tmp_path):
    with pytest.raises(UserError, match="Is a directory"):
        output_file.write(tmp_path, "text")
    assert not list(tmp_path.iterdir())


def test_forms_agree_or_are_named():
    assert report.chosen({}, None) == "text" and report.chosen({"--json": None}, "x.md") == "md"
    assert report.chosen({"--format md": "md"}, "x.md") == report.chosen({"format": "markdown"}, "x.md") == "md"
    with pytest.raises(UserError, match=r"'--json' \(json\) and '-o x.md' \(md\) contradict each other"):
        report.chosen({"--json": "json"}, "x.md")
    with pytest.raises(UserError, match=r"no form of report for 'x\.pdf'"):
        report.chosen({}, "x.pdf")
    assert report.chosen({"--json": "json"}, "x.pdf") == "json"
