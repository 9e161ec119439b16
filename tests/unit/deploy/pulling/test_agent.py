"""A device that follows a tag, with a real registry and a real site."""

from __future__ import annotations

import functools
import json
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from edgec.core.errors import ConfigError, IntegrityError, TransportError
from edgec.core.progress import Silent
from edgec.deploy import Site
from edgec.deploy.agent import Agent, RefusedError, next_wait_s
from edgec.deploy.oci import Repository
from edgec.deploy.reference import Reference
from edgec.deploy.transfer import Pushed, push_bundle
from edgec.deploy.units import agent_units, serve_unit
from edgec.package import open_bundle

pytestmark = pytest.mark.network

Open = Callable[..., Repository]
MakeAgent = Callable[..., Agent]


@pytest.fixture(autouse=True)
def brief_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgec.deploy.agent.Repository", functools.partial(Repository, waits_s=(0.01,)))


@pytest.fixture
def push(repository: Open) -> Callable[[Path], Pushed]:
    return lambda bundle: push_bundle(bundle, repository(), progress=Silent())


@pytest.fixture
def make_agent(registry, tmp_path: Path) -> MakeAgent:
    """An agent of the site `device`; `verdict` is what the smoke test there does with a version's folder."""

    def make(*, verdict: Callable[[Path], None] = lambda _: None, port: int = 0, **options: Any) -> Agent:
        reference = Reference.parse(f"127.0.0.1:{port or registry.port}/cameras/digits:stable")
        return Agent(reference, Site(tmp_path / "device", smoke_test=verdict), **options)

    return make


@pytest.fixture
def device(tmp_path: Path) -> Path:
    return tmp_path / "device"


def told(device: Path) -> dict[str, Any]:
    return json.loads((device / "agent.json").read_text())


def running(device: Path) -> str:
    return open_bundle((device / "current").resolve()).digest


def failing(folder: Path) -> None:
    raise IntegrityError(f"{folder.name} answers differently here")


def test_a_poll_brings_what_the_tag_names_and_tells(bundle: Path, push, make_agent: MakeAgent, device: Path) -> None:
    pushed, lines = push(bundle), []
    assert make_agent(report=lines.append).poll()
    assert running(device) == pushed.digest
    state = told(device)
    assert (state["digest"], state["bundle"]) == (pushed.reference.digest, pushed.digest)
    assert (state["error"], state["failures"], state["refused"]) == (None, 0, None)
    assert lines[-1].endswith(f"bundle {pushed.digest} runs")
    assert [event.event for event in Site(device).history()] == ["install", "switch"]
    assert not (device / ".agent").exists()


def test_the_golden_images_are_the_smoke_test(bundle: Path, push, registry, device: Path) -> None:
    push(bundle)
    reference = Reference.parse(f"127.0.0.1:{registry.port}/cameras/digits:stable")
    assert Agent(reference, Site(device)).poll()


def test_a_poll_without_news_costs_one_small_request(
    bundle: Path, push, make_agent: MakeAgent, device: Path, line
) -> None:
    push(bundle)
    make_agent(port=line.port).poll()
    since, before = told(device)["since"], dict(line.passed)
    assert not make_agent(port=line.port).poll()
    assert told(device)["since"] == since
    assert len(Site(device).history()) == 2
    # A HEAD and its answer: headers alone, some hundreds of bytes either way.
    assert line.passed["up"] - before["up"] < 600
    assert line.passed["down"] - before["down"] < 600


def test_a_tag_that_stays_at_what_has_expired_is_told(make_bundle, push, make_agent: MakeAgent, device: Path) -> None:
    pushed = push(make_bundle(expires=date(2100, 1, 1)))
    assert make_agent().poll()
    assert not make_agent(now=lambda: datetime(2100, 1, 1, 23, tzinfo=timezone.utc)).poll()
    with pytest.raises(IntegrityError, match="expired on 2100-01-01; here it is 2100-01-02"):
        make_agent(now=lambda: datetime(2100, 1, 2, tzinfo=timezone.utc)).poll()
    assert "expired on 2100-01-01" in told(device)["error"]
    assert (running(device), told(device)["failures"]) == (pushed.digest, 1)


def test_a_tag_that_moved_is_followed_and_only_what_changed_is_received(
    bundle: Path, make_bundle, push, make_agent: MakeAgent, device: Path
) -> None:
    push(bundle)
    make_agent().poll()
    changed = make_bundle("changed", files={"report.html": b"new"})
    pushed, lines = push(changed), []
    assert make_agent(report=lines.append).poll()
    assert running(device) == pushed.digest
    new = sum((changed / name).stat().st_size for name in ("manifest.json", "report.html"))
    assert lines[0].startswith(f"received {new:,} bytes; ")


def test_what_fails_its_smoke_test_does_not_run_and_is_not_tried_again(
    bundle: Path, make_bundle, push, make_agent: MakeAgent, device: Path, line
) -> None:
    first = push(bundle)
    make_agent().poll()
    second = push(make_bundle("changed", files={"report.html": b"new"}))
    with pytest.raises(RefusedError, match="answers differently here"):
        make_agent(verdict=failing).poll()
    assert running(device) == first.digest
    state = told(device)
    assert state["refused"] == second.reference.digest
    assert "answers differently here" in state["error"]
    before = line.passed["down"]
    with pytest.raises(RefusedError, match=f"is {second.reference.digest}, refused here: "):
        make_agent(port=line.port, verdict=failing).poll()
    # Another address is another reference, of which nothing is known: it is tried there, once.
    fetched = line.passed["down"]
    assert fetched > before
    with pytest.raises(RefusedError):
        make_agent(port=line.port).poll()
    assert line.passed["down"] - fetched < 600
    assert running(device) == first.digest


def test_a_refused_device_follows_again_when_the_tag_moves(
    bundle: Path, make_bundle, push, make_agent: MakeAgent, device: Path
) -> None:
    push(bundle)
    with pytest.raises(RefusedError):
        make_agent(verdict=failing).poll()
    assert not (device / "current").exists()
    mended = push(make_bundle("mended", files={"report.html": b"new"}))
    assert make_agent().poll()
    assert running(device) == mended.digest
    assert (told(device)["refused"], told(device)["reason"], told(device)["error"]) == (None, None, None)


def test_what_a_person_rolled_back_stays_rolled_back_until_the_tag_moves(
    bundle: Path, make_bundle, push, make_agent: MakeAgent, device: Path
) -> None:
    first = push(bundle)
    make_agent().poll()
    push(make_bundle("changed", files={"report.html": b"new"}))
    make_agent().poll()
    Site(device, smoke_test=lambda _: None).rollback()
    assert not make_agent().poll()
    assert running(device) == first.digest


def test_what_a_deployer_brought_is_not_fetched(bundle: Path, push, make_agent: MakeAgent, device: Path) -> None:
    pushed = push(bundle)
    site = Site(device, smoke_test=lambda _: None)
    site.activate(site.install(bundle))
    before = site.history()
    make_agent().poll()
    assert site.history() == before
    assert told(device)["digest"] == pushed.reference.digest


def test_a_registry_that_is_away_changes_nothing_and_is_found_again(
    bundle: Path, make_bundle, push, make_agent: MakeAgent, device: Path, registry
) -> None:
    first = push(bundle)
    agent = make_agent()
    agent.poll()
    second = push(make_bundle("changed", files={"report.html": b"new"}))
    registry.stop()
    for count in (1, 2):
        with pytest.raises(TransportError, match="cannot be reached: Connection refused"):
            agent.poll()
        assert told(device)["failures"] == count
    assert running(device) == first.digest
    registry.start()
    assert agent.poll()
    assert running(device) == second.digest
    assert (told(device)["failures"], told(device)["error"]) == (0, None)


def test_a_damaged_registry_changes_nothing(bundle: Path, push, make_agent: MakeAgent, device: Path, registry) -> None:
    pushed = push(bundle)
    path = registry.blob(pushed.digest)
    path.write_bytes(b"{" + path.read_bytes()[1:].replace(b"linear", b"limear"))
    with pytest.raises(IntegrityError, match="its SHA-256 differs"):
        make_agent().poll()
    assert not (device / "current").exists()
    assert told(device)["refused"] is None


def test_an_unsigned_bundle_is_refused_where_a_signature_is_asked_for(
    bundle: Path, push, make_agent: MakeAgent, device: Path
) -> None:
    from edgec.package import Trust

    push(bundle)
    with pytest.raises(RefusedError, match="is not signed, expected a signature"):
        make_agent(trust=Trust(public_key=b"-----BEGIN PUBLIC KEY-----\n")).poll()
    assert not (device / "current").exists()


def test_of_an_unsigned_bundle_nothing_but_its_manifest_is_fetched_and_nothing_is_left(
    make_bundle, push, make_agent: MakeAgent, device: Path, line
) -> None:
    from edgec.package import Trust

    push(make_bundle("large", files={"report.html": b"<!doctype html>" + bytes(3_000_000)}))
    agent = make_agent(port=line.port, trust=Trust(public_key=b"-----BEGIN PUBLIC KEY-----\n"))
    for _ in range(2):
        with pytest.raises(RefusedError, match="is not signed"):
            agent.poll()
    assert line.passed["down"] < 100_000
    assert [path.name for path in device.iterdir()] == ["agent.json"]


def test_a_bundle_that_is_refused_here_leaves_nothing(make_bundle, push, make_agent: MakeAgent, device: Path) -> None:
    push(make_bundle("one"))
    with pytest.raises(RefusedError):
        make_agent(verdict=failing).poll()
    assert list((device / "versions").iterdir()) == []
    assert not (device / ".agent").exists()


def test_a_copy_without_its_signature_does_not_take_the_place_of_what_runs(
    make_bundle, push, make_agent: MakeAgent, device: Path
) -> None:
    bundle = make_bundle("one")
    (bundle / "signature.json").write_bytes(b"a signature of somebody's\n")
    push(bundle)
    make_agent().poll()
    (bundle / "signature.json").unlink()
    push(bundle)
    with pytest.raises(RefusedError, match="this bundle with another signature"):
        make_agent().poll()
    assert (device / "current" / "signature.json").exists()


def test_a_health_check_that_fails_is_rolled_back_and_the_bundle_not_tried_again(
    bundle: Path, make_bundle, push, make_agent: MakeAgent, device: Path
) -> None:
    first = push(bundle)
    make_agent(restart="true", health="true").poll()
    push(make_bundle("changed", files={"report.html": b"new"}))
    with pytest.raises(RefusedError, match="ended with 1"):
        make_agent(restart="true", health="false").poll()
    assert running(device) == first.digest
    with pytest.raises(RefusedError, match="refused here"):
        make_agent(restart="true", health="true").poll()
    assert Site(device).status().settled


@pytest.mark.parametrize("kills", [1, 2])
def test_a_kill_in_the_trial_is_made_good_by_the_next_look_and_a_second_one_goes_back(
    bundle: Path, make_bundle, push, make_agent: MakeAgent, device: Path, kills: int
) -> None:
    first = push(bundle)
    make_agent(restart="true").poll()
    second = push(make_bundle("changed", files={"report.html": b"new"}))

    def killed(site: Site, *_: object, **__: object) -> None:
        if site.status().current is not None and running(device) == second.digest:
            for _ in range(kills):
                site.note("trial")
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgec.deploy.agent.settle", killed)
        with pytest.raises(KeyboardInterrupt):
            make_agent(restart="true").poll()
    assert (running(device), Site(device).status().settled) == (second.digest, False)
    if kills == 1:
        assert make_agent(restart="true").poll()
    else:
        for _ in range(2):
            with pytest.raises(RefusedError, match="cut short 2 times"):
                make_agent(restart="true").poll()
    assert running(device) == (second if kills == 1 else first).digest
    assert Site(device).status().settled


def test_an_answer_that_nobody_thought_of_ends_no_agent(
    make_agent: MakeAgent, device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nonsense(_: object) -> str:
        raise RecursionError("too deep")

    monkeypatch.setattr(Repository, "resolve", nonsense)
    lines: list[str] = []
    make_agent(report=lines.append).run(Clock(rounds=2), every_s=300, draw=random.Random(0))  # noqa: S311
    assert lines == ["error: unexpected RecursionError: too deep"] * 2
    assert told(device)["failures"] == 2


def test_a_lower_release_is_refused_unless_allowed(make_bundle, push, make_agent: MakeAgent, device: Path) -> None:
    push(make_bundle("second", release=2))
    make_agent().poll()
    lower = push(make_bundle("first", release=1))
    with pytest.raises(RefusedError, match="is release 1, but release 2 runs"):
        make_agent().poll()
    (device / "agent.json").unlink()
    assert make_agent(allow_downgrade=True).poll()
    assert running(device) == lower.digest


def test_a_restart_that_fails_is_rolled_back(
    bundle: Path, make_bundle, push, make_agent: MakeAgent, device: Path, tmp_path: Path
) -> None:
    first = push(bundle)
    log = tmp_path / "log"
    make_agent(restart=f"sh -c 'echo up >> {log}'").poll()
    push(make_bundle("changed", files={"report.html": b"new"}))
    with pytest.raises(RefusedError, match=r"ended with 3: no; rolled back"):
        make_agent(restart=f"sh -c 'echo down >> {log}; echo no >&2; exit 3'").poll()
    assert running(device) == first.digest
    assert log.read_text().split() == ["up", "down", "down"]


def test_another_deployer_is_waited_for(
    bundle: Path, push, make_agent: MakeAgent, device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgec.deploy.agent.LOCK_S", 0.05)
    push(bundle)
    with Site(device, by="somebody").locked(), pytest.raises(TransportError, match="is being deployed to by somebody"):
        make_agent().poll()
    assert told(device)["refused"] is None
    assert make_agent().poll()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"reference": 3}', '{"digest": 7}', "\0" * 9])
def test_a_damaged_state_is_begun_anew(bundle: Path, push, make_agent: MakeAgent, device: Path, text: str) -> None:
    push(bundle)
    device.mkdir()
    (device / "agent.json").write_text(text)
    assert make_agent().poll()
    assert told(device)["error"] is None


def test_an_agent_follows_a_tag(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="never moves: an agent follows a tag"):
        Agent(Reference.parse(f"127.0.0.1:1/a@sha256:{'0' * 64}"), Site(tmp_path))


def test_waits_are_spread_double_and_end_at_an_hour() -> None:
    draw = random.Random(0)  # noqa: S311
    for failures, expected in ((0, 300), (1, 600), (2, 1200), (3, 2400), (4, 3600), (60, 3600)):
        waits = [next_wait_s(300, failures, draw) for _ in range(500)]
        assert 0.85 * expected <= min(waits) < 0.87 * expected
        assert 1.13 * expected < max(waits) <= 1.15 * expected
    assert next_wait_s(86_400, 9, draw) >= 0.85 * 86_400


class Clock(threading.Event):
    """Counts waits instead of waiting; stops after some."""

    def __init__(self, rounds: int) -> None:
        super().__init__()
        self.rounds = rounds
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0.0)
        if len(self.waits) == self.rounds:
            self.set()
        return self.is_set()


def test_failures_end_no_agent(make_agent: MakeAgent, registry) -> None:
    registry.stop()
    lines: list[str] = []
    clock = Clock(rounds=3)
    make_agent(report=lines.append).run(clock, every_s=300, draw=random.Random(0))  # noqa: S311
    assert len(lines) == 3
    assert all(line.startswith("error: registry '127.0.0.1:") for line in lines)
    assert [round(wait / 300) for wait in clock.waits] in ([2, 4, 8], [2, 4, 7], [2, 4, 9], [2, 3, 8], [2, 5, 8])


def test_devices_that_start_together_ask_apart(bundle: Path, push, make_agent: MakeAgent) -> None:
    push(bundle)
    seconds = []
    for seed in range(12):
        clock = Clock(rounds=1)
        make_agent().run(clock, every_s=300, draw=random.Random(seed))  # noqa: S311
        seconds += clock.waits
    assert min(seconds) < 75
    assert max(seconds) > 225


def test_a_terminated_agent_ends_well(bundle: Path, push, registry, device: Path) -> None:
    push(bundle)
    reference = f"127.0.0.1:{registry.port}/cameras/digits:stable"
    command = [sys.executable, "-m", "edgec", "agent", reference, str(device), "--every", "1h"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for _ in range(600):
            if (device / "agent.json").exists() or process.poll() is not None:
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert running(device) == open_bundle(bundle).digest


def test_one_look_ends_with_the_exit_code(bundle: Path, push, registry, device: Path, edgec) -> None:
    reference = f"127.0.0.1:{registry.port}/cameras/digits:stable"
    outcome = edgec("agent", reference, device, "--once")
    assert outcome.exit_code == 5
    push(bundle)
    assert edgec("agent", reference, device, "--once").exit_code == 0
    outcome = edgec("agent", reference, device, "--once", "--every", "often")
    assert outcome.exit_code == 2
    assert outcome.failure[0] == "--every often: expected a number and s, m, h or d"


def test_the_units_say_what_the_options_say(tmp_path: Path) -> None:
    reference = Reference.parse("registry.example.com/cameras/digits:stable")
    options = ["--restart", 'systemctl restart "my app" $X 5%']
    units = agent_units(reference, tmp_path, every_s=300, options=options, python=Path("/opt/edgec/bin/python"))
    service, timer = units["edgec-agent.service"], units["edgec-agent.timer"]
    start = f"ExecStart=/opt/edgec/bin/python -I -m edgec agent {reference} {tmp_path} --once "
    assert start + r'--restart "systemctl restart \"my app\" $$X 5%%"' in service.splitlines()
    assert {"OnUnitInactiveSec=255s", "RandomizedDelaySec=90s"} < set(timer.splitlines())


def test_services_run_in_an_empty_folder_of_their_own(tmp_path: Path) -> None:
    reference = Reference.parse("registry.example.com/cameras/digits:stable")
    for unit in (serve_unit(tmp_path), agent_units(reference, tmp_path, every_s=300)["edgec-agent.service"]):
        assert {"RuntimeDirectory=%N", "WorkingDirectory=%t/%N"} < set(unit.splitlines())
        assert re.search(r"^ExecStart=\S+ -I -m edgec ", unit, re.MULTILINE)


def test_a_path_that_systemd_reads_otherwise_is_refused() -> None:
    reference = Reference.parse("registry.example.com/cameras/digits:stable")
    with pytest.raises(ConfigError, match="cannot stand in a systemd unit"):
        agent_units(reference, Path("/srv/my models"), every_s=60)


class TestFamilies:
    """A tag that names a family: the device takes its own member, and no other."""

    @pytest.fixture
    def family(self, make_family) -> Path:
        return make_family("jetson-orin-nano-8gb", "raspberry-pi-5")

    def test_the_member_for_the_device_runs_and_the_next_look_fetches_nothing(
        self, family: Path, push, make_agent: MakeAgent, device: Path
    ) -> None:
        pushed, lines = push(family), []
        assert make_agent(target="raspberry-pi-5").poll()
        assert running(device) == open_bundle(family / "raspberry-pi-5").digest
        assert told(device)["digest"] == pushed.reference.digest
        assert not make_agent(target="raspberry-pi-5", report=lines.append).poll()
        assert lines == []

    def test_a_device_of_no_known_target_is_told_what_there_is(
        self, family: Path, push, make_agent: MakeAgent, device: Path
    ) -> None:
        push(family)
        with pytest.raises(ConfigError, match="is a family for jetson-orin-nano-8gb, raspberry-pi-5"):
            make_agent().poll()
        assert not (device / "current").exists()

    def test_a_member_that_fails_here_is_not_tried_again_before_the_tag_moves(
        self, family: Path, push, make_agent: MakeAgent, device: Path
    ) -> None:
        pushed = push(family)
        with pytest.raises(RefusedError):
            make_agent(target="raspberry-pi-5", verdict=failing).poll()
        assert told(device)["refused"] == pushed.reference.digest
        with pytest.raises(RefusedError):
            make_agent(target="raspberry-pi-5").poll()

    def test_a_target_that_is_corrected_counts_at_once(
        self, family: Path, push, make_agent: MakeAgent, device: Path
    ) -> None:
        push(family)
        assert make_agent(target="jetson-orin-nano-8gb").poll()
        assert make_agent(target="raspberry-pi-5").poll()
        assert running(device) == open_bundle(family / "raspberry-pi-5").digest

    def test_a_bundle_for_another_device_is_refused_though_it_runs(
        self, family: Path, push, make_agent: MakeAgent, device: Path
    ) -> None:
        push(family / "jetson-orin-nano-8gb")
        assert make_agent().poll()
        with pytest.raises(RefusedError, match="asked for is 'raspberry-pi-5'"):
            make_agent(target="raspberry-pi-5").poll()

    def test_a_single_bundle_for_another_device_is_refused(
        self, family: Path, push, make_agent: MakeAgent, device: Path
    ) -> None:
        push(family / "jetson-orin-nano-8gb")
        with pytest.raises(RefusedError, match="built for 'jetson-orin-nano-8gb', asked for is 'raspberry-pi-5'"):
            make_agent(target="raspberry-pi-5").poll()
        assert not (device / "current").exists()
