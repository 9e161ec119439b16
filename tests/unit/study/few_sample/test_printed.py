"""What a study prints at its end, on terminals of any width."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgec.cli.study_tables import print_few_sample
from edgec.study.few_sample.findings import Findings

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    def printed(findings: Findings, columns: int = 120) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(columns))
        print_few_sample(findings, Path("out"))
        return [line.rstrip() for line in capsys.readouterr().out.splitlines()]

    return printed


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_the_table_fits_the_terminal(
    find: Callable[..., Findings], printed: Callable[..., list[str]], columns: int
) -> None:
    lines = printed(find(methods=("practise",), without=("compression",), labels=CIFAR10), columns)
    table = lines[: lines.index("")]
    assert max(map(len, table)) <= columns
    words = " ".join(table).split()
    for shown in ("teacher", "practise", "ours", "without", "worst", "s/run"):
        assert shown in words
    assert ("tail" in words) == ("published" in words) == (columns == 120)


def test_every_draw_has_a_table_of_its_own(find: Callable[..., Findings], printed: Callable[..., list[str]]) -> None:
    lines = printed(find(samples=(10, 50)))
    assert [line for line in lines if line.endswith("samples at imbalance 100") and ":" not in line] == [
        "10 samples at imbalance 100",
        "50 samples at imbalance 100",
    ]
    assert sum(line.startswith("teacher") for line in lines) == 2


def test_of_several_methods_the_mean_gain_is_told(
    find: Callable[..., Findings], printed: Callable[..., list[str]]
) -> None:
    several, one = printed(find()), printed(find(methods=("mir",)))
    pairs = ["paper over plain", "few over plain", "ours over few", "ours over plain"]
    assert [line.split(": ")[0] for line in several if " over " in line] == [f"all methods {pair}" for pair in pairs]
    assert [line.split(": ")[0] for line in one if " over " in line] == [f"mir {pair}" for pair in pairs]


def test_a_reason_that_looks_like_markup_is_shown_as_it_is(
    find: Callable[..., Findings], printed: Callable[..., list[str]]
) -> None:
    lines = printed(find(methods=("[/b]",), inapplicable=("[/b]",)))
    assert any(line.startswith("[/b] plain") for line in lines)
    assert lines[-1] == "out/results.md"
