"""User names and passwords for registries, from where `docker login` puts them; they are never printed.

As docker does it: `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`; there `credHelpers`, then `credsStore`,
then `auths`.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgec.core.errors import ConfigError, TransportError

__all__ = ["Credentials", "find_credentials"]

_HUB = "https://index.docker.io/v1/"
_HUB_HOSTS = ("docker.io", "index.docker.io", "registry-1.docker.io")
_HELPER_S = 30
"""A helper may ask a keyring, or a cloud, and never a person."""


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """What a registry is told; the password stands in no message and no repr."""

    user: str
    password: str = field(repr=False)


def find_credentials(registry: str) -> Credentials | None:
    """What docker would tell this registry; None where nobody logged in.

    Raises:
        ConfigError: The file is not valid.
        TransportError: A credential helper is missing or broken.
    """
    folder = os.environ.get("DOCKER_CONFIG")
    path = (Path(folder) if folder else Path.home() / ".docker") / "config.json"
    config = _read(path)
    names = (_HUB,) if registry in _HUB_HOSTS else (registry, f"https://{registry}", f"http://{registry}")
    helpers = _table(config, "credHelpers")
    for name in names:
        helper = helpers.get(name) or config.get("credsStore")
        found = _ask(str(helper), name) if helper else None
        if found is not None:
            return found
    for name in names:
        entry = _table(config, "auths").get(name)
        if isinstance(entry, dict) and entry.get("auth"):
            return _decoded(str(entry["auth"]), path)
    return None


def _read(path: Path) -> Mapping[str, Any]:
    try:
        config = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not valid JSON"
        raise ConfigError(f"cannot read '{path}': {reason}", hint="docker login writes it") from error
    return config if isinstance(config, dict) else {}


def _table(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = config.get(name)
    return table if isinstance(table, dict) else {}


def _ask(helper: str, registry: str) -> Credentials | None:
    """Asks `docker-credential-HELPER`; None where it knows nothing of the registry."""
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, "get"], input=registry, capture_output=True, text=True, timeout=_HELPER_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = "took too long" if isinstance(error, subprocess.TimeoutExpired) else error.strerror
        raise TransportError(
            f"credential helper '{program}': {reason}", hint="install it, or take it out of docker's config.json"
        ) from error
    if done.returncode:  # all helpers say so on stdout where they have nothing; what else they say may be secret
        return None
    try:
        answer = json.loads(done.stdout)
        return Credentials(user=str(answer["Username"]), password=str(answer["Secret"]))
    except (ValueError, KeyError, TypeError) as error:
        raise TransportError(
            f"credential helper '{program}' gave no user name and secret", hint="try it by hand"
        ) from (error)


def _decoded(text: str, path: Path) -> Credentials:
    try:
        user, _, password = base64.b64decode(text, validate=True).decode().partition(":")
    except (binascii.Error, ValueError) as error:
        raise ConfigError(f"'{path}': an auth that is not Base64", hint="docker login writes it anew") from error
    return Credentials(user=user, password=password.rstrip("\0"))
