"""One teacher for several devices: a bundle for each target, made of as much shared work as their settings allow."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec.core.errors import ConfigError, DataError, IntegrityError
from edgec.core.files import new_folder, require_writable, write_bytes
from edgec.core.progress import Progress
from edgec.evaluate.report import Report, parse_report
from edgec.package import Bundle, open_bundle
from edgec.package.family import is_family, member_names, require_family_place, write_family
from edgec.pipeline.accelerator import Accelerator
from edgec.pipeline.build import Built, build, require_name
from edgec.pipeline.config import BuildConfig, family_targets, read_config
from edgec.pipeline.members import require_member
from edgec.pipeline.plan import Plan, plan_build
from edgec.pipeline.store import LIMIT_BYTES, Store

if TYPE_CHECKING:
    from torch import nn

__all__ = ["BuiltFamily", "build_family", "family_configs", "plan_family", "require_no_family"]

PAGE = "family.html"


@dataclass(frozen=True, kw_only=True)
class BuiltFamily:
    """A finished family.

    Attributes:
        folder: Holds the members, each in a folder with its target's name and as an archive beside that.
        members: In the order in which they were asked for.
        seconds: How long it took.
    """

    folder: Path
    members: tuple[Built, ...]
    seconds: float

    @property
    def page(self) -> Path:
        """Size against the worst class, and every class over all members."""
        return self.folder / PAGE


def family_configs(
    source: Path | Mapping[str, Any] | None, given: Sequence[tuple[str, Any]], targets: Sequence[str] | None
) -> tuple[BuildConfig, ...]:
    """A config for each target that is asked for, else for each of the config's `[family]`; else the config alone.

    Args:
        source: The config.
        given: Overrides, by dotted name.
        targets: Names or files of profiles; None leaves them to the config.

    Raises:
        ConfigError: What is set for a target that is not built, and as `read_config`.
    """
    names = family_targets(source) if targets is None else tuple(targets)
    for setting in (name for name, _ in given if name.startswith("family.")):
        require_member(names or ("host",), setting.split(".")[1], f"--set {setting}")
    members = [[*given, ("target", name)] for name in names] or [given]
    return tuple(read_config(source, member) for member in members)


def require_no_family(source: Path | Mapping[str, Any] | None, target: object, hint: str) -> None:
    """Refuses a config with a family where one bundle is meant and nobody says for which device.

    Raises:
        ConfigError: The config has a `[family]`, and no target is named beside it.
    """
    if target is None and (members := family_targets(source)):
        raise ConfigError(f"the config's [family] names {', '.join(members)}, and one target is wanted", hint=hint)


def plan_family(
    configs: Sequence[BuildConfig], *, accelerator: Accelerator, module: nn.Module | None = None
) -> tuple[Plan, ...]:
    """Binds the members of a family; what their settings and targets have in common is made once.

    Args:
        configs: One for each target, as `read_config` has them.
        accelerator: Where to train.
        module: The teacher, where it is in memory.

    Raises:
        ConfigError: A target stands twice, and as `plan_build`.
        DataError: As `plan_build`.
        UnsupportedError: As `plan_build`.
    """
    plans = tuple(plan_build(config, accelerator=accelerator, module=module) for config in configs)
    names = [plan.target.name for plan in plans]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"target '{name}' stands twice", hint="name each target once")
    return plans


def build_family(
    plans: Sequence[Plan],
    *,
    store: Store,
    output: Path | None = None,
    cache_limit_bytes: int | None = LIMIT_BYTES,
    progress: Progress,
) -> BuiltFamily:
    """Builds every member, each of which takes from the stage cache what one before it made.

    Args:
        plans: As `plan_family` has them.
        store: The stage cache.
        output: The family's folder, where a family is replaced; None is `build/NAME`.
        cache_limit_bytes: As of `build`.
        progress: Told of members, stages, steps and facts.

    Raises:
        EdgecError: Any expected failure; the output is as it was before.
    """
    from edgec.render.family_page import render_family

    started = time.perf_counter()
    name = plans[0].config.name
    output = output or Path("build") / name
    require_name(output)
    require_family_place(output)
    require_writable(output)
    gone = set(member_names(output)) - {plan.target.name for plan in plans} if is_family(output) else ()
    for target in sorted(gone):
        progress.note(f"'{output}' had a member for '{target}', which is none any more")
    with new_folder(output) as draft:
        members = []
        for plan in plans:
            place = draft / plan.target.name
            _keep(output, plan.target.name, place)
            limit = cache_limit_bytes if plan is plans[-1] else None
            built = build(plan, store=store, output=place, cache_limit_bytes=limit, progress=progress)
            members.append(replace(built, bundle=output / plan.target.name))
        bundles = {plan.target.name: open_bundle(draft / plan.target.name) for plan in plans}
        write_family(draft, name, bundles)
        write_bytes(draft / PAGE, render_family(name, _reports(bundles)).encode())
    return BuiltFamily(folder=output, members=tuple(members), seconds=time.perf_counter() - started)


def _reports(bundles: Mapping[str, Bundle]) -> dict[str, Report]:
    return {
        target: parse_report(bundle.read_bytes("report.json"), where=f"{bundle.path}/report.json")
        for target, bundle in bundles.items()
    }


def _keep(family: Path, target: str, place: Path) -> None:
    """Takes over a member that stood there whole: where it is built again as it was, its signature stays."""
    with suppress(DataError, IntegrityError):
        open_bundle(family / target).verify()
        shutil.copytree(family / target, place)
        archive = family / f"{target}.edgec"
        if archive.is_file():
            shutil.copyfile(archive, place.with_name(archive.name))
