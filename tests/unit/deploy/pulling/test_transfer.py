"""Bundles to a registry and back, over a real one."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edgec.core.errors import ConfigError, DataError, IntegrityError, TransportError
from edgec.core.progress import Silent
from edgec.deploy import oci as registry_module
from edgec.deploy.modelpack import INDEX_TYPE, TARGET
from edgec.deploy.oci import Repository
from edgec.deploy.transfer import Pulled, Pushed, pull_bundle, push_bundle
from edgec.package import open_bundle, write_archive
from edgec.package.family import open_family

pytestmark = pytest.mark.network

Open = Callable[..., Repository]


def push(bundle: Path, repository: Repository) -> Pushed:
    return push_bundle(bundle, repository, progress=Silent())


def pull(repository: Repository, output: Path, **options: object) -> Pulled:
    return pull_bundle(repository, output, **{"trust": None, "progress": Silent()} | options)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def large(make_bundle) -> Path:
    """A bundle with a file of three chunks and a half, as the tests send them."""
    return make_bundle("large", files={"report.html": os.urandom(350_000)})


def test_a_bundle_comes_back_as_it_went(bundle: Path, repository: Open, tmp_path: Path) -> None:
    pushed = push(bundle, repository())
    pulled = pull(repository(), tmp_path / "back")
    assert contents(tmp_path / "back") == contents(bundle)
    assert pulled.digest == pushed.digest == open_bundle(bundle).digest
    assert pulled.reference == pushed.reference
    assert pulled.received_bytes == pushed.sent_bytes == sum(map(len, contents(bundle).values()))


def test_the_digest_is_that_of_the_manifest_the_registry_has(bundle: Path, repository: Open, registry) -> None:
    pushed = push(bundle, repository())
    data = registry.blob(str(pushed.reference.digest)).read_bytes()
    assert pushed.reference.digest == f"sha256:{hashlib.sha256(data).hexdigest()}"


def test_folder_and_archive_get_the_same_digest_anywhere(bundle: Path, repository: Open, tmp_path: Path) -> None:
    archive = write_archive(bundle, tmp_path / "bundle.edgec")
    first, second = push(bundle, repository()), push(archive, repository(":other", path="elsewhere"))
    assert first.reference.digest == second.reference.digest


def test_what_is_there_is_not_sent(bundle: Path, make_bundle, repository: Open) -> None:
    push(bundle, repository())
    changed = make_bundle("changed", files={"report.html": b"<!doctype html><title>other</title>\n"})
    pushed = push(changed, repository(":next"))
    new = ["manifest.json", "report.html"]
    assert pushed.sent_bytes == sum((changed / name).stat().st_size for name in new)
    assert push(changed, repository(":next")).sent_bytes == 0


def test_what_another_bundle_holds_is_not_received(bundle: Path, make_bundle, repository: Open, tmp_path: Path) -> None:
    changed = make_bundle("changed", files={"report.html": b"<!doctype html><title>other</title>\n"})
    push(changed, repository())
    pulled = pull(repository(), tmp_path / "back", reuse=(bundle,))
    new = ["manifest.json", "report.html"]
    assert pulled.received_bytes == sum((changed / name).stat().st_size for name in new)
    assert contents(tmp_path / "back") == contents(changed)


def test_a_tag_moves_and_a_digest_does_not(bundle: Path, make_bundle, repository: Open, tmp_path: Path) -> None:
    first = push(bundle, repository())
    second = push(make_bundle("changed", files={"report.html": b"new"}), repository())
    assert repository().resolve() == second.reference.digest != first.reference.digest
    assert pull(repository(f"@{first.reference.digest}"), tmp_path / "pinned").digest == first.digest
    assert pull(repository(), tmp_path / "tagged").digest == second.digest


def test_a_pull_replaces_the_bundle_that_stood_there(bundle: Path, make_bundle, repository: Open, tmp_path) -> None:
    push(bundle, repository())
    pull(repository(), tmp_path / "back")
    changed = make_bundle("changed", files={"report.html": b"new"})
    push(changed, repository())
    pull(repository(), tmp_path / "back")
    assert contents(tmp_path / "back") == contents(changed)


def test_a_pull_into_something_else_touches_nothing(bundle: Path, repository: Open, tmp_path: Path) -> None:
    push(bundle, repository())
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(ConfigError, match="is not a bundle"):
        pull(repository(), tmp_path / "photos")
    assert contents(tmp_path / "photos") == {"cat.jpg": b"cat"}


def test_pushing_to_a_digest_is_refused(bundle: Path, repository: Open) -> None:
    with pytest.raises(ConfigError, match="has a digest, which follows from the bundle"):
        push(bundle, repository(f"@sha256:{'a' * 64}"))


def test_a_damaged_bundle_is_not_pushed(bundle: Path, repository: Open) -> None:
    (bundle / "report.html").write_bytes(b"forged")
    with pytest.raises(IntegrityError):
        push(bundle, repository())
    with pytest.raises(TransportError):
        repository().resolve()


@pytest.mark.parametrize("name", [":absent", f"@sha256:{'0' * 64}"])
def test_what_is_not_there_is_named(repository: Open, name: str, bundle: Path, tmp_path: Path) -> None:
    push(bundle, repository())
    with pytest.raises(TransportError) as caught:
        pull(repository(name), tmp_path / "back")
    assert f"has no '{name[1:]}' in 'cameras/digits'" in str(caught.value)
    assert caught.value.hint == "check the name; edgec push stores a bundle"
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json", "golden.npz"])
@pytest.mark.parametrize("damage", ["flipped", "longer", "shorter", "swapped"])
def test_a_blob_that_was_changed_in_the_registry_is_refused(
    bundle: Path, repository: Open, registry, tmp_path: Path, name: str, damage: str
) -> None:
    push(bundle, repository())
    path = registry.blob(hashlib.sha256((bundle / name).read_bytes()).hexdigest())
    data = path.read_bytes()
    changed = {
        "flipped": bytes([data[0] ^ 1]) + data[1:],
        "longer": data + b"x",
        "shorter": data[:-1],
        "swapped": (bundle / "report.json").read_bytes(),
    }
    path.write_bytes(changed[damage])
    with pytest.raises((IntegrityError, TransportError)) as caught:
        pull(repository(), tmp_path / "back")
    if damage == "flipped":
        assert isinstance(caught.value, IntegrityError)
        assert "its SHA-256 differs" in str(caught.value)
    assert not (tmp_path / "back").exists()


def test_a_manifest_that_was_changed_in_the_registry_is_refused(
    bundle: Path, repository: Open, registry, tmp_path: Path
) -> None:
    pushed = push(bundle, repository())
    path = registry.blob(str(pushed.reference.digest))
    path.write_bytes(path.read_bytes().replace(b"golden.npz", b"silver.npz"))
    with pytest.raises((IntegrityError, TransportError)):
        pull(repository(f"@{pushed.reference.digest}"), tmp_path / "back")
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../evil", "file name '../evil' is not allowed"),
        ("/etc/evil", "file name '/etc/evil' is not allowed"),
        ("a/../../evil", "is not allowed"),
        (".hidden", "is not allowed"),
        ("a\\b", "is not allowed"),
        ("", "file name '' is not allowed"),
        ("model.onnx", "'model.onnx' stands twice"),
        ("model.onnx/x", "'model.onnx' is both a file and a folder"),
    ],
)
def test_no_layer_leads_outside(bundle: Path, repository: Open, tmp_path: Path, name: str, message: str) -> None:
    """A registry that somebody else writes to may hold any manifest: here one with a layer of that path."""
    pushed = push(bundle, repository())
    manifest = json.loads(repository(f"@{pushed.reference.digest}").manifest())
    manifest["layers"].append(manifest["layers"][0] | {"annotations": {"org.cncf.model.filepath": name}})
    repository(":evil").put_manifest(json.dumps(manifest).encode())
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(IntegrityError) as caught:
        pull(repository(":evil"), tmp_path / "back")
    assert message in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_that_the_bundle_does_not_name_is_refused(bundle: Path, repository: Open, tmp_path: Path) -> None:
    pushed = push(bundle, repository())
    manifest = json.loads(repository(f"@{pushed.reference.digest}").manifest())
    manifest["layers"].append(manifest["layers"][0] | {"annotations": {"org.cncf.model.filepath": "extra.json"}})
    repository(":more").put_manifest(json.dumps(manifest).encode())
    with pytest.raises(IntegrityError, match=r"'extra.json' is not in the manifest"):
        pull(repository(":more"), tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_an_image_is_no_bundle(bundle: Path, repository: Open, tmp_path: Path) -> None:
    pushed = push(bundle, repository())
    manifest = json.loads(repository(f"@{pushed.reference.digest}").manifest())
    del manifest["artifactType"]
    manifest["config"]["mediaType"] = "application/vnd.oci.image.config.v1+json"
    repository(":image").put_manifest(json.dumps(manifest).encode())
    with pytest.raises(DataError, match=r"is no bundle: 'application/vnd.oci.image.config.v1\+json', expected"):
        pull(repository(":image"), tmp_path / "back")


@pytest.mark.parametrize("cut", [2_000, 60_000, 200_000, 349_000])
def test_a_pull_goes_on_where_the_connection_was_cut(
    large: Path, repository: Open, line, tmp_path: Path, cut: int
) -> None:
    push(large, repository())
    line.cuts["down"] = [cut]
    pulled = pull(repository(port=line.port), tmp_path / "back")
    assert contents(tmp_path / "back") == contents(large)
    assert line.cuts["down"] == []
    # What lay in buffers when the line was cut is lost: three sockets' worth here, against 350 kB of a new start.
    assert line.passed["down"] < pulled.received_bytes + 100_000


def test_another_pull_goes_on_where_one_gave_up(large: Path, repository: Open, line, tmp_path: Path) -> None:
    push(large, repository())
    line.cuts["down"] = [200_000, 50, 50, 50, 50, 50]
    with pytest.raises(TransportError):
        pull(repository(port=line.port), tmp_path / "back")
    assert not (tmp_path / "back").exists()
    pulled = pull(repository(), tmp_path / "back")
    assert contents(tmp_path / "back") == contents(large)
    assert pulled.received_bytes < 250_000
    assert not list(tmp_path.glob(".back*"))


def test_what_an_earlier_pull_left_is_not_believed(large: Path, repository: Open, tmp_path: Path) -> None:
    push(large, repository())
    parts = tmp_path / ".back.pull"
    parts.mkdir()
    data = (large / "report.html").read_bytes()
    (parts / hashlib.sha256(data).hexdigest()).write_bytes(b"\0" * 1000)
    (parts / "of another version").write_bytes(b"?")
    model = hashlib.sha256((large / "model.onnx").read_bytes()).hexdigest()
    (parts / model).symlink_to(large / "manifest.json")
    before = contents(large)
    pull(repository(), tmp_path / "back")
    assert contents(tmp_path / "back") == contents(large) == before


def test_a_folder_that_another_user_prepared_is_not_written_to(
    bundle: Path, repository: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where everybody may write, as in /tmp, what stands beside the output may be full of links."""
    push(bundle, repository())
    (tmp_path / ".back.pull").mkdir()
    monkeypatch.setattr("edgec.deploy.transfer.os.geteuid", lambda: os.getuid() + 1)
    with pytest.raises(ConfigError, match=r"\.back\.pull' belongs to another user"):
        pull(repository(), tmp_path / "back")


def test_nothing_is_pulled_to_where_others_may_rename_it(bundle: Path, repository: Open, tmp_path: Path) -> None:
    push(bundle, repository())
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)
    with pytest.raises(ConfigError, match=r"everybody may rename what is in '.*shared', mode 777"):
        pull(repository(), tmp_path / "shared" / "back")
    assert not list((tmp_path / "shared").iterdir())
    (tmp_path / "shared").chmod(0o1777)
    assert pull(repository(), tmp_path / "shared" / "back").path.exists()


def test_nobody_else_may_write_where_files_arrive(
    bundle: Path, repository: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(bundle, repository())
    parts = tmp_path / ".back.pull"
    parts.mkdir(mode=0o777)
    parts.chmod(0o777)
    modes = []
    monkeypatch.setattr("edgec.deploy.transfer._clear", lambda *_: modes.append(parts.stat().st_mode & 0o777))
    pull(repository(), tmp_path / "back")
    assert modes[0] == 0o700


@pytest.mark.parametrize("cut", [100, 50_000, 150_000, 320_000])
def test_a_push_goes_on_where_the_connection_was_cut(
    large: Path, repository: Open, line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    monkeypatch.setattr(registry_module, "CHUNK_BYTES", 100_000)
    line.cuts["up"] = [cut]
    push(large, repository(port=line.port))
    assert line.cuts["up"] == []
    pull(repository(), tmp_path / "back")
    assert contents(tmp_path / "back") == contents(large)


def test_two_pulls_into_one_folder_do_not_mix(bundle: Path, repository: Open, tmp_path: Path) -> None:
    import fcntl

    push(bundle, repository())
    (tmp_path / ".back.pull").mkdir()
    handle = os.open(tmp_path / ".back.pull", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        with pytest.raises(ConfigError, match="is being pulled to by another process"):
            pull(repository(), tmp_path / "back")
    finally:
        os.close(handle)


class TestFamilies:
    """An OCI index under one tag, from which everybody takes the member that is theirs."""

    TARGETS = ("jetson-orin-nano-8gb", "raspberry-pi-5")

    @pytest.fixture
    def family(self, make_family: Callable[..., Path]) -> Path:
        return make_family(*self.TARGETS)

    def test_each_target_pulls_its_own_member(self, family: Path, repository: Open, tmp_path: Path) -> None:
        pushed = push(family, repository())
        assert pushed.digest == open_family(family).digest
        for target in self.TARGETS:
            pulled = pull(repository(), tmp_path / target, target=target)
            assert contents(tmp_path / target) == contents(family / target)
            assert pulled.digest == open_bundle(family / target).digest
        again = push(family, repository())
        assert (again.reference, again.sent_bytes) == (pushed.reference, 0)

    def test_without_a_target_or_with_another_s_the_members_are_named(
        self, family: Path, repository: Open, tmp_path: Path
    ) -> None:
        push(family, repository())
        with pytest.raises(ConfigError, match="is a family for jetson-orin-nano-8gb, raspberry-pi-5"):
            pull(repository(), tmp_path / "out")
        with pytest.raises(DataError, match="no member for 'host'"):
            pull(repository(), tmp_path / "out", target="host")
        assert not (tmp_path / "out").exists()

    def test_a_single_bundle_for_another_target_is_refused(
        self, family: Path, repository: Open, tmp_path: Path
    ) -> None:
        push(family / self.TARGETS[0], repository())
        with pytest.raises(DataError, match="built for 'jetson-orin-nano-8gb', asked for is 'raspberry-pi-5'"):
            pull(repository(), tmp_path / "out", target="raspberry-pi-5")
        assert not (tmp_path / "out").exists()

    def test_an_index_that_promises_one_target_and_leads_to_another_is_refused(
        self, family: Path, repository: Open, tmp_path: Path
    ) -> None:
        push(family, repository())
        index = json.loads(repository().manifest())
        first, second = index["manifests"]
        first["annotations"], second["annotations"] = second["annotations"], first["annotations"]
        repository().put_manifest(json.dumps(index).encode(), media_type=INDEX_TYPE)
        with pytest.raises(DataError, match="asked for is 'raspberry-pi-5'"):
            pull(repository(), tmp_path / "out", target="raspberry-pi-5")

    @pytest.mark.parametrize("annotations", [{}, {TARGET: "raspberry-pi-5"}, {TARGET: "../x"}, {TARGET: "\x1b[2J"}])
    def test_an_index_whose_entries_cannot_be_told_apart_is_refused(
        self, family: Path, repository: Open, tmp_path: Path, annotations: dict[str, str]
    ) -> None:
        push(family, repository())
        index = json.loads(repository().manifest())
        index["manifests"][0]["annotations"] = annotations
        repository().put_manifest(json.dumps(index).encode(), media_type=INDEX_TYPE)
        with pytest.raises(IntegrityError, match="no member for a target of its own"):
            pull(repository(), tmp_path / "out", target="raspberry-pi-5")
