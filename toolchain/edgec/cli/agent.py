"""`edgec agent`: keeps this device at what a registry's tag names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgec.cli.say import say
from edgec.cli.trust import find_trust, signed_by
from edgec.core.errors import ConfigError

if TYPE_CHECKING:
    from edgec.deploy.agent import Agent

__all__ = ["command"]

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class PeriodType(click.ParamType):
    """A time, in seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The seconds; at least one."""
        del param, ctx
        found = re.fullmatch(r"([1-9][0-9]{0,5})([smhd])", str(value))
        if found is None:
            raise ConfigError(f"--every {value}: expected a number and s, m, h or d", hint="as in --every 5m")
        return int(found[1]) * _SECONDS[found[2]]


@click.command("agent")
@click.argument("reference", metavar="REGISTRY/REPOSITORY:TAG")
@click.argument("root", type=click.Path(path_type=Path))
@click.option(
    "--every",
    "every_s",
    type=PeriodType(),
    default="5m",
    show_default=True,
    help="Time between two looks at the registry.",
)
@click.option("--once", is_flag=True, help="Look once, then exit; with 4 when the bundle is refused.")
@click.option("--target", metavar="NAME", help="What this device is: it takes this member of a family, and no other.")
@signed_by
@click.option(
    "--keep", type=click.IntRange(min=1), metavar="N", default=3, show_default=True, help="How many versions to keep."
)
@click.option("--allow-downgrade", is_flag=True, help="Let a lower release run.")
@click.option("--restart", metavar="COMMAND", help="Command to run after a switch; if it fails, switch back.")
@click.option("--health", metavar="COMMAND", help="Command to run after the restart; if it fails, switch back.")
@click.option(
    "--policy",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What may run here. [default: /etc/edgec/policy.toml, where it is there]",
)
@click.option(
    "--insecure", is_flag=True, help="Use HTTP without TLS; for a registry on this machine this is the default."
)
@click.option("--systemd", is_flag=True, help="Print a systemd service and timer that do this, and stop.")
def command(
    reference: str,
    root: Path,
    *,
    every_s: int,
    once: bool,
    target: str | None,
    key: Path | None,
    certificate: Path | None,
    keep: int,
    allow_downgrade: bool,
    restart: str | None,
    health: str | None,
    policy: Path | None,
    insecure: bool,
    systemd: bool,
) -> None:
    """Keep this device at the bundle that a registry's tag names.

    A new bundle is verified and tested here before it is switched on. ROOT is the folder that edgec site and edgec
    deploy use; ROOT/current leads to the bundle that runs. A bundle that failed here is not tried again until the tag
    moves. ROOT/agent.json holds the result of the last look.
    """
    from edgec.core.target import target_name
    from edgec.deploy import Site
    from edgec.deploy.agent import Agent
    from edgec.deploy.policy import read_policy
    from edgec.deploy.reference import Reference
    from edgec.deploy.units import agent_units

    place = Reference.parse(reference)
    agent = Agent(
        place,
        Site(root, policy=read_policy(root, policy)),
        target=target and target_name(target),
        trust=find_trust(key, certificate),
        keep=keep,
        allow_downgrade=allow_downgrade,
        restart=restart,
        health=health,
        insecure=insecure,
        report=say,
    )
    if systemd:
        flags = {"--insecure": insecure, "--allow-downgrade": allow_downgrade}
        files = {"--key": key, "--certificate": certificate, "--policy": policy}
        values = {name: file and file.absolute() for name, file in files.items()}
        given = [*(name for name, on in flags.items() if on), "--keep", str(keep)]
        given += [
            part
            for name, value in (values | {"--target": target, "--restart": restart, "--health": health}).items()
            if value
            for part in (name, value)
        ]
        units = agent_units(place, root, every_s=every_s, options=[str(part) for part in given])
        click.echo("\n".join(f"# ---- {name} ----\n{text}" for name, text in units.items()), nl=False)
    elif once:
        agent.poll()
    else:
        _run(agent, every_s)


def _run(agent: Agent, every_s: int) -> None:
    """Polls until the process is told to end; a switch that has begun is brought to its end."""
    import random
    import signal
    import threading

    stop = threading.Event()

    def end(*_: object) -> None:
        stop.set()
        if not agent.switching:
            raise SystemExit(0)

    signal.signal(signal.SIGTERM, end)
    agent.run(stop, every_s=every_s, draw=random.SystemRandom())
