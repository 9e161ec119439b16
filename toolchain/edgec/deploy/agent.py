"""A device that follows a registry's tag by itself: polls, fetches, verifies, tests, switches, reports.

Nothing has to reach the device, and nobody has to know how many there are: a poll is one HEAD request.
"""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timezone
from pathlib import Path

from edgec.core.errors import ConfigError, EdgecError, IntegrityError, MissingDependencyError, TransportError
from edgec.core.files import read_json, write_json
from edgec.core.progress import Silent
from edgec.deploy.disk import require_space
from edgec.deploy.modelpack import Artifact
from edgec.deploy.oci import Repository
from edgec.deploy.policy import require_not_expired
from edgec.deploy.reference import Reference
from edgec.deploy.site import Site
from edgec.deploy.transfer import SpoiltError, pull_artifact, receive, require_target
from edgec.deploy.trial import settle
from edgec.package import Manifest, Trust, open_bundle
from edgec.package.manifest import SIGNATURE

__all__ = ["Agent", "AgentState", "RefusedError", "next_wait_s"]

JITTER = 0.15
"""Share by which a wait differs at random, so that devices which started together drift apart."""
BACKOFF_LIMIT_S = 3600.0
"""Devices that cannot reach the registry ask less and less often, down to this."""
LOCK_S = 60.0
"""How long another deployer is waited for."""
_PASSING = (TransportError, MissingDependencyError, ConfigError, SpoiltError)
"""What can change while the tag stays where it is."""


class RefusedError(IntegrityError):
    """What the tag names failed on this device, and is not tried again before the tag moves.

    Attributes:
        digest: Of the manifest that was refused.
        reason: Why.
    """

    def __init__(self, reference: Reference, *, digest: str, reason: str) -> None:
        super().__init__(
            f"'{reference}' is {digest}, refused here: {reason}", hint="push a bundle that passes under this tag"
        )
        self.digest, self.reason = digest, reason


@dataclass(frozen=True, kw_only=True)
class AgentState:
    """What `ROOT/agent.json` tells; times are UTC, ISO 8601.

    Attributes:
        reference: The tag that is followed.
        target: What the device was said to be.
        digest: Of the manifest that was switched to; the tag named it at that time.
        bundle: The identity of its bundle.
        since: When it was switched to.
        polled: The last look at the tag.
        error: What went wrong at that look.
        failures: Looks in a row that went wrong.
        refused: The digest that failed here, if the tag still names it.
        reason: Why it failed.
        trying: The digest that was fetched last: switched to, where a kill came between, and perhaps not settled.
    """

    reference: str
    target: str | None = None
    digest: str | None = None
    bundle: str | None = None
    since: str | None = None
    polled: str | None = None
    error: str | None = None
    failures: int = 0
    refused: str | None = None
    reason: str | None = None
    trying: str | None = None


class Agent:
    """Keeps a site at what a tag names.

    Args:
        reference: The tag.
        site: Where bundles are installed.
        target: What the device is: which member of a family it takes, and what any bundle must be built for. None
            asks for what the device's policy asks for.
        trust: Whose signature they must have; None asks for none.
        keep: Versions that stay installed.
        allow_downgrade: Whether a lower release may run.
        restart: A command for after the switch; where it fails, the version before is switched back to.
        health: A command for after the restart; where it fails, the version before is switched back to.
        insecure: Speak HTTP without TLS.
        report: Told of what was done.
        now: The clock.

    Raises:
        ConfigError: The reference has no tag, or a digest, which never moves.
    """

    def __init__(
        self,
        reference: Reference,
        site: Site,
        *,
        target: str | None = None,
        trust: Trust | None = None,
        keep: int = 3,
        allow_downgrade: bool = False,
        restart: str | None = None,
        health: str | None = None,
        insecure: bool = False,
        report: Callable[[str], None] = lambda _: None,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        if reference.tag is None or reference.digest is not None:
            raise ConfigError(f"'{reference}' never moves: an agent follows a tag", hint="as in …:stable")
        self._reference, self._site, self._trust = reference, site, trust
        self._target = target or (site.policy and site.policy.target)
        self._keep, self._allow_downgrade = keep, allow_downgrade
        self._commands = tuple(command for command in (restart, health) if command)
        self._insecure, self._report, self._now = insecure, report, now
        self.switching = False
        self.state = _read_state(site.root / "agent.json", str(reference), self._target)

    def poll(self) -> bool:
        """Looks at the tag once, and does what is to be done; `agent.json` tells how it went.

        Returns:
            Whether the tag names another bundle than before, which now runs.

        Raises:
            RefusedError: What the tag names failed here; what ran goes on.
            EdgecError: Anything else went wrong; likewise.
        """
        before = self.state
        state = self._recovered(replace(before, polled=self._time()))
        try:
            state = self._follow(state)
        except RefusedError as error:
            state = replace(state, refused=error.digest, reason=error.reason)
            self._save(replace(state, error=str(error), failures=0, trying=None))
            raise
        except Exception as error:  # whatever it is, the next look must wait longer
            self._save(replace(state, error=str(error), failures=before.failures + 1))
            raise
        self._save(replace(state, error=None, failures=0, refused=None, reason=None, trying=None))
        return state.bundle != before.bundle

    def run(self, stop: threading.Event, *, every_s: float, draw: random.Random) -> None:
        """Polls until `stop` is set. Failures are reported, never raised, whatever the registry sends.

        The second look comes at any moment of the first period: devices that were switched on together then
        ask at different times.
        """
        first = True
        while not stop.is_set():
            try:
                self.poll()
            except EdgecError as error:
                self._report(f"error: {error}")
            except Exception as error:  # noqa: BLE001 - a device that nobody can reach must go on to ask
                self._report(f"error: unexpected {type(error).__name__}: {error}")
            wait_s = next_wait_s(every_s, self.state.failures, draw)
            stop.wait(draw.uniform(0, every_s) if first and not self.state.failures else wait_s)
            first = False

    def _recovered(self, state: AgentState) -> AgentState:
        """Settles what a kill, or a deployer that was cut, left on trial; where that goes back, it is refused here."""
        self.switching = True
        try:
            fault = settle(self._site, self._commands, wait_s=LOCK_S)
        except EdgecError as error:
            self._report(f"error: {error}")
            return state
        finally:
            self.switching = False
        if fault:
            self._report(f"error: {fault}; rolled back")
        return replace(state, refused=state.trying, reason=fault) if fault and state.trying else state

    def _follow(self, state: AgentState) -> AgentState:
        with Repository(self._reference, insecure=self._insecure) as repository:
            digest = repository.resolve()
            if digest == state.refused:
                raise RefusedError(self._reference, digest=digest, reason=state.reason or "")
            if digest == state.digest:
                self._require_fresh()
                return state
            artifact = pull_artifact(repository, self._target)
            if not self._runs(artifact):
                self._take(repository, artifact)
        since = self._time()
        self._report(f"{self._reference} is {artifact.digest}: bundle {artifact.bundle} runs")
        return replace(state, digest=artifact.named, bundle=artifact.bundle, since=since)

    def _require_fresh(self) -> None:
        """A tag that stays at a bundle which has expired: the registry is frozen, or nobody builds any more."""
        if self._site.current.exists():
            require_not_expired(open_bundle(self._site.current).manifest, self._now().date())

    def _runs(self, artifact: Artifact) -> bool:
        """Whether the very bundle runs already: brought by a deployer, or by an agent that was killed after it."""
        current, signature = self._site.status().current, artifact.layers.get(SIGNATURE)
        if current is None or current.digest != artifact.bundle or self._target not in (None, current.target):
            return False
        return current.signature == (signature.sha256 if signature else None)

    def _take(self, repository: Repository, artifact: Artifact) -> None:
        """Fetches, and switches. A version that is installed lends the files that did not change."""
        folder = self._site.root / ".agent"
        versions = tuple((self._site.root / "versions").glob("[0-9a-f]*"))
        policy = self._site.policy

        def admit(manifest: Manifest) -> None:
            require_target(manifest, self._target, where=str(self._reference))
            self._site.admit(manifest, artifact.bundle, allow_downgrade=self._allow_downgrade)
            require_space(self._site.root, 2 * artifact.size_bytes)

        try:
            pulled = receive(
                repository,
                artifact,
                folder / "bundle",
                trust=(policy and policy.trust) or self._trust,
                progress=Silent(),
                reuse=versions,
                admit=admit,
            )
            self._report(f"received {pulled.received_bytes:,} bytes; {pulled.reused_bytes:,} were there")
            self._save(replace(self.state, trying=artifact.named))
            self._switch(artifact, pulled.path)
        except _PASSING:
            raise
        except EdgecError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise RefusedError(self._reference, digest=artifact.named, reason=str(error)) from error
        shutil.rmtree(folder, ignore_errors=True)

    def _switch(self, artifact: Artifact, bundle: Path) -> None:
        """Installs, tests, switches, and goes back where the device's own commands fail then."""
        self.switching = True
        try:
            with self._site.locked(wait_s=LOCK_S):
                try:
                    digest = self._site.install(bundle, trust=self._trust)
                    self._site.activate(
                        digest, keep=self._keep, trust=self._trust, allow_downgrade=self._allow_downgrade
                    )
                except _PASSING:
                    raise
                except EdgecError:
                    self._site.discard(artifact.bundle)
                    raise
                fault = settle(self._site, self._commands, wait_s=0)
        finally:
            self.switching = False
        if fault:
            raise IntegrityError(f"{fault}; rolled back", hint="see the service's log")

    def _save(self, state: AgentState) -> None:
        """Keeps the state; a full disk must not end what could free it."""
        self.state = state
        with suppress(OSError):
            write_json(self._site.root / "agent.json", asdict(state))

    def _time(self) -> str:
        return self._now().isoformat(timespec="seconds")


def next_wait_s(every_s: float, failures: int, draw: random.Random) -> float:
    """Until the next look: `every_s`, twice that after a failure and so on up to an hour, each 15 % more or less."""
    limit_s = max(every_s, BACKOFF_LIMIT_S)
    return min(every_s * 2.0 ** min(failures, 32), limit_s) * draw.uniform(1 - JITTER, 1 + JITTER)


def _read_state(path: Path, reference: str, target: str | None) -> AgentState:
    """What an earlier process knew of this tag; nothing where the file is damaged, or tells of another tag or target.

    A tag that names a family means another bundle then, and what was refused for one target may be right for another.
    """
    known = {field.name for field in fields(AgentState)}
    try:
        value = read_json(path)
        state = AgentState(**{name: value[name] for name in known & value.keys()})
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return AgentState(reference=reference, target=target)
    texts = (
        state.target,
        state.digest,
        state.bundle,
        state.since,
        state.polled,
        state.error,
        state.refused,
        state.reason,
        state.trying,
    )
    plain = all(text is None or isinstance(text, str) for text in texts) and isinstance(state.failures, int)
    same = plain and (state.reference, state.target) == (reference, target)
    return state if same else AgentState(reference=reference, target=target)
