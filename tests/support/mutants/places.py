"""Names that lead elsewhere, links, zips that are no archives, and too much of everything."""

from __future__ import annotations

import json
import os
import socket
import stat
import struct
import warnings
import zipfile
from pathlib import Path
from random import Random

from edgec.core.digest import digest_bytes
from support.mutants.specimen import Mutant, Specimen, kind, with_manifest, written

__all__: list[str] = []

Entries = list[tuple[zipfile.ZipInfo, bytes]]
DIRECTORY_END = struct.Struct("<4s4H2LH")
NAMES = (
    *("../canary", "../../canary", "a/../../canary", "/tmp/canary", "//canary", "./model.onnx", "a//b", "a/./b"),  # noqa: S108
    *("..\\canary", "C:\\canary", "a\\b", "model.onnx\0.txt", "model\u2024onnx", "mode\u217c.onnx", "Model.onnx"),
    *("MODEL.ONNX", "REPORT.json", "model.onnx/a", "a/", "", ".", "..", ".hidden", "a/.hidden", "-rf", " ", "x" * 300),
    *("a/b/c/d/e", "\u202etxt.exe", "caf\u00e9", "cafe\u0301", "~", "$HOME", "a\nb", "signature.json", "manifest.json"),
)


def zipped(entries: Entries, place: Path, method: int = zipfile.ZIP_STORED) -> Mutant:
    """By Python's zipfile, which writes what it is told."""
    path = place / "b.edgec"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of names that stand twice
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, data in entries:
                archive.writestr(name, data)
    return Mutant(path=path, canary=place / "canary")


def canonical(name: str) -> zipfile.ZipInfo:
    """The header that edgec writes, so that only what is meant is wrong."""
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.create_system, entry.external_attr = 3, (stat.S_IFREG | 0o644) << 16
    return entry


@kind("path tricks in an archive")
def _(specimen: Specimen, place: Path, rng: Random) -> Mutant:
    entries: Entries = [(canonical(n), d) for n, d in sorted(specimen.files.items())]
    entry = canonical("x")
    entry.filename = entry.orig_filename = rng.choice(NAMES)  # set here, since its constructor cuts names at NUL
    return zipped([*entries, (entry, b"evil")], place)


@kind("path tricks in a manifest")
def _(specimen: Specimen, place: Path, rng: Random) -> Mutant:
    """A manifest that fits and names a file elsewhere: the one beside the bundle, which is there."""
    manifest = specimen.manifest
    name = rng.choice((*NAMES, "../beside/mine.txt", str(place / "beside" / "mine.txt"), "beside"))
    entry = {"sha256": digest_bytes(b"mine"), "bytes": 4}
    if rng.random() < 0.5:
        manifest["files"][name] = entry
    else:
        manifest["model"]["file"] = name
        manifest["files"] = {name: entry}
    return with_manifest(specimen, json.dumps(manifest).encode(), place, rng)


@kind("links and special files")
def _(specimen: Specimen, place: Path, rng: Random) -> Mutant:
    mutant = written(specimen.files, place, archive=False)
    name = rng.choice(sorted(specimen.files))
    target, way = mutant.path / name, rng.randrange(7)
    if way in (0, 1, 2):
        target.unlink()
    if way == 0:
        (place / "beside" / name).write_bytes(specimen.files[name])
        target.symlink_to(place / "beside" / name)
    elif way == 1:
        os.mkfifo(target)
    elif way == 2:
        target.symlink_to(name)
    elif way == 3:
        (mutant.path / "folder").symlink_to(place / "beside")
    elif way == 4:
        (mutant.path / "etc").symlink_to("/etc/passwd")
    elif way == 5:
        with socket.socket(socket.AF_UNIX) as listener:
            here = Path.cwd()
            os.chdir(mutant.path)  # a socket's path may be no longer than 108 bytes
            listener.bind("s")
            os.chdir(here)
    else:
        (mutant.path / rng.choice(("a\\b", ".hidden", "\u202e", "x y", "Model.onnx", "more.txt"))).write_bytes(b"")
    return mutant


@kind("links in an archive")
def _(specimen: Specimen, place: Path, rng: Random) -> Mutant:
    kind = rng.choice((stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK))
    chosen = rng.choice((*sorted(specimen.files), "more"))
    entries: Entries = []
    for name, data in sorted({"more": b"", **specimen.files}.items()):
        entry = canonical(name)
        if name == chosen:
            entry.external_attr = (kind | 0o777) << 16
        entries.append((entry, b"../beside/mine.txt" if name == chosen else data))
    return zipped(entries, place)


@kind("compressed, or a bomb")
def _(specimen: Specimen, place: Path, rng: Random) -> Mutant:
    method = rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    entries = [(canonical(name), data) for name, data in sorted(specimen.files.items())]
    chosen = rng.choice(entries)[0]
    for entry, _ in entries:
        entry.compress_type = method if entry is chosen else zipfile.ZIP_STORED
    zeros = b"\0" * rng.choice((1 << 16, 1 << 24))
    return zipped([(entry, zeros if entry is chosen else data) for entry, data in entries], place)


def _rebuilt(data: bytes, directory: bytes, count: int, **ends: int) -> bytes:
    """An archive with another directory."""
    offset = DIRECTORY_END.unpack(data[-22:])[6]
    length = ends.get("length", len(directory))
    end = DIRECTORY_END.pack(b"PK\5\6", 0, 0, count & 0xFFFF, count & 0xFFFF, length, ends.get("offset", offset), 0)
    return data[:offset] + directory + end


def _line(name: bytes, size: int, offset: int, *, packed: int | None = None) -> bytes:
    """A line of a directory."""
    fields = (b"PK\1\2", 0x314, 20, 0, 0, 0, 33, 0, size if packed is None else packed, size, len(name), 0, 0, 0, 0)
    return struct.pack("<4s6H3L5H2L", *fields, 0o100644 << 16, offset) + name


@kind("directories that lie")
def _(specimen: Specimen, place: Path, rng: Random) -> Mutant:
    mutant = written(specimen.files, place, archive=True)
    data, count = mutant.path.read_bytes(), len(specimen.files)
    *_, length, offset, _ = DIRECTORY_END.unpack(data[-22:])
    own, way = data[offset : offset + length], rng.randrange(8)
    last = own.rindex(b"PK\1\2")
    if way == 0:  # many names for the same bytes
        more = b"".join(_line(b"zero%d" % i, len(data) // 2, 0) for i in range(rng.randrange(2, 40)))
        data = _rebuilt(data, own + more, count + more.count(b"PK\1\2"))
    elif way == 1:  # more names than anybody needs
        number = rng.choice((100, 3000, 65535))
        data = _rebuilt(data, own + b"".join(_line(b"f%d" % i, 0, 0) for i in range(number)), count + number)
    elif way == 2:  # a size that is not there
        size = rng.choice((1, 1 << 20, (1 << 31) - 1, (1 << 32) - 1))
        data = _rebuilt(data, own + _line(b"big", size, 0), count + 1)
    elif way == 3:  # an offset outside, or in another file
        data = _rebuilt(data, own + _line(b"x", 9, rng.choice((7, len(data), (1 << 32) - 1))), count + 1)
    elif way == 4:  # a line twice
        data = _rebuilt(data, own + own[last:], count + 1)
    elif way == 5:  # another number of lines, another place
        data = _rebuilt(data, own, rng.choice((0, count - 1, count + 1, 65535)))
    elif way == 6:
        data = _rebuilt(data, own, count, offset=rng.choice((0, offset - 1, offset + 1, (1 << 32) - 1)))
    else:  # packed small, unpacked large
        data = _rebuilt(data, own + _line(b"bomb", (1 << 32) - 1, 0, packed=1), count + 1)
    mutant.path.write_bytes(data)
    return mutant


@kind("names that stand twice")
def _(specimen: Specimen, place: Path, rng: Random) -> Mutant:
    """Of two entries of one name, two readers may take another each."""
    entries: Entries = [(canonical(n), d) for n, d in sorted(specimen.files.items())]
    name = rng.choice(sorted(specimen.files))
    entries.insert(rng.randrange(len(entries) + 1), (canonical(name), rng.choice((b"evil", specimen.files[name]))))
    return zipped(entries, place)


@kind("too much")
def _(specimen: Specimen, place: Path, rng: Random) -> Mutant:
    way = rng.randrange(4)
    if way == 0:
        many = {f"f{i}": b"" for i in range(rng.choice((70, 500)))}
        return written({**specimen.files, **many}, place, archive=rng.random() < 0.5)
    mutant = written(specimen.files, place, archive=False)
    name = {1: "model.onnx", 2: "manifest.json", 3: "signature.json"}[way]
    os.truncate(mutant.path / name, rng.choice((1 << 33, (2 << 30) + 1)))  # sparse: takes no room
    return mutant


@kind("no bundle at all")
def _(specimen: Specimen, place: Path, rng: Random) -> Mutant:
    del specimen
    path = place / "b"
    data = rng.choice(
        (b"", b"PK", b"PK\5\6" + b"\0" * 18, rng.randbytes(99), b"PK\3\4" + rng.randbytes(99), b"\x7fELF")
    )
    way = rng.randrange(4)
    if way == 0:
        path.mkdir()
    elif way == 1:
        path.write_bytes(data)
    elif way == 2:
        path.symlink_to(path.name)
    else:
        (path / "manifest.json").mkdir(parents=True)
    return Mutant(path=path, canary=place / "canary")
