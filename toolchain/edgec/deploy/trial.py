"""What was switched to is on trial until the device's own commands went well; then it is settled, or it goes back.

A trial that something cut short (a kill, an update that takes the device down) is made once more when edgec runs there
again, and after that the device goes back, as with Mender's commit after a reboot (https://docs.mender.io).
"""

from __future__ import annotations

from collections.abc import Sequence

from edgec.deploy.command import fault_of
from edgec.deploy.journal import last_trial
from edgec.deploy.site import Site

__all__ = ["TRIALS", "settle"]

TRIALS = 2
"""How often a version is tried before the device goes back."""


def settle(site: Site, commands: Sequence[str], *, wait_s: float) -> str | None:
    """Tries what runs, where no trial of it went well yet, and switches back where it fails.

    Args:
        site: The site.
        commands: A restart, a health check.
        wait_s: How long to wait for another deployer.

    Returns:
        Why the device went back; None where it did not have to.

    Raises:
        IntegrityError: It cannot go back: the version before is damaged, or answers differently here.
        TransportError: Another deployer, no space, no permission.
    """
    if not commands or site.status().settled:
        return None
    with site.locked(wait_s=wait_s):
        status, trial = site.status(), last_trial(site.history())
        if status.settled or (trial.went_back and trial.count >= TRIALS) or not (status.current or trial.went_back):
            return None
        fault = f"cut short {trial.count} times" if trial.count >= TRIALS else _fault_here(site, commands)
        if fault is None or trial.went_back:
            return None
        site.rollback(reason=fault, to_nothing=True)
        _fault_here(site, commands)
        return fault


def _fault_here(site: Site, commands: Sequence[str]) -> str | None:
    """What fails with what runs now. It is noted that this is tried, and how it went."""
    site.note("trial")
    fault = fault_of(commands)
    if fault is None:
        site.note("settled")
    else:
        site.note("trial", ok=False, reason=fault)
    return fault
