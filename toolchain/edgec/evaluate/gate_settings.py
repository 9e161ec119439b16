"""Gates: what a bundle must reach before it ships."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator
from typing_extensions import Self

from edgec.core.errors import unknown_name
from edgec.core.frozen import Frozen

__all__ = ["Gates", "Policy", "require_share"]


def require_share(value: float) -> float:
    """A share as it came.

    Raises:
        ValueError: Not from 0 to 1.
    """
    if 0 <= value <= 1:
        return value
    raise ValueError(f"got {value:g}, expected a share from 0 to 1, such as 0.9 for 90 %")


Share = Annotated[float, AfterValidator(require_share)]
Limit = Annotated[float, Field(gt=0)]


class Policy(str, Enum):
    """What a verdict rests on."""

    STRICT = "strict"
    """The estimate alone."""
    CONFIDENT = "confident"
    """A gate fails where a breach is proven; an estimate beyond the limit that may be chance does not block."""
    PROVE = "prove"
    """A gate passes where it is proven that it holds."""


class Gates(Frozen):
    """What the artifact must reach; a gate that is None is not checked. Accuracies, drops and errors are shares.

    `min_…` and `max_…` bound the measurement that the rest of the name says. A drop is the teacher's accuracy minus
    the artifact's, a regression that of the baseline bundle, the one deployed now, minus the artifact's.

    Attributes:
        min_class_accuracy: Floors for single classes, by name; `min_worst_class_accuracy` is one for all.
        min_corrupted_accuracy: On corrupted images; needs `[evaluate]` to have asked for them.
        min_ood_auroc: How well confidence tells test images from others; needs `[evaluate]` to have asked.
        max_class_drop: Bounds `accuracy_drop` of every class.
        max_class_regression: Bounds `regression` of every class.
        max_tail_drop: Of the mean over the rarest third of the classes; `max_tail_regression` is of the same mean.
        max_energy_j: Of one image, where the machine tells it.
        policy: Of all gates; None is `strict`, and `confident` for regressions.
        policies: Of single gates, by name.
        allow_predicted: Whether a predicted number may pass or fail a gate, where none was measured on the target.
    """

    min_accuracy: Share | None = None
    min_worst_class_accuracy: Share | None = None
    min_head_accuracy: Share | None = None
    min_medium_accuracy: Share | None = None
    min_tail_accuracy: Share | None = None
    min_macro_f1: Share | None = None
    min_teacher_agreement: Share | None = None
    min_class_accuracy: Mapping[str, Share] = Field(default_factory=dict)
    min_corrupted_accuracy: Share | None = None
    min_corrupted_worst_class_accuracy: Share | None = None
    min_ood_auroc: Share | None = None
    max_calibration_error: Share | None = None
    max_accuracy_drop: Share | None = None
    max_class_drop: Share | None = None
    max_tail_drop: Share | None = None
    max_macro_f1_drop: Share | None = None
    max_regression: Share | None = None
    max_class_regression: Share | None = None
    max_tail_regression: Share | None = None
    max_macro_f1_regression: Share | None = None
    max_latency_ms_p50: Limit | None = None
    max_latency_ms_p90: Limit | None = None
    max_latency_ms_p95: Limit | None = None
    max_latency_ms_p99: Limit | None = None
    max_size_bytes: Limit | None = None
    max_peak_memory_mb: Limit | None = None
    max_energy_j: Limit | None = None
    policy: Policy | None = None
    policies: Mapping[str, Policy] = Field(default_factory=dict)
    allow_predicted: bool = False

    @model_validator(mode="after")
    def _known_names(self) -> Self:
        names = [name for name in Gates.model_fields if name not in _HOW]
        for name in self.policies:
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1)
                raise ValueError(f"policies: no gate '{name}'" + (f"; did you mean '{near[0]}'?" if near else ""))
        return self

    @property
    def empty(self) -> bool:
        """Whether nothing is asked."""
        return not self.limits

    @property
    def limits(self) -> dict[str, Any]:
        """The gates that are set, by name, in the order of the fields."""
        return self.model_dump(exclude=_HOW, exclude_defaults=True)

    def require_classes(self, labels: Sequence[str]) -> None:
        """Refuses floors for classes that are not there.

        Raises:
            ConfigError: With the nearest name.
        """
        for label in self.min_class_accuracy:
            if label not in labels:
                raise unknown_name("class", label, labels)

    def policy_of(self, name: str) -> Policy:
        """What a gate's verdict rests on."""
        usual = Policy.CONFIDENT if name.endswith("regression") else Policy.STRICT
        return self.policies.get(name, self.policy or usual)


_HOW = {"policy", "policies", "allow_predicted"}
"""Fields that are no gates."""
