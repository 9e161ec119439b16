"""The place on a device where bundles live: versions side by side, and a link to the one that runs.

    ROOT/versions/0123456789abcdef/   a whole bundle, named by the first digits of its digest
    ROOT/current                      a relative link, switched by one rename
    ROOT/history.jsonl                what was done, by whom and how it ended
    ROOT/incoming/DIGEST.part         an upload that may be resumed
    ROOT/.lock                        held by whoever changes something

Whatever happens at whatever moment, `current` names a whole, tested version: the old one or the new one.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from edgec.core.errors import DataError, EdgecError
from edgec.core.files import DRAFT, new_folder
from edgec.deploy.disk import free_bytes, remove, require_guarded, require_space, sync_folder, unwritable
from edgec.deploy.journal import Event, Journal, Kind, highest_release, is_settled, ran_before, runs, this_user
from edgec.deploy.lock import hold
from edgec.deploy.policy import require_not_expired, require_not_lower
from edgec.deploy.status import Status
from edgec.deploy.version import Version, copy_bundle, folder_name, installed_versions, keeps_copy
from edgec.package import Bundle, Manifest, open_bundle, verify_signature

if TYPE_CHECKING:
    from edgec.deploy.policy import SitePolicy
    from edgec.package import Trust

__all__ = ["Site"]

LEAST_DIGITS = 8
"""Of a digest, those that a person must give."""


class Site:
    """A folder on this device that bundles are deployed to; made on first use.

    Every change holds the site's lock. `locked` holds it over several of them.

    Args:
        root: The folder.
        by: Who asks, for the history; by default this user on this host.
        policy: What root allows here; None asks for nothing.
        smoke_test: What a version in its folder must pass before it runs; by default its golden images.
    """

    def __init__(
        self,
        root: Path,
        *,
        by: str | None = None,
        policy: SitePolicy | None = None,
        smoke_test: Callable[[Path], None] | None = None,
    ) -> None:
        self.root = root
        self.by = by or this_user()
        self.policy = policy
        self._smoke_test = smoke_test or _prove
        self._journal = Journal(root / "history.jsonl")
        self._depth = 0

    @property
    def current(self) -> Path:
        """The link to what runs."""
        return self.root / "current"

    @contextmanager
    def locked(self, *, wait_s: float = 0.0) -> Iterator[None]:
        """Keeps every other deployer out while the block runs; may be nested.

        Args:
            wait_s: How long to wait for another one to end.

        Raises:
            ConfigError: Other users may rename what lies there.
            TransportError: Another process holds the lock (who, which process, since when), or the site cannot be made.
        """
        if self._depth:
            yield
            return
        with self._writing():
            self._versions.mkdir(parents=True, exist_ok=True)
            require_guarded(self._versions)
        with hold(self.root / ".lock", by=self.by, since=_now(), wait_s=wait_s):
            self._depth = 1
            try:
                with self._writing():
                    self._settle()
                yield
            finally:
                self._depth = 0

    def incoming(self, digest: str) -> Path:
        """Where the archive of this bundle is received, `ROOT/incoming/DIGEST.part`; what lies there may be resumed.

        Leftovers of other uploads and of kills are removed.
        """
        part = self.root / "incoming" / f"{digest}.part"
        with self.locked(), self._writing():
            part.parent.mkdir(exist_ok=True)
            for other in (*part.parent.iterdir(), *self._versions.glob(".*")):
                if other != part:
                    remove(other)
        return part

    def admit(self, manifest: Manifest, digest: str, *, allow_downgrade: bool = False) -> None:
        """Lets a bundle pass that may be deployed here, by what its manifest says.

        Args:
            manifest: The manifest.
            digest: Its bundle's.
            allow_downgrade: Whether its release may be lower than what ran here; the device's policy still counts.

        Raises:
            ConfigError: The policy's memory is damaged.
            IntegrityError: The policy forbids it, it has expired, or its release is lower.
        """
        running, ran = self.status().current, highest_release(self.history(), manifest.name)
        if self.policy:
            self.policy.require_allowed(manifest, digest)
            self.policy.require_not_before(manifest)
        if running and running.digest == digest:
            return
        require_not_expired(manifest, datetime.now(timezone.utc).date())
        if not allow_downgrade:
            require_not_lower(manifest, running.release if running else 0, "release {} runs")
            require_not_lower(manifest, ran, "release {} ran here")

    def install(self, source: Path, *, trust: Trust | None = None) -> str:
        """Puts a bundle, archive or folder, among the versions; nothing is switched yet.

        A sound copy that is there already stays; see `edgec.deploy.version.keeps_copy` for its signature.

        Args:
            source: The bundle.
            trust: Whose signature it must have; None asks for none but the policy's.

        Returns:
            The bundle's digest.

        Raises:
            DataError: No bundle.
            IntegrityError: A damaged one, not signed as asked, or another signature than that of the copy here.
            TransportError: No space, or no permission. All is as before.
        """
        with self.locked(), self._writing():
            bundle = open_bundle(source)
            if require_signed := self._signed_as(trust):
                require_signed(bundle)
            bundle.verify()
            version = Version.of(bundle)
            folder = self._folder(version.digest)
            if not keeps_copy(folder, version, require_signed):
                require_space(self.root, version.size_bytes)
                with new_folder(folder) as draft:
                    copy_bundle(bundle, draft)
                sync_folder(self._versions)
                self._note("install", version)
            return version.digest

    def discard(self, digest: str) -> None:
        """Removes a version that never ran: what was refused leaves nothing."""
        with self.locked(), self._writing():
            ran = {event.digest for event in self.history() if event.ok and event.event == "switch"}
            if digest in installed_versions(self._versions).keys() - ran:
                self._remove(digest)

    def activate(
        self, digest: str, *, keep: int = 3, trust: Trust | None = None, allow_downgrade: bool = False
    ) -> Version:
        """Makes an installed version the one that runs, once it was checked and has passed its smoke test here.

        Args:
            digest: The version, at least its first 8 digits.
            keep: Versions that stay installed; what runs and what ran before always do.
            trust: Whose signature it must have; None asks for none but the policy's.
            allow_downgrade: Whether its release may be lower than that of what runs, or ran.

        Returns:
            What runs now.

        Raises:
            DataError: No such version is installed.
            IntegrityError: It is damaged, not signed as asked, older, or answers differently here.
            TransportError: No space, no permission, or another deployer. In any case `current` is as before.
        """
        with self.locked(), self._writing():
            version = self._installed(digest)
            running = self.status().current
            with self._noting_refusal(version):
                manifest = self._sound(version, trust).manifest
                self.admit(manifest, version.digest, allow_downgrade=allow_downgrade)
                self._smoke_test(self._folder(version.digest))
            if running is None or running.digest != version.digest:
                if self.policy:
                    self.policy.remember(version.release)
                self._switch("switch", version)
            self._prune(keep)
            return version

    def settle(self) -> None:
        """Notes that the commands of whoever switched went well: until then, the next deployer runs them again."""
        with self.locked(), self._writing():
            status = self.status()
            if status.current and not status.settled:
                self._note("settled", status.current)

    def rollback(self, *, reason: str = "", to_nothing: bool = False, trust: Trust | None = None) -> Version | None:
        """Switches back to the version that ran before, once it has passed its smoke test.

        Another rollback goes further back, never to what was rolled away from.

        Args:
            reason: For the history.
            to_nothing: Where nothing ran before, let nothing run; else that is an error.
            trust: Whose signature it must have; None asks for none.

        Returns:
            What runs now.

        Raises:
            DataError: Nothing ran before.
            IntegrityError: It is damaged, not signed as asked, or answers differently here; what runs goes on.
            TransportError: As `activate`.
        """
        with self.locked(), self._writing():
            version = self.status().previous
            if version:
                with self._noting_refusal(version):
                    manifest = self._sound(version, trust).manifest
                    if self.policy:
                        self.policy.require_allowed(manifest, version.digest)
                    self._smoke_test(self._folder(version.digest))
                self._switch("rollback", version, reason=reason)
            elif to_nothing:
                self._journal.append(self._event("rollback", None, reason=reason))
                self.current.unlink(missing_ok=True)
                sync_folder(self.root)
            else:
                raise DataError(f"no version ran before at '{self.root}'", hint="deploy another version")
            return version

    def status(self) -> Status:
        """What is installed and what runs; changes nothing and needs no lock."""
        versions, events = installed_versions(self._versions), self.history()
        current, fault = self._current(versions)
        latest = {event.digest: place for place, event in enumerate(events) if event.ok}
        before = ran_before(events, current.digest if current else "")
        known = [digest for digest in before if digest in versions]
        order = sorted(versions.values(), key=lambda version: (latest.get(version.digest, -1), version.digest))
        return Status(
            current=current,
            previous=versions[known[0]] if known else None,
            versions=tuple(reversed(order)),
            free_bytes=free_bytes(self.root),
            settled=is_settled(events),
            fault=fault,
        )

    def history(self) -> tuple[Event, ...]:
        """What was done here, oldest first."""
        return self._journal.events()

    @property
    def _versions(self) -> Path:
        return self.root / "versions"

    def _folder(self, digest: str) -> Path:
        return self._versions / folder_name(digest)

    def _current(self, versions: dict[str, Version]) -> tuple[Version | None, str | None]:
        """What runs, or else why nothing can."""
        try:
            link = str(self.current.readlink())
        except FileNotFoundError:
            return None, None
        except OSError:
            return None, f"'{self.current}' is not a link"
        for digest, version in versions.items():
            if link == f"versions/{folder_name(digest)}":
                return version, None
        return None, f"'{self.current}' leads to '{link}', which is no version"

    def _installed(self, digest: str) -> Version:
        versions = installed_versions(self._versions)
        found = [version for whole, version in versions.items() if whole.startswith(digest)]
        if len(digest) < LEAST_DIGITS or len(found) != 1:
            known = ", ".join(sorted(map(folder_name, versions))) or "none"
            raise DataError(
                f"no version '{digest}' at '{self.root}'; installed: {known}", hint="edgec site install ROOT BUNDLE"
            )
        return found[0]

    def _sound(self, version: Version, trust: Trust | None) -> Bundle:
        bundle = open_bundle(self._folder(version.digest))
        if require_signed := self._signed_as(trust):
            require_signed(bundle)
        bundle.verify()
        return bundle

    def _signed_as(self, trust: Trust | None) -> Callable[[Bundle], None] | None:
        """Raises where a bundle is not signed as whoever deploys and the policy ask; None where neither does."""
        trusted = [one for one in (trust, self.policy and self.policy.trust) if one]

        def require(bundle: Bundle) -> None:
            for one in trusted:
                verify_signature(bundle, one)

        return require if trusted else None

    def _switch(self, kind: Kind, version: Version, *, reason: str = "") -> None:
        """Moves the link. The event goes first: a full disk must be met before the switch, not behind it."""
        if self.current.is_dir() and not self.current.is_symlink():
            raise DataError(f"'{self.current}' is a folder, expected a link", hint="move it away on the device")
        draft = self.root / f".current.{secrets.token_hex(8)}{DRAFT}"
        draft.symlink_to(f"versions/{folder_name(version.digest)}")
        with ExitStack() as undo:
            undo.callback(draft.unlink)
            self._journal.append(self._event(kind, version, reason=reason))
            draft.replace(self.current)
            undo.pop_all()  # from here on it is done, and nothing may fail any more
        sync_folder(self.root)

    def _settle(self) -> None:
        """Notes what a kill between an event and its switch left untold, and removes what it left over."""
        for draft in self.root.glob(f".current.*{DRAFT}"):
            draft.unlink(missing_ok=True)
        current, fault = self._current(installed_versions(self._versions))
        told, now = (runs(self.history()) or [""])[-1], current.digest if current else ""
        if told != now and not fault:
            known = now in ("", *runs(self.history()))
            with suppress(OSError):
                reason = f"the step to {folder_name(told) or 'nothing'} was cut short"
                self._journal.append(self._event("rollback" if known else "switch", current, reason=reason))

    def _prune(self, keep: int) -> None:
        """Removes the oldest versions. What cannot be removed is left for the next time."""
        with suppress(OSError):
            status = self.status()
            needed = {version.digest for version in (status.current, status.previous) if version}
            others = [version.digest for version in status.versions if version.digest not in needed]
            for digest in others[max(0, keep - len(needed)) :]:
                self._remove(digest)

    def _remove(self, digest: str) -> None:
        """Renames first, so that no kill leaves half a version under its name."""
        doomed = self._versions / f".{folder_name(digest)}.{secrets.token_hex(8)}{DRAFT}"
        with suppress(FileNotFoundError):
            self._folder(digest).rename(doomed)
            remove(doomed)

    @contextmanager
    def _noting_refusal(self, version: Version) -> Iterator[None]:
        try:
            yield
        except EdgecError as error:
            with suppress(OSError):
                self._note("refused", version, ok=False, reason=str(error))
            raise

    def note(self, kind: Kind, *, ok: bool = True, reason: str = "") -> None:
        """Notes what became of what runs."""
        with self.locked(), self._writing():
            self._note(kind, self.status().current, ok=ok, reason=reason)

    def _note(self, kind: Kind, version: Version | None, *, ok: bool = True, reason: str = "") -> None:
        self._journal.append(self._event(kind, version, ok=ok, reason=reason))

    def _event(self, kind: Kind, version: Version | None, *, ok: bool = True, reason: str = "") -> Event:
        digest, name, release = (version.digest, version.name, version.release) if version else ("", "", 0)
        return Event(
            time=_now(), event=kind, digest=digest, name=name, release=release, by=self.by, ok=ok, reason=reason
        )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Says of a system's error what it means for the person."""
        try:
            yield
        except OSError as error:
            raise unwritable(self.root, error) from error


def _prove(folder: Path) -> None:
    from edgec.runtime import prove

    prove(folder)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
