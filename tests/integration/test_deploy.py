"""Deploys over SSH to real sshd processes on loopback: one device, and a fleet of which some fail."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgec.deploy import Site
from edgec.package import open_bundle, write_archive
from support import sshd

Edgec = Callable[..., Any]

pytestmark = pytest.mark.network


@pytest.fixture
def host(bed: Any) -> Iterator[Any]:
    with bed.host("device") as host:
        yield host


@pytest.fixture
def options(bed: Any, host: Any) -> tuple[str, ...]:
    return (*bed.options, "--python", str(host.python))


@pytest.fixture
def one(tmp_path: Path) -> Path:
    return sshd.make_bundle(tmp_path / "one", filler_bytes=300_000)


@pytest.fixture
def two(tmp_path: Path) -> Path:
    return sshd.make_bundle(tmp_path / "two", filler_bytes=300_000, seed=1)


def put(root: Path, bundle: Path) -> str:
    """What a deploy left there before, without the time that it takes."""
    site = Site(root, smoke_test=lambda folder: None)
    digest = site.install(bundle)
    site.activate(digest)
    return digest


def test_a_bundle_is_deployed_told_of_and_rolled_back(
    edgec: Edgec, host: Any, options: tuple[str, ...], one: Path, two: Path
) -> None:
    plan = edgec("deploy", one, host.url, *options, "--dry-run", "--json").last
    assert [device["result"] for device in plan["devices"]] == ["planned"]
    assert plan["devices"][0]["sent_bytes"] > 300_000
    assert not host.root.exists()
    for bundle in (one, two):
        outcome = edgec("deploy", bundle, host.url, *options, "--json")
        assert outcome.exit_code == 0, outcome.stderr
        assert outcome.last["devices"][0]["result"] == "updated"
        assert sshd.digest_at(host.root) == outcome.last["digest"] == open_bundle(bundle).digest
    again = edgec("deploy", two, host.url, *options, "--json").last["devices"][0]
    assert (again["result"], again["sent_bytes"]) == ("already there", 0)
    status = edgec("status", host.url, *options, "--json").last
    assert (status["current"]["name"], status["previous"]["name"]) == ("two", "one")
    assert edgec("rollback", host.url, *options, "--reason", "slower").exit_code == 0
    assert sshd.digest_at(host.root) == open_bundle(one).digest
    lines = edgec("history", host.url, *options, "--json").stdout.splitlines()
    events = [json.loads(line) for line in lines]
    assert [event["event"] for event in events] == ["install", "switch", "install", "switch", "rollback"]
    assert events[-1]["reason"] == "slower"


def test_an_unknown_host_is_never_accepted(edgec: Edgec, bed: Any, one: Path) -> None:
    with bed.host("stranger", known=False) as host:
        outcome = edgec("deploy", one, host.url, *bed.options, "--python", host.python)
        assert outcome.exit_code == 5
        assert "host key SHA256:" in outcome.stderr
        assert f"ssh-keyscan -p {host.port} 127.0.0.1 >> {bed.known_hosts}" in outcome.stderr
        assert not host.root.exists()
        other = (bed.identity.with_suffix(".pub")).read_text().split()
        bed.known_hosts.write_text(f"[127.0.0.1]:{host.port} {other[0]} {other[1]}\n")
        changed = edgec("status", host.url, *bed.options)
        assert changed.exit_code == 5
        assert "not the one in" in changed.stderr


def test_a_login_with_another_key_is_refused_and_a_dead_host_is_told(
    edgec: Edgec, bed: Any, host: Any, options: tuple[str, ...], tmp_path: Path
) -> None:
    sshd.make_key(tmp_path / "other")
    refused = edgec("status", host.url, *options, "--identity", tmp_path / "other")
    assert (refused.exit_code, "login refused" in refused.stderr) == (5, True)
    dead = edgec("status", f"ssh://127.0.0.1:{sshd.free_port()}/srv", *options)
    assert (dead.exit_code, "Connect call failed" in dead.stderr) == (5, True)
    absent = edgec("status", host.url, *bed.options, "--python", "/nowhere/python")
    assert absent.exit_code == 5
    assert "edgec is not installed there" in absent.stderr


def test_an_upload_is_resumed_and_one_of_something_else_is_not(
    edgec: Edgec, host: Any, options: tuple[str, ...], one: Path, two: Path, tmp_path: Path
) -> None:
    for bundle, there, sent in ((one, lambda data: data[:100_000], 100_000), (two, lambda data: b"?" * 100_000, 0)):
        archive = write_archive(bundle, tmp_path / f"{bundle.name}.edgec").read_bytes()
        Site(host.root).incoming(open_bundle(bundle).digest).write_bytes(there(archive))
        outcome = edgec("deploy", bundle, host.url, *options, "--json")
        assert outcome.exit_code == 0, outcome.stderr
        assert outcome.last["devices"][0]["sent_bytes"] == len(archive) - sent


def test_a_device_that_is_not_well_after_the_switch_goes_back(
    edgec: Edgec, host: Any, options: tuple[str, ...], one: Path, two: Path
) -> None:
    before = put(host.root, one)
    commands = ("--restart", "readlink current >> restarts", "--health", "echo ill >&2; false")
    outcome = edgec("deploy", two, host.url, *options, *commands, "--json")
    assert outcome.exit_code == 5
    device = outcome.last["devices"][0]
    assert device["result"] == "rolled back"
    assert device["reason"].endswith(f"failed with exit 1: ill; back at one {before[:16]}")
    assert sshd.digest_at(host.root) == before
    restarts = (host.root / "restarts").read_text().split()
    assert restarts == [f"versions/{digest[:16]}" for digest in (open_bundle(two).digest, before)]
    assert Site(host.root).history()[-1].reason.endswith("failed with exit 1: ill")


def test_commands_that_a_cut_deploy_left_out_are_run_by_the_next_one(
    edgec: Edgec, host: Any, options: tuple[str, ...], one: Path
) -> None:
    put(host.root, one)
    commands = ("--restart", "readlink current >> restarts", "--health", "true")
    results = []
    for _ in range(2):
        outcome = edgec("deploy", one, host.url, *options, *commands, "--json")
        assert outcome.exit_code == 0, outcome.stderr
        results.append(outcome.last["devices"][0]["result"])
    assert results == ["updated", "already there"]
    assert len((host.root / "restarts").read_text().split()) == 1


def test_a_site_that_is_being_deployed_to_is_left_alone(
    edgec: Edgec, host: Any, options: tuple[str, ...], one: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgec.deploy.ssh.LOCK_WAIT_S", 0.1)
    with Site(host.root, by="you@there").locked():
        outcome = edgec("deploy", one, host.url, *options)
    assert outcome.exit_code == 5
    assert "is being deployed to by you@there" in outcome.stderr
    assert not (host.root / "current").exists()


def test_an_unsigned_bundle_is_refused_before_anything_is_sent(
    edgec: Edgec, host: Any, options: tuple[str, ...], one: Path, tmp_path: Path
) -> None:
    (tmp_path / "public.pem").write_text("-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n")
    outcome = edgec("deploy", one, host.url, *options, "--key", tmp_path / "public.pem")
    assert outcome.exit_code == 4
    assert "not signed" in outcome.failure[0]
    assert not host.root.exists()


def fleet_file(path: Path, hosts: list[Any], *, target: str = "host") -> Path:
    tables = [f'[defaults]\ntarget = "{target}"\nkey = "identity"\nknown_hosts = "known_hosts"\n']
    tables += [
        f'[[device]]\nname = "d{n}"\nurl = "{host.url}"\npython = "{host.python}"\nlabels = ["{"odd" if n % 2 else "even"}"]\n'
        for n, host in enumerate(hosts)
    ]
    path.write_text("\n".join(tables))
    return path


@pytest.fixture
def eight(bed: Any) -> Iterator[list[Any]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(bed.host(f"device-{number}")) for number in range(8)]


@pytest.mark.slow
def test_of_eight_devices_three_that_cannot_are_as_before_and_five_are_updated(
    edgec: Edgec, eight: list[Any], one: Path, two: Path, tmp_path: Path
) -> None:
    before, wanted = [put(host.root, one) for host in eight], open_bundle(two).digest
    dead, full, broken = eight[1], eight[4], eight[6]
    dead.server.kill()
    dead.server.wait()
    sshd.limit_files(full, 100_000)
    sshd.break_runtime(broken)
    fleet = fleet_file(tmp_path / "fleet.toml", eight)
    outcome = edgec("deploy", two, "--fleet", fleet, "--json")
    assert outcome.exit_code == 5
    rows = {row["device"]: row for row in outcome.last["devices"]}
    failed = {name for name, row in rows.items() if row["result"] == "failed"}
    assert failed == {"d1", "d4", "d6"}
    assert [row["result"] for name, row in rows.items() if name not in failed] == ["updated"] * 5
    assert "Connect call failed" in rows["d1"]["reason"]
    assert "File too large" in rows["d4"]["reason"]
    assert "6 of 6 golden images change class" in rows["d6"]["reason"]
    assert "3 of 8 devices failed: d1, d4, d6" in outcome.stderr
    served = [sshd.digest_at(host.root) for host in eight]
    assert served == [before[n] if n in (1, 4, 6) else wanted for n in range(8)]


def test_where_the_canary_fails_the_others_are_left_alone(
    edgec: Edgec, bed: Any, one: Path, two: Path, tmp_path: Path
) -> None:
    with bed.host("first") as first, bed.host("second") as second:
        sshd.break_runtime(first)
        before = put(second.root, one)
        fleet = fleet_file(tmp_path / "fleet.toml", [first, second])
        outcome = edgec("deploy", two, "--fleet", fleet, "--canary", "0.5", "--json")
        assert outcome.exit_code == 5
        assert [row["result"] for row in outcome.last["devices"]] == ["failed", "skipped"]
        assert sshd.digest_at(first.root) is None
        assert sshd.digest_at(second.root) == before


def test_after_enough_failures_no_other_device_is_begun_and_targets_must_match(
    edgec: Edgec, bed: Any, host: Any, one: Path, tmp_path: Path
) -> None:
    with bed.host("other") as other:
        fleet = fleet_file(tmp_path / "fleet.toml", [host, other], target="rpi5")
        outcome = edgec("deploy", one, "--fleet", fleet, "--parallel", "1", "--max-failures", "1", "--json")
        assert outcome.exit_code == 5
        first, second = outcome.last["devices"]
        assert first["reason"] == "the bundle was built for 'host', the device is 'raspberry-pi-5'"
        assert (second["result"], second["reason"]) == ("skipped", "1 devices failed")
        only = edgec("deploy", one, "--fleet", fleet, "--only", "odd", "--json")
        assert [row["device"] for row in only.last["devices"]] == ["d1"]


def test_a_command_line_without_devices_says_how_to_name_them(edgec: Edgec, one: Path) -> None:
    outcome = edgec("deploy", one)
    assert outcome.exit_code == 2
    assert outcome.failure == ("no device is named", "name ssh:// URLs, or a file with --fleet; one of the two")


class TestJumpHosts:
    """Two sshd: the device is reached over the other one, as `~/.ssh/config` says."""

    @pytest.fixture
    def gate(self, bed: Any, host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
        """The jump host, on the way to `far`; this user's home is a folder of the test's own."""
        home = tmp_path / "home"
        (home / ".ssh").mkdir(parents=True)
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
        with bed.host("gate") as gate:
            (home / ".ssh" / "config").write_text(
                f"Host gate\n  HostName 127.0.0.1\n  Port {gate.port}\n"
                f"Host far\n  HostName 127.0.0.1\n  Port {host.port}\n  ProxyJump gate\n"
            )
            yield gate

    def url(self, host: Any) -> str:
        return f"ssh://far{host.root}"

    def test_key_and_host_keys_reach_the_jump_host(
        self, edgec: Edgec, host: Any, gate: Any, options: tuple[str, ...], one: Path
    ) -> None:
        outcome = edgec("deploy", one, self.url(host), *options, "--json")
        assert outcome.exit_code == 0, outcome.stderr
        assert sshd.digest_at(host.root) == open_bundle(one).digest

    def test_an_error_of_the_jump_host_names_the_jump_host(
        self, edgec: Edgec, bed: Any, host: Any, gate: Any, options: tuple[str, ...]
    ) -> None:
        known = bed.known_hosts.read_text().splitlines(keepends=True)
        bed.known_hosts.write_text("".join(line for line in known if f":{gate.port} " not in line))
        unknown = edgec("status", self.url(host), *options)
        assert unknown.exit_code == 5
        assert f"jump host 'gate:{gate.port}' on the way to 'ssh://far/" in unknown.stderr
        assert "host key SHA256:" in unknown.stderr
        bed.known_hosts.write_text("".join(known))
        (gate.folder / "authorized_keys").write_text("")
        refused = edgec("status", self.url(host), *options)
        assert f"jump host 'gate:{gate.port}' on the way to 'ssh://far/" in refused.stderr
        assert "login refused" in refused.stderr

    def test_the_deadline_reaches_the_jump_host(
        self, edgec: Edgec, bed: Any, host: Any, gate: Any, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("edgec.deploy.ssh.CONNECT_S", 0.5)
        config = Path.home() / ".ssh" / "config"
        with socket.create_server(("127.0.0.1", 0)) as silent:
            config.write_text(config.read_text().replace(str(gate.port), str(silent.getsockname()[1])))
            began = time.monotonic()
            outcome = edgec("status", self.url(host), *options)
        assert outcome.exit_code == 5
        assert "jump host 'gate:" in outcome.stderr
        assert time.monotonic() - began < 10

    def test_host_keys_of_the_config_are_read(
        self, edgec: Edgec, bed: Any, host: Any, gate: Any, options: tuple[str, ...], one: Path, tmp_path: Path
    ) -> None:
        config = Path.home() / ".ssh" / "config"
        for line in (f"UserKnownHostsFile {bed.known_hosts}\n", f"GlobalKnownHostsFile {bed.known_hosts}\n"):
            before = config.read_text()
            config.write_text(line + before)
            without = (*options[:2], *options[4:])
            assert "--known-hosts" not in without
            outcome = edgec("deploy", one, self.url(host), *without, "--json")
            assert outcome.exit_code == 0, outcome.stderr
            config.write_text(before)
        assert edgec("status", self.url(host), *options[:2], *options[4:]).exit_code == 5

    def test_jump_hosts_in_a_circle_are_told(
        self, edgec: Edgec, host: Any, gate: Any, options: tuple[str, ...]
    ) -> None:
        config = Path.home() / ".ssh" / "config"
        config.write_text(config.read_text() + "Host gate\n  ProxyJump far\n")
        outcome = edgec("status", self.url(host), *options)
        assert "lead in a circle" in outcome.stderr
