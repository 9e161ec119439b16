"""The whole of `edgec tune`: the search, the build of what it chose, the page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgec.core.progress import Progress
from edgec.package import require_replaceable
from edgec.pipeline.build import Built, build
from edgec.tuning.candidate import Tuned, winner
from edgec.tuning.search import PAGE, Limits, Search, keep

__all__ = ["Finished", "tune"]


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
    bundle = folder / f"{search.plan.config.name}-{search.plan.target.name}"
    require_replaceable(bundle)
    tuned = search.run(folder, limits, progress=progress)
    best, built = winner(tuned), None
    if best is not None:
        plan = search.plan_of({**best.settings, "report.chosen_from": len(tuned.candidates)})
        built = build(plan, store=search.store, output=bundle, progress=progress)
    elif bundle.exists():
        progress.note(f"'{bundle}' is what an earlier search chose; this one chose nothing")
    tuned = tuned.model_copy(update={"chosen": best and best.number})
    keep(tuned, folder)
    return Finished(tuned=tuned, page=folder / PAGE, built=built)
