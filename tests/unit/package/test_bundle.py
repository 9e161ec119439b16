"""Bundles: packing whole or not at all, round trips, and every kind of tampering refused."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from edgec.core.errors import ConfigError, DataError, IntegrityError
from edgec.package import Description, Manifest, open_bundle, pack_bundle, write_archive
from edgec.package.archive import archive_bytes

NAMES = ["calibration.json", "golden.npz", "manifest.json", "model.onnx", "report.html", "report.json"]


@pytest.fixture
def archive(bundle: Path, tmp_path: Path) -> Path:
    return write_archive(bundle, tmp_path / "linear.edgec")


def entries_of(archive: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(archive) as file:
        return {name: file.read(name) for name in file.namelist()}


def zip_of(path: Path, entries: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # zipfile warns of a name that stands twice
        with zipfile.ZipFile(path, "w", compression) as file:
            for name, data in entries:
                file.writestr(name, data)
    return path


class TestPacking:
    def test_a_bundle_gives_back_what_was_packed(self, bundle: Path, contents: dict[str, bytes]) -> None:
        opened = open_bundle(bundle)
        opened.verify()
        assert {name: opened.read_bytes(name) for name in contents} == contents

    def test_the_folder_holds_the_files_and_the_manifest_only(self, bundle: Path) -> None:
        assert sorted(path.name for path in bundle.iterdir()) == NAMES
        assert sorted(path.name for path in bundle.parent.iterdir()) == [bundle.name]

    def test_digests_are_those_of_the_contents(self, bundle: Path, contents: dict[str, bytes]) -> None:
        written = json.loads((bundle / "manifest.json").read_bytes())["files"]
        expected = {n: {"sha256": hashlib.sha256(c).hexdigest(), "bytes": len(c)} for n, c in contents.items()}
        assert written == expected

    def test_two_writes_give_the_same_bytes(self, make_bundle: Callable[..., Path]) -> None:
        first, second = make_bundle("first"), make_bundle("second")
        for name in NAMES:
            assert (first / name).read_bytes() == (second / name).read_bytes()

    def test_files_and_contents_pack_alike(
        self, bundle: Path, description: Description, contents: dict[str, bytes], tmp_path: Path
    ) -> None:
        source = tmp_path / "exported"
        source.write_bytes(contents["model.onnx"])
        other = pack_bundle(description=description, files=contents | {"model.onnx": source}, output=tmp_path / "o")
        assert (other / "manifest.json").read_bytes() == (bundle / "manifest.json").read_bytes()

    def test_files_below_folders_of_the_bundle_are_packed(self, make_bundle: Callable[..., Path]) -> None:
        opened = open_bundle(make_bundle(files={"plots/ranges.svg": b"<svg/>"}))
        opened.verify()
        assert opened.read_bytes("plots/ranges.svg") == b"<svg/>"

    def test_a_bundle_that_stood_there_is_replaced_whole(self, make_bundle: Callable[..., Path]) -> None:
        make_bundle(files={"old.txt": b"old"})
        assert sorted(path.name for path in make_bundle().iterdir()) == NAMES

    def test_a_failed_write_leaves_the_bundle_that_stood_there(
        self, bundle: Path, description: Description, tmp_path: Path
    ) -> None:
        before = (bundle / "manifest.json").read_bytes()
        with pytest.raises(FileNotFoundError):
            pack_bundle(description=description, files={"model.onnx": tmp_path / "gone"}, output=bundle)
        assert (bundle / "manifest.json").read_bytes() == before
        assert [path.name for path in tmp_path.iterdir()] == [bundle.name]

    @pytest.mark.parametrize("name", ["../escape.txt", "/escape.txt", "manifest.json", "a/../../b"])
    def test_a_name_that_leads_outside_is_never_written(
        self, make_bundle: Callable[..., Path], tmp_path: Path, name: str
    ) -> None:
        with pytest.raises(ValueError, match="is not allowed"):
            make_bundle(files={name: b""})
        assert not list(tmp_path.iterdir())

    def test_a_folder_that_is_no_bundle_is_never_replaced(
        self, make_bundle: Callable[..., Path], tmp_path: Path
    ) -> None:
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos" / "mine.jpg").write_bytes(b"")
        with pytest.raises(ConfigError, match=r"photos' exists and is not a bundle"):
            make_bundle("photos")
        assert (tmp_path / "photos" / "mine.jpg").exists()

    def test_an_empty_folder_may_be_replaced(self, make_bundle: Callable[..., Path], tmp_path: Path) -> None:
        (tmp_path / "new").mkdir()
        open_bundle(make_bundle("new")).verify()

    def test_a_file_in_the_way_is_named(self, make_bundle: Callable[..., Path], tmp_path: Path) -> None:
        (tmp_path / "taken").write_bytes(b"")
        with pytest.raises(ConfigError, match=r"taken' exists and is not a bundle"):
            make_bundle("taken")


class TestArchive:
    def test_an_archive_gives_back_what_was_packed(self, archive: Path, contents: dict[str, bytes]) -> None:
        opened = open_bundle(archive)
        opened.verify()
        assert {name: opened.read_bytes(name) for name in contents} == contents
        assert opened.manifest == open_bundle(archive.parent / "bundle").manifest

    def test_two_writes_give_the_same_bytes(self, archive: Path, make_bundle: Callable[..., Path]) -> None:
        other = make_bundle("other")
        os.utime(other / "model.onnx", (10**9, 10**9))
        (other / "model.onnx").chmod(0o600)
        assert write_archive(other, archive.with_name("other.edgec")).read_bytes() == archive.read_bytes()

    def test_entries_are_sorted_stored_and_alike(self, archive: Path) -> None:
        with zipfile.ZipFile(archive) as file:
            entries = file.infolist()
        assert [entry.filename for entry in entries] == NAMES
        assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
        assert {entry.external_attr >> 16 for entry in entries} == {stat.S_IFREG | 0o644}
        assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}

    def test_python_writes_the_same_bytes(self, archive: Path, tmp_path: Path) -> None:
        """The reference: zipfile, told every header."""
        with zipfile.ZipFile(tmp_path / "reference.zip", "w") as file:
            for name, data in sorted(entries_of(archive).items()):
                entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
                entry.create_system, entry.external_attr = 3, (stat.S_IFREG | 0o644) << 16
                file.writestr(entry, data)
        assert (tmp_path / "reference.zip").read_bytes() == archive.read_bytes()

    def test_a_damaged_folder_makes_no_archive(self, bundle: Path, tmp_path: Path) -> None:
        (bundle / "model.onnx").write_bytes(b"other")
        with pytest.raises(IntegrityError, match=r"'model.onnx' has 5 bytes"):
            write_archive(bundle, tmp_path / "x.edgec")
        assert not (tmp_path / "x.edgec").exists()

    def test_a_folder_in_the_way_is_named(self, bundle: Path, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="is a folder") as caught:
            write_archive(bundle, tmp_path)
        assert caught.value.hint == "name a file, such as linear-host.edgec"

    def test_an_archive_of_an_archive_is_the_same(self, archive: Path, tmp_path: Path) -> None:
        assert write_archive(archive, tmp_path / "again.edgec").read_bytes() == archive.read_bytes()


def test_an_unknown_file_is_named_with_those_there_are(bundle: Path) -> None:
    with pytest.raises(DataError, match=r"holds no 'engine.plan'; it holds: calibration.json, golden.npz, model.onnx"):
        open_bundle(bundle).read_bytes("engine.plan")


class TestNoBundle:
    def check(self, path: Path, message: str) -> None:
        with pytest.raises(DataError, match=message) as caught:
            open_bundle(path)
        assert caught.value.exit_code == 2
        assert caught.value.hint

    def test_nothing_there(self, tmp_path: Path) -> None:
        self.check(tmp_path / "gone", r"^no bundle at '.*gone'$")

    def test_a_folder_without_a_manifest(self, tmp_path: Path) -> None:
        self.check(tmp_path, r"is not a bundle: it holds no manifest.json$")

    def test_a_large_foreign_folder(self, tmp_path: Path) -> None:
        for number in range(100):
            (tmp_path / f".photo {number}").touch()
        self.check(tmp_path, "is not a bundle")

    @pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n", b"hello" * 99])
    def test_a_file_of_another_kind(self, tmp_path: Path, data: bytes) -> None:
        (tmp_path / "file").write_bytes(data)
        self.check(tmp_path / "file", "is not a bundle: neither a folder nor an archive")

    def test_another_zip(self, tmp_path: Path) -> None:
        self.check(zip_of(tmp_path / "x.zip", [("a.txt", b"a")]), "is not a bundle: it holds no manifest.json")

    def test_an_empty_zip(self, tmp_path: Path) -> None:
        self.check(zip_of(tmp_path / "x.zip", []), "is not a bundle")


def flip_a_bit(bundle: Path) -> None:
    data = bytearray((bundle / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / "model.onnx").write_bytes(data)


def cut_a_file(bundle: Path) -> None:
    os.truncate(bundle / "model.onnx", 10)


def add_a_file(bundle: Path) -> None:
    (bundle / "extra.txt").write_bytes(b"")


def remove_a_file(bundle: Path) -> None:
    (bundle / "report.json").unlink()


def link_a_file(bundle: Path) -> None:
    copy = bundle.parent / "copy.onnx"
    (bundle / "model.onnx").rename(copy)
    (bundle / "model.onnx").symlink_to(copy)


def link_the_manifest(bundle: Path) -> None:
    copy = bundle.parent / "copy.json"
    (bundle / "manifest.json").rename(copy)
    (bundle / "manifest.json").symlink_to(copy)


def link_a_folder(bundle: Path) -> None:
    (bundle / "plots").symlink_to(bundle.parent)


def put_a_pipe(bundle: Path) -> None:
    (bundle / "report.html").unlink()
    os.mkfifo(bundle / "report.html")


def put_a_folder(bundle: Path) -> None:
    (bundle / "report.html").unlink()
    (bundle / "report.html").mkdir()


def hide_a_file(bundle: Path) -> None:
    (bundle / ".cache").write_bytes(b"")


def add_many_files(bundle: Path) -> None:
    for number in range(70):
        (bundle / f"f{number}").touch()


def swell_the_bundle(bundle: Path) -> None:
    os.truncate(bundle / "model.onnx", (2 << 30) + 1)  # sparse: takes no room


def swell_the_manifest(bundle: Path) -> None:
    os.truncate(bundle / "manifest.json", (4 << 20) + 1)


def edit_a_label(bundle: Path) -> None:
    text = (bundle / "manifest.json").read_text()
    (bundle / "manifest.json").write_text(text.replace('"cat"', '"dog"'))


def cut_the_manifest(bundle: Path) -> None:
    os.truncate(bundle / "manifest.json", 100)


def raise_the_schema(bundle: Path) -> None:
    text = (bundle / "manifest.json").read_text()
    (bundle / "manifest.json").write_text(text.replace('"schema": 1', '"schema": 9'))


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (flip_a_bit, "'model.onnx' was changed: its SHA-256 is not the manifest's"),
        (cut_a_file, r"'model.onnx' has 10 bytes, expected \d+"),
        (add_a_file, "'extra.txt' is not in the manifest"),
        (remove_a_file, "'report.json' is missing"),
        (link_a_file, "'model.onnx' is not a plain file"),
        (link_the_manifest, "'manifest.json' is not a plain file"),
        (link_a_folder, "'plots' is not a plain file"),
        (put_a_pipe, "'report.html' is not a plain file"),
        (put_a_folder, "'report.html' is missing"),
        (hide_a_file, "file name '.cache' is not allowed"),
        (add_many_files, "more than 64 files"),
        (swell_the_bundle, "expected at most 2000000000"),
        (swell_the_manifest, r"manifest.json has 4194305 bytes, expected at most 4194304"),
        (edit_a_label, "label 'dog' stands twice"),
        (cut_the_manifest, "not valid JSON"),
        (raise_the_schema, "manifest schema 9, expected 1"),
    ],
)
def test_a_tampered_folder_is_refused(bundle: Path, tamper: Callable[[Path], None], message: str) -> None:
    tamper(bundle)
    with pytest.raises(IntegrityError, match=message) as caught:
        open_bundle(bundle).verify()
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 4


def test_a_link_to_a_bundle_is_followed(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(bundle)
    open_bundle(tmp_path / "current").verify()


def test_a_file_swapped_for_a_link_after_opening_is_refused(bundle: Path) -> None:
    opened = open_bundle(bundle)
    link_a_file(bundle)
    with pytest.raises(IntegrityError, match=r"cannot read 'model.onnx'"):
        opened.read_bytes("model.onnx")


def test_a_file_that_grew_after_opening_is_refused(bundle: Path) -> None:
    opened = open_bundle(bundle)
    with (bundle / "report.json").open("ab") as file:
        file.write(b"more")
    with pytest.raises(IntegrityError, match=r"'report.json' does not have its \d+ bytes"):
        opened.read_bytes("report.json")


def with_entries(extra: list[tuple[str, bytes]]) -> Callable[[Path], None]:
    def tamper(archive: Path) -> None:
        zip_of(archive, [*entries_of(archive).items(), *extra])

    return tamper


def with_a_file(name: str) -> Callable[[Path], None]:
    """In the layout that edgec writes, so that nothing else is wrong with it."""

    def tamper(archive: Path) -> None:
        archive.write_bytes(archive_bytes(entries_of(archive) | {name: b""}))

    return tamper


def without_the_report(archive: Path) -> None:
    entries = entries_of(archive)
    del entries["report.json"]
    archive.write_bytes(archive_bytes(entries))


def changed_model(archive: Path) -> None:
    entries = entries_of(archive)
    archive.write_bytes(archive_bytes(entries | {"model.onnx": b"x" * len(entries["model.onnx"])}))


def packed_anew(archive: Path) -> None:
    """By Python: the same contents, stored, with today's time."""
    zip_of(archive, [*entries_of(archive).items()])


def out_of_order(archive: Path) -> None:
    """A sound zip of the right headers, the last file first."""
    *others, last = entries_of(archive).items()
    with zipfile.ZipFile(archive, "w") as file:
        for name, data in (last, *others):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, (stat.S_IFREG | 0o644) << 16
            file.writestr(entry, data)


def of_another_time(archive: Path) -> None:
    """Sets the time in the first local header, at byte 10, which no reader of a zip looks at."""
    data = bytearray(archive.read_bytes())
    data[10] ^= 1
    archive.write_bytes(data)


def compressed(archive: Path) -> None:
    zip_of(archive, [*entries_of(archive).items()], zipfile.ZIP_DEFLATED)


def bomb(archive: Path) -> None:
    zip_of(archive, [*entries_of(archive).items(), ("zeros", b"\0" * (1 << 24))], zipfile.ZIP_DEFLATED)


def overlapping(archive: Path) -> None:
    """Forty names for the same bytes: the classic bomb without nesting."""
    data = b"\0" * 4096
    zip_of(archive, [*entries_of(archive).items(), ("zeros", data)])
    raw = archive.read_bytes()
    *_, count, length, offset, _ = struct.unpack("<4s4H2LH", raw[-22:])
    directory = raw[offset : offset + length]
    last = directory[directory.rindex(b"PK\x01\x02") :]
    copies = [last.replace(b"zeros", f"z{i:04}".encode()) for i in range(20)]
    grown = directory + b"".join(copies)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count + 20, count + 20, len(grown), offset, 0)
    archive.write_bytes(raw[:offset] + grown + end)


def link_entry(archive: Path) -> None:
    with zipfile.ZipFile(archive, "a") as file:
        entry = zipfile.ZipInfo("link")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(entry, "/etc/passwd")


def with_a_comment(archive: Path) -> None:
    with zipfile.ZipFile(archive, "a") as file:
        file.comment = b"hello"


def with_a_prefix(archive: Path) -> None:
    archive.write_bytes(b"PK and a program" + archive.read_bytes())


def with_a_suffix(archive: Path) -> None:
    archive.write_bytes(archive.read_bytes() + b"tail")


def cut_archive(archive: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:-100])


def only_the_start(archive: Path) -> None:
    archive.write_bytes(b"PK")


def encrypted(archive: Path) -> None:
    """Sets the flag in the directory's last entry, at byte 8."""
    data = bytearray(archive.read_bytes())
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(data)


def of_an_unknown_version(archive: Path) -> None:
    """Sets the version needed to read the directory's last entry, at byte 6."""
    data = bytearray(archive.read_bytes())
    data[data.rindex(b"PK\x01\x02") + 6] = 255
    archive.write_bytes(data)


def long_directory(archive: Path) -> None:
    with zipfile.ZipFile(archive, "w") as file:
        for number in range(3000):
            file.writestr(f"file-{number:08}", b"")


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (with_a_file("extra.txt"), "'extra.txt' is not in the manifest"),
        (with_a_file("Model.onnx"), "'model.onnx' would lie over another file where case does not count"),
        (with_a_file("report.json/a"), "'report.json/a' would lie over another file"),
        (packed_anew, "not the archive that edgec writes"),
        (out_of_order, "not the archive that edgec writes"),
        (of_another_time, "not the archive that edgec writes"),
        (with_entries([("report.json", b"{}")]), "'report.json' stands twice"),
        (with_entries([("../escape", b"")]), r"file name '\.\./escape' is not allowed"),
        (with_entries([("/etc/passwd", b"")]), "file name '/etc/passwd' is not allowed"),
        (with_entries([("a\\b", b"")]), "is not allowed"),
        (with_entries([("folder/", b"")]), "'folder/' is not a plain file"),
        (with_entries([(f"f{i}", b"") for i in range(70)]), "more than 64 files"),
        (without_the_report, "'report.json' is missing"),
        (changed_model, "'model.onnx' was changed"),
        (compressed, "is compressed, expected stored"),
        (bomb, "is compressed, expected stored"),
        (overlapping, "overlap"),
        (link_entry, "'link' is not a plain file"),
        (with_a_comment, "cut short, or something follows it"),
        (with_a_prefix, "directory is not where it should be"),
        (with_a_suffix, "cut short, or something follows it"),
        (cut_archive, "cut short"),
        (only_the_start, "cut short"),
        (encrypted, "is encrypted"),
        (of_an_unknown_version, "a damaged archive: zip file version 25.5"),
        (long_directory, r"directory takes \d+ bytes, expected at most 65536"),
    ],
)
def test_a_tampered_archive_is_refused(archive: Path, tamper: Callable[[Path], None], message: str) -> None:
    tamper(archive)
    with pytest.raises(IntegrityError, match=message) as caught:
        open_bundle(archive).verify()
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 4


def test_an_archive_that_vanished_after_opening_is_refused(archive: Path) -> None:
    opened = open_bundle(archive)
    archive.unlink()
    with pytest.raises(IntegrityError, match=r"cannot read 'model.onnx'"):
        opened.read_bytes("model.onnx")


def test_a_manifest_with_a_wrong_digest_is_refused_though_the_zip_is_sound(archive: Path) -> None:
    entries = entries_of(archive)
    manifest = Manifest.from_bytes(entries["manifest.json"], where="m")
    entries["manifest.json"] = manifest.to_bytes().replace(manifest.files["model.onnx"].sha256.encode(), b"0" * 64)
    archive.write_bytes(archive_bytes(entries))
    with pytest.raises(IntegrityError, match=r"'model.onnx' was changed"):
        open_bundle(archive).verify()


def test_an_unreadable_folder_is_bad_input(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)  # root, which runs CI, may read anything
    with pytest.raises(DataError, match=r"cannot read '.*bundle': Permission denied"):
        open_bundle(bundle)
