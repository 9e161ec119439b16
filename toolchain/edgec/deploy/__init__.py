"""Bringing bundles to devices: the site on a device, deployers over SSH, a registry and the agent that follows it.

What a device needs (`site`, `session`) is importable with the base install.
"""

from __future__ import annotations

from edgec.deploy.journal import Event
from edgec.deploy.site import Site
from edgec.deploy.status import Status
from edgec.deploy.version import Version

__all__ = ["Event", "Site", "Status", "Version"]
