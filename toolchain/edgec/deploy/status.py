"""A site as it is at a moment: what is installed, what runs, and what a rollback would bring."""

from __future__ import annotations

from dataclasses import dataclass

from edgec.deploy.version import Version

__all__ = ["Status"]


@dataclass(frozen=True, kw_only=True)
class Status:
    """A site as it is now; all of it is read, nothing is checked.

    Attributes:
        current: What runs; None before the first switch.
        previous: What a rollback would switch to.
        versions: All that are installed, the latest first.
        free_bytes: On the site's disk.
        settled: Whether a deployer's commands, a restart or a health check, went well since the last switch.
        fault: What is wrong with `current`, if anything is.
    """

    current: Version | None
    previous: Version | None
    versions: tuple[Version, ...]
    free_bytes: int
    settled: bool = False
    fault: str | None = None
