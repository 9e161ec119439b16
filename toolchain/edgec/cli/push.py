"""`edgec push`: stores a bundle in a registry."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edgec.cli.say import say

__all__ = ["command"]


@click.command("push")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("reference", metavar="REGISTRY/REPOSITORY:TAG")
@click.option(
    "--insecure", is_flag=True, help="Use HTTP without TLS; for a registry on this machine this is the default."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(bundle: Path, reference: str, *, insecure: bool, as_json: bool) -> None:
    """Store a BUNDLE in a registry under a tag; files that the registry already has are not sent.

    BUNDLE is a folder, an archive, or a family, whose members are stored under one tag. The last line of the output
    is the bundle's address by digest, which never changes. The credentials are those of docker login.
    """
    from edgec.cli.console import ConsoleProgress
    from edgec.deploy.oci import Repository
    from edgec.deploy.reference import Reference
    from edgec.deploy.transfer import push_bundle

    with Repository(Reference.parse(reference), insecure=insecure) as repository:
        done = push_bundle(bundle, repository, progress=ConsoleProgress())
    if as_json:
        fields = {"reference": str(done.reference), "digest": done.digest}
        click.echo(json.dumps({**fields, "sent_bytes": done.sent_bytes, "there_bytes": done.there_bytes}))
    else:
        say(f"sent {done.sent_bytes:,} bytes; {done.there_bytes:,} were there", err=True)
        say(str(done.reference))
