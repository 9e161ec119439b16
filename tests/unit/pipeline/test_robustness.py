"""What `[evaluate]` asks for, and that nothing is opened where it asks for nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from edgec.core.progress import Silent
from edgec.evaluate.corruptions import KINDS
from edgec.learn.config import Budget, DeckConfig
from edgec.pipeline import robustness
from edgec.pipeline.config import EvaluateConfig
from edgec.quantize.config import QuantizeConfig


def sources(robust: str = "none", **asked: int) -> Any:
    data = SimpleNamespace(ood="pool", ood_count=3, max_unreadable=0.25)
    learning = {
        "compress": Budget.model_validate({"robust": robust}),
        "quantize": QuantizeConfig(),
        "deck": DeckConfig(),
    }
    config = SimpleNamespace(evaluate=EvaluateConfig(**asked), seed=4, **learning)
    plan = SimpleNamespace(
        config=config, data=data, model=SimpleNamespace(input="spec"), compresses=True, is_deck=False
    )
    return SimpleNamespace(plan=plan, progress=Silent(), test="test")


def test_no_model_is_opened_where_nothing_is_asked() -> None:
    def models() -> Any:
        pytest.fail("opened")

    images: Any = None
    assert robustness.robustness_measurements(sources(), images, models) == ([], [])


def test_unseen_ood_are_read_as_patiently_as_the_other_images(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    class Read(Exception):  # noqa: N818 - ends the test
        pass

    def load(path: str, spec: str, **how: Any) -> None:
        seen.update(how, path=path, spec=spec)
        raise Read

    monkeypatch.setattr("edgec.data.load_ood", load)
    images: Any = None
    with pytest.raises(Read):
        robustness.robustness_measurements(sources(unseen_ood=5), images, dict)
    assert (seen["path"], seen["max_unreadable"], seen["count"], seen["seed"]) == ("pool", 0.25, 13, 5)


def test_tested_kinds_are_told_apart_by_what_was_trained_on() -> None:
    groups = robustness.kinds_by_training(("gaussian_noise", "gaussian_blur", "augmix"))
    assert groups["seen"] == ("gaussian_noise",)
    assert set(groups["related"]) == {
        *("shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur")
    }
    assert sorted(kind for its in groups.values() for kind in its) == sorted(KINDS)
    assert robustness.kinds_by_training(("augmix",)) == {"unseen": tuple(KINDS)}


def test_the_report_says_what_robust_recovery_was_trained_on_also_where_nothing_was_corrupted() -> None:
    images: Any = None
    rows, (note,) = robustness.robustness_measurements(sources("noise"), images, dict)
    assert rows == []
    assert note == (
        "robust recovery: the student saw images changed by gaussian noise; corrupted test images were not measured: "
        "set evaluate.corrupted"
    )
