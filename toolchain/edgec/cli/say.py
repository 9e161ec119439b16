"""Prints a line for people, whatever is in it."""

from __future__ import annotations

import click

from edgec.core.plain import plain

__all__ = ["say"]


def say(text: object, *, err: bool = False) -> None:
    """One line on stdout, or on stderr; see `edgec.core.plain`."""
    click.echo(plain(str(text)), err=err)
