"""The whole of `edgec tune`: the search, the build of what it chose, the page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgec.core.files import write_bytes, write_json
from edgec.core.progress import Progress
from edgec.pipeline.build import Built, build
from edgec.tuning.candidate import Tuned, winner
from edgec.tuning.page import render_tuned
from edgec.tuning.search import FILE, Limits, Search

__all__ = ["PAGE", "Finished", "tune"]

PAGE = "tune.html"


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What a search came to.

    Attributes:
        tuned: Every candidate.
        page: The front, to look at.
        built: The bundle of the one that was chosen; None where no candidate is good enough.
    """

    tuned: Tuned
    page: Path
    built: Built | None


def tune(search: Search, folder: Path, limits: Limits, *, progress: Progress) -> Finished:
    """Searches, builds the fastest candidate that is good enough, and draws the page.

    Args:
        search: What to try.
        folder: Gets `tune.json`, `tune.html` and the bundle.
        limits: When to end.
        progress: Told of every candidate, then of the build.

    Raises:
        EdgecError: As `Search.run` and `build`.
    """
    tuned = search.run(folder, limits, progress=progress)
    best, built = winner(tuned), None
    if best is not None:
        plan = search.plan_of({**best.settings, "report.chosen_from": len(tuned.candidates)})
        bundle = folder / f"{tuned.name}-{tuned.target}"
        built = build(plan, store=search.store, output=bundle, progress=progress)
    tuned = tuned.model_copy(update={"chosen": best and best.number})
    write_json(folder / FILE, tuned.model_dump(mode="json"))
    write_bytes(folder / PAGE, render_tuned(tuned).encode())
    return Finished(tuned=tuned, page=folder / PAGE, built=built)
