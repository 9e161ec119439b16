"""fleet.toml."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgec.core.errors import ConfigError
from edgec.deploy.fleet import chosen, read_fleet

PAGE = Path(__file__).parents[3] / "docs" / "deploy.md"
FLEET = """
[defaults]
target = "rpi5"
python = "/opt/edgec/bin/python"
key = "keys/fleet"

[[device]]
name = "line-1"
url = "ssh://edge@10.0.0.11/srv/model"
labels = ["north"]

[[device]]
name = "line-2"
url = "ssh://edge@10.0.0.12/srv/model"
labels = ["north", "spare"]
target = "jetson"

[[device]]
name = "gate"
url = "ssh://edge@10.0.0.13/srv/model"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "fleet.toml").write_text(FLEET)
    return tmp_path / "fleet.toml"


def test_defaults_hold_where_a_device_does_not_say_otherwise(path: Path) -> None:
    devices = read_fleet(path)
    assert [device.target for device in devices] == ["raspberry-pi-5", "jetson-orin-nano-8gb", "raspberry-pi-5"]
    assert {device.python for device in devices} == {"/opt/edgec/bin/python"}


def test_relative_paths_begin_at_the_file(path: Path) -> None:
    assert {device.key for device in read_fleet(path)} == {path.parent / "keys" / "fleet"}
    path.write_text(FLEET.replace("keys/fleet", "/etc/keys/fleet"))
    assert {device.key for device in read_fleet(path)} == {Path("/etc/keys/fleet")}


@pytest.mark.parametrize(
    ("only", "names"),
    [
        ((), ["line-1", "line-2", "gate"]),
        (("north",), ["line-1", "line-2"]),
        (("gate", "spare"), ["line-2", "gate"]),
    ],
)
def test_devices_are_chosen_by_name_or_label(path: Path, only: tuple[str, ...], names: list[str]) -> None:
    assert [device.name for device in chosen(read_fleet(path), only)] == names


def test_a_name_that_nobody_has_is_refused_with_the_nearest(path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown device or label 'nort'") as refused:
        chosen(read_fleet(path), ["nort"])
    assert refused.value.hint == "did you mean 'north'?"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"gate"', '"line-1"', "name 'line-1' stands twice"),
        ("10.0.0.13", "10.0.0.11", "url 'ssh://edge@10.0.0.11/srv/model' stands twice"),
        ("ssh://edge@10.0.0.13", "10.0.0.13", r"field 'device\.2\.url': .*not an ssh URL"),
        ("python =", "pyhton =", r"unknown key 'defaults\.pyhton'"),
    ],
)
def test_a_fault_is_told_in_one_line(path: Path, old: str, new: str, message: str) -> None:
    path.write_text(FLEET.replace(old, new))
    with pytest.raises(ConfigError, match=message):
        read_fleet(path)


def test_a_fleet_without_devices_is_refused(path: Path) -> None:
    path.write_text("device = []\n")
    with pytest.raises(ConfigError, match="field 'device'"):
        read_fleet(path)


def test_the_fleet_of_the_documentation_can_be_read(path: Path) -> None:
    block = re.search(r"^```text fleet\.toml\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert block
    path.write_text(block[1])
    assert [device.name for device in read_fleet(path)] == ["line-1", "line-2"]
