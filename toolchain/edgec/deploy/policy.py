"""What root allows on a device, whoever deploys: whose bundles, which one, for what target, from which release on.

    # /etc/edgec/policy.toml
    [[site]]
    root = "/srv/model"
    name = "cameras"
    target = "jetson-orin-nano-8gb"
    keys = ["/etc/edgec/2026.pem", "/etc/edgec/2027.pem"]
    lowest_release = 12
    memory = "/var/lib/edgec/cameras.json"
    revoked = ["9f86d081884c7d65…"]

Where the file is missing, nothing is asked. Where it is there, a site that it does not name takes nothing.
"""

from __future__ import annotations

import os
import stat
from datetime import date
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from edgec.core.declaration import read_declaration
from edgec.core.errors import ConfigError, IntegrityError
from edgec.core.files import read_json, write_json
from edgec.core.frozen import Frozen
from edgec.core.target import target_name
from edgec.package import Manifest, Trust

__all__ = ["POLICY", "SitePolicy", "read_policy", "require_not_expired", "require_not_lower"]

POLICY = Path("/etc/edgec/policy.toml")
_LOOSE = stat.S_IWGRP | stat.S_IWOTH
_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class SitePolicy(Frozen):
    """A `[[site]]`.

    Attributes:
        root: The site's folder.
        name: The one bundle that may run; None for any.
        target: The device profile that bundles must be built for; None for any.
        keys: Public keys, PEM; a bundle must be signed by one of them. A new key goes in before bundles are signed
            with it, an old one out when none is any more: that revokes it.
        authorities: Certificates, PEM; a signature under one of them does as well.
        lowest_release: Lower ones never run, not by a rollback either.
        memory: A file outside of the site that keeps the highest release that ever ran: no lower one is deployed
            again, not even to a site that was set up anew. A rollback on the device may still go back.
        revoked: Digests of bundles that never run.
    """

    root: Path
    name: str | None = None
    target: str | None = None
    keys: tuple[Path, ...] = ()
    authorities: tuple[Path, ...] = ()
    lowest_release: int = Field(default=0, ge=0)
    memory: Path | None = None
    revoked: tuple[_Digest, ...] = ()

    @field_validator("target")
    @classmethod
    def _named(cls, target: str | None) -> str | None:
        return target and target_name(target)

    @property
    def trust(self) -> Trust | None:
        """Whose signature a bundle must have; None where no key is named.

        Raises:
            ConfigError: A key cannot be read.
        """
        found = [Trust.read(key=key) for key in self.keys]
        return Trust.any_of([*found, *(Trust.read(certificate=path) for path in self.authorities)])

    def require_allowed(self, manifest: Manifest, digest: str) -> None:
        """Lets a bundle pass that may run here, by what it says of itself.

        Raises:
            IntegrityError: Another name, another target, a release that is too low, or a bundle that is revoked.
        """
        for what, got, expected in (
            ("is", manifest.name, self.name),
            ("was built for", manifest.target.name, self.target),
        ):
            if expected is not None and got != expected:
                raise _forbidden(f"the bundle {what} '{got}', this device takes '{expected}'")
        if manifest.release < self.lowest_release:
            raise _forbidden(f"'{manifest.name}' is release {manifest.release}, below {self.lowest_release}")
        if digest in self.revoked:
            raise _forbidden(f"'{manifest.name}' {digest[:16]} is revoked")

    def require_not_before(self, manifest: Manifest) -> None:
        """Lets a release pass that is not below any that ran, whatever became of the site since.

        Raises:
            ConfigError: The memory is damaged.
            IntegrityError: It is.
        """
        if manifest.release < (highest := self._highest()):
            raise _forbidden(f"'{manifest.name}' is release {manifest.release}, but release {highest} ran here")

    def remember(self, release: int) -> None:
        """Notes a release that is about to run.

        Raises:
            OSError: The memory cannot be written.
        """
        if self.memory is not None and release > self._highest():
            write_json(self.memory, {"release": release})

    def _highest(self) -> int:
        if self.memory is None or not self.memory.exists():
            return 0
        try:
            return int(read_json(self.memory)["release"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"cannot read '{self.memory}'", hint="it holds the highest release that ran") from error


class _Policy(Frozen):
    site: tuple[SitePolicy, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        roots = [os.path.realpath(site.root) for site in self.site]
        twice = sorted({root for root in roots if roots.count(root) > 1})
        if twice:
            raise ValueError(f"root '{twice[0]}' stands twice")
        return self


def read_policy(root: Path, file: Path | None = None) -> SitePolicy | None:
    """What is allowed at a site; None where the device has no policy.

    Args:
        root: The site.
        file: The policy; by default `POLICY`, which only root may have written. A file that somebody names may also be
            theirs.

    Raises:
        ConfigError: The file does not fit, somebody else may write it, or it does not name the site.
    """
    owners = {0} if file is None else {0, os.geteuid()}
    place = file or POLICY
    if file is None and not os.path.lexists(place):
        return None
    for path in (place, place.parent):
        _require_owned(path, owners)
    sites = read_declaration(place, _Policy, what="policy").site
    for site in sites:
        if os.path.realpath(site.root) == os.path.realpath(root):
            return site
    known = ", ".join(f"'{site.root}'" for site in sites)
    raise ConfigError(
        f"policy '{place}' names no site '{root}'; it names: {known}", hint="add a [[site]] with this root"
    )


def require_not_expired(manifest: Manifest, today: date) -> None:
    """Lets a bundle pass whose last day has not gone by.

    Raises:
        IntegrityError: It has.
    """
    if manifest.expires is not None and today > manifest.expires:
        raise IntegrityError(
            f"'{manifest.name}' expired on {manifest.expires}; here it is {today}",
            hint="build and deploy a newer bundle; or set this device's clock, if that is wrong",
        )


def require_not_lower(manifest: Manifest, release: int, what: str) -> None:
    """Lets a manifest pass whose release is as high as another one; `what` says what became of that.

    Raises:
        IntegrityError: It is lower.
    """
    if manifest.release < release:
        raise IntegrityError(
            f"'{manifest.name}' is release {manifest.release}, but {what.format(release)}",
            hint="deploy a later release, or allow the downgrade with --allow-downgrade",
        )


def _require_owned(path: Path, owners: set[int]) -> None:
    try:
        found = path.lstat()
    except OSError as error:
        raise ConfigError(f"cannot read policy '{path}': {error.strerror}", hint="check the path") from error
    kind = stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)
    if not kind or found.st_uid not in owners or found.st_mode & _LOOSE:
        raise ConfigError(
            f"'{path}' is owned by user {found.st_uid} with mode {stat.S_IMODE(found.st_mode):o}, expected root's own "
            "that nobody else may write",
            hint=f"chown root {path} && chmod go-w {path}",
        )


def _forbidden(reason: str) -> IntegrityError:
    return IntegrityError(f"the device's policy: {reason}", hint=f"root of the device decides, in {POLICY}")
