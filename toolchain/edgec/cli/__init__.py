"""The command line: one file per command, loaded when it is called."""

from __future__ import annotations

import importlib
import os
import sys
from typing import NoReturn

import click

from edgec import __version__
from edgec.core.errors import EdgecError, unknown_name
from edgec.core.plain import plain

__all__ = ["main"]

COMMANDS = {
    "agent": "Keep this device at the bundle that a registry's tag names.",
    "bench": "Measure a bundle here or on a device: latency, throughput, memory, energy.",
    "build": "Compress, calibrate, quantise, export, evaluate and package a classifier.",
    "cache": "List the stage cache of builds, or remove old entries.",
    "check": "Compare a bundle with gates; exit 3 when one fails.",
    "completion": "Print the shell's completion script.",
    "deploy": "Send a bundle to devices over SSH, test it there, and switch it on.",
    "history": "Show what ran on devices, and when it was switched.",
    "init": "Write a commented edgec.toml that builds.",
    "predict": "Classify images with a bundle, on this machine.",
    "pull": "Fetch a bundle from a registry.",
    "push": "Store a bundle in a registry.",
    "report": "Write a bundle's report as one HTML page.",
    "rollback": "Switch devices back to the version that ran before.",
    "serve": "Answer requests over HTTP with a bundle.",
    "sign": "Sign a bundle with a key or a certificate.",
    "site": "Install, test and switch versions on this device.",
    "status": "Show what runs on devices.",
    "study": "Rerun a paper's tables on your own model and images.",
    "targets": "List device profiles, show one, or fit one to a machine.",
    "track": "Write a bundle's numbers and files into MLflow.",
    "tune": "Search for the fastest model on a device that keeps every class.",
    "verify": "Compare a bundle with its manifest and its signature.",
}

GROUPS = {
    "Build": ("init", "build", "tune", "study", "cache"),
    "Judge": ("check", "report", "bench", "track", "targets"),
    "Ship": ("sign", "verify", "push", "pull", "deploy", "rollback", "status", "history"),
    "Run": ("predict", "serve", "agent", "site"),
    "Shell": ("completion",),
}
"""Commands by what they are for, in the order in which a person meets them."""

INTERRUPTED = 130
"""What shells expect of a program that Ctrl-C ended: 128 and the signal's number."""


class LazyGroup(click.Group):
    """Imports a command's module when the command is called: `--help` stays fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        return importlib.import_module(f"edgec.cli.{cmd_name}").command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            raise unknown_name("command", name, COMMANDS)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        spacing = max(map(len, COMMANDS))
        for title, names in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(spacing), COMMANDS[name]) for name in names])


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="edgec")
@click.pass_context
def group(ctx: click.Context) -> None:
    """Bring an image classifier to an edge device without losing its rare classes."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(arguments: list[str] | None = None) -> NoReturn:
    """The console script: runs a command and turns a failure into a line, a hint and an exit code."""
    try:
        sys.exit(group.main(arguments, prog_name="edgec", standalone_mode=False))
    except EdgecError as error:
        _fail(str(error), hint=error.hint, exit_code=error.exit_code)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "edgec"
        _fail(error.format_message(), hint=f"{command} --help", exit_code=error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)
    except Exception as error:
        if os.environ.get("EDGEC_DEBUG"):
            raise
        advice = "check disk space and permissions" if isinstance(error, OSError) else "report it, a fault of edgec"
        _fail(f"unexpected {type(error).__name__}: {error}", hint=f"{advice}; EDGEC_DEBUG=1 shows where", exit_code=1)


def _fail(message: str, *, hint: str | None, exit_code: int) -> NoReturn:
    """Prints the two lines that every failure has, and ends the process."""
    color = False if os.environ.get("NO_COLOR") else None
    for word, style, text in (("error:", "red", message), ("hint:", "cyan", hint)):
        if text:
            click.echo(
                f"{click.style(word, fg=style, bold=True)} {plain(' '.join(text.splitlines()))}", err=True, color=color
            )
    sys.exit(exit_code)
