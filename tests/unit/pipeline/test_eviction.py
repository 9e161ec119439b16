"""A cache is cut back from its oldest end, and never under a process that uses it."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from edgec.pipeline.claims import locked
from edgec.pipeline.eviction import Entry, entries, evict
from edgec.pipeline.store import StageKey, Store

HOUR_S = 3600


class Facts(BaseModel):
    """A stage that found nothing."""


def key(name: str) -> StageKey:
    return StageKey(stage="export", settings={"name": name}, sources={})


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Path]:
    """Makes an entry of about a thousand bytes, last used some hours ago."""

    def make(name: str, *, hours_ago: float) -> Path:
        def write(folder: Path) -> Facts:
            (folder / "model.onnx").write_bytes(b"x" * 1000)
            return Facts()

        store = Store(tmp_path)
        with store.used_by(f"{name} for host", ()):
            folder = store.get(key(name), Facts, write).folder
        then = folder.stat().st_mtime - hours_ago * HOUR_S
        for file in folder.iterdir():
            os.utime(file, (then, then))
        return folder

    return make


def test_an_entry_knows_its_size_and_who_used_it(made: Callable[..., Path], tmp_path: Path) -> None:
    folder = made("digits", hours_ago=2)
    with Store(tmp_path).used_by("other for jetson", [key("digits")]):
        pass
    (entry,) = entries(tmp_path)
    assert (entry.path, entry.stage, entry.key) == (folder, "export", key("digits").key[:32])
    assert entry.size_bytes == sum(file.stat().st_size for file in folder.iterdir()) > 1000
    assert entry.builds == ("digits for host", "other for jetson")
    assert not entry.in_use


def test_an_entry_that_is_used_again_is_young_again(made: Callable[..., Path], tmp_path: Path) -> None:
    old, young = made("old", hours_ago=5), made("young", hours_ago=1)
    assert [entry.path for entry in entries(tmp_path)] == [young, old]
    with Store(tmp_path).used_by("old for host", [key("old")]):
        pass
    assert [entry.path for entry in entries(tmp_path)] == [old, young]


def test_what_was_not_used_for_so_long_goes(made: Callable[..., Path], tmp_path: Path) -> None:
    old, young = made("old", hours_ago=5), made("young", hours_ago=1)
    assert [entry.path for entry in evict(tmp_path, older_than_s=3 * HOUR_S)] == [old]
    assert (old.exists(), young.exists()) == (False, True)
    assert not Store(tmp_path).holds(key("old"))
    assert Store(tmp_path).holds(key("young"))


def test_the_least_recently_used_go_until_the_rest_is_small_enough(made: Callable[..., Path], tmp_path: Path) -> None:
    oldest, middle, young = (made(str(hours), hours_ago=hours) for hours in (5, 3, 1))
    total = sum(entry.size_bytes for entry in entries(tmp_path))
    assert evict(tmp_path, most_bytes=total) == ()
    assert [entry.path for entry in evict(tmp_path, most_bytes=total - 1)] == [oldest]
    assert [entry.path for entry in evict(tmp_path, most_bytes=0)] == [middle, young]
    assert entries(tmp_path) == ()


def test_what_this_process_uses_stays(made: Callable[..., Path], tmp_path: Path) -> None:
    mine, other = made("mine", hours_ago=5), made("other", hours_ago=1)
    store = Store(tmp_path)
    with store.used_by("mine for host", [key("mine"), key("new")]):
        new = made("new", hours_ago=9)  # was not there yet when it was claimed
        later = made("later", hours_ago=9)
        store.get(key("later"), Facts, lambda _: Facts())
        assert {entry.path for entry in entries(tmp_path) if entry.in_use} == {mine, new, later}
        assert [entry.path for entry in evict(tmp_path, most_bytes=0)] == [other]
    assert {entry.path for entry in evict(tmp_path, most_bytes=0)} == {mine, new, later}


CLAIMANT = """
import sys
from pathlib import Path
from edgec.pipeline.store import StageKey, Store
with Store(Path(sys.argv[1])).used_by("b for host", [StageKey(stage="export", settings={"name": "b"}, sources={})]):
    print("claimed", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def claimant(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that uses the entry `b`."""
    command = [sys.executable, "-c", CLAIMANT, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "claimed\n"
        yield process
        process.kill()


def test_what_another_process_uses_stays(made: Callable[..., Path], claimant: object, tmp_path: Path) -> None:
    gone, kept = made("a", hours_ago=1), made("b", hours_ago=9)
    assert [entry.path for entry in evict(tmp_path, older_than_s=0, most_bytes=0)] == [gone]
    assert kept.exists()


def test_the_claim_of_a_process_that_was_killed_ends(
    made: Callable[..., Path], claimant: subprocess.Popen[str], tmp_path: Path
) -> None:
    left = made("b", hours_ago=9)
    claimant.send_signal(signal.SIGKILL)
    claimant.wait()
    assert len(list((tmp_path / ".claims").iterdir())) == 1
    assert [entry.path for entry in evict(tmp_path, most_bytes=0)] == [left]
    assert list((tmp_path / ".claims").iterdir()) == []


def test_an_entry_cannot_be_claimed_while_entries_are_removed(made: Callable[..., Path], tmp_path: Path) -> None:
    """Otherwise one could be found there, and be gone when it is read."""
    made("b", hours_ago=1)
    with locked(tmp_path, fcntl.LOCK_EX):
        command = [sys.executable, "-c", CLAIMANT, str(tmp_path)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        with pytest.raises(subprocess.TimeoutExpired):
            process.communicate(timeout=3)
    assert process.communicate() == ("claimed\n", None)


def test_what_no_build_made_is_never_removed(tmp_path: Path) -> None:
    """`--cache` may name a folder that holds other things."""
    photographs = tmp_path / "photographs"
    (photographs / "summer").mkdir(parents=True)
    (photographs / "summer" / "stage.json").write_text("{}")
    (photographs / ("a" * 32)).mkdir()
    (photographs / "list.json").write_text("[]")
    assert evict(tmp_path, older_than_s=0, most_bytes=0) == ()
    assert sorted(path.name for path in photographs.iterdir()) == ["a" * 32, "list.json", "summer"]


def test_ranges_that_builds_share_count_too(tmp_path: Path) -> None:
    ranges = tmp_path / "ranges" / f"{'b' * 32}.json"
    ranges.parent.mkdir()
    ranges.write_text("{}")
    assert [(entry.stage, entry.key, entry.size_bytes) for entry in entries(tmp_path)] == [("ranges", "b" * 32, 2)]
    assert [entry.path for entry in evict(tmp_path, most_bytes=0)] == [ranges]
    assert not ranges.exists()


def test_what_a_kill_left_half_made_goes_too(tmp_path: Path, made: Callable[..., Path]) -> None:
    kept = made("kept", hours_ago=0)
    draft = tmp_path / "evaluate" / f".{'c' * 32}.0123.edgec-draft"
    draft.mkdir(parents=True)
    os.utime(draft, (0, 0))
    assert evict(tmp_path, older_than_s=HOUR_S) == ()
    assert (draft.exists(), kept.exists()) == (False, True)


def test_an_entry_that_may_not_be_removed_is_not_counted(
    tmp_path: Path, made: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign, own = made("foreign", hours_ago=5), made("own", hours_ago=4)

    def refuse(path: Path) -> None:
        if path == foreign:
            raise PermissionError(13, "Permission denied", str(path))
        path.rename(tmp_path / "gone")

    monkeypatch.setattr("edgec.pipeline.eviction.discard", refuse)
    removed: tuple[Entry, ...] = evict(tmp_path, older_than_s=HOUR_S)
    assert [entry.path for entry in removed] == [own]
