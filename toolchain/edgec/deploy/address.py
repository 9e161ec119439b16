"""`ssh://user@host:port/path`: where a site is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from typing_extensions import Self

from edgec.core.errors import ConfigError

__all__ = ["Address"]

_FORM = "ssh://user@host:port/path; /~/path lies below the user's home"
_UNSAFE = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, kw_only=True)
class Address:
    """A site on another machine.

    Attributes:
        host: Name or address, or an alias of ~/.ssh/config.
        path: The site's folder; relative to the user's home unless it begins with a slash.
        user: Who logs in; None leaves it to ~/.ssh/config, else this user.
        port: None likewise, else 22.
    """

    host: str
    path: str
    user: str | None = None
    port: int | None = None

    @classmethod
    def parse(cls, url: str) -> Self:
        """Reads a URL.

        Raises:
            ConfigError: No such URL, or one that holds a password: passwords do not belong on a command line.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise _refused(url, str(error)) from error
        if parts.scheme != "ssh" or not parts.hostname:
            raise _refused(url, "not an ssh URL")
        if parts.password is not None:
            raise ConfigError(f"'ssh://{parts.hostname}': a password in the URL", hint="use a key, or ssh-agent")
        if parts.query or parts.fragment:
            raise _refused(url, "nothing may follow the path")
        path = unquote(parts.path).removeprefix("/~/").rstrip("/")
        names = (unquote(parts.username or ""), parts.hostname, path)
        if not path or path == "/~" or any(map(_UNSAFE.search, names)) or any(n.startswith("-") for n in names):
            raise _refused(url, "no folder" if path in ("", "/~") else "odd characters")
        return cls(host=parts.hostname, path=path, user=names[0] or None, port=port)

    def __str__(self) -> str:
        user = f"{self.user}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = f":{self.port}" if self.port else ""
        return f"ssh://{user}{host}{port}{self.path if self.path.startswith('/') else f'/~/{self.path}'}"


def _refused(url: str, reason: str) -> ConfigError:
    return ConfigError(f"'{url}': {reason}", hint=f"write {_FORM}")
