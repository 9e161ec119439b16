"""`edgec verify`: is this bundle whole, and does somebody who is trusted vouch for it?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgec.cli.say import say
from edgec.cli.trust import find_trust, signed_by
from edgec.core.errors import DataError, IntegrityError, UnsupportedError

if TYPE_CHECKING:
    from edgec.package import Bundle, Trust

__all__ = ["command"]


@click.command("verify")
@click.argument("bundle", type=click.Path(path_type=Path))
@signed_by
@click.option("--smoke-test", is_flag=True, help="Run the golden images and compare with the recorded logits.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(bundle: Path, *, key: Path | None, certificate: Path | None, smoke_test: bool, as_json: bool) -> None:
    """Compare a BUNDLE with its manifest and its signature; exit 4 when they do not match.

    BUNDLE is a folder, an archive, or a family, all of whose members are compared. Without --key and --certificate,
    a signature is mentioned but not checked.
    """
    from edgec.package.family import bundles_at, is_family, open_family

    trust = find_trust(key, certificate)
    found = [_compared(path, trust, smoke_test=smoke_test) for path in bundles_at(bundle)]
    if as_json:
        family = {"family": str(bundle), "digest": open_family(bundle).digest} if is_family(bundle) else None
        click.echo(json.dumps(found[0] if family is None else {**family, "members": found}))
        return
    for number, each in enumerate(found):
        if number:
            say("")
        for name, value in _worded(each).items():
            say(f"{name:<12}{value}")


def _compared(path: Path, trust: Trust | None, *, smoke_test: bool) -> dict[str, Any]:
    """One bundle, signature first."""
    from edgec.package import open_bundle, verify_signature

    opened = open_bundle(path)
    signer = None if trust is None else verify_signature(opened, trust)
    opened.verify()
    if smoke_test:
        _smoke_test(opened)
    return _found(opened, signer, smoke_test=smoke_test)


def _smoke_test(bundle: Bundle) -> None:
    """Loads the bundle and lets it answer.

    Raises:
        IntegrityError: It does not run here, answers differently, or another one has taken its place.
    """
    from edgec.runtime import prove

    try:
        if prove(bundle.path) != bundle.digest:
            raise IntegrityError(f"'{bundle.path}' was replaced while it was read", hint="verify it again")
    except (DataError, UnsupportedError) as error:
        raise IntegrityError(f"smoke test: {error}", hint=error.hint or "do not deploy it") from error


def _found(bundle: Bundle, signer: str | None, *, smoke_test: bool) -> dict[str, Any]:
    manifest = bundle.manifest
    return {
        "bundle": str(bundle.path),
        "name": manifest.name,
        "release": manifest.release,
        "expires": manifest.expires and str(manifest.expires),
        "target": manifest.target.name,
        "scheme": manifest.model.scheme.value,
        "digest": bundle.digest,
        "files": len(manifest.files),
        "signature": "good" if signer else "unchecked" if bundle.signed else "none",
        "signer": signer,
        "smoke_test": smoke_test,
    }


def _worded(found: dict[str, Any]) -> dict[str, Any]:
    """For people: what was not looked at must not read as if it were good."""
    signature = {
        "good": f"good, by {found['signer']}",
        "unchecked": "there, not checked: give --key or --certificate",
        "none": "none",
    }[found["signature"]]
    told = {name: found[name] for name in ("bundle", "name", "release", "target", "scheme", "digest")}
    told |= {"expires": found["expires"]} if found["expires"] else {}
    return told | {
        "files": f"{found['files']}, all as the manifest says",
        "signature": signature,
        "smoke test": "passed" if found["smoke_test"] else "not run",
    }
