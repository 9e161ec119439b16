"""The options that name shared caches, and the store that uses them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgec.cli.options import together

if TYPE_CHECKING:
    from edgec.core.progress import Progress
    from edgec.core.shared_cache import SharedCache
    from edgec.pipeline.exchange import Exchange
    from edgec.pipeline.store import Store

__all__ = ["connect", "opened_store", "shared_caches"]

Command = TypeVar("Command", bound=Callable[..., Any])

shared_caches = together(
    click.option(
        "--cache-from",
        metavar="PLACE",
        multiple=True,
        help="Shared cache to take finished stages from: a folder, or oci://REGISTRY/REPOSITORY.",
    ),
    click.option(
        "--cache-to",
        metavar="PLACE",
        multiple=True,
        help="Shared cache to keep finished stages in, for other machines.",
    ),
)
"""Adds --cache-from and --cache-to; `opened_store` takes them."""


@contextmanager
def opened_store(
    cache: Path, *, cache_from: Sequence[str], cache_to: Sequence[str], progress: Progress
) -> Iterator[Store]:
    """The stage cache with its shared caches; says at the end which stages came from where.

    Raises:
        ConfigError: A place is neither a folder nor a repository.
        MissingDependencyError: Registries need oras, which is not installed.
    """
    from edgec.pipeline.store import Store

    exchange = connect(cache_from, cache_to, progress)
    try:
        yield Store(cache, exchange)
    finally:
        for line in exchange.summary() if exchange else ():
            progress.note(line)


def connect(cache_from: Sequence[str], cache_to: Sequence[str], progress: Progress) -> Exchange | None:
    """What shared caches exchange with this machine; None where none is named. See `opened_store`."""
    if not cache_from and not cache_to:
        return None
    from edgec.pipeline.exchange import Exchange

    sinks = [_place(text, made=True) for text in dict.fromkeys(cache_to)]
    sources = [_place(text, made=text in cache_to) for text in dict.fromkeys(cache_from)]
    return Exchange(sources=sources, sinks=sinks, progress=progress)


def _place(text: str, *, made: bool) -> SharedCache:
    if "://" in text:
        from edgec.deploy.stage_registry import StageRegistry

        registry = StageRegistry.parse(text)
        registry.require_client()
        return registry
    from edgec.core.errors import ConfigError
    from edgec.pipeline.shared_folder import SharedFolder

    folder = Path(text).expanduser()
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"shared cache '{text}' is not a folder", hint="name a folder, or oci://registry/repository")
    if not folder.exists() and not made:
        raise ConfigError(f"--cache-from {text}: no such folder", hint="check the path; is the share mounted?")
    return SharedFolder(folder)
