"""The stage cache: a stage is made once, and one that was killed leaves nothing under its name."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydantic import BaseModel

from edgec.core.digest import digest_bytes
from edgec.core.measurement import Kind
from edgec.pipeline.store import StageKey, Store

KEY = StageKey(stage="export", settings={"opset": 18}, sources={"data": "a" * 64})


class Written(BaseModel):
    """Facts of a stage."""

    files: float


def write_one(folder: Path) -> Written:
    (folder / "below").mkdir()
    (folder / "below" / "file").write_bytes(b"one")
    return Written(files=1)


def never(_: Path) -> Written:
    raise AssertionError("made again")


def test_a_stage_is_made_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert not store.holds(KEY)
    first = store.get(KEY, Written, write_one)
    again = Store(tmp_path).get(KEY, Written, never)
    assert (first.cached, again.cached) == (False, True)
    assert first.facts == again.facts == Written(files=1)
    assert first.files == again.files == {"below/file": digest_bytes(b"one")}
    assert (again.folder / "below" / "file").read_bytes() == b"one"


@pytest.mark.parametrize("damage", ["changed", "gone", "record", "facts", "list", "deep", "other"])
def test_a_stage_that_is_no_longer_what_it_was_is_made_again(tmp_path: Path, damage: str) -> None:
    """Power may fail before the disk has everything that was renamed."""
    store = Store(tmp_path)
    folder = store.get(KEY, Written, write_one).folder
    match damage:
        case "changed":
            (folder / "below" / "file").write_bytes(b"")
        case "gone":
            (folder / "below" / "file").unlink()
        case "record":
            (folder / "stage.json").write_bytes(b"")
        case "facts":
            text = (folder / "stage.json").read_text()
            (folder / "stage.json").write_text(text.replace('"files": 1.0', '"files": 100.0'))
        case "list":
            (folder / "stage.json").write_text("[]")
        case "deep":
            (folder / "stage.json").write_text("[" * 100_000)
        case "other":
            other = store.get(StageKey(stage="export", settings={"opset": 19}, sources={}), Written, write_one).folder
            shutil.copy(other / "stage.json", folder)
    assert not store.holds(KEY)
    assert store.get(KEY, Written, write_one).cached is False
    assert store.get(KEY, Written, never).cached is True


@pytest.mark.parametrize(
    "other",
    [
        StageKey(stage="quantize", settings=KEY.settings, sources=KEY.sources),
        StageKey(stage="export", settings={"opset": 19}, sources=KEY.sources),
        StageKey(stage="export", settings=KEY.settings, sources={"data": "b" * 64}),
        StageKey(stage="export", settings=KEY.settings, sources={"test": "a" * 64}),
        StageKey(stage="export", settings=KEY.settings, sources={}),
    ],
)
def test_another_recipe_is_another_stage(tmp_path: Path, other: StageKey) -> None:
    store = Store(tmp_path)
    store.get(KEY, Written, write_one)
    assert other.key != KEY.key
    assert not store.holds(other)


def test_keys_do_not_depend_on_the_order_of_settings() -> None:
    one = StageKey(stage="a", settings={"x": 1, "y": [Kind.MEASURED, Path("b/c")]}, sources={"p": "1", "q": "2"})
    two = StageKey(stage="a", settings={"y": [Kind.MEASURED, Path("b/c")], "x": 1}, sources={"q": "2", "p": "1"})
    assert one.key == two.key


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_stage_that_fails_leaves_nothing_and_can_be_made_again(tmp_path: Path, failure: type[BaseException]) -> None:
    store = Store(tmp_path)

    def fail(folder: Path) -> Written:
        write_one(folder)
        raise failure

    with pytest.raises(failure):
        store.get(KEY, Written, fail)
    assert not store.holds(KEY)
    assert list((tmp_path / "export").iterdir()) == []
    assert store.get(KEY, Written, write_one).cached is False


def test_facts_that_are_no_json_leave_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(ValueError, match="Out of range float"):
        store.get(KEY, Written, lambda _: Written(files=float("nan")))
    assert not store.holds(KEY)


KILLED = """
import os, signal, sys
from pathlib import Path
from pydantic import BaseModel
from edgec.pipeline.store import StageKey, Store
def make(folder):
    (folder / "half").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
Store(Path(sys.argv[1])).get(StageKey(stage="export", settings={"opset": 18}, sources={"data": "a" * 64}), BaseModel, make)
"""


def test_a_stage_that_was_killed_leaves_nothing_under_its_name(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    store = Store(tmp_path)
    assert not store.holds(KEY)
    assert all(path.name.startswith(".") for path in (tmp_path / "export").iterdir())
    output = store.get(KEY, Written, write_one)
    assert set(output.files) == {"below/file"}


def make_slowly(folder: Path, log: Path) -> None:
    def make(draft: Path) -> Written:
        with log.open("a") as lines:
            lines.write("made\n")
        time.sleep(0.3)
        return write_one(draft)

    Store(folder).get(KEY, Written, make)


def test_of_processes_that_need_the_same_stage_at_once_one_makes_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    args = (tmp_path / "cache", tmp_path / "log")
    processes = [context.Process(target=make_slowly, args=args) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert (tmp_path / "log").read_text() == "made\n"
    assert Store(tmp_path / "cache").get(KEY, Written, never).cached
    assert list((tmp_path / "cache" / ".making").iterdir()) == []


def test_a_stage_that_failed_elsewhere_is_made_by_who_waited(tmp_path: Path) -> None:
    def kill(_: Path) -> Written:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    context = multiprocessing.get_context("fork")
    killed = context.Process(target=lambda: Store(tmp_path).get(KEY, Written, kill))
    killed.start()
    killed.join()
    assert Store(tmp_path).get(KEY, Written, write_one).cached is False
