"""Robust recovery is refused where no student would see the changed images."""

from __future__ import annotations

from typing import Any

import pytest

from edgec.core.errors import ConfigError
from edgec.core.progress import Silent
from edgec.pipeline.accelerator import Accelerator
from edgec.pipeline.config import read_config
from edgec.pipeline.plan import plan_build
from edgec.pipeline.sources import Sources
from edgec.pipeline.student_view import operations_of

NOISE = ("compress.robust", "noise")
PLAIN, ALONE = ("compress.variant", "plain"), ("compress.compare", ["plain"])


def bound(*settings: tuple[str, Any]) -> Sources:
    config = read_config(None, [("compress.compare", []), *settings])
    sources = Sources(plan_build(config, accelerator=Accelerator.CPU), Silent())
    sources.require_bound()
    return sources


def test_quantising_alone_has_no_student() -> None:
    with pytest.raises(ConfigError) as caught:
        bound(NOISE, ("compress.method", "none"))
    assert str(caught.value) == "compress.robust = 'noise': compress.method is 'none', so no student recovers"
    assert "quantize.train = true" in str(caught.value.hint)


def test_training_with_rounding_is_a_student() -> None:
    sources = bound(NOISE, ("compress.method", "none"), ("quantize.train", True), ("target", "jetson"))
    assert operations_of(sources.plan.config, compresses=sources.plan.compresses) == ("gaussian_noise",)


@pytest.mark.parametrize("method", ["mir", "practise"])
def test_methods_that_distil_can_in_every_variant(method: str) -> None:
    bound(NOISE, ("compress.method", method), PLAIN)
    bound(NOISE, ("compress.method", method), ALONE, ("compress.oefsmc.recover", "method"))


@pytest.mark.parametrize("method", ["cd", "fskd"])
def test_other_methods_can_where_they_are_recovered_jointly(method: str) -> None:
    bound(NOISE, ("compress.method", method))
    bound(PLAIN, ("compress.method", method))


@pytest.mark.parametrize("method", ["cd", "fskd"])
@pytest.mark.parametrize(
    ("setting", "variant", "hint"),
    [
        (PLAIN, "plain", "set compress.variant = 'ours'"),
        (ALONE, "plain", "take 'plain' out of compress.compare"),
        (("compress.oefsmc.recover", "method"), "ours", "set compress.oefsmc.recover = 'jointly'"),
        (("compress.oefsmc.parts", ["finetuning"]), "ours", "set compress.oefsmc.recover = 'jointly'"),
    ],
)
def test_other_methods_alone_are_refused(method: str, setting: tuple[str, Any], variant: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        bound(NOISE, ("compress.method", method), setting)
    assert str(caught.value) == (
        f"compress.robust = 'noise': variant '{variant}' of method '{method}' recovers in a way of its own, which "
        "shows no images to a student"
    )
    assert str(caught.value.hint).startswith(hint)
