"""Names of what lies in a registry: `registry/repository:tag`, or `registry/repository@sha256:…`, which never moves."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from typing_extensions import Self

from edgec.core.errors import ConfigError

__all__ = ["DIGEST", "Reference"]

DIGEST = r"sha256:[0-9a-f]{64}"
"""How an OCI digest is written; other algorithms are not used here."""

# As the OCI distribution specification 1.1 has them ("Pulling manifests").
_REPOSITORY = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
_TAG = r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}"
# As docker has it: without a dot or a port, the first part would be a repository on Docker Hub.
_HOST = r"localhost|[a-zA-Z0-9-]+(?:\.[a-zA-Z0-9-]+)+|[a-zA-Z0-9-]+(?=:)|\[[0-9a-fA-F:]+\]"
_WHOLE = re.compile(
    rf"(?P<registry>(?:{_HOST})(?::[0-9]{{1,5}})?)/(?P<repository>{_REPOSITORY})"
    rf"(?::(?P<tag>{_TAG}))?(?:@(?P<digest>{DIGEST}))?"
)
_LOCAL = ("localhost", "127.0.0.1", "[::1]")
_ALIASES = {"docker.io": "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Where something lies in a registry.

    Attributes:
        registry: Host, with a port where it has one.
        repository: Its path there.
        tag: A name that may move.
        digest: What is meant, whatever the tag says.
    """

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads it as a person writes it.

        Raises:
            ConfigError: Something else, or neither tag nor digest.
        """
        found = _WHOLE.fullmatch(text)
        if found is None:
            raise ConfigError(
                f"'{text}' names nothing in a registry, expected registry/repository:tag or …@sha256:…",
                hint="as in registry.example.com/cameras/digits:stable, without https://",
            )
        reference = cls(**found.groupdict())
        if reference.tag is None and reference.digest is None:
            raise ConfigError(f"'{text}' has neither a tag nor a digest", hint=f"as in {text}:stable")
        return reference

    @property
    def target(self) -> str:
        """What is asked for: the digest where there is one, else the tag."""
        return self.digest or self.tag or ""

    @property
    def host(self) -> str:
        """Where requests go."""
        return _ALIASES.get(self.registry, self.registry)

    @property
    def is_local(self) -> bool:
        """Whether the registry is on this machine, so that nobody listens between."""
        return self.registry.rpartition(":")[0] in _LOCAL or self.registry in _LOCAL

    @property
    def name(self) -> str:
        """The last part of the repository."""
        return self.repository.rpartition("/")[2]

    def pinned(self, digest: str) -> Self:
        """The same place, by what lies there now."""
        return replace(self, tag=None, digest=digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.registry}/{self.repository}{tag}{f'@{self.digest}' if self.digest else ''}"
