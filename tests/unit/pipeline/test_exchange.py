"""Shared caches: another machine gets whole stages, and nothing that was damaged, swapped or made up is ever used."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from edgec.core.digest import digest_bytes, digest_value
from edgec.core.progress import Silent
from edgec.core.shared_cache import RECORD, SharedCache
from edgec.pipeline import shared_folder
from edgec.pipeline.eviction import entries, evict
from edgec.pipeline.exchange import Exchange
from edgec.pipeline.shared_folder import SharedFolder
from edgec.pipeline.store import StageKey, Store

DAMAGED = 100


class Written(BaseModel):
    """Facts of a stage."""

    accuracy: float


class Notes(Silent):
    """Keeps what is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


class Machine:
    """A store of its own, with shared caches."""

    def __init__(self, folder: Path, *, sources: list[SharedCache] | None = None, sinks: Any = ()) -> None:
        self.notes = Notes()
        self.exchange = Exchange(sources=sources or [], sinks=sinks, progress=self.notes)
        self.store = Store(folder, self.exchange)
        self.made: list[StageKey] = []

    def get(self, key: StageKey) -> bytes:
        """The content of a stage, which is counted where it is made."""

        def make(folder: Path) -> Written:
            self.made.append(key)
            return write(folder, key)

        output = self.store.get(key, Written, make)
        assert output.facts == Written(accuracy=key.settings)
        return (output.folder / "below" / "weights.bin").read_bytes()


def key_of(number: int) -> StageKey:
    return StageKey(stage="export", settings=float(number), sources={"data": "a" * 64})


def content_of(key: StageKey) -> bytes:
    return f"weights {key.settings}".encode() * 100


def write(folder: Path, key: StageKey) -> Written:
    (folder / "below").mkdir()
    (folder / "below" / "weights.bin").write_bytes(content_of(key))
    (folder / "notes.txt").write_text("the same in all")
    return Written(accuracy=key.settings)


SOUND = key_of(DAMAGED)
"""An entry that nobody damages."""


@pytest.fixture
def shared(tmp_path: Path) -> SharedFolder:
    return SharedFolder(tmp_path / "shared")


def filled(shared: SharedFolder, folder: Path, *keys: StageKey) -> Machine:
    first = Machine(folder, sinks=[shared])
    for key in keys:
        first.get(key)
    return first


def test_another_machine_gets_every_stage_and_makes_none(shared: SharedFolder, tmp_path: Path) -> None:
    keys = [key_of(number) for number in range(5)]
    first = filled(shared, tmp_path / "first", *keys)
    second = Machine(tmp_path / "second", sources=[shared])
    assert [second.get(key) for key in keys] == [content_of(key) for key in keys]
    assert (len(first.made), second.made) == (5, [])
    assert all(second.store.origin(key) == str(shared.folder) for key in keys)
    assert first.exchange.summary() == (f"stages to {shared.folder}: 5 export",)
    assert second.exchange.summary() == (f"stages from {shared.folder}: 5 export",)
    for key in keys:  # what is there is what was made, byte for byte
        for name in (RECORD, "notes.txt", "below/weights.bin"):
            assert (second.store.path(key) / name).read_bytes() == (first.store.path(key) / name).read_bytes()


def test_what_no_cache_has_is_made_and_kept_for_others(shared: SharedFolder, tmp_path: Path) -> None:
    filled(shared, tmp_path / "first", key_of(0))
    second = Machine(tmp_path / "second", sources=[shared], sinks=[shared])
    assert [second.store.brings(key_of(number)) for number in (0, 1)] == [True, False]
    for number in (0, 1):
        second.get(key_of(number))
    assert second.made == [key_of(1)]
    where = str(shared.folder)
    assert second.exchange.summary() == (f"stages from {where}: export", f"stages to {where}: export")
    third = Machine(tmp_path / "third", sources=[shared])
    assert (third.get(key_of(1)), third.made) == (content_of(key_of(1)), [])


def test_stages_that_lie_here_already_are_shared_too(shared: SharedFolder, tmp_path: Path) -> None:
    Machine(tmp_path / "first").get(key_of(0))
    again = Machine(tmp_path / "first", sinks=[shared])
    again.store.share([key_of(0), key_of(1)])
    assert again.made == []
    assert [entry.stage for entry in entries(shared.folder)] == ["export"]


def test_the_second_cache_is_asked_where_the_first_has_nothing_sound(tmp_path: Path) -> None:
    empty, damaged, sound = (SharedFolder(tmp_path / name) for name in ("empty", "damaged", "sound"))
    filled(damaged, tmp_path / "first", key_of(0))
    shutil.copytree(damaged.folder, sound.folder)
    (damaged.folder / "export" / key_of(0).key[:32] / "notes.txt").write_text("other")
    second = Machine(tmp_path / "second", sources=[empty, damaged, sound])
    assert (second.get(key_of(0)), second.made) == (content_of(key_of(0)), [])
    assert second.store.origin(key_of(0)) == sound.name


def rewrite(entry: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes a record, and makes its digest fit: the work of somebody who knows the format."""
    record = json.loads((entry / RECORD).read_bytes())
    del record["digest"]
    change(record)
    (entry / RECORD).write_text(json.dumps({**record, "digest": digest_value(record)}))


def cut(entry: Path) -> None:
    os.truncate(entry / "below" / "weights.bin", 7)


def flipped(entry: Path) -> None:
    data = bytearray((entry / "below" / "weights.bin").read_bytes())
    data[5] ^= 1
    (entry / "below" / "weights.bin").write_bytes(data)


def gone(entry: Path) -> None:
    (entry / "below" / "weights.bin").unlink()


def no_record(entry: Path) -> None:
    (entry / RECORD).unlink()


def cut_record(entry: Path) -> None:
    os.truncate(entry / RECORD, 40)


def changed_record(entry: Path) -> None:
    text = (entry / RECORD).read_text()
    (entry / RECORD).write_text(text.replace('"accuracy": ', '"accuracy": 1'))


def swapped(entry: Path) -> None:
    shutil.rmtree(entry)
    shutil.copytree(entry.parent / SOUND.key[:32], entry)


def swapped_files(entry: Path) -> None:
    shutil.copy(entry.parent / SOUND.key[:32] / "below" / "weights.bin", entry / "below" / "weights.bin")


def other_facts(entry: Path) -> None:
    rewrite(entry, lambda record: record.update(facts={"accuracy": "none"}))


def leads_outside(entry: Path) -> None:
    (entry.parent / "loot").write_bytes(b"loot")
    rewrite(entry, lambda record: record["files"].update({"../loot": digest_bytes(b"loot")}))


def absolute(entry: Path) -> None:
    rewrite(entry, lambda record: record["files"].update({"/etc/hostname": digest_bytes(b"")}))


def names_the_record(entry: Path) -> None:
    rewrite(entry, lambda record: record["files"].update({RECORD: "0" * 64}))


def file_and_folder(entry: Path) -> None:
    rewrite(entry, lambda record: record["files"].update({"below": "0" * 64}))


def too_many(entry: Path) -> None:
    rewrite(entry, lambda record: record["files"].update({f"f{n}": digest_bytes(b"") for n in range(300)}))


def linked_file(entry: Path) -> None:
    file = entry / "below" / "weights.bin"
    shutil.move(file, entry.parent / "weights.bin")
    file.symlink_to("../../weights.bin")


def linked_folder(entry: Path) -> None:
    shutil.move(entry / "below", entry.parent / "elsewhere")
    (entry / "below").symlink_to("../elsewhere")


def linked_entry(entry: Path) -> None:
    shutil.move(entry, entry.parent / "elsewhere")
    entry.symlink_to("elsewhere")


def pipe(entry: Path) -> None:
    (entry / "notes.txt").unlink()
    os.mkfifo(entry / "notes.txt")


def no_folder(entry: Path) -> None:
    shutil.rmtree(entry)
    entry.write_text("")


def deep_record(entry: Path) -> None:
    (entry / RECORD).write_text("[" * 100_000)


DAMAGES = (
    *(cut, flipped, gone, no_record, cut_record, changed_record, swapped, swapped_files, other_facts, leads_outside),
    *(absolute, names_the_record, file_and_folder, too_many, linked_file, linked_folder, linked_entry, pipe, no_folder),
    *(deep_record,),
)


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_entry_that_is_not_what_it_should_be_is_named_made_anew_and_mended(
    shared: SharedFolder, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    filled(shared, tmp_path / "first", key_of(0), SOUND)
    damage(shared.folder / "export" / key_of(0).key[:32])
    second = Machine(tmp_path / "second", sources=[shared], sinks=[shared])
    assert second.get(key_of(0)) == content_of(key_of(0))
    assert second.made == [key_of(0)]
    (line,) = second.notes.lines
    assert line.startswith(f"warning: {shared.folder}: the entry export {key_of(0).key[:12]} is not used: ")
    assert {path.name for path in second.store.path(key_of(0)).iterdir()} == {RECORD, "below", "notes.txt"}
    third = Machine(tmp_path / "third", sources=[shared])
    assert (third.get(key_of(0)), third.made, third.notes.lines) == (content_of(key_of(0)), [], [])


def test_of_a_hundred_damaged_entries_none_is_used(shared: SharedFolder, tmp_path: Path) -> None:
    keys = [key_of(number) for number in range(DAMAGED)]
    filled(shared, tmp_path / "first", *keys, SOUND)
    damages = (cut, flipped, gone, cut_record, changed_record, swapped_files, leads_outside, linked_file)
    for key, damage in zip(keys, cycle(damages), strict=False):
        damage(shared.folder / "export" / key.key[:32])
    second = Machine(tmp_path / "second", sources=[shared])
    assert [second.get(key) for key in keys] == [content_of(key) for key in keys]
    assert second.made == keys
    assert second.exchange.origins == {}
    assert len(second.notes.lines) == DAMAGED


def test_an_entry_that_is_too_large_is_not_used(
    shared: SharedFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(shared, tmp_path / "first", key_of(0))
    monkeypatch.setattr(shared_folder, "MAX_ENTRY_BYTES", 1000)
    second = Machine(tmp_path / "second", sources=[shared], sinks=[SharedFolder(tmp_path / "other")])
    assert (second.get(key_of(0)), second.made) == (content_of(key_of(0)), [key_of(0)])
    refused, not_kept = second.notes.lines
    assert refused.endswith("is not used: 'below/weights.bin' is too large")
    assert not_kept.endswith("is not kept there: more than 1000 bytes")


def test_a_cache_that_cannot_be_written_to_loses_no_stage(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    machine = Machine(tmp_path / "first", sinks=[SharedFolder(tmp_path / "file" / "below")])
    assert machine.get(key_of(0)) == content_of(key_of(0))
    assert machine.get(key_of(1)) == content_of(key_of(1))
    assert machine.notes.lines == [
        f"warning: shared cache {tmp_path / 'file' / 'below'}: Not a directory; stages are not kept there"
    ]


def test_reading_an_entry_is_its_use_and_writes_nothing_into_it(shared: SharedFolder, tmp_path: Path) -> None:
    """A file of another user's that is led elsewhere by a link would be written there."""
    filled(shared, tmp_path / "first", key_of(0), key_of(1))
    places = [shared.folder / "export" / key_of(n).key[:32] for n in (0, 1)]
    for place in places:
        os.utime(place / RECORD, (1000, 1000))
    (places[0] / "uses.txt").symlink_to(tmp_path / "elsewhere")
    Machine(tmp_path / "second", sources=[shared]).get(key_of(0))
    assert not (tmp_path / "elsewhere").exists()
    assert [(place / RECORD).stat().st_mtime > 1000 for place in places] == [True, False]


def test_a_shared_folder_is_pruned_as_a_cache(shared: SharedFolder, tmp_path: Path) -> None:
    filled(shared, tmp_path / "first", key_of(0), key_of(1))
    gone = evict(shared.folder, most_bytes=0)
    assert len(gone) == 2
    second = Machine(tmp_path / "second", sources=[shared])
    assert (second.get(key_of(0)), second.made) == (content_of(key_of(0)), [key_of(0)])


def replace_often(shared: SharedFolder, own: Store) -> None:
    for _ in range(20):
        for n in range(3):
            made = own.get(key_of(n), Written, lambda folder, n=n: write(folder, key_of(n)))
            shared.store("export", key_of(n).key, made.folder, made.files, replace=True)


def test_two_machines_that_write_the_same_entries_at_once_leave_them_whole(
    shared: SharedFolder, tmp_path: Path
) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=replace_often, args=(shared, Store(tmp_path / name))) for name in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    last = Machine(tmp_path / "last", sources=[shared])
    assert [last.get(key_of(n)) for n in range(3)] == [content_of(key_of(n)) for n in range(3)]
    assert (last.made, last.notes.lines) == ([], [])
