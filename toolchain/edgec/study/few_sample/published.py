"""What the paper reports (OE-FSMC, arXiv 2502.05832, Tables 1 and 2), to stand beside our own figures.

Top-1 accuracy in percent, means of five runs. The few-sample draws are exponential at a ratio of 100, or balanced.
Table 2's caption and the paper's text give VGG-16 and ResNet-32 to CIFAR-10 and CIFAR-100 the one way and the other;
its rows without OE-FSMC are those of Table 1, which is VGG-16 on CIFAR-10 by both, so the caption is followed.
ILSVRC-2012 is left out: its class names differ from copy to copy.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from edgec.study.few_sample.grid import Cell, VariantKind

__all__ = ["Figure", "published"]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure of the paper.

    Attributes:
        accuracy: Top-1, a share.
        setting: Network and data set.
        table: Its number in the paper.
        remark: What speaks against it; empty where nothing does.
    """

    accuracy: float
    setting: str
    table: int
    remark: str = ""


@dataclass(frozen=True, kw_only=True)
class _Table:
    """Columns of one data set: method to percent, in the order of `samples`."""

    setting: str
    samples: tuple[int, ...]
    rows: dict[tuple[VariantKind, float], dict[str, tuple[float, ...]]]


_CIFAR10 = _Table(
    setting="VGG-16 on CIFAR-10",
    samples=(10, 20, 50, 100),
    rows={
        ("plain", 1): {
            "cd": (73.89, 81.65, 82.86, 83.56),
            "fskd": (76.18, 84.20, 88.63, 89.18),
            "mir": (75.42, 79.18, 84.27, 85.71),
            "practise": (76.91, 82.07, 86.35, 89.71),
        },
        ("plain", 100): {
            "cd": (70.34, 76.39, 80.47, 82.24),
            "fskd": (73.51, 81.66, 86.31, 87.41),
            "mir": (72.84, 76.57, 82.49, 83.85),
            "practise": (75.78, 81.26, 85.98, 89.35),
        },
        ("paper", 100): {
            "cd": (78.90, 81.02, 82.80),
            "fskd": (75.93, 84.67, 88.24),
            "mir": (75.25, 77.93, 83.60),
            "practise": (76.59, 81.77, 86.25),
        },
    },
)
_CIFAR100 = _Table(
    setting="ResNet-32 on CIFAR-100",
    samples=(100, 200, 500),
    rows={
        ("plain", 100): {
            "cd": (53.38, 62.71, 67.40),
            "fskd": (57.78, 63.29, 68.15),
            "mir": (57.69, 64.92, 68.70),
            "practise": (58.42, 65.14, 69.02),
        },
        ("paper", 100): {
            "cd": (56.33, 65.18, 68.84),
            "fskd": (59.46, 65.88, 69.17),
            "mir": (60.37, 66.53, 69.83),
            "practise": (69.57, 66.08, 69.62),
        },
    },
)
_CIFAR10_CLASSES = {
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
}
_OF_CIFAR100 = {"aquarium_fish", "lawn_mower", "pickup_truck", "sweet_pepper", "willow_tree"}
"""Names that hardly stand together in another set of 100 classes."""
_OUTLIER = "as printed; an outlier among its neighbours, probably 59.57"


def published(cell: Cell, labels: Collection[str], *, profile: str, at_least: int) -> Figure | None:
    """The paper's figure for a cell, where data set, method and draw are equal.

    Its draws leave rare classes empty: beside draws that give every class a sample they would mislead.

    Args:
        cell: Ours.
        labels: Class names, which tell the data set.
        profile: How our counts fall from class to class.
        at_least: Samples that our draws give every class.
    """
    table = _table(labels)
    if table is None or cell.samples not in table.samples or cell.variant.without not in (None, "nothing"):
        return None
    if cell.imbalance > 1 and (profile != "exponential" or at_least > 0):
        return None
    figures = table.rows.get((cell.variant.kind, cell.imbalance), {}).get(cell.method, ())
    column = table.samples.index(cell.samples)
    if column >= len(figures):
        return None
    return Figure(
        accuracy=round(figures[column] / 100, 4),
        setting=table.setting,
        table=1 if table is _CIFAR10 and cell.variant.kind == "plain" else 2,
        remark=_OUTLIER if figures[column] == 69.57 else "",
    )


def _table(labels: Collection[str]) -> _Table | None:
    if set(labels) == _CIFAR10_CLASSES:
        return _CIFAR10
    return _CIFAR100 if len(labels) == 100 and set(labels) >= _OF_CIFAR100 else None
