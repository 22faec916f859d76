"""A folder that cannot be written is found before the work, and looking leaves no trace."""

from __future__ import annotations

import os

import pytest

from atlas_bench.errors import UserError
from atlas_bench.files import output_folder


def test_the_check_leaves_no_trace(tmp_path):
    output_folder.check(tmp_path / "new" / "folder")
    output_folder.check(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_check_refuses_files_and_what_is_below_them(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    for folder in (file, file / "results", file / "a" / "b"):
        with pytest.raises(UserError, match="is a file"):
            output_folder.check(folder)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="no /proc")
def test_the_check_refuses_a_read_only_place():
    with pytest.raises(UserError, match="not writable"):
        output_folder.check("/proc/results")
