"""Laws of refusal: no bundle that somebody tampered with is accepted, breaks the reader or reaches outside of it.

`benchmarks/mutations.py` tries a thousand mutants of a bundle; this tries some of each kind.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("OpenSSL", reason="needs the extra signing")

import mutations
from support.mutants.specimen import written

OF_EACH = 10
"""Mutants of each of the 25 kinds and more."""


@pytest.fixture(scope="module")
def specimen(digits: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return mutations.make_specimen(digits.bundle, tmp_path_factory.mktemp("specimen") / "key")


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return mutations.Watch(tmp_path_factory.mktemp("scratch"))


def seeded(seed: str) -> random.Random:
    return random.Random(seed)  # noqa: S311 - repeatable, and no secret


def test_every_kind_of_mutant_is_refused_and_stays_inside(specimen: Any, watch: Any, tmp_path: Path) -> None:
    for kind, mutate in mutations.KINDS.items():
        for seed in range(OF_EACH):
            outcome = mutations.try_mutant(kind, mutate, specimen, tmp_path, seeded(f"{kind} {seed}"), watch)
            assert (outcome.verdict, outcome.escapes) == ("refused", ()), (kind, seed, outcome.said)


def test_every_edited_record_of_the_cache_is_made_again(tmp_path: Path) -> None:
    outcomes = list(mutations.run_records(tmp_path, count=200, seed=0))
    assert {outcome.verdict for outcome in outcomes} == {"refused"}


@pytest.mark.parametrize("archive", [False, True])
def test_the_specimen_itself_is_accepted(specimen: Any, watch: Any, tmp_path: Path, archive: bool) -> None:
    """Else the law would hold of a reader that refuses everything."""
    for files, fits in ((specimen.files, False), (specimen.other, False), (specimen.fitting({}), True)):

        def same(_: Any, place: Path, __: random.Random, files: Any = files, fits: bool = fits) -> Any:
            return written(files, place, archive=archive, fits=fits)

        outcome = mutations.try_mutant("none", same, specimen, tmp_path, seeded("none"), watch)
        assert (outcome.verdict, outcome.escapes) == ("accepted", ()), outcome.said


def test_what_reaches_outside_is_noted(watch: Any, tmp_path: Path) -> None:
    """Else the law would hold of a watch that sees nothing."""
    with watch:
        (tmp_path / "canary").write_bytes(b"")
        (watch.scratch / "own").write_bytes(b"")
        (tmp_path / "canary").unlink()
        sys.audit("os.system", b"true")
    assert watch.seen == [f"open {tmp_path / 'canary'}", f"os.remove {tmp_path / 'canary'}", "os.system (b'true',)"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems forget no peak")
def test_memory_that_is_taken_with_a_key_is_seen(
    specimen: Any, watch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def greedy(*_: str) -> tuple[int, str, str]:
        return 4, "", f"error: {len(bytearray(1) * (50 << 20))}\nhint: none"

    monkeypatch.setattr(mutations, "_edgec", greedy)
    kind = mutations.KINDS["cut"]
    taken = [mutations.try_mutant("cut", kind, specimen, tmp_path, seeded("cut"), watch).taken_bytes for _ in range(2)]
    assert min(taken) > 40 << 20
