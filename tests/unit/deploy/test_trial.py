"""What was switched to is on trial: settled when the device's own commands went well, else the device goes back."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgec.deploy import Site
from edgec.deploy.command import fault_of
from edgec.deploy.trial import settle

Put = Callable[[str], str]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "site", smoke_test=lambda _: None)


@pytest.fixture
def put(site: Site, make_bundle: Callable[..., Path]) -> Put:
    """Installs a bundle and switches to it."""

    def do(name: str) -> str:
        return site.activate(site.install(make_bundle(name, edgec=name))).digest

    return do


def kinds(site: Site) -> list[str]:
    return [event.event for event in site.history() if event.event != "install"]


def runs(site: Site) -> str | None:
    current = site.status().current
    return current and current.digest


def test_commands_that_go_well_settle_what_runs_once(site: Site, put: Put, tmp_path: Path) -> None:
    put("one")
    log = tmp_path / "log"
    for _ in range(2):
        assert settle(site, [f"sh -c 'echo up >> {log}'"], wait_s=0) is None
    assert log.read_text() == "up\n"
    assert kinds(site) == ["switch", "trial", "settled"]


def test_a_health_check_that_fails_goes_back_and_settles_the_version_before(site: Site, put: Put) -> None:
    before = put("one")
    settle(site, ["true"], wait_s=0)
    put("two")
    health = f"sh -c 'readlink {site.root}/current | grep {before[:16]}'"
    assert str(settle(site, ["true", health], wait_s=0)).endswith("ended with 1: ")
    assert runs(site) == before
    assert site.status().settled


def test_a_trial_that_was_cut_short_is_made_once_more_and_then_given_up(site: Site, put: Put) -> None:
    before = put("one")
    settle(site, ["true"], wait_s=0)
    put("two")
    site.note("trial")
    assert settle(site, ["true"], wait_s=0) is None
    assert site.status().settled
    put("three")
    for _ in range(2):
        site.note("trial")
    assert settle(site, ["true"], wait_s=0) == "cut short 2 times"
    assert runs(site) not in (None, before)
    assert site.status().settled


def test_where_the_version_before_is_not_well_either_it_stays(site: Site, put: Put) -> None:
    before = put("one")
    put("two")
    assert settle(site, ["false"], wait_s=0)
    for _ in range(3):
        assert settle(site, ["false"], wait_s=0) is None
    assert runs(site) == before
    assert not site.status().settled
    assert kinds(site).count("trial") == 6  # two of each trial: that it began, and how it ended


def test_nothing_is_tried_where_nothing_runs(site: Site) -> None:
    assert settle(site, ["false"], wait_s=0) is None
    assert site.history() == ()


TRY = """
import sys
from pathlib import Path
from edgec.deploy import Site
from edgec.deploy.trial import settle
settle(Site(Path(sys.argv[1]), smoke_test=lambda _: None), [sys.argv[2]], wait_s=5)
"""


def test_a_kill_during_the_restart_is_made_good_by_the_next_look(site: Site, put: Put, tmp_path: Path) -> None:
    put("one")
    mark = tmp_path / "mark"
    command = f"sh -c {shlex.quote(f'touch {mark}; sleep 30')}"
    with subprocess.Popen([sys.executable, "-c", TRY, str(site.root), command]) as process:
        while not mark.exists():
            time.sleep(0.01)
        process.kill()
    assert not site.status().settled
    assert settle(site, ["true"], wait_s=5) is None
    assert site.status().settled


class TestCommands:
    def test_the_first_fault_is_told(self) -> None:
        assert fault_of(["true", "sh -c 'echo ill >&2; exit 3'", "false"]) == (
            "'sh -c 'echo ill >&2; exit 3'' ended with 3: ill"
        )
        assert fault_of(["true"]) is None
        assert "failed" in str(fault_of(["/nowhere/command"]))
        assert "failed" in str(fault_of(["'"]))

    def test_what_it_leaves_running_is_not_waited_for(self) -> None:
        began = time.monotonic()
        assert fault_of(["sh -c 'sleep 30 & echo $!'"], limit_s=20) is None
        assert time.monotonic() - began < 15

    def test_one_that_never_ends_is_killed_with_all_that_it_started(self, tmp_path: Path) -> None:
        place = tmp_path / "child"
        fault = fault_of([f"sh -c 'sleep 60 & echo $! > {place}; yes'"], limit_s=0.5)
        assert str(fault).endswith("not done within 0.5 s")
        for _ in range(100):
            try:
                os.kill(int(place.read_text()), 0)
            except ProcessLookupError:
                return
            if "Z" in Path(f"/proc/{int(place.read_text())}/stat").read_text().split()[2]:
                return
            time.sleep(0.05)
        os.kill(int(place.read_text()), signal.SIGKILL)
        pytest.fail("a child is left")
