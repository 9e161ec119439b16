"""Families: an index and the members that it names, no other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edgec.core.errors import ConfigError, DataError, IntegrityError, TransportError
from edgec.deploy.fleet import Device
from edgec.deploy.payload import FamilyPayload, Payload, read_payload
from edgec.package import open_bundle, write_archive
from edgec.package.family import FAMILY, bundles_at, is_family, open_family, require_family_place, write_family

TARGETS = ("jetson-orin-nano-8gb", "raspberry-pi-5")


@pytest.fixture
def family(make_family: Callable[..., Path]) -> Path:
    return make_family(*TARGETS)


def device(target: str | None) -> Device:
    return Device(name="line-1", url="ssh://edge@10.0.0.11/srv/model", target=target)


def test_members_stand_in_the_order_in_which_they_were_built(family: Path) -> None:
    opened = open_family(family)
    assert list(opened.members) == list(TARGETS)
    assert bundles_at(family) == tuple(family / target for target in TARGETS)
    assert opened.member("raspberry-pi-5").manifest.target.name == "raspberry-pi-5"
    with pytest.raises(DataError, match="no member for 'host'; it has jetson-orin-nano-8gb, raspberry-pi-5"):
        opened.member("host")


def test_a_bundle_is_no_family(bundle: Path) -> None:
    assert not is_family(bundle)
    assert bundles_at(bundle) == (bundle,)
    with pytest.raises(DataError, match="is no family"):
        open_family(bundle)


def swap(family: Path) -> None:
    (family / TARGETS[0]).rename(family / "kept")
    (family / TARGETS[1]).rename(family / TARGETS[0])
    (family / "kept").rename(family / TARGETS[1])


def rebuild(family: Path) -> None:
    path = family / TARGETS[0] / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"release": 7}))


def lead_out(family: Path) -> None:
    shutil.copytree(family / TARGETS[0], family.parent / "outside")
    index = json.loads((family / FAMILY).read_bytes())
    index["members"]["../outside"] = index["members"][TARGETS[0]]
    (family / FAMILY).write_text(json.dumps(index))


@pytest.mark.parametrize("tamper", [swap, rebuild, lead_out, lambda family: (family / FAMILY).write_bytes(b"{")])
def test_what_the_index_does_not_name_is_refused(family: Path, tamper: Callable[[Path], None]) -> None:
    tamper(family)
    with pytest.raises(IntegrityError):
        open_family(family)


def test_a_member_that_is_missing_is_told(family: Path) -> None:
    shutil.rmtree(family / TARGETS[1])
    with pytest.raises(DataError, match="raspberry-pi-5"):
        open_family(family)


def test_a_folder_of_somebody_is_not_replaced(family: Path, bundle: Path, tmp_path: Path) -> None:
    require_family_place(family)
    require_family_place(tmp_path / "new")
    fonts = tmp_path / "fonts"
    fonts.mkdir()
    (fonts / FAMILY).write_text('{"name": "Helvetica"}')
    for taken in (bundle, family / FAMILY, fonts):
        with pytest.raises(ConfigError, match="is no family"):
            require_family_place(taken)


class TestPayloads:
    """Which bundle a device gets."""

    def test_each_device_gets_the_member_for_its_target(self, family: Path) -> None:
        payload = read_payload(family)
        assert isinstance(payload, FamilyPayload)
        assert payload.digest == open_family(family).digest
        for target in TARGETS:
            own = payload.for_device(device(target))
            assert own.digest == open_bundle(family / target).digest

    @pytest.mark.parametrize(("target", "told"), [("host", "no member for 'host'"), (None, "nobody says")])
    def test_no_device_gets_another_s(self, family: Path, target: str | None, told: str) -> None:
        with pytest.raises(TransportError, match=told):
            read_payload(family).for_device(device(target))

    def test_an_alias_names_the_target(self, family: Path) -> None:
        assert read_payload(family).for_device(device("rpi5")).version.target == "raspberry-pi-5"

    def test_a_bundle_goes_to_its_own_target_and_to_those_that_name_none(self, family: Path) -> None:
        archive = write_archive(family / TARGETS[0], family.parent / "one.edgec")
        payload = read_payload(archive)
        assert isinstance(payload, Payload)
        assert payload.for_device(device(None)) is payload.for_device(device("jetson")) is payload
        with pytest.raises(TransportError, match="built for 'jetson-orin-nano-8gb', the device is 'raspberry-pi-5'"):
            payload.for_device(device("raspberry-pi-5"))


def test_members_of_another_name_are_no_family(family: Path) -> None:
    write_family(family, "dogs", open_family(family).members)
    with pytest.raises(IntegrityError, match="not the member"):
        open_family(family)
