"""The options that say whose signature a bundle must have before it is believed or run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgec.cli.options import together

if TYPE_CHECKING:
    from edgec.package import Trust

__all__ = ["find_trust", "require_signed", "signed_by"]

_FILE = click.Path(path_type=Path)

signed_by = together(
    click.option("--key", type=_FILE, metavar="FILE", help="Public key, PEM: demand a signature made with it."),
    click.option(
        "--certificate",
        type=_FILE,
        metavar="FILE",
        help="Authorities, PEM: demand a signature made with a certificate that they issued.",
    ),
)
"""Adds --key and --certificate; `find_trust` reads them."""


def find_trust(key: Path | None, certificate: Path | None) -> Trust | None:
    """Whom a command line trusts; None where it asks for no signature.

    Raises:
        ConfigError: Both are given, or the file cannot be read or holds something else.
    """
    if key is None and certificate is None:
        return None
    from edgec.package import Trust

    return Trust.read(key=key, certificate=certificate)


def require_signed(bundle: Path, trust: Trust | None) -> None:
    """Checks the signature of a bundle, or of all members of a family, before any is sent; None asks for none.

    Raises:
        IntegrityError: It is not signed, by somebody else, or was changed since.
    """
    if trust is not None:
        from edgec.package import open_bundle, verify_signature
        from edgec.package.family import bundles_at

        for path in bundles_at(bundle):
            verify_signature(open_bundle(path), trust)
