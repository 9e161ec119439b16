"""`edgec tune`: the fastest model on a device at which every class still agrees with the teacher."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgec.cli.build import FLAGS, parse_setting
from edgec.cli.caches import opened_store, shared_caches
from edgec.cli.devices import HERE, find_device, login_options
from edgec.cli.say import say

if TYPE_CHECKING:
    from rich.table import Table

    from edgec.core.target import Target
    from edgec.pipeline.plan import Plan
    from edgec.tuning.candidate import Tuned
    from edgec.tuning.run import Finished
    from edgec.tuning.search import Search
    from edgec.tuning.timing import Stopwatch

__all__ = ["command"]

ACCELERATORS = ("auto", "cpu", "cuda")
UNSURE = (
    "no validation images were given, and changed few samples do not order candidates surely: compare the accuracies "
    "with those of edgec build --from-trial 0, or give --validation"
)


@click.command("tune")
@click.option("--config", type=click.Path(path_type=Path), help="An edgec.toml; without one, the digits are tuned.")
@click.option("--target", metavar="NAME|FILE", help="Device profile; see: edgec targets list. [default: host]")
@click.option(
    "--validation", type=click.Path(), help="Labelled images to choose by; without them, changed few samples."
)
@click.option("--trials", type=click.IntRange(min=1), default=20, show_default=True, help="Candidates in all.")
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), help="Stop after this time. [default: no limit]")
@click.option(
    "--agreement",
    type=click.FloatRange(0, 100),
    metavar="PERCENT",
    help="How often every class must agree with the teacher. [default: as often as in the config's own build]",
)
@click.option(
    "--vary",
    metavar="KEY=VALUES",
    multiple=True,
    help="A setting and what to try, as in compress.method=mir,practise. [default: what may stay, "
    "blocks that go, and compress.variant]",
)
@click.option(
    "--sampler", type=click.Choice(["tpe", "random"]), default="tpe", show_default=True, help="How to draw candidates."
)
@click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    help="A setting of all candidates, as in compress.steps=500.",
)
@click.option("--seed", type=click.IntRange(min=0), help="Seeds every draw. [default: 0]")
@click.option(
    "--device",
    "devices",
    metavar="auto|cpu|cuda|ssh://USER@HOST/PATH",
    multiple=True,
    default=["auto"],
    show_default=True,
    help="Where to train; with ssh://, where candidates are timed. Repeatable, one of each.",
)
@login_options
@click.option("--output", type=click.Path(path_type=Path), help="Folder for the results. [default: tune/NAME-TARGET]")
@click.option(
    "--cache", type=click.Path(path_type=Path), default=Path(".edgec/cache"), show_default=True, help="Stage cache."
)
@shared_caches
@click.option("--dry-run", is_flag=True, help="Print what may be tried and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def command(
    *,
    config: Path | None,
    target: str | None,
    validation: str | None,
    trials: int,
    hours: float | None,
    agreement: float | None,
    vary: tuple[str, ...],
    sampler: Any,
    settings: tuple[str, ...],
    seed: int | None,
    devices: tuple[str, ...],
    output: Path | None,
    cache: Path,
    cache_from: tuple[str, ...],
    cache_to: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    **login: Any,
) -> None:
    """Search for the fastest model on a device at which every class still agrees with the teacher.

    Candidates are built as far as the file that would ship, and timed: predicted from the device's profile, or measured
    on a device that --device names, or here where the target is this machine. They are compared with the teacher on
    validation images or on the few samples, strongly changed: test images do not choose. The fastest in which every
    class agrees often enough is built, and meets the test images once. A candidate is kept when it is finished: the
    same command resumes a search that was cut.
    """
    from edgec.cli.console import ConsoleProgress
    from edgec.core.errors import GateFailed
    from edgec.pipeline.accelerator import Accelerator
    from edgec.pipeline.budget import on_top
    from edgec.pipeline.config import read_config
    from edgec.pipeline.family import require_no_family
    from edgec.pipeline.plan import plan_build
    from edgec.tuning.run import tune
    from edgec.tuning.search import Limits, Search
    from edgec.tuning.space import parse_space

    flags = {"target": target, "validation": validation, "seed": seed}
    given = [(FLAGS[name], value) for name, value in flags.items() if value is not None]
    given += map(parse_setting, settings)

    require_no_family(config, dict(given).get("target"), "name one of them with --target")
    trained_on, there = _places(devices, login)

    def plan_of(more: Mapping[str, Any]) -> Plan:
        return plan_build(read_config(config, on_top(given, more)), accelerator=Accelerator.named(trained_on))

    progress = ConsoleProgress()
    with opened_store(cache, cache_from=cache_from, cache_to=cache_to, progress=progress) as store:
        search = Search.of(
            plan_of,
            space=parse_space(vary) if vary else None,
            agreement=None if agreement is None else agreement / 100,
            sampler=sampler,
            there=there,
            store=store,
            progress=progress,
        )
        if dry_run:
            _print_space(search, as_json=as_json)
            return
        limits = Limits(trials=trials, hours=hours)
        finished = tune(search, output or search.folder, limits, progress=progress)
    _print_result(finished, as_json=as_json)
    if finished.built is None:
        told, hint = _none_is_good(finished.tuned)
        raise GateFailed(told, hint=hint)


def _places(devices: Sequence[str], login: dict[str, Any]) -> tuple[str, Callable[[Target], Stopwatch] | None]:
    """Where to train, and what times candidates on a device; None where no device is named."""
    from edgec.core.errors import ConfigError

    trained_on = [name for name in devices if "://" not in name] or ["auto"]
    timed_on = [name for name in devices if "://" in name]
    if unknown := [name for name in trained_on if name not in ACCELERATORS]:
        raise ConfigError(
            f"--device {unknown[0]}: expected auto, cpu or cuda, where to train, or ssh://USER@HOST/PATH, a device",
            hint="as in --device cpu --device ssh://edge@10.0.0.11/srv/model",
        )
    if len(trained_on) > 1 or len(timed_on) > 1:
        raise ConfigError(f"--device: {', '.join(devices)}", hint="name one place to train, and one device")
    device = find_device(timed_on[0] if timed_on else HERE, login)
    if device is None:
        return trained_on[0], None

    def there(target: Target) -> Stopwatch:
        from edgec.deploy.remote import time_in_turns

        return partial(time_in_turns, device, threads=target.runtime.threads or 0)

    return trained_on[0], there


def _print_space(search: Search, *, as_json: bool) -> None:
    """What may be tried."""
    if as_json:
        settings = {dimension.setting: list(dimension.values) for dimension in search.space.dimensions}
        click.echo(json.dumps({"target": search.plan.target.name, "candidates": len(search.space), "vary": settings}))
        return
    from rich.table import Table
    from rich.text import Text

    from edgec.cli.console import Terminal

    table = Table("setting", "values", box=None, pad_edge=False)
    for dimension in search.space.dimensions:
        table.add_row(Text(dimension.setting), Text(", ".join(map(str, dimension.values))))
    title = Text(f"{len(search.space)} candidates for {search.plan.target.title}")
    Terminal().print(title, table, sep="\n")


def _print_result(finished: Finished, *, as_json: bool) -> None:
    from edgec.tuning.candidate import front

    tuned, built = finished.tuned, finished.built
    if as_json:
        answer = {
            "bundle": built and str(built.bundle),
            "page": str(finished.page),
            "candidates": len(tuned.candidates),
            "failed": sum(each.found is None for each in tuned.candidates),
            "chosen": tuned.chosen,
            "front": [each.model_dump(mode="json") for each in front(tuned)],
        }
        click.echo(json.dumps(answer))
        return
    from edgec.cli.console import Terminal, print_paragraph
    from edgec.cli.summary import print_summary
    from edgec.pipeline.check import check_own_gates

    console = Terminal()
    console.print(_table(tuned), "", sep="\n")
    if built is not None:
        print_summary(built, check_own_gates(built.bundle))
        print_paragraph(console, _choice(tuned), lead="chosen: ", style="green")
        if tuned.judged_on == "views":
            print_paragraph(console, UNSURE, lead="note: ", style="dim")
    say(finished.page)
    if built is not None:
        say(built.bundle)


def _table(tuned: Tuned) -> Table:
    """The front."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from edgec.core.wording import format_amount, format_share
    from edgec.tuning.candidate import front

    title = f"{len(tuned.candidates)} candidates; the front, fastest first"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, title=title, title_justify="left")
    table.add_column("no.", justify="right")
    table.add_column("settings", overflow="fold")
    for heading in ("latency", "of teacher", "agrees"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("worst class", overflow="fold")
    for each in front(tuned):
        if each.found is not None:
            label, share = each.found.worst
            latency = format_amount("latency_ms", each.found.latency_ms)
            figures = (latency, f"{each.found.latency_share:.2f}", format_share(share), Text(label))
            style = "bold" if each.number == tuned.chosen else ""
            table.add_row(str(each.number), Text(each.title), *figures, style=style)
    return table


def _choice(tuned: Tuned) -> str:
    """What was chosen, and why."""
    from edgec.core.wording import format_share

    asked = tuned.agreement
    by = "as in candidate 0, the config's own" if asked is None else f"on {format_share(asked)}"
    return f"candidate {tuned.chosen}, the fastest in which every class agrees with the teacher as often as asked, {by}"


def _none_is_good(tuned: Tuned) -> tuple[str, str]:
    """That there is no choice, which candidate comes nearest and which class stops it; what may help."""
    from edgec.core.wording import format_share
    from edgec.tuning.candidate import nearest

    best = nearest(tuned)
    if tuned.required is None and tuned.candidates[0].error:
        told = f"the config's own build, by which the others are judged, cannot be built: {tuned.candidates[0].error}"
        return told, "correct the config, or say with --agreement how often every class must agree"
    if best is None or best.found is None:
        return f"none of {len(tuned.candidates)} candidates could be built", f"the first: {tuned.candidates[0].error}"
    label, share = best.found.worst
    asked = format_share(tuned.required or 0.0)
    told = (
        f"in none of {len(tuned.candidates)} candidates does every class agree with the teacher on {asked} of its "
        f"images; nearest is candidate {best.number}, stopped by class '{label}' with {format_share(share)}"
    )
    hint = (
        f"more images of '{label}' among the few samples, more compress.steps, a larger budget, more --trials or "
        "a lower --agreement; edgec build --from-trial builds any of them"
    )
    return told, hint
