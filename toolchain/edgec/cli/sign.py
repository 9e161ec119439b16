"""`edgec sign`: says who vouches for a bundle."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["command"]


@click.command("sign")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--key", required=True, type=click.Path(path_type=Path), metavar="FILE", help="Private key, ECDSA, PEM.")
@click.option(
    "--certificate",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The key's certificate, PEM, followed by those between it and the authority.",
)
@click.option(
    "--password", envvar="EDGEC_KEY_PASSWORD", metavar="TEXT", help="The key's password; better in EDGEC_KEY_PASSWORD."
)
def command(bundle: Path, *, key: Path, certificate: Path | None, password: str | None) -> None:
    """Sign a BUNDLE with a key, or with a certificate and its key.

    BUNDLE is a folder or an archive; the other form beside it is signed along where it is the same bundle. The
    signature is the bundle's file signature.json. Nothing is asked of a network.
    """
    from edgec.package import open_bundle, sign_bundle

    for path in sign_bundle(bundle, key=key, certificate=certificate, password=password):
        click.echo(f"signed {click.format_filename(path)}", err=True)
    click.echo(open_bundle(bundle).digest)
