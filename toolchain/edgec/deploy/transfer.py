"""Bundles to a registry and back: what is there already is not sent, what was received is not received again."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from edgec.core.digest import digest_bytes, digest_file
from edgec.core.errors import ConfigError, DataError, IntegrityError
from edgec.core.files import new_folder, require_writable
from edgec.core.progress import Progress
from edgec.deploy.disk import require_guarded, unwritable
from edgec.deploy.modelpack import INDEX_TYPE, Artifact, Blob, describe, describe_family, read_artifact, read_family
from edgec.deploy.oci import Repository
from edgec.deploy.reference import Reference
from edgec.package import (
    Bundle,
    Manifest,
    Trust,
    open_bundle,
    read_signed_manifest,
    require_replaceable,
    verify_signature,
)
from edgec.package.family import is_family, open_family
from edgec.package.manifest import MANIFEST, MAX_MANIFEST_BYTES, SIGNATURE
from edgec.package.signing import MAX_BYTES

__all__ = [
    "Pulled",
    "Pushed",
    "SpoiltError",
    "pull_artifact",
    "pull_bundle",
    "push_bundle",
    "receive",
    "require_target",
]

_FIRST = {MANIFEST: MAX_MANIFEST_BYTES, SIGNATURE: MAX_BYTES}
"""What is fetched before anything else, and the most bytes of it."""


class SpoiltError(IntegrityError):
    """A registry sent other bytes than it had named. It may mend that: nothing is known of the bundle."""


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """What became of a push.

    Attributes:
        reference: The bundle as it now lies there, by a digest that never moves.
        digest: The bundle's identity.
        sent_bytes: Of the files that the registry did not have.
        there_bytes: Of those that it had.
    """

    reference: Reference
    digest: str
    sent_bytes: int
    there_bytes: int


@dataclass(frozen=True, kw_only=True)
class Pulled:
    """What became of a pull.

    Attributes:
        path: The bundle.
        reference: What was pulled, by its digest.
        digest: The bundle's identity.
        received_bytes: From the registry, this time.
        reused_bytes: Of files that were there from an earlier bundle, or an earlier attempt.
        signed_by: Who signed it, where a signature was asked for.
    """

    path: Path
    reference: Reference
    digest: str
    received_bytes: int
    reused_bytes: int
    signed_by: str | None = None


def push_bundle(path: Path, repository: Repository, *, progress: Progress) -> Pushed:
    """Stores a bundle, or a family, under a tag; equal ones get equal digests.

    The tag moves last: whoever pulls it gets the old bundle or the new one, whole. That of a family is an OCI index,
    which names each target's bundle.

    Args:
        path: The bundle, folder or archive, or the family.
        repository: Where to, by a tag.
        progress: Told of the files.

    Raises:
        ConfigError: The reference has no tag, or has a digest.
        DataError: No bundle.
        IntegrityError: A damaged one.
        TransportError: The registry cannot be reached, or refuses.
    """
    reference = repository.reference
    if reference.tag is None or reference.digest is not None:
        raise ConfigError(
            f"'{reference}' has a digest, which follows from the bundle", hint="name a tag, as in …:stable"
        )
    if not is_family(path):
        bundle = open_bundle(path)
        artifact, sent = _sent(bundle, repository, progress)
        repository.put_manifest(artifact.manifest)
        pinned, there = reference.pinned(artifact.digest), artifact.size_bytes - sent
        return Pushed(reference=pinned, digest=bundle.digest, sent_bytes=sent, there_bytes=there)
    family, sent, members = open_family(path), 0, {}
    for target, bundle in family.members.items():
        members[target], more = _sent(bundle, repository, progress)
        repository.put_manifest(members[target].manifest, member=True)
        sent += more
    index = describe_family(members)
    repository.put_manifest(index, media_type=INDEX_TYPE)
    return Pushed(
        reference=reference.pinned(f"sha256:{digest_bytes(index)}"),
        digest=family.digest,
        sent_bytes=sent,
        there_bytes=sum(member.size_bytes for member in members.values()) - sent,
    )


def _sent(bundle: Bundle, repository: Repository, progress: Progress) -> tuple[Artifact, int]:
    """Stores a bundle's files and config; gives what names them, and the bytes that had to be sent."""
    bundle.verify()
    artifact, config = describe(bundle)
    sent = 0
    layers = sorted(artifact.layers.items(), key=lambda layer: layer[1].size)
    for name, blob in progress.track(layers, total=len(layers), what="sending", unit="file"):
        sent += blob.size * repository.upload(blob, bundle.source.read(name))
    repository.upload(artifact.config, config)
    return artifact, sent


def pull_bundle(
    repository: Repository,
    output: Path,
    *,
    target: str | None = None,
    trust: Trust | None,
    progress: Progress,
    reuse: Sequence[Path] = (),
) -> Pulled:
    """Fetches a bundle into a folder that appears whole and compared, or not at all.

    Args:
        repository: Where from, by tag or digest.
        output: The folder; a bundle that stood there is replaced.
        target: Which member of a family; of a single bundle, what it must be built for. None asks for nothing.
        trust: Whose signature it must have; None asks for none.
        progress: Told of the files.
        reuse: Folders of other bundles, whose files are taken where they are the same.

    Raises:
        ConfigError: `output` cannot be written, is something else, or is being pulled to.
        DataError: What lies there is no bundle.
        IntegrityError: It is damaged, leads outside, or is not signed as asked.
        TransportError: The registry cannot be reached, or refuses; what was received is kept for the next attempt.
    """
    artifact, where = pull_artifact(repository, target), str(repository.reference)

    def admit(manifest: Manifest) -> None:
        require_target(manifest, target, where=where)

    return receive(repository, artifact, output, trust=trust, progress=progress, reuse=reuse, admit=admit)


def require_target(manifest: Manifest, target: str | None, *, where: str) -> None:
    """Refuses a bundle for another device than the one that was asked for; None asks for none.

    Raises:
        DataError: It is for another.
    """
    if target is not None and manifest.target.name != target:
        raise DataError(
            f"'{where}' was built for '{manifest.target.name}', asked for is '{target}'",
            hint=f"build and push it: edgec build --target {target}",
        )


def pull_artifact(repository: Repository, target: str | None = None) -> Artifact:
    """What lies in the registry, without its files; of a family, a target's member.

    Raises:
        ConfigError: It is a family, and no target is named.
        DataError: No bundle, or a family without such a member.
        IntegrityError: It is damaged, or leads outside.
        TransportError: The registry cannot be reached, or refuses.
    """
    data, where = repository.manifest(), str(repository.reference)
    members = read_family(data, where=where)
    if members is None:
        return read_artifact(data, where=where)
    there = ", ".join(members)
    if target is None:
        raise ConfigError(f"'{where}' is a family for {there}", hint="name yours with --target")
    if target not in members:
        raise DataError(
            f"'{where}' has no member for '{target}'; it has {there}",
            hint=f"build and push it with the others: edgec build --target {','.join([*members, target])}",
        )
    artifact = read_artifact(repository.manifest(members[target].digest), where=where)
    return replace(artifact, family=f"sha256:{digest_bytes(data)}")


def receive(
    repository: Repository,
    artifact: Artifact,
    output: Path,
    *,
    trust: Trust | None,
    progress: Progress,
    reuse: Sequence[Path] = (),
    admit: Callable[[Manifest], None] = lambda _: None,
) -> Pulled:
    """Fetches the files of an artifact; see `pull_bundle`.

    Manifest and signature come first, and are judged before anything else is fetched. What is refused leaves nothing.

    Args:
        repository: Where from.
        artifact: What.
        output: As in `pull_bundle`.
        trust: As in `pull_bundle`.
        progress: As in `pull_bundle`.
        reuse: As in `pull_bundle`.
        admit: Raises what speaks against a bundle, by its manifest.
    """
    require_replaceable(output)
    require_writable(output)
    require_guarded(output.absolute().parent)
    received = 0
    with _parts(output) as parts, _disk(output.absolute().parent), _clean_refusal(parts):
        _clear(parts, {blob.sha256 for blob in artifact.layers.values()})
        names = _judged(artifact, lambda: admit(_manifest(artifact, parts, trust, where=repository.reference)))
        for name in progress.track(names, total=len(artifact.layers), what="receiving"):
            blob = artifact.layers[name]
            part = parts / blob.sha256
            if not _is_whole(part, blob) and not _copied(name, blob, (output, *reuse), part):
                received += _fetched(repository, blob, part)
        with new_folder(output) as draft:
            _place(artifact.layers, parts, draft)
            bundle = open_bundle(draft)
            bundle.verify()
            signed_by = verify_signature(bundle, trust) if trust else None
        _clear(parts, set())
    return Pulled(
        path=output,
        reference=repository.reference.pinned(artifact.digest),
        digest=artifact.bundle,
        received_bytes=received,
        reused_bytes=max(artifact.size_bytes - received, 0),
        signed_by=signed_by,
    )


def _fetched(repository: Repository, blob: Blob, part: Path) -> int:
    try:
        return repository.fetch(blob, part)
    except IntegrityError as error:
        raise SpoiltError(str(error), hint=error.hint) from error


def _judged(artifact: Artifact, judge: Callable[[], None]) -> Iterator[str]:
    """The files' names: manifest and signature, then, once those were judged, the others, the smallest first."""
    for name, most in _FIRST.items():
        if name in artifact.layers:
            if artifact.layers[name].size > most:
                raise IntegrityError(f"'{name}' has {artifact.layers[name].size} bytes, expected at most {most}")
            yield name
    judge()
    yield from sorted(artifact.layers.keys() - _FIRST.keys(), key=lambda name: (artifact.layers[name].size, name))


def _manifest(artifact: Artifact, parts: Path, trust: Trust | None, *, where: Reference) -> Manifest:
    """The manifest that was received, signed as asked; the registry must offer the very files that it names."""
    place = Path(str(where))
    data = (parts / artifact.layers[MANIFEST].sha256).read_bytes()
    signature = artifact.layers.get(SIGNATURE)
    if trust:
        signed = (parts / signature.sha256).read_bytes() if signature else None
        manifest = read_signed_manifest(data, signed, trust, where=place)
    else:
        manifest = Manifest.from_bytes(data, where=f"{where}/{MANIFEST}")
    offered = {name: (blob.sha256, blob.size) for name, blob in artifact.layers.items() if name not in _FIRST}
    named = {name: (entry.sha256, entry.bytes) for name, entry in manifest.files.items()}
    for name in sorted(offered.keys() | named.keys()):
        if offered.get(name) != named.get(name):
            found = "not in the manifest" if name not in named else "another file" if name in offered else "missing"
            raise IntegrityError(
                f"'{where}': '{name}' is {found}",
                hint="what lies there was not pushed by edgec, or was changed",
            )
    return manifest


@contextmanager
def _clean_refusal(parts: Path) -> Iterator[None]:
    """Removes what was received of a bundle that is refused: it will not be gone on with."""
    try:
        yield
    except (DataError, IntegrityError):
        _clear(parts, set())
        raise


@contextmanager
def _parts(output: Path) -> Iterator[Path]:
    """The hidden folder beside `output` where files arrive; it stays when something fails, to be gone on with.

    It is this user's alone, and named by its descriptor: others who may write beside it can put no link into it, nor
    another folder into its place.
    """
    folder = output.absolute().with_name(f".{output.absolute().name}.pull")
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700, parents=True)
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise _taken(folder, "is not a folder") from error
    try:
        if os.fstat(handle).st_uid != os.geteuid():
            raise _taken(folder, "belongs to another user")
        os.fchmod(handle, 0o700)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"'{output}' is being pulled to by another process", hint="wait for it to end") from error
        here = Path(f"/proc/self/fd/{handle}")
        yield here if here.exists() else folder
    finally:
        with suppress(OSError):
            folder.rmdir()
        os.close(handle)


def _taken(folder: Path, reason: str) -> ConfigError:
    return ConfigError(f"'{folder}' {reason}", hint="remove it, or name another --output")


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    """A full disk is a failure like another: what was received stays."""
    try:
        yield
    except OSError as error:
        raise unwritable(folder, error) from error


def _clear(parts: Path, wanted: set[str]) -> None:
    """Removes what belongs to another version, and anything but a plain file."""
    for entry in os.scandir(parts):
        if entry.name not in wanted or not entry.is_file(follow_symlinks=False):
            shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else Path(entry.path).unlink()


def _is_whole(path: Path, blob: Blob) -> bool:
    return path.is_file() and path.stat().st_size == blob.size and digest_file(path) == blob.sha256


def _copied(name: str, blob: Blob, folders: Sequence[Path], part: Path) -> bool:
    """Whether another bundle's file of this name was the same, and was taken."""
    for folder in folders:
        if not (folder / name).is_symlink() and _is_whole(folder / name, blob):
            shutil.copyfile(folder / name, part)
            return _is_whole(part, blob)
    return False


def _place(layers: Mapping[str, Blob], parts: Path, draft: Path) -> None:
    """Gives the files their names; a file that stands under two is copied."""
    last = {blob.sha256: name for name, blob in layers.items()}
    for name, blob in layers.items():
        path = draft / name
        path.parent.mkdir(parents=True, exist_ok=True)
        part = parts / blob.sha256
        if last[blob.sha256] == name:
            part.rename(path)
        else:
            shutil.copyfile(part, path)
