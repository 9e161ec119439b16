"""Finished stages in a real registry: another machine gets them all, and damaged or swapped ones are never used."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import requests
from pydantic import BaseModel

from edgec.core.digest import digest_value
from edgec.core.errors import ConfigError
from edgec.core.progress import Lines
from edgec.core.shared_cache import RECORD
from edgec.deploy import http
from edgec.deploy.modelpack import MEDIA_TYPE, Blob
from edgec.deploy.oci import Repository
from edgec.deploy.stage_registry import RECORD_TYPE, StageRegistry
from edgec.deploy.transfer import push_bundle
from edgec.pipeline.exchange import Exchange
from edgec.pipeline.store import Output, StageKey, Store

pytestmark = pytest.mark.network

DAMAGED = 100
WEIGHTS = "weights.bin"


class Written(BaseModel):
    """Facts of a stage."""

    accuracy: float


@dataclass(kw_only=True)
class Machine:
    """A store of its own that shares its stages through a registry."""

    store: Store
    notes: list[str]
    made: list[StageKey]

    def get(self, key: StageKey) -> Output[Written]:
        def make(folder: Path) -> Written:
            self.made.append(key)
            (folder / "below").mkdir()
            (folder / "below" / WEIGHTS).write_bytes(content_of(key))
            (folder / "copy.bin").write_bytes(content_of(key))
            return Written(accuracy=key.settings)

        return self.store.get(key, Written, make)


def key_of(number: int) -> StageKey:
    return StageKey(stage="quantize", settings=float(number), sources={"data": "a" * 64})


def content_of(key: StageKey) -> bytes:
    return f"weights {key.settings}".encode() * 100


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http.random, "uniform", lambda *_: 0.0)


@pytest.fixture
def place(registry) -> StageRegistry:
    return StageRegistry.parse(f"oci://127.0.0.1:{registry.port}/cameras/cache")


@pytest.fixture
def machine(place: StageRegistry, tmp_path: Path) -> Callable[..., Machine]:
    def made(name: str, *, reads: bool = True, writes: bool = True, to: StageRegistry = place) -> Machine:
        notes: list[str] = []
        sources, sinks = [to] if reads else [], [to] if writes else []
        exchange = Exchange(sources=sources, sinks=sinks, progress=Lines(lambda line: notes.append(line.strip())))
        return Machine(store=Store(tmp_path / name, exchange), notes=notes, made=[])

    return made


def test_another_machine_gets_every_stage_and_makes_none(machine: Callable[..., Machine], place: StageRegistry) -> None:
    keys = [key_of(number) for number in range(4)]
    first, second = machine("first", reads=False), machine("second", writes=False)
    for key in keys:
        first.get(key)
    outputs = [second.get(key) for key in keys]
    assert (len(first.made), second.made, second.notes) == (4, [], [])
    for key, output in zip(keys, outputs, strict=True):
        assert output.cached
        assert output.facts == Written(accuracy=key.settings)
        assert second.store.origin(key) == place.name
        for name in (RECORD, "copy.bin", f"below/{WEIGHTS}"):
            assert (output.folder / name).read_bytes() == (first.store.path(key) / name).read_bytes()


def test_what_the_registry_has_is_not_sent_again(machine: Callable[..., Machine], place: StageRegistry) -> None:
    machine("first", reads=False).get(key_of(0))
    again = machine("again", reads=False)
    made = again.get(key_of(0))
    assert again.made == [key_of(0)]
    assert place.store("quantize", key_of(0).key, made.folder, made.files, replace=False) is False


def blobs_of(key: StageKey, place: StageRegistry) -> dict[str, str]:
    """Digests of an entry's layers, by name."""
    manifest = manifest_of(key, place)
    return {layer["annotations"]["org.opencontainers.image.title"]: layer["digest"] for layer in manifest["layers"]}


def url_of(key: StageKey, place: StageRegistry) -> str:
    reference = place.reference
    return f"http://{reference.host}/v2/{reference.repository}/manifests/{key.stage}-{key.key}"


def manifest_of(key: StageKey, place: StageRegistry) -> dict[str, Any]:
    return requests.get(url_of(key, place), headers={"Accept": MEDIA_TYPE}, timeout=5).json()


def put(key: StageKey, place: StageRegistry, manifest: dict[str, Any]) -> None:
    answer = requests.put(
        url_of(key, place), data=json.dumps(manifest), headers={"Content-Type": MEDIA_TYPE}, timeout=5
    )
    assert answer.status_code == 201, answer.text


def flipped(key: StageKey, place: StageRegistry, registry) -> None:
    path = registry.blob(blobs_of(key, place)["copy.bin"])
    path.write_bytes(b"W" + path.read_bytes()[1:])


def cut(key: StageKey, place: StageRegistry, registry) -> None:
    path = registry.blob(blobs_of(key, place)["copy.bin"])
    path.write_bytes(path.read_bytes()[:-9])


def gone(key: StageKey, place: StageRegistry, registry) -> None:
    registry.blob(blobs_of(key, place)["copy.bin"]).unlink()


def damaged_record(key: StageKey, place: StageRegistry, registry) -> None:
    path = registry.blob(blobs_of(key, place)[RECORD])
    path.write_bytes(path.read_bytes().replace(b"accuracy", b"Accuracy"))


def swapped(key: StageKey, place: StageRegistry, registry) -> None:
    """Another stage's entry, whole, under this tag."""
    del registry
    put(key, place, manifest_of(key_of(DAMAGED), place))


def swapped_file(key: StageKey, place: StageRegistry, registry) -> None:
    """This stage's record with another stage's files."""
    del registry
    own, other = manifest_of(key, place), manifest_of(key_of(DAMAGED), place)
    put(key, place, {**own, "layers": [own["layers"][0], *other["layers"][1:]]})


def poisoned(key: StageKey, place: StageRegistry, registry) -> None:
    """A record that leads outside, with a digest that fits."""
    record = json.loads(registry.blob(blobs_of(key, place)[RECORD]).read_bytes())
    del record["digest"]
    record["files"]["../outside"] = record["files"]["copy.bin"]
    data = json.dumps({**record, "digest": digest_value(record)}).encode()
    blob = Blob.of(data, RECORD_TYPE)
    with Repository(place.reference) as repository:
        repository.upload(blob, data)
    manifest = manifest_of(key, place)
    put(key, place, {**manifest, "layers": [blob.model_dump(by_alias=True), *manifest["layers"][1:]]})


def not_a_stage(key: StageKey, place: StageRegistry, registry) -> None:
    del registry
    manifest = manifest_of(key, place)
    put(key, place, {**manifest, "artifactType": "application/vnd.example"})


WAYS = (flipped, cut, gone, damaged_record, swapped, swapped_file, poisoned, not_a_stage)


@pytest.mark.parametrize("entries", [len(WAYS), pytest.param(DAMAGED, marks=pytest.mark.slow)])
def test_of_damaged_and_swapped_entries_none_is_used(
    machine: Callable[..., Machine], place: StageRegistry, registry, tmp_path: Path, entries: int
) -> None:
    keys = [key_of(number) for number in range(entries)]
    first = machine("first", reads=False)
    for key in [*keys, key_of(DAMAGED)]:
        first.get(key)
    for key, damage in zip(keys, cycle(WAYS), strict=False):
        damage(key, place, registry)
    second = machine("second", writes=False)
    for key in keys:
        assert (second.get(key).folder / "copy.bin").read_bytes() == content_of(key)
    assert second.made == keys
    assert [line.split(" the entry quantize ")[1][:12] for line in second.notes] == [key.key[:12] for key in keys]
    assert not list(tmp_path.rglob("outside"))


@pytest.mark.parametrize("damage", [swapped, swapped_file, poisoned, not_a_stage])
def test_a_tag_that_was_moved_is_mended_by_whoever_makes_the_stage_anew(
    machine: Callable[..., Machine], place: StageRegistry, registry, damage: Callable[..., None]
) -> None:
    for key in (key_of(0), key_of(DAMAGED)):
        machine("first", reads=False).get(key)
    damage(key_of(0), place, registry)
    second, third = machine("second"), machine("third")
    assert second.get(key_of(0)).cached is False
    assert third.get(key_of(0)).cached is True
    assert (len(second.notes), third.notes) == (1, [])


def test_a_bundle_under_a_stage_s_tag_is_no_stage(
    machine: Callable[..., Machine], place: StageRegistry, bundle: Path
) -> None:
    key = key_of(0)
    with place._repository(key.stage, key.key) as repository:
        push_bundle(bundle, repository, progress=Lines(lambda _: None))
    second = machine("second", writes=False)
    assert second.get(key).cached is False
    assert second.notes[0].endswith("is not used: what lies there is no stage of a build")


def test_a_registry_that_is_down_is_named_once_and_loses_nothing(
    machine: Callable[..., Machine], place: StageRegistry, registry
) -> None:
    registry.stop()
    down = machine("first")
    for number in range(3):
        assert (down.get(key_of(number)).folder / "copy.bin").read_bytes() == content_of(key_of(number))
    (line,) = down.notes
    assert line.startswith(
        f"warning: shared cache {place.name}: registry '{place.reference.registry}' cannot be reached"
    )


def test_a_line_that_is_cut_while_a_stage_is_sent_leaves_it_whole(
    machine: Callable[..., Machine], registry, line
) -> None:
    through = StageRegistry.parse(f"oci://127.0.0.1:{line.port}/cameras/cache")
    line.cuts["up"] = [2500]
    machine("first", reads=False, to=through).get(key_of(0))
    second = machine("second", writes=False)
    assert (second.get(key_of(0)).cached, second.notes) == (True, [])
    assert line.cuts["up"] == []


def test_two_machines_may_send_the_same_stages_at_once(machine: Callable[..., Machine]) -> None:
    writers = [machine(name, reads=False) for name in ("one", "two")]
    threads = [threading.Thread(target=lambda w=w: [w.get(key_of(n)) for n in range(4)]) for w in writers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [writer.notes for writer in writers] == [[], []]
    third = machine("third", writes=False)
    assert [third.get(key_of(n)).cached for n in range(4)] == [True] * 4


@pytest.mark.parametrize("text", ["oci://host.example/cache:tag", "oci://cache", "ftp://host.example/cache"])
def test_what_is_no_repository_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        StageRegistry.parse(text)


def test_a_registry_without_tls_is_asked_for_by_name() -> None:
    plain, safe = (StageRegistry.parse(f"{scheme}://host.example:5000/a/b") for scheme in ("oci+http", "oci"))
    assert (plain.insecure, safe.insecure) == (True, False)
    assert plain.reference == safe.reference
