"""`edgec init`: a commented `edgec.toml` that builds as it is."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edgec.cli.say import say

__all__ = ["command", "config_text"]

_TEMPLATE = Path(__file__).with_name("templates") / "edgec.toml"
_TARGET = 'target = "host"'


@click.command("init")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), default=Path("edgec.toml"), show_default=True, help="The file."
)
@click.option("--target", metavar="NAME|FILE", default="host", show_default=True, help="Device profile to build for.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def command(*, output: Path, target: str, force: bool) -> None:
    """Write a commented edgec.toml that builds as it is, and print its path.

    It spells out what `edgec build` does without a config, with an example of every setting that is off.
    """
    from edgec.core.files import require_writable, write_bytes
    from edgec.core.target import load_target

    load_target(target)
    _require_free(output, force=force)
    require_writable(output)
    write_bytes(output, config_text(target).encode())
    say(output)
    say(f"build it with: edgec build --config {output}", err=True)


def config_text(target: str = "host") -> str:
    """The commented config, for this target."""
    template = _TEMPLATE.read_text(encoding="utf-8")
    # A JSON string is a TOML string.
    return template.replace(_TARGET, f"target = {json.dumps(target, ensure_ascii=False)}", 1)


def _require_free(output: Path, *, force: bool) -> None:
    """A config that somebody has edited is not lost by a slip.

    Raises:
        ConfigError: Something stands there already.
    """
    from edgec.core.errors import ConfigError

    if output.is_dir():
        raise ConfigError(f"--output {output} is a folder", hint=f"name a file, such as {output / 'edgec.toml'}")
    if output.exists() and not force:
        raise ConfigError(f"'{output}' exists already", hint="name another --output, or replace it with --force")
