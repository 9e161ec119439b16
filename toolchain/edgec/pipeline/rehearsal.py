"""What a build does before anything is trained, without its results: what would fail later is found now."""

from __future__ import annotations

from edgec.core.progress import Progress
from edgec.pipeline.build import require_build_extra, require_trainable
from edgec.pipeline.plan import Plan
from edgec.pipeline.sources import Sources
from edgec.pipeline.stages import data, package
from edgec.pipeline.store import Store

__all__ = ["rehearse"]


def rehearse(plan: Plan, store: Store, progress: Progress) -> None:
    """Loads the weights, opens every image once, compares both, and tries whether the model can be exported.

    Args:
        plan: A bound build.
        store: What lies there has been through it.
        progress: Told what a build would tell, and how many images there are.

    Raises:
        EdgecError: What the build would end with.
    """
    if store.holds(package.key(plan)):
        return
    require_build_extra()
    sources = Sources(plan, progress)
    sources.require_bound()
    require_trainable(sources, store)
    if not store.holds(data.key(plan)):
        _, facts = data.prepare(sources)
        progress.note(f"images: {', '.join(f'{split.n} {split.name}' for split in facts.data.splits)}")
