"""`edgec sign`: says who vouches for a bundle."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

import click

from edgec.cli.say import say
from edgec.core.errors import ConfigError

__all__ = ["command"]


@click.command("sign")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--key", required=True, type=click.Path(path_type=Path), metavar="FILE", help="Private key, ECDSA, PEM.")
@click.option(
    "--certificate",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The key's certificate, PEM, followed by the intermediate ones.",
)
@click.option(
    "--password-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File whose first line is the key's password. Default: EDGEC_KEY_PASSWORD, else edgec asks.",
)
def command(bundle: Path, *, key: Path, certificate: Path | None, password_file: Path | None) -> None:
    """Sign a BUNDLE with a key, or with a certificate and its key.

    BUNDLE is a folder, an archive, or a family, all of whose members are signed. Where the same bundle lies beside
    it in the other form, both are signed. The signature is the bundle's file signature.json. No network is used.
    """
    from edgec.package import open_bundle, sign_bundle
    from edgec.package.family import bundles_at

    password = _password(password_file, key)
    for member in bundles_at(bundle):
        for path in sign_bundle(member, key=key, certificate=certificate, password=password):
            say(f"signed {click.format_filename(path)}", err=True)
        say(open_bundle(member).digest)


def _password(file: Path | None, key: Path) -> str | None:
    """The key's password; never an argument, which every user of the machine can read.

    Raises:
        ConfigError: The file cannot be read.
    """
    if file is not None:
        try:
            return next(iter(file.read_text(encoding="utf-8").splitlines()), "")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise ConfigError(f"cannot read '{file}': {reason}", hint="check the path and its permissions") from error
    given = os.environ.get("EDGEC_KEY_PASSWORD")
    if given is None and sys.stdin.isatty() and _is_encrypted(key):
        return click.prompt(f"password of {click.format_filename(key)}", hide_input=True, err=True)
    return given


def _is_encrypted(key: Path) -> bool:
    with suppress(OSError):
        return b"ENCRYPTED" in key.read_bytes()
    return False
