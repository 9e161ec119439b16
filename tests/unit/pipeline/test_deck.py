"""Decks in a plan: members, what is refused, and which stages follow from which setting."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pydantic import ValidationError

from edgec.core.errors import ConfigError, UnsupportedError
from edgec.pipeline.accelerator import Accelerator
from edgec.pipeline.build import stage_keys
from edgec.pipeline.config import read_config
from edgec.pipeline.plan import Plan, plan_build
from edgec.pipeline.student_view import operations_of

MEMBERS = ("deck.members", ["none", "mixed"])
PlanOf = Callable[..., Plan]


def plan(*settings: tuple[str, object], target: str = "x86-vnni") -> Plan:
    return plan_build(read_config(None, [("target", target), *settings]), accelerator=Accelerator.CPU)


def keys(of: Plan) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key in stage_keys(of):
        found.setdefault(key.stage, []).append(key.key)
    return found


def test_members_differ_in_what_their_students_see() -> None:
    members = plan(MEMBERS).members
    assert [member.config.compress.robust for member in members] == ["none", "mixed"]
    assert plan().members == (plan(),)


def test_a_deck_shares_with_the_builds_of_its_members_all_but_the_joined_graph() -> None:
    deck, plain, robust = keys(plan(MEMBERS)), keys(plan()), keys(plan(("compress.robust", "mixed")))
    for stage in ("compress", "export", "calibrate", "quantize"):
        assert deck[stage] == plain[stage] + robust[stage]
    assert (len(deck["deck"]), "deck" in plain) == (1, False)
    assert deck["evaluate"] != plain["evaluate"]
    assert deck["data"] == plain["data"]


def test_the_share_of_changed_views_changes_the_gate_and_nothing_before() -> None:
    one, other = keys(plan(MEMBERS)), keys(plan(MEMBERS, ("deck.share", 0.5)))
    changed = {stage for stage in one if one[stage] != other[stage]}
    assert changed == {"deck", "evaluate", "package"}


def test_a_deck_of_one_is_the_build_of_its_member() -> None:
    alone = plan(("deck.members", ["mixed"]))
    assert not alone.is_deck
    robust = keys(plan(("compress.robust", "mixed")))
    assert {stage: key for stage, key in keys(alone).items() if stage not in ("evaluate", "package")} == {
        stage: key for stage, key in robust.items() if stage not in ("evaluate", "package")
    }


def test_the_operations_of_a_deck_are_those_of_all_its_members() -> None:
    config = plan(("deck.members", ["none", "noise", "augmix"])).config
    assert operations_of(config, compresses=True) == ("gaussian_noise", "augmix")
    assert operations_of(config, compresses=False) == ()


@pytest.mark.parametrize(
    ("settings", "target", "error", "says"),
    [
        ([("compress.method", "none")], "x86-vnni", ConfigError, "is not compressed"),
        ([], "jetson", UnsupportedError, "a deck runs in onnxruntime"),
        ([], "intel-n100", UnsupportedError, "a deck runs in onnxruntime"),
        ([("compress.robust", "noise")], "x86-vnni", ConfigError, "deck.members are none, mixed"),
        (
            [("deck.members", ["mixed", "none"]), ("compress.robust", "mixed")],
            "x86-vnni",
            ConfigError,
            "deck.members are",
        ),
    ],
)
def test_decks_that_cannot_be_are_refused(
    settings: list[tuple[str, object]], target: str, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        plan(MEMBERS, *settings, target=target)


def test_a_member_is_named_once() -> None:
    with pytest.raises((ConfigError, ValidationError), match="named twice"):
        plan(("deck.members", ["noise", "noise"]))
