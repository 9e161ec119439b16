"""`edgec completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

__all__ = ["command"]


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a SHELL.

    For bash: eval "$(edgec completion bash)"
    """
    completion = get_completion_class(shell)
    if completion is not None:
        root = ctx.find_root().command
        click.echo(completion(root, {}, "edgec", "_EDGEC_COMPLETE").source())
