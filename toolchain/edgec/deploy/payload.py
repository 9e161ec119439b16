"""What a rollout brings: one bundle to all devices, or to each the member of a family that was built for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgec.core.errors import TransportError
from edgec.deploy.fleet import Device
from edgec.deploy.version import Version
from edgec.package import open_bundle
from edgec.package.archive import archive_bytes
from edgec.package.family import is_family, open_family

__all__ = ["FamilyPayload", "Payload", "read_payload"]


@dataclass(frozen=True, kw_only=True)
class Payload:
    """What is brought: a bundle as one archive."""

    version: Version
    archive: bytes

    @classmethod
    def of(cls, path: Path) -> Payload:
        """Reads a bundle, folder or archive, every file checked.

        Raises:
            DataError: No bundle.
            IntegrityError: A damaged one.
        """
        bundle = open_bundle(path)
        bundle.verify()
        archive = archive_bytes({name: bundle.source.read(name) for name in bundle.source.sizes})
        return cls(version=Version.of(bundle), archive=archive)

    @property
    def digest(self) -> str:
        """The bundle's identity."""
        return self.version.digest

    def for_device(self, device: Device) -> Payload:
        """Itself.

        Raises:
            TransportError: The bundle was built for another target than the device's.
        """
        if device.target and device.target != self.version.target:
            raise TransportError(
                f"the bundle was built for '{self.version.target}', the device is '{device.target}'",
                hint=f"edgec build --target {device.target}",
            )
        return self


@dataclass(frozen=True, kw_only=True)
class FamilyPayload:
    """What is brought of a family: to each device the member that was built for its target.

    Attributes:
        digest: The family's identity.
        members: By target.
    """

    digest: str
    members: Mapping[str, Payload]

    @property
    def version(self) -> Version:
        """The first member's, which has the family's name and release."""
        return next(iter(self.members.values())).version

    def for_device(self, device: Device) -> Payload:
        """The member for a device.

        Raises:
            TransportError: Nobody says which target the device is, or the family has no member for it.
        """
        there = ", ".join(self.members)
        if device.target is None:
            raise TransportError(
                f"which target '{device.name}' is, nobody says; the family has {there}",
                hint='name it in the fleet file, as in target = "raspberry-pi-5", or deploy one member alone',
            )
        if device.target not in self.members:
            raise TransportError(
                f"the family has no member for '{device.target}'; it has {there}",
                hint=f"edgec build --target {','.join([*self.members, device.target])}",
            )
        return self.members[device.target]


def read_payload(path: Path) -> Payload | FamilyPayload:
    """Reads a bundle or a family, every file checked.

    Raises:
        DataError: Neither is there.
        IntegrityError: It is damaged.
    """
    if not is_family(path):
        return Payload.of(path)
    family = open_family(path)
    return FamilyPayload(
        digest=family.digest, members={target: Payload.of(bundle.path) for target, bundle in family.members.items()}
    )
