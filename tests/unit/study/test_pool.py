"""A pool of processes: every run is made once, what is killed is tried again, what is finished is kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from edgec.core.errors import ContractError, DataError, UnsupportedError
from edgec.core.progress import Lines
from edgec.pipeline.store import Store
from edgec.study.pool import Job, Pool
from edgec.study.schedule import Durations
from support.tiny_runs import TinyRun, open_tiny


class Place:
    """A pool of two processes, what it told and what it made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store(folder / "cache")
        self.begun: list[str] = []
        self.notes: list[str] = []
        self.finished: list[str] = []

    def runs(self, *titles: str, shares: str | None = None) -> list[TinyRun]:
        return [TinyRun(title=title, folder=self.folder, shares=shares) for title in titles]

    def make(self, runs: Sequence[TinyRun]) -> None:
        pool = Pool[TinyRun](
            job=Job(open=open_tiny, folder=self.store.folder, threads=1),
            workers=2,
            durations=Durations(),
            begin=lambda run: self.begun.append(run.title),
            progress=Lines(lambda line: self.notes.append(line.strip())),
        )
        for run in pool.make(runs):
            self.finished.append(run.title)

    @property
    def log(self) -> Counter[str]:
        """How often each was made, whole or not."""
        return Counter((self.folder / "log").read_text().splitlines())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_every_run_is_made_once_and_what_they_share_too(place: Place) -> None:
    runs = [*place.runs("a note", "b note", "c slow", shares="x"), *place.runs("d slow", "e note")]
    place.make(runs)
    assert set(place.finished) == set(place.begun) == {run.title for run in runs}
    assert place.log == Counter({**{run.title: 1 for run in runs}, "shared x": 1})
    assert all(place.store.holds(run.key) for run in runs)
    assert place.notes == ["all say this"] * 3


def test_a_run_whose_process_was_killed_is_tried_once_more(place: Place) -> None:
    place.make(place.runs("a kill-once", "b", "c"))
    assert set(place.finished) == {"a kill-once", "b", "c"}
    assert place.log == Counter({"a kill-once": 2, "b": 1, "c": 1})
    assert place.begun.count("a kill-once") == 1
    assert place.notes == ["warning: 'a kill-once', whose process was ended by SIGKILL, is tried once more"]


def test_a_run_that_is_killed_twice_is_reported_behind_all_others(place: Place) -> None:
    with pytest.raises(UnsupportedError, match=r"^1 of 4 runs were not made, first: 'a kill', whose process") as caught:
        place.make(place.runs("a kill", "b", "c", "d"))
    assert "fewer --workers" in (caught.value.hint or "")
    assert set(place.finished) == {"b", "c", "d"}
    assert place.log["a kill"] == 2


def test_a_run_that_fails_ends_the_study_and_keeps_what_is_under_way(place: Place) -> None:
    runs = place.runs("a slow", "b fail", "c", "d")
    with pytest.raises(DataError, match=r"^b fail went wrong$") as caught:
        place.make(runs)
    assert caught.value.hint == "mend it"
    assert [place.store.holds(run.key) for run in runs] == [True, False, False, False]
    assert place.finished == ["a slow"]


def test_an_error_of_our_own_is_not_tried_again(place: Place) -> None:
    with pytest.raises(ContractError, match=r"^run 'a crash': its process ended with 1$"):
        place.make(place.runs("a crash", "b"))
    assert place.log["a crash"] == 1


STUDY = """
import sys
from pathlib import Path
from edgec.core.progress import Silent
from edgec.study.pool import Job, Pool
from edgec.study.schedule import Durations
from support.tiny_runs import TinyRun, open_tiny

if __name__ == "__main__":
    here = Path(sys.argv[1])
    job = Job(open=open_tiny, folder=here / "cache", threads=1)
    pool = Pool(job=job, workers=2, durations=Durations(), begin=lambda _: None, progress=Silent())
    for run in pool.make([TinyRun(title=title, folder=here) for title in sys.argv[2:]]):
        print(run.title, flush=True)
"""


@pytest.fixture
def study(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts a study in a process group of its own, and waits until so many runs were begun."""

    def started(*titles: str, until: int) -> subprocess.Popen[str]:
        (tmp_path / "study.py").write_text(STUDY)
        process = subprocess.Popen(
            [sys.executable, str(tmp_path / "study.py"), str(tmp_path), *titles],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        log = tmp_path / "log"
        wait_until(lambda: log.exists() and len(log.read_text().splitlines()) >= until)
        return process

    return started


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def test_ctrl_c_keeps_what_is_finished_and_leaves_no_process(place: Place, study: Callable[..., Any]) -> None:
    titles = ("a", "b forever", "c forever", "d")
    process = study(*titles, until=3)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    out, err = process.communicate(timeout=30)
    assert (out, err.count("Traceback")) == ("a\n", 1)
    assert err.rstrip().endswith("KeyboardInterrupt")
    wait_until(lambda: is_gone(process.pid))
    assert [place.store.holds(run.key) for run in place.runs(*titles)] == [True, False, False, False]


def test_processes_of_a_study_that_was_killed_finish_their_runs_and_end(
    place: Place, study: Callable[..., Any]
) -> None:
    titles = ("a slow", "b slow", "c slow")
    process = study(*titles, until=2)
    process.kill()
    process.communicate(timeout=60)
    wait_until(lambda: is_gone(process.pid))
    assert [place.store.holds(run.key) for run in place.runs(*titles)] == [True, True, False]
