"""The search: candidates one after the other, each kept when it is finished, until there are enough."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from edgec import __version__
from edgec.core.digest import digest_value
from edgec.core.errors import ConfigError, ContractError, UnsupportedError
from edgec.core.files import read_json, require_writable, write_bytes, write_json
from edgec.core.host import describe_host
from edgec.core.progress import Progress
from edgec.core.target import Target
from edgec.core.wording import format_share
from edgec.pipeline.build import require_build_extra, require_trainable
from edgec.pipeline.graphs import graph_keys, make_graphs
from edgec.pipeline.plan import Plan
from edgec.pipeline.runner import Runner
from edgec.pipeline.sources import Sources
from edgec.pipeline.stages import data, deck
from edgec.pipeline.stages.data import Prepared
from edgec.pipeline.store import StageKey, Store
from edgec.tuning import judge
from edgec.tuning.candidate import Candidate, Found, Tuned, front
from edgec.tuning.page import render_tuned
from edgec.tuning.sampling import Sampler, next_point, require_optuna
from edgec.tuning.space import Space, default_space
from edgec.tuning.timing import Clock, Stopwatch, clock, machine_of, require_timeable

__all__ = ["PAGE", "Limits", "Search", "alone_in", "identity_of", "keep", "read_tuned", "stage_keys"]

FILE, PAGE, LOCK = "tune.json", "tune.html", ".tune.lock"
T = TypeVar("T")
PlanOf = Callable[[Mapping[str, Any]], Plan]
"""The build with these settings on top."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """When a search ends.

    Attributes:
        trials: Candidates in all, those of an earlier run among them.
        hours: Of this run; None for no limit. A candidate under way is finished.
    """

    trials: int
    hours: float | None = None


@dataclass(frozen=True, kw_only=True)
class Search:
    """A bound search.

    Attributes:
        plan: The build as the config has it, which is candidate 0.
        plan_of: Binds a candidate.
        space: What may be tried.
        agreement: On what share of its images every class is to agree with the teacher; None for as often as in the
            config's own build.
        sampler: How candidates are drawn.
        there: Times candidates on a device; None predicts, or measures here where the target is this machine.
        store: The stage cache, by which candidates share what they have in common.
    """

    plan: Plan
    plan_of: PlanOf
    space: Space
    agreement: float | None = None
    sampler: Sampler = "tpe"
    there: Stopwatch | None = None
    store: Store

    @classmethod
    def of(
        cls,
        plan_of: PlanOf,
        *,
        space: Space | None = None,
        agreement: float | None = None,
        sampler: Sampler = "tpe",
        there: Callable[[Target], Stopwatch] | None = None,
        store: Store,
        progress: Progress,
    ) -> Search:
        """Binds a search; what builds are compared with for people is left out of its candidates.

        Args:
            plan_of: Binds a build.
            space: What may be tried; None for what `default_space` finds.
            agreement: As the attribute.
            sampler: How candidates are drawn.
            there: A device on which candidates are timed, as the target has it.
            store: The stage cache.
            progress: Told what loading the model finds.

        Raises:
            MissingDependencyError: Optuna, or what building needs, is not installed.
            ConfigError: A value that the config does not take, or no share from 0 to 1.
            UnsupportedError: The model is quantised alone, or the device's speed is not known.
        """
        require_build_extra()
        require_optuna()

        def alone(more: Mapping[str, Any]) -> Plan:
            return plan_of({"compress.compare": [], **more})

        plan = alone({})
        if not plan.compresses:
            raise UnsupportedError(
                f"edgec tune varies how the model is compressed, and '{plan.model.name}' is quantised alone",
                hint="give a PyTorch model, and leave compress.method = 'none' out",
            )
        stopwatch = there and there(plan.target)
        require_timeable(plan.target, stopwatch)
        if agreement is not None and not 0 <= agreement <= 1:
            raise ConfigError(f"agreement is {agreement:g}", hint="give a share from 0 to 1; --agreement takes percent")
        for dimension in space.dimensions if space else ():
            for value in dimension.values:
                alone({dimension.setting: value})
        found = space or default_space(Sources(plan, progress))
        return cls(
            plan=plan,
            plan_of=alone,
            space=found,
            agreement=agreement,
            sampler=sampler,
            there=stopwatch,
            store=store,
        )

    @property
    def folder(self) -> Path:
        """Where results go unless another folder is named."""
        return Path("tune") / f"{self.plan.config.name}-{self.plan.target.name}"

    def run(self, folder: Path, limits: Limits, *, progress: Progress) -> Tuned:
        """Tries candidates, and keeps each in `tune.json` as soon as it is finished: what is there is not tried again.

        Args:
            folder: Where the file is.
            limits: When to end.
            progress: Told of every candidate.

        Raises:
            ConfigError: The file holds another search, another process works there, or what it reads has changed.
            EdgecError: What is wrong with the model or the images themselves.
        """
        require_writable(folder / FILE)
        with alone_in(folder):
            return self._run(folder, limits, progress=progress)

    def _run(self, folder: Path, limits: Limits, *, progress: Progress) -> Tuned:
        tuned = self._begun(folder)
        sources = Sources(self.plan, progress)
        sources.require_bound()
        require_trainable(sources, self.store)
        run = Runner(sources, stage_keys(self.plan), self.store)
        drawn = run(data.key(self.plan), data.Facts, data.run)
        images, sources = data.read(drawn.folder, sources.plan), sources.tested_on(drawn.facts.tested)
        if (gap := judge.unjudged(images)) is not None:
            progress.note(gap)
        started = time.perf_counter()
        used = self.store.used_by(f"{self.plan.config.name}, tuning", stage_keys(self.plan))
        with clock(sources, self.there) as time_of, used:
            while len(tuned.candidates) < limits.trials:
                settings = self._next(tuned)
                late = limits.hours is not None and time.perf_counter() - started > 3600 * limits.hours
                if settings is None or (late and tuned.candidates):
                    break
                begun = Candidate(number=len(tuned.candidates), settings=settings)
                progress.stage(begun.title, number=begun.number + 1, total=limits.trials, cached=False)
                candidate = self._tried(begun, sources, images, time_of)
                tuned = tuned.model_copy(update={"candidates": (*tuned.candidates, candidate)})
                keep(tuned, folder)
                progress.note(_told(candidate, tuned))
        return tuned

    def _begun(self, folder: Path) -> Tuned:
        """What an earlier run left; nothing of another search."""
        target, timed_on = self.plan.target, machine_of(self.plan.target, self.there)
        new = Tuned(
            name=self.plan.config.name,
            target=target.name,
            title=target.title,
            identity=identity_of(self.plan, timed_on),
            timed="predicted" if timed_on is None else "measured",
            timed_on=timed_on,
            judged_on="validation images" if self.plan.data.validation else "views",
            machine=describe_host(),
            edgec=__version__,
            agreement=self.agreement,
        )
        if not (folder / FILE).exists():
            return new
        old = read_tuned(folder)
        if old.identity != new.identity:
            raise ConfigError(
                f"'{folder / FILE}' holds a search with another config, other images or edgec, or timed elsewhere",
                hint="name another folder with --output, or remove this one",
            )
        return new.model_copy(update={"candidates": old.candidates})

    def _next(self, tuned: Tuned) -> dict[str, Any] | None:
        """Settings of the next candidate by what was found so far, first the config's own; None where all were."""
        known, seed = tuned.candidates, self.plan.config.seed
        if not known:
            return self.space.own(self.plan.config)
        point = next_point(self.space, known, required=tuned.required, seed=seed, sampler=self.sampler)
        return None if point is None else self.space.settings(point)

    def _tried(self, candidate: Candidate, sources: Sources, images: Prepared, time_of: Clock) -> Candidate:
        """A candidate, built as far as the file that ships, judged and timed; or why it cannot be built.

        What is wrong with more than this candidate ends the search: images, files, packages that are missing.
        """
        started = time.perf_counter()
        found, error = None, None
        plan = self.plan_of(candidate.settings)
        self._require_unchanged(plan)
        try:
            found = self._found(plan, sources, images, time_of)
        except (ConfigError, ContractError, UnsupportedError) as failed:
            error = f"{failed}; {failed.hint}" if failed.hint else str(failed)
        except (RuntimeError, ValueError) as failed:  # torch's and NumPy's own
            error = f"{type(failed).__name__}: {' '.join(str(failed).split())[:300]}"
        seconds = round(time.perf_counter() - started, 1)
        return candidate.model_copy(update={"seconds": seconds, "found": found, "error": error})

    def _require_unchanged(self, plan: Plan) -> None:
        """Config, model and images are those that the search began with, or results would be kept under wrong names."""
        if (plan.digests, data.key(plan).key) != (self.plan.digests, data.key(self.plan).key):
            raise ConfigError(
                "the config, the model or the images changed while the search ran",
                hint="run the command again; with what has changed, it is another search",
            )

    def _found(self, plan: Plan, sources: Sources, images: Prepared, time_of: Clock) -> Found:
        own = sources.varied(plan)
        own.progress = BarsAlone(sources.progress)
        run = Runner(own, stage_keys(plan), self.store)
        graphs = make_graphs(run, images)
        judged = judge.judge(run, images, graphs)
        timing = time_of(graphs.model, images.few)
        return Found(
            agreement=judged.agreement,
            images=judged.images,
            latency_ms=timing.latency_ms,
            latency_share=timing.share,
            size_bytes=graphs.model.stat().st_size,
        )


def identity_of(plan: Plan, timed_on: str | None) -> str:
    """Digest of what all candidates of a search have in common; of measured times, the machine too."""
    return digest_value([deck.shipped_key(plan).key, plan.target, timed_on])


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """No other search works in a folder while the block runs.

    Raises:
        ConfigError: One does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"another edgec tune works in '{folder}'", hint="wait for it, or name another folder with --output"
            ) from error
        except OSError:  # a file system without locks
            pass
        yield


def keep(tuned: Tuned, folder: Path) -> None:
    """Writes the file and the page, each whole or not at all."""
    write_json(folder / FILE, tuned.model_dump(mode="json"))
    write_bytes(folder / PAGE, render_tuned(tuned).encode())


class BarsAlone:
    """Shows the bars of a candidate; its stages and notes would drown what is found."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def stage(self, name: str, *, number: int, total: int, cached: bool) -> None:
        """Drops the news."""

    def note(self, text: str) -> None:
        """Drops the line."""

    def track(self, items: Iterable[T], *, total: int, what: str, unit: str = "it") -> Iterator[T]:
        """Passes the items on, with their bar."""
        return self._progress.track(items, total=total, what=what, unit=unit)


def read_tuned(folder: Path) -> Tuned:
    """What a search left.

    Raises:
        ConfigError: There is no search, or its file is damaged.
    """
    path = folder / FILE
    try:
        return Tuned.model_validate(read_json(path))
    except FileNotFoundError as error:
        raise ConfigError(f"no search at '{folder}': {FILE} is missing", hint="start one with: edgec tune") from error
    except (OSError, ValueError, ValidationError) as error:
        told = " ".join(str(error).split())[:200]
        raise ConfigError(f"'{path}' is no file of edgec tune: {told}", hint="remove it, and search again") from error


def stage_keys(plan: Plan) -> tuple[StageKey, ...]:
    """The stages of a candidate, in order."""
    return (data.key(plan), *graph_keys(plan), judge.key(plan))


def _told(candidate: Candidate, tuned: Tuned) -> str:
    """What a candidate came to."""
    found = candidate.found
    if found is None:
        return f"cannot be built: {candidate.error}"
    label, share = found.worst
    required = tuned.required
    short = "" if required is None or share >= required else f", below {format_share(required)}"
    on_front = "; on the front" if candidate in front(tuned) else ""
    return (
        f"{found.latency_ms:.3g} ms, {found.latency_share:.2f} of the teacher's; class '{label}' agrees on "
        f"{format_share(share)} of its images{short}{on_front}"
    )
