"""`fleet.toml`: which devices there are, how to reach them and what they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from edgec.core.declaration import read_declaration
from edgec.core.errors import ConfigError, unknown_name
from edgec.core.frozen import Frozen
from edgec.core.target import target_name
from edgec.deploy.address import Address

__all__ = ["Defaults", "Device", "Fleet", "chosen", "read_fleet"]

_Text = Annotated[str, Field(min_length=1, pattern=r"^[^\x00-\x1f\x7f]+$")]


class Defaults(Frozen):
    """What holds for every device that does not say otherwise.

    Attributes:
        target: The device profile that bundles must be built for.
        python: On the device: the Python with edgec. Default: edgec on the PATH, else ROOT/venv/bin/python.
        key: Here: a private key to log in with, besides those of ssh-agent and ~/.ssh.
        known_hosts: Here: the file of host keys. Default: ~/.ssh/known_hosts.
        signed_by: On the device: the public key, PEM, by which a bundle must be signed there.
        restart: On the device, in ROOT: a command after the switch.
        health: On the device, after the restart: a command; where it fails, the device goes back to the version before.
    """

    target: _Text | None = None
    python: _Text | None = None
    key: Path | None = None
    known_hosts: Path | None = None
    signed_by: Path | None = None
    restart: _Text | None = None
    health: _Text | None = None

    @field_validator("target")
    @classmethod
    def _named(cls, target: str | None) -> str | None:
        return target and target_name(target)


class Device(Defaults):
    """A `[[device]]`.

    Attributes:
        name: Short, for tables and `--only`.
        url: Where its site is.
        labels: Groups that it belongs to, for `--only`.
    """

    name: _Text
    url: str
    labels: tuple[_Text, ...] = ()

    @field_validator("url")
    @classmethod
    def _readable(cls, url: str) -> str:
        try:
            Address.parse(url)
        except ConfigError as error:
            raise ValueError(f"{error}; {error.hint}") from error
        return url

    @property
    def address(self) -> Address:
        """The URL's parts."""
        return Address.parse(self.url)


class Fleet(Frozen):
    """The file."""

    defaults: Defaults = Defaults()
    device: tuple[Device, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for what, values in (
            ("name", [device.name for device in self.device]),
            ("url", [str(device.address) for device in self.device]),
        ):
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"{what} '{twice[0]}' stands twice")
        return self

    @property
    def devices(self) -> tuple[Device, ...]:
        """The devices, with the defaults in the place of what they do not say."""
        common = self.defaults.model_dump(exclude_none=True)
        return tuple(device.model_copy(update=_missing(device, common)) for device in self.device)


def read_fleet(path: Path) -> tuple[Device, ...]:
    """The devices of a `fleet.toml`; its relative paths begin at the file's folder.

    Raises:
        ConfigError: The file is missing or does not fit.
    """
    fleet = read_declaration(path, Fleet, what="fleet")
    return tuple(
        device.model_copy(update={name: _place(getattr(device, name), path.parent) for name in ("key", "known_hosts")})
        for device in fleet.devices
    )


def chosen(devices: Sequence[Device], only: Sequence[str]) -> tuple[Device, ...]:
    """The devices with one of these names or labels, in the fleet's order; all of them where nothing is asked for.

    Raises:
        ConfigError: A name that neither a device nor a label has.
    """
    known = {device.name for device in devices} | {label for device in devices for label in device.labels}
    for name in only:
        if name not in known:
            raise unknown_name("device or label", name, known)
    wanted = set(only)
    return tuple(device for device in devices if not wanted or wanted & {device.name, *device.labels})


def _missing(device: Device, common: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in common.items() if getattr(device, name) is None}


def _place(path: Path | None, folder: Path) -> Path | None:
    return folder / path.expanduser() if path else None
