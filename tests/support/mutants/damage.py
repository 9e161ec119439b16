"""Bytes that change, go or change places, and signatures that are others."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from random import Random
from typing import Any

from support.mutants.specimen import Mutant, Specimen, kind, written

__all__: list[str] = []

DIRECTORY_END = struct.Struct("<4s4H2LH")


def flipped(data: bytes, rng: Random, bits: int = 1) -> bytes:
    changed = bytearray(data)
    for _ in range(bits):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed) if bytes(changed) != data else flipped(data, rng, 1)


@kind("bits flipped in a file")
def _(specimen: Specimen, place: Path, rng: Random) -> Mutant:
    name = rng.choice(sorted(specimen.files))
    changed = flipped(specimen.files[name], rng, rng.choice((1, 1, 2, 9)))
    return written({**specimen.files, name: changed}, place, archive=rng.random() < 0.5)


@kind("bits flipped in an archive")
def _(specimen: Specimen, place: Path, rng: Random) -> Mutant:
    mutant = written(specimen.files, place, archive=True)
    mutant.path.write_bytes(flipped(mutant.path.read_bytes(), rng, rng.choice((1, 1, 2, 9))))
    return mutant


@kind("bits flipped in an archive's headers")
def _(specimen: Specimen, place: Path, rng: Random) -> Mutant:
    """Where most of an archive's bytes that are no contents lie: its directory."""
    mutant = written(specimen.files, place, archive=True)
    data = mutant.path.read_bytes()
    start = DIRECTORY_END.unpack(data[-22:])[6]
    mutant.path.write_bytes(data[:start] + flipped(data[start:], rng))
    return mutant


@kind("bytes overwritten")
def _(specimen: Specimen, place: Path, rng: Random) -> Mutant:
    mutant = written(specimen.files, place, archive=True)
    data = bytearray(mutant.path.read_bytes())
    start = rng.randrange(len(data) - 64)
    data[start : start + rng.randrange(1, 64)] = rng.randbytes(rng.choice((1, 8, 40)))
    mutant.path.write_bytes(data)
    return mutant


@kind("cut")
def _(specimen: Specimen, place: Path, rng: Random) -> Mutant:
    if rng.random() < 0.5:
        mutant = written(specimen.files, place, archive=True)
        data = mutant.path.read_bytes()
        mutant.path.write_bytes(data[: rng.randrange(len(data))])
        return mutant
    name = rng.choice(sorted(specimen.files))
    data = specimen.files[name]
    return written({**specimen.files, name: data[: rng.randrange(len(data))]}, place, archive=False)


@kind("something before, behind or between")
def _(specimen: Specimen, place: Path, rng: Random) -> Mutant:
    mutant = written(specimen.files, place, archive=True)
    data, more = mutant.path.read_bytes(), rng.randbytes(rng.randrange(1, 200))
    at = rng.choice((0, len(data), DIRECTORY_END.unpack(data[-22:])[6], rng.randrange(len(data))))
    mutant.path.write_bytes(data[:at] + more + data[at:])
    return mutant


@kind("files swapped or missing")
def _(specimen: Specimen, place: Path, rng: Random) -> Mutant:
    files = dict(specimen.files)
    first, second = rng.sample(sorted(files), 2)
    if rng.random() < 0.5:
        files[first], files[second] = files[second], files[first]
    else:
        del files[first]
    return written(files, place, archive=rng.random() < 0.5)


@kind("files of another release")
def _(specimen: Specimen, place: Path, rng: Random) -> Mutant:
    """Each of the two is sound and signed by the same key; any mixture is neither."""
    differ = [name for name in specimen.files if specimen.files[name] != specimen.other[name]]
    taken = rng.sample(differ, rng.randrange(1, len(differ)))
    files = {**specimen.files, **{name: specimen.other[name] for name in taken}}
    return written(files, place, archive=rng.random() < 0.5)


@kind("manifest rewritten to fit")
def _(specimen: Specimen, place: Path, rng: Random) -> Mutant:
    """Digests agree; the signature is kept, as it was."""
    name = rng.choice(sorted(set(specimen.files) - {"manifest.json", "signature.json"}))
    files = specimen.fitting({name: flipped(specimen.files[name], rng)})
    files["signature.json"] = specimen.files["signature.json"]
    return written(files, place, archive=rng.random() < 0.5)


@kind("signature taken away or foreign")
def _(specimen: Specimen, place: Path, rng: Random) -> Mutant:
    files = dict(specimen.files)
    if rng.random() < 0.3:
        del files["signature.json"]
    else:
        files["signature.json"] = rng.choice((specimen.foreign, specimen.other))["signature.json"]
    return written(files, place, archive=rng.random() < 0.5)


@kind("signature edited")
def _(specimen: Specimen, place: Path, rng: Random) -> Mutant:
    """In the form that edgec writes, so that its meaning is what is refused."""
    ours, foreign, other = (json.loads(s["signature.json"]) for s in (specimen.files, specimen.foreign, specimen.other))
    value: Any = rng.choice(
        (
            {**foreign, "verificationMaterial": ours["verificationMaterial"]},
            {**ours, "dsseEnvelope": {**ours["dsseEnvelope"], "payload": other["dsseEnvelope"]["payload"]}},
            {**ours, "dsseEnvelope": {**ours["dsseEnvelope"], "signatures": other["dsseEnvelope"]["signatures"]}},
            {**ours, "dsseEnvelope": {**ours["dsseEnvelope"], "signatures": []}},
            {**ours, "dsseEnvelope": {**ours["dsseEnvelope"], "signatures": [{"sig": "AAAA", "keyid": ""}]}},
            {**ours, "dsseEnvelope": {**ours["dsseEnvelope"], "payloadType": "text/plain"}},
            {**ours, "verificationMaterial": {"publicKey": {}, "tlogEntries": []}},
            {**ours, "verificationMaterial": {"x509CertificateChain": {"certificates": []}, "tlogEntries": []}},
            {**ours, "verificationMaterial": {"tlogEntries": []}},
            {**ours, "mediaType": ours["mediaType"].replace("0.3", "0.1")},
            {**ours, "more": 1},
            {},
            [ours],
            None,
        )
    )
    data = (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()
    return written({**specimen.files, "signature.json": data}, place, archive=rng.random() < 0.5)


@kind("signature of noise")
def _(specimen: Specimen, place: Path, rng: Random) -> Mutant:
    data = rng.choice((b"", b"null", b"[" * 200_000, b"{}" * 9, rng.randbytes(300), b" " * (2 << 20), b'{"a":1e999}'))
    return written({**specimen.files, "signature.json": data}, place, archive=rng.random() < 0.5)
