"""`edgec site`: what deployers do on a device, by hand; and the end of their connection."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgec.cli.say import say
from edgec.cli.trust import find_trust, signed_by

if TYPE_CHECKING:
    from edgec.deploy import Site, Version

__all__ = ["command"]

ROOT = click.argument("root", type=click.Path(path_type=Path))
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
POLICY = click.option(
    "--policy",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What may run here. [default: /etc/edgec/policy.toml, where it is there]",
)
BY = click.option("--by", metavar="WHO", help="Who asks, for the history. [default: this user]")


@click.group("site")
def command() -> None:
    """Install, test and switch versions on this device.

    ROOT is a folder that holds bundles side by side; ROOT/current leads to the one that runs.
    """


@command.command("install")
@ROOT
@click.argument("bundle", type=click.Path(path_type=Path))
@POLICY
@BY
@JSON
def install(root: Path, bundle: Path, *, policy: Path | None, by: str | None, as_json: bool) -> None:
    """Install a BUNDLE at ROOT, without switching to it."""
    digest = _writable(root, policy, by).install(bundle)
    say(json.dumps({"digest": digest}) if as_json else digest)


@command.command("activate")
@ROOT
@click.argument("digest")
@click.option(
    "--keep", type=click.IntRange(min=1), metavar="N", default=3, show_default=True, help="How many versions to keep."
)
@signed_by
@click.option("--allow-downgrade", is_flag=True, help="Let a lower release run.")
@POLICY
@BY
@JSON
def activate(
    root: Path,
    digest: str,
    *,
    keep: int,
    key: Path | None,
    certificate: Path | None,
    allow_downgrade: bool,
    policy: Path | None,
    by: str | None,
    as_json: bool,
) -> None:
    """Check and smoke-test the version with this DIGEST, then switch ROOT/current to it."""
    trust = find_trust(key, certificate)
    site = _writable(root, policy, by)
    _tell(site.activate(digest, keep=keep, trust=trust, allow_downgrade=allow_downgrade), as_json=as_json)


@command.command("rollback")
@ROOT
@click.option("--reason", default="", metavar="TEXT", help="Reason to note in the history.")
@signed_by
@POLICY
@BY
@JSON
def rollback(
    root: Path,
    *,
    reason: str,
    key: Path | None,
    certificate: Path | None,
    policy: Path | None,
    by: str | None,
    as_json: bool,
) -> None:
    """Check and smoke-test the version that ran before, then switch ROOT/current back to it."""
    version = _writable(root, policy, by).rollback(reason=reason, trust=find_trust(key, certificate))
    if version:
        _tell(version, as_json=as_json)


@command.command("status")
@ROOT
@JSON
def status(root: Path, *, as_json: bool) -> None:
    """Show what is installed at ROOT and what runs."""
    found = _site(root).status()
    if as_json:
        click.echo(json.dumps(asdict(found)))
        return
    say(f"free: {found.free_bytes:,} bytes")
    if found.fault:
        say(f"fault: {found.fault}")
    for version in found.versions:
        role = "runs" if version == found.current else "ran before" if version == found.previous else "installed"
        say(f"{role}: {_words(version)}")


@command.command("history")
@ROOT
@JSON
def history(root: Path, *, as_json: bool) -> None:
    """Show what was done at ROOT, oldest first."""
    for event in _site(root).history():
        if as_json:
            click.echo(json.dumps(asdict(event)))
            continue
        what = f"{event.name} {event.digest[:16]}" if event.digest else "nothing"
        reason = f": {event.reason}" if event.reason else ""
        say(f"{event.time} {event.event} {what} by {event.by}{reason}")


@command.command("session")
@ROOT
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="S",
    help="Time to wait for another deployer to finish.",
)
@POLICY
@BY
def session(root: Path, *, wait_s: float, policy: Path | None, by: str | None) -> None:
    """Hold ROOT's lock and answer a deployer over stdin and stdout; `edgec deploy` starts this."""
    from edgec.deploy.session import serve_session

    serve_session(_writable(root, policy, by), 0, 1, wait_s=wait_s)


@command.command("unit")
@ROOT
def unit(root: Path) -> None:
    """Print a systemd unit that serves the bundle that runs at ROOT."""
    from edgec.deploy.units import serve_unit

    click.echo(serve_unit(root), nl=False)


def _site(root: Path) -> Site:
    from edgec.deploy import Site

    return Site(root)


def _writable(root: Path, policy: Path | None, by: str | None) -> Site:
    """The site, with what root allows there."""
    from edgec.deploy import Site
    from edgec.deploy.policy import read_policy

    return Site(root, by=by, policy=read_policy(root, policy))


def _tell(version: Version, *, as_json: bool) -> None:
    value: dict[str, Any] = asdict(version)
    say(json.dumps(value) if as_json else f"runs: {_words(version)}")


def _words(version: Version) -> str:
    return f"{version.name} {version.digest[:16]}, release {version.release}, {version.size_bytes:,} bytes"
