"""Registries: names to functions, third parties' entries, and what is said about an unknown name."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from pydantic import BaseModel

from edgec.core import registry as module
from edgec.core.errors import ConfigError
from edgec.core.registry import Registry


class Config(BaseModel):
    strength: float = 1.0


@dataclass
class EntryPoint:
    """Stands for what `importlib.metadata` finds: loading it runs a third party's registration."""

    registry: Registry
    loads: int = 0

    def load(self) -> None:
        self.loads += 1
        self.registry.register("theirs", Config)(max)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setattr(module, "entry_points", lambda group: [])
    return Registry("compression method")


def test_a_registered_function_is_found_with_its_config_and_is_left_as_it_was(registry: Registry) -> None:
    assert registry.register("ours", Config)(min) is min
    entry = registry["ours"]
    assert (entry.name, entry.function, entry.config, entry.requires) == ("ours", min, Config, None)


def test_what_a_function_requires_is_found_with_it(registry: Registry) -> None:
    registry.register("ours", Config, requires=max)(min)
    assert registry["ours"].requires is max


def test_names_are_listed_in_order_whatever_the_order_of_registration(registry: Registry) -> None:
    for name in ("mir", "cd", "fskd"):
        registry.register(name, Config)(min)
    assert list(registry) == ["cd", "fskd", "mir"]


def test_a_name_cannot_be_taken_twice(registry: Registry) -> None:
    registry.register("mir", Config)(min)
    with pytest.raises(ValueError, match="compression method 'mir' is registered twice"):
        registry.register("mir", Config)(max)
    assert registry["mir"].function is min


def test_an_unknown_name_says_what_kind_of_thing_is_known(registry: Registry) -> None:
    registry.register("mir", Config)(min)
    with pytest.raises(ConfigError, match="unknown compression method 'mirr'; known: mir") as caught:
        registry["mirr"]
    assert caught.value.hint == "did you mean 'mir'?"


def test_two_registries_share_nothing(registry: Registry) -> None:
    registry.register("mir", Config)(min)
    assert list(Registry("observer")) == []


def test_third_parties_are_asked_for_once_by_the_kinds_group(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry("compression method")
    entry, groups = EntryPoint(registry), []
    monkeypatch.setattr(module, "entry_points", lambda group: groups.append(group) or [entry])
    assert registry["theirs"].function is max
    assert list(registry) == ["theirs"]
    assert (groups, entry.loads) == (["edgec.compression_method"], 1)
