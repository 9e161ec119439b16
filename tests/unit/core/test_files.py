"""Files and folders that appear whole or not at all: replaced in one step, and no draft of a killed writer stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgec.core import files
from edgec.core.errors import ConfigError
from edgec.core.files import new_folder, read_json, require_writable, write_bytes, write_json


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def make_old(path: Path) -> None:
    os.utime(path, (0, 0))


def test_a_folder_has_no_name_before_the_block_ends(tmp_path: Path) -> None:
    with new_folder(tmp_path / "a" / "out") as draft:
        (draft / "file").write_text("x")
        assert not (tmp_path / "a" / "out").exists()
    assert (tmp_path / "a" / "out" / "file").read_text() == "x"
    assert hidden(tmp_path / "a") == []


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    for name in ("first", "second"):
        with new_folder(tmp_path / "out") as draft:
            (draft / name).touch()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["second"]
    assert hidden(tmp_path) == []


def test_a_folder_is_replaced_where_names_cannot_be_exchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_exchange", lambda *_: False)
    test_a_folder_is_replaced_whole(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="renameat2 is Linux'")
def test_what_stands_there_is_never_gone_while_it_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the exchange, no plain rename happens, and so there is no moment between two of them."""
    (tmp_path / "out").mkdir()
    monkeypatch.delattr(Path, "rename")
    with new_folder(tmp_path / "out") as draft:
        (draft / "new").touch()
    assert (tmp_path / "out" / "new").exists()


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_what_stood_there(tmp_path: Path, failure: type[BaseException]) -> None:
    with new_folder(tmp_path / "out") as draft:
        (draft / "old").touch()

    def fail() -> None:
        with new_folder(tmp_path / "out") as draft:
            (draft / "new").touch()
            raise failure

    with pytest.raises(failure):
        fail()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["old"]
    assert hidden(tmp_path) == []


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    write_bytes(tmp_path / "file", b"long contents")
    write_bytes(tmp_path / "file", b"short")
    assert (tmp_path / "file").read_bytes() == b"short"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644
    assert hidden(tmp_path) == []


def test_equal_values_give_equal_json(tmp_path: Path) -> None:
    write_json(tmp_path / "a", {"x": 1, "y": [2.5, None]})
    write_json(tmp_path / "b", {"y": [2.5, None], "x": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert read_json(tmp_path / "a") == {"x": 1, "y": [2.5, None]}


KILLED = """
import os, signal, sys
from pathlib import Path
from edgec.core.files import new_folder
with new_folder(Path(sys.argv[1])) as draft:
    (draft / "half").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_draft_of_a_killed_writer_is_hidden_and_goes_with_a_later_one(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "out")], check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".out.")
    write_bytes(tmp_path / "other", b"")
    assert left.exists(), "young drafts may belong to a writer that has not locked them yet"
    make_old(left)
    write_bytes(tmp_path / "other", b"")
    assert hidden(tmp_path) == []


def test_ctrl_c_just_before_the_writing_leaves_no_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files.fcntl, "flock", interrupt)
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "out"):
        pass
    assert hidden(tmp_path) == []


def test_an_old_draft_that_is_being_written_stays(tmp_path: Path) -> None:
    with new_folder(tmp_path / "out") as draft:
        make_old(draft)
        write_bytes(tmp_path / "other", b"")
        assert draft.exists()
    assert (tmp_path / "out").is_dir()


@pytest.mark.timeout(20)
def test_a_pipe_or_a_link_in_the_place_of_a_draft_does_not_stop_anybody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / f".a{files.DRAFT}")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / f".b{files.DRAFT}").symlink_to(tmp_path / "pipe")
    make_old(tmp_path / f".a{files.DRAFT}")
    make_old(tmp_path / "pipe")
    write_bytes(tmp_path / "out", b"x")
    assert (tmp_path / "out").read_bytes() == b"x"
    assert (tmp_path / "pipe").exists()


def test_drafts_of_other_users_are_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f".a{files.DRAFT}").mkdir()
    make_old(tmp_path / f".a{files.DRAFT}")
    monkeypatch.setattr(files.os, "geteuid", lambda: os.getuid() + 1)
    write_bytes(tmp_path / "out", b"x")
    assert hidden(tmp_path) == [f".a{files.DRAFT}"]


def test_other_hidden_files_stay(tmp_path: Path) -> None:
    (tmp_path / ".mine.draft").touch()
    make_old(tmp_path / ".mine.draft")
    write_bytes(tmp_path / "other", b"")
    assert hidden(tmp_path) == [".mine.draft"]


def test_a_place_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot write to '.*file/below': ") as caught:
        require_writable(tmp_path / "file" / "below" / "out")
    assert "--output" in str(caught.value.hint)
