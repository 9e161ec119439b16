"""What `[evaluate]` asks for, and that nothing is opened where it asks for nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from edgec.core.progress import Silent
from edgec.pipeline import robustness
from edgec.pipeline.config import EvaluateConfig


def sources(**asked: int) -> Any:
    data = SimpleNamespace(ood="pool", ood_count=3, max_unreadable=0.25)
    config = SimpleNamespace(evaluate=EvaluateConfig(**asked), seed=4)
    plan = SimpleNamespace(config=config, data=data, model=SimpleNamespace(input="spec"))
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
