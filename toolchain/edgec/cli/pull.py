"""`edgec pull`: fetches a bundle from a registry."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edgec.cli.say import say
from edgec.cli.trust import find_trust, signed_by

__all__ = ["command"]


@click.command("pull")
@click.argument("reference", metavar="REGISTRY/REPOSITORY:TAG")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The bundle's folder. Default: the repository's last name, in this folder.",
)
@click.option("--target", metavar="NAME", help="Which member of a family; what a single bundle must be built for.")
@signed_by
@click.option(
    "--insecure", is_flag=True, help="Use HTTP without TLS; for a registry on this machine this is the default."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    reference: str,
    *,
    output: Path | None,
    target: str | None,
    key: Path | None,
    certificate: Path | None,
    insecure: bool,
    as_json: bool,
) -> None:
    """Fetch a bundle from a registry into a folder.

    The folder appears only when the bundle is complete and verified. Name the bundle by a tag or, so that nobody can
    change what you get, by its digest: REGISTRY/REPOSITORY@sha256:…. An interrupted pull is resumed.
    """
    from edgec.cli.console import ConsoleProgress
    from edgec.core.target import target_name
    from edgec.deploy.oci import Repository
    from edgec.deploy.reference import Reference
    from edgec.deploy.transfer import pull_bundle

    place = Reference.parse(reference)
    trust = find_trust(key, certificate)
    with Repository(place, insecure=insecure) as repository:
        folder = output or Path(place.name)
        done = pull_bundle(
            repository, folder, target=target and target_name(target), trust=trust, progress=ConsoleProgress()
        )
    if as_json:
        fields = {"bundle": str(done.path), "reference": str(done.reference), "digest": done.digest}
        counts = {"received_bytes": done.received_bytes, "reused_bytes": done.reused_bytes}
        click.echo(json.dumps({**fields, **counts, "signed_by": done.signed_by}))
    else:
        signed = f"; signed by {done.signed_by}" if done.signed_by else ""
        say(f"{done.reference}: received {done.received_bytes:,} bytes{signed}", err=True)
        say(str(done.path))
