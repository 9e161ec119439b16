"""Runs of a study without any net, for processes of a pool: what each does is in its name."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from edgec.core.errors import DataError
from edgec.core.progress import Progress
from edgec.pipeline.store import StageKey, Store
from edgec.study.runs import Hands


class Made(BaseModel):
    """What a run comes to."""

    title: str


@dataclass(frozen=True, kw_only=True)
class TinyRun:
    """A run that does what its words say: `kill`, `kill-once`, `fail`, `crash`, `slow`, `note`."""

    title: str
    folder: Path
    cell: str = ""
    shares: str | None = None

    @property
    def key(self) -> StageKey:
        return StageKey(stage="tiny", settings=self.title, sources={})

    @property
    def before(self) -> tuple[StageKey, ...]:
        return () if self.shares is None else (StageKey(stage="shared", settings=self.shares, sources={}),)


def open_tiny(store: Store, progress: Progress) -> Hands[TinyRun, Made]:
    """Makes such runs; every making leaves a line in `log` below the run's folder."""

    def make(run: TinyRun) -> Made:
        for key in run.before:
            store.get(key, Made, lambda _: worked(run, f"shared {run.shares}"))
        return store.get(run.key, Made, lambda _: worked(run, run.title)).facts

    def worked(run: TinyRun, what: str) -> Made:
        with (run.folder / "log").open("a") as log:
            log.write(f"{what}\n")
        if what == run.title:
            act(run, progress)
        return Made(title=what)

    return Hands(title="tiny study", prepare=lambda: None, make=make)


def act(run: TinyRun, progress: Progress) -> Any:
    words = run.title.split()
    first = run.folder / f"{run.title}.tried"
    if "kill" in words or ("kill-once" in words and not first.exists()):
        first.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if "fail" in words:
        raise DataError(f"{run.title} went wrong", hint="mend it")
    if "crash" in words:
        raise ZeroDivisionError(run.title)
    if "note" in words:
        progress.note("all say this")
    if "slow" in words:
        time.sleep(1.0)
    if "forever" in words:
        time.sleep(60)
