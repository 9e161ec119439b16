"""A bundle to many devices: first a few, then the rest side by side; each by itself whole, or as it was before."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from edgec.core.errors import EdgecError, TransportError
from edgec.deploy.fleet import Device
from edgec.deploy.payload import FamilyPayload, Payload
from edgec.deploy.session import Request
from edgec.deploy.ssh import ASK_S, Connection, CutError, RemoteSession, connect
from edgec.deploy.status import Status
from edgec.deploy.version import Version, folder_name

__all__ = ["Order", "Outcome", "Plan", "Progress", "Result", "on_each", "roll_out"]

RETRY_S = 1.0
"""Before a lost connection is made again; twice as long each time."""

Progress = Callable[[str, str, float | None], None]
"""Hears the device's name, what is being done there and, of an upload, the share that is there."""


class Result(Enum):
    """How it ended for a device."""

    UPDATED = "updated"
    ALREADY = "already there"
    PLANNED = "planned"
    FAILED = "failed"
    ROLLED_BACK = "rolled back"
    SKIPPED = "skipped"

    @property
    def is_failure(self) -> bool:
        """Whether the device does not run what it should, other than by a dry run."""
        return self in (Result.FAILED, Result.ROLLED_BACK, Result.SKIPPED)


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is asked for on each device.

    Attributes:
        keep: Versions that stay installed.
        allow_downgrade: Whether a lower release may take the place of a higher one.
        dry_run: Whether to look only.
        command_s: How long a restart or a health check may take.
        device_s: How long all of it may take on one device.
        retries: How often a connection that was lost is made again.
    """

    keep: int = 3
    allow_downgrade: bool = False
    dry_run: bool = False
    command_s: float = 60.0
    device_s: float = 1800.0
    retries: int = 2


@dataclass(frozen=True, kw_only=True)
class Plan:
    """In what order the devices come.

    Attributes:
        canary: Share of the devices that come first, 0 for none: where one of them fails, the others are left alone.
        parallel: Devices at a time.
        max_failures: Failed devices, after which no other one is begun; None for no end.
    """

    canary: float = 0.0
    parallel: int = 8
    max_failures: int | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a device.

    Attributes:
        device: Its name.
        url: Where its site is.
        result: How it ended.
        digest: Of the bundle that was for it; None where none was.
        before: What ran before, as `name digest`; None where nothing did, or it is not known.
        sent_bytes: Of the archive, in the last attempt; in a dry run, what would be.
        reason: Why it failed.
        hint: What to do then.
        seconds: How long it took.
    """

    device: str
    url: str
    result: Result
    digest: str | None = None
    before: str | None = None
    sent_bytes: int = 0
    reason: str = ""
    hint: str | None = None
    seconds: float = 0.0


async def roll_out(
    payload: Payload | FamilyPayload, devices: Sequence[Device], order: Order, plan: Plan, *, progress: Progress
) -> list[Outcome]:
    """Brings a bundle to devices, or to each its member of a family.

    Returns:
        The outcomes, in the order of the devices. A device that failed is as it was before.
    """
    first = math.ceil(plan.canary * len(devices))
    gate = _Gate(plan.max_failures)
    slots = asyncio.Semaphore(plan.parallel)

    async def one(device: Device) -> Outcome:
        async with slots:
            if gate.shut:
                return _outcome(device, Result.SKIPPED, reason=gate.shut)
            progress(device.name, "connecting", None)
            outcome = await _deploy(payload, device, order, progress)
            gate.passed(outcome)
            progress(device.name, outcome.result.value, None)
            return outcome

    canaries = list(await asyncio.gather(*map(one, devices[:first])))
    if any(outcome.result.is_failure for outcome in canaries):
        gate.shut = gate.shut or "a device of the canary share failed"
    return canaries + list(await asyncio.gather(*map(one, devices[first:])))


async def on_each(
    devices: Sequence[Device], do: Callable[[Connection], Awaitable[str]], *, parallel: int
) -> list[str | EdgecError]:
    """Asks every device the same; answers, or why there is none, in the order of the devices."""
    slots = asyncio.Semaphore(parallel)

    async def one(device: Device) -> str | EdgecError:
        async with slots:
            try:
                return await asyncio.wait_for(_asked(device, do), ASK_S)
            except asyncio.TimeoutError:
                return TransportError(f"'{device.address}': no answer within {ASK_S:g} s")
            except EdgecError as error:
                return error
            except Exception as error:  # noqa: BLE001 - one device must not hide the others
                return _unexpected(error)

    return list(await asyncio.gather(*map(one, devices)))


async def _asked(device: Device, do: Callable[[Connection], Awaitable[str]]) -> str:
    async with connect(device) as connection:
        return await do(connection)


def _unexpected(error: Exception) -> TransportError:
    """Something that a device sent, and nobody thought of."""
    return TransportError(f"unexpected {type(error).__name__}: {error}", hint="look at the device")


class _Gate:
    """Lets devices begin until too many have failed."""

    def __init__(self, max_failures: int | None) -> None:
        self._max_failures = max_failures
        self._failures = 0
        self.shut = ""

    def passed(self, outcome: Outcome) -> None:
        """Counts."""
        self._failures += outcome.result.is_failure
        if self._max_failures is not None and self._failures >= self._max_failures:
            self.shut = self.shut or f"{self._failures} devices failed"


async def _deploy(payload: Payload | FamilyPayload, device: Device, order: Order, progress: Progress) -> Outcome:
    """One device, whatever it sends."""
    started, digest = time.monotonic(), None
    try:
        own = payload.for_device(device)
        digest = own.digest
        outcome = await _persisted(own, device, order, progress)
    except asyncio.TimeoutError:
        outcome = _outcome(device, Result.FAILED, reason=f"not done within {order.device_s:g} s")
    except EdgecError as error:
        outcome = _outcome(device, Result.FAILED, reason=str(error), hint=error.hint)
    except Exception as error:  # noqa: BLE001 - one device must not hide the others
        outcome = _outcome(device, Result.FAILED, reason=str(_unexpected(error)), hint="look at the device")
    return replace(outcome, digest=digest, seconds=round(time.monotonic() - started, 3))


async def _persisted(payload: Payload, device: Device, order: Order, progress: Progress) -> Outcome:
    """With new connections for lost ones."""
    attempt = 0
    while True:
        try:
            return await asyncio.wait_for(_attempt(payload, device, order, progress, again=attempt > 0), order.device_s)
        except CutError:
            if attempt >= order.retries:
                raise
        progress(device.name, "connection lost, again", None)
        await asyncio.sleep(RETRY_S * 2**attempt)
        attempt += 1


async def _attempt(payload: Payload, device: Device, order: Order, progress: Progress, *, again: bool) -> Outcome:
    async with connect(device) as connection:
        if order.dry_run:
            return _planned(payload, device, await connection.status())
        async with connection.session() as session:
            status = session.hello.status
            if status is None:
                raise TransportError("the device does not tell its status", hint="upgrade edgec on the device")
            before, sent = _words(status.current), 0
            if not _runs(payload, status):
                sent = await _switch(payload, device, order, progress, session=session, status=status)
            elif not again and (status.settled or not _commands(device)):
                return _outcome(device, Result.ALREADY, before=before)
            outcome = await _settled(device, order, progress, connection=connection, session=session)
            return replace(outcome, before=before, sent_bytes=sent)


def _planned(payload: Payload, device: Device, status: Status) -> Outcome:
    before = _words(status.current)
    if _runs(payload, status):
        return _outcome(device, Result.ALREADY, before=before)
    missing = 0 if payload.version in status.versions else len(payload.archive)
    return _outcome(device, Result.PLANNED, before=before, sent_bytes=missing)


async def _switch(
    payload: Payload, device: Device, order: Order, progress: Progress, *, session: RemoteSession, status: Status
) -> int:
    """Upload, installation, test and switch; gives the bytes that were sent."""
    sent = 0
    if payload.version not in status.versions:
        sent = await _send(payload, device, session, progress)
    progress(device.name, "testing and switching", None)
    await session.ask(
        Request(
            do="activate",
            digest=payload.version.digest,
            keep=order.keep,
            allow_downgrade=order.allow_downgrade,
            key=device.signed_by,
        )
    )
    return sent


async def _settled(
    device: Device, order: Order, progress: Progress, *, connection: Connection, session: RemoteSession
) -> Outcome:
    """The device's own commands, and back to what ran before where they fail."""
    try:
        await _run_commands(device, connection, order, progress)
        if _commands(device):
            await session.ask(Request(do="settle"))
    except CutError:
        raise
    except TransportError as error:
        progress(device.name, "rolling back", None)
        return await _go_back(error, device, connection, session, order)
    return _outcome(device, Result.UPDATED)


async def _send(payload: Payload, device: Device, session: RemoteSession, progress: Progress) -> int:
    """Uploads and installs; gives the bytes that were sent."""
    whole = len(payload.archive)
    there = await session.upload(
        payload.archive,
        payload.version.digest,
        needs_bytes=whole + payload.version.size_bytes,
        sent=lambda count: progress(device.name, "uploading", count / whole),
    )
    progress(device.name, "installing", None)
    await session.ask(Request(do="install", digest=payload.version.digest, key=device.signed_by))
    return whole - there


async def _run_commands(device: Device, connection: Connection, order: Order, progress: Progress) -> None:
    for what, command in _commands(device).items():
        progress(device.name, what, None)
        await connection.command(command, timeout_s=order.command_s)


def _commands(device: Device) -> dict[str, str]:
    """The device's own, after a switch; a deploy that was cut before they went well runs them again."""
    commands = {"restarting": device.restart, "checking health": device.health}
    return {what: command for what, command in commands.items() if command}


async def _go_back(
    failure: TransportError, device: Device, connection: Connection, session: RemoteSession, order: Order
) -> Outcome:
    """Switches back and restarts."""
    reason = str(failure)
    try:
        answer = await session.ask(Request(do="rollback", reason=reason, key=device.signed_by))
        reason += f"; back at {_words(answer.version)}" if answer.version else "; nothing ran before"
        if device.restart:
            await connection.command(device.restart, timeout_s=order.command_s)
    except TransportError as error:
        return _outcome(device, Result.FAILED, reason=f"{reason}; going back: {error}", hint="look at the device")
    return _outcome(device, Result.ROLLED_BACK, reason=reason, hint=failure.hint)


def _runs(payload: Payload, status: Status) -> bool:
    return payload.version == status.current


def _words(version: Version | None) -> str | None:
    return f"{version.name} {folder_name(version.digest)}" if version else None


def _outcome(
    device: Device,
    result: Result,
    *,
    before: str | None = None,
    sent_bytes: int = 0,
    reason: str = "",
    hint: str | None = None,
) -> Outcome:
    return Outcome(
        device=device.name,
        url=str(device.address),
        result=result,
        before=before,
        sent_bytes=sent_bytes,
        reason=reason,
        hint=hint,
    )
