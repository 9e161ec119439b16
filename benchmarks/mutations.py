"""What becomes of bundles that somebody tampered with: all refused, none crashes, writes outside or runs code.

    python benchmarks/mutations.py [--bundle DIR] [--count 1000] [--seed 0] [--quick]

A bundle (without --bundle, a quick build of the embedded digits) is signed with a new key and mutated, as folder and
as archive; `edgec verify --key` looks at each mutant, in this process. Mutants whose manifest fits, as anybody can make
one, go through `edgec verify --smoke-test` without a key: there the contents must be refused. An audit hook notes every
file that is opened to write outside the scratch folder, every program, connection and unpickled name; a folder beside
the mutants must stay as it was. What a mutant with a key takes of memory and time, it takes before anybody is believed.
Records of the stage cache are edited, too. First: pip install 'edgec[build,signing]'
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import BaseModel

from edgec.cli import main as edgec
from edgec.core.confined import Confined
from edgec.core.digest import digest_tree
from edgec.core.host import peak_bytes
from edgec.package import open_bundle, sign_bundle
from edgec.pipeline.store import RECORD, StageKey, Store
from rows import Row, arguments, show
from support.mutants import KINDS, Mutant, Specimen, damage

__all__ = ["Outcome", "Watch", "make_specimen", "run", "run_records", "try_mutant"]

QUICK = ("compress.steps=20", "data.ood_count=60")
RECORDS = "records of the stage cache"
REFUSED = (4, 2)
"""Exit codes of a refusal: an integrity error, or what is no bundle at all."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a mutant.

    Attributes:
        verdict: `refused`, `accepted`, or `crashed` for everything that is neither.
        escapes: What it did outside of the scratch folder.
        said: What the command printed to stderr.
        computed_s: The processor's time in `seconds`, which a busy machine stretches.
        taken_bytes: Memory that it took at most beside what the process had before; None without a key.
    """

    kind: str
    verdict: str
    exit_code: int
    escapes: tuple[str, ...]
    said: str
    seconds: float
    computed_s: float = 0.0
    taken_bytes: int | None = None


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="the folder of a bundle; it stays as it is")
    parser.add_argument("--count", type=int, help="mutants; default 1000, quick 200")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = given.bundle or _digits(Path(folder) / "digits")
        count = given.count or (200 if given.quick else 1000)
        outcomes = list(run(bundle, Path(folder), count=count, seed=given.seed))
        outcomes += run_records(Path(folder) / "cache", count=count // len(KINDS), seed=given.seed)
    for outcome in outcomes:
        if outcome.verdict != "refused" or outcome.escapes:
            print(f"{outcome.kind}: {outcome.verdict} {outcome.escapes} {outcome.said}", file=sys.stderr)
    show(_rows(outcomes), as_json=given.json, output=given.output)


def run(bundle: Path, folder: Path, *, count: int, seed: int) -> Iterator[Outcome]:
    """Mutants of every kind in turn, each tried on its own."""
    rng = random.Random(seed)  # noqa: S311 - repeatable, and no secret
    specimen = make_specimen(bundle, folder / "key")
    watch = Watch(folder / "scratch")
    for index in range(count):
        kind = list(KINDS)[index % len(KINDS)]
        yield try_mutant(kind, KINDS[kind], specimen, folder / "mutants", rng, watch)


class Told(BaseModel):
    """Facts of a stage."""

    accuracy: float
    classes: tuple[str, ...]
    images: int


def run_records(folder: Path, *, count: int, seed: int) -> Iterator[Outcome]:
    """Records of the stage cache: one is refused where the stage is made again, accepted where it tells other facts."""
    rng = random.Random(seed)  # noqa: S311 - repeatable, and no secret
    store, facts = Store(folder), Told(accuracy=0.81, classes=("cat", "dog"), images=1234)
    key = StageKey(stage="evaluate", settings={}, sources={})

    def make(draft: Path) -> Told:
        (draft / "predictions.npz").write_bytes(b"81")
        return facts

    output = store.get(key, Told, make)
    record, sound = output.folder / RECORD, (output.folder / RECORD).read_bytes()
    for _ in range(count):
        record.write_bytes(_edited(sound, rng))
        started = time.perf_counter()
        told = store.get(key, Told, make).facts
        verdict = "refused" if told == facts else "accepted"
        seconds = time.perf_counter() - started
        yield Outcome(kind=RECORDS, verdict=verdict, exit_code=0, escapes=(), said=str(told), seconds=seconds)


def _edited(record: bytes, rng: random.Random) -> bytes:
    way = rng.randrange(4)
    if way == 0:
        return rng.choice((b"", b"null", b"[]", b"{}", b"[" * 100_000, b'{"digest": 1}', record * 2, b"\xff" + record))
    if way == 1:
        return record[: rng.randrange(len(record))]
    if way == 2:
        return record.replace(
            *rng.choice(((b"0.81", b"1.0"), (b"1234", b"9999"), (b"cat", b"dog"), (b"evaluate", b"data")))
        )
    return damage.flipped(record, rng, rng.choice((1, 2, 9)))


def make_specimen(bundle: Path, folder: Path) -> Specimen:
    """The bundle's files, signed; of another release too, signed with the same key, and once with another key."""
    folder.mkdir(parents=True)
    public, private = _key(folder, "ours")
    _, foreign = _key(folder, "foreign")
    source = open_bundle(bundle).source
    contents = {name: source.read(name) for name in source.sizes if name != "signature.json"}
    specimen = Specimen(files=contents, public=public)
    sign = lambda files, key, name: _signed(files, key, folder / name)  # noqa: E731 - three times the same
    return Specimen(
        files=sign(contents, private, "own"),
        public=public,
        other=sign(specimen.of_release(7), private, "other"),
        foreign=sign(contents, foreign, "foreign"),
    )


def _key(folder: Path, name: str) -> tuple[Path, Path]:
    """A public key and its private one."""
    key, pem = ec.generate_private_key(ec.SECP256R1()), serialization.Encoding.PEM
    public, private = folder / f"{name}.pub", folder / f"{name}.pem"
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return public, private


def _signed(files: Mapping[str, bytes], key: Path, folder: Path) -> dict[str, bytes]:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    sign_bundle(folder, key=key)
    source = open_bundle(folder).source
    return {name: source.read(name) for name in source.sizes}


def try_mutant(
    kind: str, mutate: Callable[..., Mutant], specimen: Specimen, folder: Path, rng: random.Random, watch: Watch
) -> Outcome:
    """Makes a mutant below `folder`, lets `edgec verify` look at it, and takes it away again."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        beside = Path(place) / "beside"
        beside.mkdir()
        (beside / "mine.txt").write_bytes(b"mine")
        mutant = mutate(specimen, Path(place), rng)
        before, held_bytes = digest_tree(beside), _forget_peak()
        how = ["--smoke-test"] if mutant.fits else ["--key", str(specimen.public)]
        started, computed = time.perf_counter(), time.process_time()
        with watch:
            exit_code, out, said = _edgec("verify", str(mutant.path), *how)
        seconds, computed_s = time.perf_counter() - started, time.process_time() - computed
        taken_bytes = None if mutant.fits else peak_bytes() - held_bytes
        escapes = list(watch.seen)
        if digest_tree(beside) != before or mutant.canary.exists():
            escapes.append("the folder beside it was changed")
    lines = said.splitlines()
    told = (
        [line.partition(":")[0] for line in lines] == ["error", "hint"]
        and not out
        and not said.startswith("error: unexpected")
    )
    verdict = "accepted" if exit_code == 0 else "refused" if exit_code in REFUSED and told else "crashed"
    return Outcome(
        kind=kind,
        verdict=verdict,
        exit_code=exit_code,
        escapes=tuple(escapes),
        said=said[:500],
        seconds=seconds,
        computed_s=computed_s,
        taken_bytes=taken_bytes,
    )


def _forget_peak() -> int:
    """What the process holds now. From here on `peak_bytes` looks, on Linux: see clear_refs in proc(5).

    What earlier mutants left free goes back to the system, so that the next one takes it anew.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    return peak_bytes()


def _edgec(*command: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            edgec(list(command))
        except SystemExit as ended:
            return int(ended.code or 0), out.getvalue(), err.getvalue()


@dataclass
class Watch:
    """Notes what leaves the process while it is entered. Python keeps audit hooks for ever; left, it notes nothing."""

    scratch: Path
    seen: list[str] = field(default_factory=list)
    _on: bool = False
    _before: tuple[str | None, bool] = (None, False)
    _confined: Callable[..., Any] = Confined.call

    def __post_init__(self) -> None:
        self.scratch.mkdir(parents=True, exist_ok=True)
        sys.addaudithook(self._heard)

    def __enter__(self) -> None:
        self.seen.clear()
        self._confined, Confined.call = Confined.call, _called_here  # in another process it would see nothing
        self._before = tempfile.tempdir, sys.dont_write_bytecode
        tempfile.tempdir, sys.dont_write_bytecode = str(self.scratch), True  # else Python's imports would be noted
        self._on = True

    def __exit__(self, *_: object) -> None:
        self._on = False
        tempfile.tempdir, sys.dont_write_bytecode = self._before
        Confined.call = self._confined

    def _heard(self, event: str, given: tuple[Any, ...]) -> None:
        if not self._on:
            return
        if event in ("open", "os.mkdir", "os.remove", "os.rmdir", "os.rename", "os.link", "os.symlink", "os.chmod"):
            if event != "open" or (given[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self._note_path(event, given)
        elif event in _FORBIDDEN:
            self.seen.append(f"{event} {given[:1]}")

    def _note_path(self, event: str, given: tuple[Any, ...]) -> None:
        paths = [p for p in given[:2] if isinstance(p, str | bytes | os.PathLike)][: 2 if event in _TWO else 1]
        for path in map(os.fsdecode, paths):
            # Relative to a folder's handle: shutil.rmtree empties the scratch folder so.
            at_handle = event in ("os.remove", "os.rmdir") and given[-1] not in (-1, None)
            if path != "/dev/null" and not at_handle and not Path(path).is_relative_to(self.scratch):
                self.seen.append(f"{event} {path}")


def _called_here(confined: Confined, function: Callable[..., Any], *arguments: object, seconds: float) -> Any:
    del confined, seconds
    return function(*arguments)


_TWO = ("os.rename", "os.link", "os.symlink")
_FORBIDDEN = frozenset(
    {
        *("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "subprocess.Popen"),
        *("pickle.find_class", "socket.connect", "socket.bind", "shutil.unpack_archive", "ftplib.connect"),
    }
)


def _digits(folder: Path) -> Path:
    options = [option for setting in QUICK for option in ("--set", setting)]
    exit_code, _, said = _edgec("build", "--target", "host", "--output", str(folder), *options)
    if exit_code:
        sys.exit(said)
    return folder


def _rows(outcomes: list[Outcome]) -> list[Row]:
    """By kind: how many were refused, and with which code; then what must be nothing."""
    rows = []
    for kind in (*KINDS, RECORDS):
        mine = [outcome for outcome in outcomes if outcome.kind == kind]
        if mine:
            codes = Counter(outcome.exit_code for outcome in mine if outcome.verdict == "refused")
            said = ", ".join(f"{number} with exit {code}" for code, number in sorted(codes.items(), reverse=True))
            rows.append(
                Row(
                    what=f"{kind}: refused",
                    value=sum(codes.values()),
                    unit="mutants",
                    n=len(mine),
                    against=said or None,
                )
            )
    for verdict in ("refused", "accepted", "crashed"):
        found = sum(outcome.verdict == verdict for outcome in outcomes)
        rows.append(Row(what=f"all: {verdict}", value=found, unit="mutants", n=len(outcomes)))
    escaped = sum(bool(outcome.escapes) for outcome in outcomes)
    rows.append(Row(what="all: wrote outside or ran code", value=escaped, unit="mutants", n=len(outcomes)))
    for what, spent in (("slowest", "seconds"), ("most computed", "computed_s")):
        found = sorted(getattr(outcome, spent) for outcome in outcomes)
        rows.append(Row(what=f"all: {what}", value=found[-1], unit="s", n=len(found), low=found[0], high=found[-1]))
    taken = sorted(outcome.taken_bytes / 2**20 for outcome in outcomes if outcome.taken_bytes is not None)
    what = "with a key: most memory taken"
    return [*rows, Row(what=what, value=taken[-1], unit="MiB", n=len(taken), low=taken[0], high=taken[-1])]


if __name__ == "__main__":
    main()
