"""A site on this device: versions side by side, one of them current, whatever happens meanwhile."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgec.core.errors import ConfigError, DataError, IntegrityError, TransportError
from edgec.deploy import Site
from edgec.deploy.lock import hold
from edgec.package import Trust, open_bundle, write_archive

Make = Callable[..., Path]
Deploy = Callable[..., str]

SOMEBODY = Trust(public_key=b"-----BEGIN PUBLIC KEY-----")


def pass_all(folder: Path) -> None:
    """A smoke test that costs nothing."""


def fail_all(folder: Path) -> None:
    raise IntegrityError("answers differently", hint="do not deploy it")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "site"


@pytest.fixture
def site(root: Path) -> Site:
    return Site(root, by="me@here", smoke_test=pass_all)


@pytest.fixture
def deploy(site: Site, make_bundle: Make) -> Deploy:
    """Installs and activates a bundle, another one for each name."""

    def do(name: str, **keywords: object) -> str:
        digest = site.install(make_bundle(name, edgec=name))
        site.activate(digest, **keywords)  # type: ignore[arg-type]
        return digest

    return do


def test_what_was_activated_is_current_and_whole(site: Site, deploy: Deploy, root: Path) -> None:
    digest = deploy("one")
    assert str((root / "current").readlink()) == f"versions/{digest[:16]}"
    served = open_bundle(root / "current")
    served.verify()
    assert served.digest == digest
    current = site.status().current
    assert current is not None
    assert current.size_bytes == sum(p.stat().st_size for p in (root / "current").rglob("*") if p.is_file())


def test_an_archive_and_its_folder_are_the_same_version(site: Site, bundle: Path, tmp_path: Path) -> None:
    assert site.install(write_archive(bundle, tmp_path / "b.edgec")) == site.install(bundle)
    assert len(site.status().versions) == 1
    assert [event.event for event in site.history()] == ["install"]


def test_the_default_smoke_test_replays_the_golden_images(root: Path, make_bundle: Make, linear, pixels) -> None:
    from edgec.package import Golden, golden_bytes

    other = golden_bytes(Golden(inputs=pixels, logits=-linear.logits(pixels).astype("float32")))
    site = Site(root)
    good, bad = site.install(make_bundle("good")), site.install(make_bundle("bad", files={"golden.npz": other}))
    site.activate(good)
    with pytest.raises(IntegrityError, match="smoke test: 6 of 6 golden images change class"):
        site.activate(bad)
    current = site.status().current
    assert current is not None
    assert current.digest == good
    refused = site.history()[-1]
    assert (refused.event, refused.digest, refused.ok) == ("refused", bad, False)
    assert "golden images change class" in refused.reason


def test_rollback_goes_to_what_ran_before_and_never_forward_again(site: Site, deploy: Deploy) -> None:
    one, two, three = deploy("one"), deploy("two"), deploy("three")
    assert [version.digest for version in site.status().versions] == [three, two, one]
    for expected in (two, one):
        version = site.rollback(reason="worse")
        assert version is not None
        assert version.digest == expected
    with pytest.raises(DataError, match="no version ran before"):
        site.rollback()
    assert site.rollback(to_nothing=True) is None
    assert site.status().current is None
    assert [e.event for e in site.history()][-3:] == ["rollback"] * 3


def test_rollback_to_what_does_not_pass_here_any_more_leaves_what_runs(root: Path, deploy: Deploy) -> None:
    deploy("one")
    two = deploy("two")
    with pytest.raises(IntegrityError, match="answers differently"):
        Site(root, smoke_test=fail_all).rollback()
    assert open_bundle(root / "current").digest == two


def test_what_a_switch_left_to_be_done_stays_open_until_it_went_well(site: Site, deploy: Deploy) -> None:
    deploy("one")
    assert not site.status().settled
    site.settle()
    site.settle()
    assert site.status().settled
    assert [event.event for event in site.history()] == ["install", "switch", "settled"]
    deploy("two")
    assert not site.status().settled
    site.settle()
    site.rollback()
    assert not site.status().settled


def test_an_unsigned_version_is_not_gone_back_to_where_a_signature_is_asked_for(site: Site, deploy: Deploy) -> None:
    deploy("one")
    second = deploy("two")
    with pytest.raises(IntegrityError, match="not signed"):
        site.rollback(trust=SOMEBODY)
    current = site.status().current
    assert current is not None
    assert current.digest == second


def test_old_versions_go_but_neither_what_runs_nor_what_ran_before(site: Site, deploy: Deploy, root: Path) -> None:
    digests = [deploy(name, keep=3) for name in ("one", "two", "three", "four")]
    assert [version.digest for version in site.status().versions] == digests[:0:-1]
    five = deploy("five", keep=1)
    assert [version.digest for version in site.status().versions] == [five, digests[3]]
    assert len(list((root / "versions").iterdir())) == 2


def test_a_lower_release_is_refused_unless_it_is_allowed(site: Site, make_bundle: Make) -> None:
    new, old = (site.install(make_bundle(f"r{n}", release=n)) for n in (2, 1))
    site.activate(new)
    with pytest.raises(IntegrityError, match="is release 1, but release 2 runs") as refused:
        site.activate(old)
    assert "--allow-downgrade" in str(refused.value.hint)
    assert site.activate(old, allow_downgrade=True).digest == old


def test_an_unsigned_version_is_refused_where_a_signature_is_asked_for(site: Site, bundle: Path) -> None:
    digest = site.install(bundle)
    with pytest.raises(IntegrityError, match="not signed"):
        site.activate(digest, trust=SOMEBODY)
    assert site.status().current is None


@pytest.mark.parametrize("digest", ["f" * 64, "abc", ""])
def test_only_an_installed_version_can_be_activated(site: Site, bundle: Path, digest: str) -> None:
    whole = site.install(bundle)
    with pytest.raises(DataError, match=f"no version '{digest}' at .*; installed: {whole[:16]}"):
        site.activate(digest)


def test_no_other_user_can_read_and_so_lock_the_lock(tmp_path: Path) -> None:
    (tmp_path / "lock").touch(mode=0o644)
    with hold(tmp_path / "lock", by="me", since="now"):
        assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("mode", "who"), [(0o777, "everybody"), (0o757, "everybody"), (0o770, "group"), (0o1777, None), (0o755, None)]
)
@pytest.mark.parametrize("where", ["root", "above"])
def test_no_site_lies_where_others_may_put_another_version_in_its_place(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch, mode: int, who: str | None, where: str
) -> None:
    root = tmp_path / "srv" / "site"
    root.mkdir(parents=True)
    loose = {"root": root, "above": root.parent}[where]
    loose.chmod(mode)
    monkeypatch.setattr(os, "getegid", lambda: loose.stat().st_gid + 1)
    if who is None:
        assert Site(root, smoke_test=pass_all).install(bundle)
        return
    with pytest.raises(ConfigError, match=rf"is no safe place: {who}.* may rename what is in '{loose}'") as refused:
        Site(root, smoke_test=pass_all).install(bundle)
    assert refused.value.hint == f"chmod go-w {loose}, or choose a folder of your own"


def test_the_own_group_is_nobody_else(tmp_path: Path, bundle: Path) -> None:
    """As where everybody has a group of their own, and the umask is 002."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site").chmod(0o775)
    assert Site(tmp_path / "site", smoke_test=pass_all).install(bundle)


def test_a_link_or_a_pipe_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TransportError, match="cannot write"), hold(tmp_path / "link", by="me", since="now"):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_a_version_that_was_damaged_on_the_disk_is_refused_and_mended_by_another_install(
    site: Site, deploy: Deploy, bundle: Path, root: Path
) -> None:
    one, two = deploy("one"), site.install(bundle)
    model = root / "versions" / two[:16] / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"?")
    with pytest.raises(IntegrityError, match=r"model\.onnx' was changed"):
        site.activate(two)
    assert open_bundle(root / "current").digest == one
    site.install(bundle)
    assert site.activate(two).digest == two


def test_activating_what_runs_changes_nothing_but_is_tested(site: Site, deploy: Deploy, root: Path) -> None:
    digest = deploy("one")
    events = site.history()
    site.activate(digest)
    assert site.history() == events
    with pytest.raises(IntegrityError):
        Site(root, smoke_test=fail_all).activate(digest)


def test_garbage_among_the_versions_is_passed_over(site: Site, deploy: Deploy, root: Path) -> None:
    digest = deploy("one")
    (root / "versions" / "notes.txt").write_text("hello")
    (root / "versions" / ("0" * 16)).mkdir()
    shutil.copytree(root / "versions" / digest[:16], root / "versions" / ("1" * 16))
    with (root / "history.jsonl").open("ab") as file:
        file.write(b'\xff\n[]\n{"event": 3}\n{"time": "now", "ev')
    two = deploy("two")
    status = site.status()
    assert [version.digest for version in status.versions] == [two, digest]
    assert status.previous is not None
    assert status.previous.digest == digest
    assert [event.event for event in site.history()] == ["install", "switch"] * 2


def test_a_folder_in_the_place_of_the_link_is_left_alone_and_told(site: Site, bundle: Path, root: Path) -> None:
    digest = site.install(bundle)
    (root / "current").mkdir()
    with pytest.raises(DataError, match="is a folder, expected a link"):
        site.activate(digest)
    assert site.status().fault == f"'{root / 'current'}' is not a link"


def test_a_link_to_nowhere_is_told_and_mended_by_the_next_switch(site: Site, deploy: Deploy, root: Path) -> None:
    deploy("one")
    (root / "current").unlink()
    (root / "current").symlink_to("versions/gone")
    assert "leads to 'versions/gone', which is no version" in str(site.status().fault)
    two = deploy("two")
    assert site.status().fault is None
    assert open_bundle(root / "current").digest == two


def test_two_deployers_exclude_each_other_and_the_second_is_told_of_the_first(site: Site, root: Path) -> None:
    other = Site(root, by="you@there")
    with site.locked(), site.locked(), pytest.raises(TransportError) as refused, other.locked():
        pass
    message = str(refused.value)
    assert f"'{root}' is being deployed to by me@here, process {os.getpid()}, since 20" in message
    with other.locked():
        pass


def test_the_lock_is_waited_for_and_goes_with_its_holder(site: Site, root: Path) -> None:
    root.mkdir()
    code = "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); print('held', flush=True); time.sleep(99)"
    with subprocess.Popen([sys.executable, "-c", code, str(root / ".lock")], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(TransportError, match=r"is being deployed to$"), site.locked(wait_s=0.1):
            pass
        holder.kill()
        with site.locked(wait_s=60), (root / ".lock").open() as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_version_that_does_not_fit_on_the_disk_is_refused_beforehand(
    site: Site, bundle: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgec.deploy.disk.free_bytes", lambda folder: 1_000_000)
    with pytest.raises(TransportError, match="has 1,000,000 bytes free, the bundle needs") as refused:
        site.install(bundle)
    assert "free some space" in str(refused.value.hint)
    assert list((root / "versions").iterdir()) == []


def test_leftovers_of_other_uploads_and_of_kills_are_removed_before_an_upload(site: Site, root: Path) -> None:
    part = site.incoming("a" * 64)
    part.write_bytes(b"half")
    part.with_name(f"{'b' * 64}.part").write_bytes(b"other")
    (root / "versions" / ".0123.draft").mkdir()
    assert site.incoming("a" * 64).read_bytes() == b"half"
    assert [path.name for path in part.parent.iterdir()] == [part.name]
    assert list((root / "versions").iterdir()) == []


DRIVER = """
import json, os, sys
from pathlib import Path
from edgec.core.errors import EdgecError
from edgec.deploy import Site

root, new, mode = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
CHANGES = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.truncate", "shutil.rmtree", "os.chmod"}
left = None

def strike(event, arguments):
    global left
    if left is None or event not in CHANGES:
        return
    if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
        return
    left -= 1
    if left < 0:
        if mode == "kill":
            os._exit(9)
        raise OSError(int(mode), os.strerror(int(mode)))

sys.addaudithook(strike)

def deploy(moment):
    global left
    site = Site(root, smoke_test=lambda folder: None)
    left = moment
    try:
        site.activate(site.install(new), keep=2)
    except EdgecError as error:
        left = None
        print(error)
        os._exit(7)
    os._exit(0)

moment = 0
while True:
    child = os.fork()
    if child == 0:
        deploy(moment)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(json.dumps([moment, code]), flush=True)
    if sys.stdin.readline() != "on\\n":
        break
    moment += 1
"""


@pytest.mark.parametrize("mode", ["kill", str(errno.ENOSPC)])
def test_cut_or_out_of_space_at_any_change_of_the_disk_the_old_or_the_new_is_served_and_the_next_deploy_succeeds(
    mode: str, tmp_path: Path, make_bundle: Make
) -> None:
    """A process for every change that a deploy makes to the disk: killed there, or told there that the disk is full."""
    before = tmp_path / "before"
    site = Site(before, smoke_test=pass_all)
    for name in ("zero", "one"):
        site.activate(site.install(make_bundle(name, edgec=name)))
    old, new = open_bundle(before / "current").digest, make_bundle("two", edgec="two")
    wanted, root = open_bundle(new).digest, tmp_path / "site"
    shutil.copytree(before, root, symlinks=True)
    codes, served = [], []
    command = [sys.executable, "-c", DRIVER, str(root), str(new), mode]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdin is not None
        assert driver.stdout is not None
        while True:
            line = driver.stdout.readline()
            while not line.startswith("["):
                assert "No space left on device" in line
                line = driver.stdout.readline()
            codes.append(json.loads(line)[1])
            running = open_bundle(root / (root / "current").readlink())
            running.verify()
            served.append(running.digest)
            after = Site(root, smoke_test=pass_all)
            if mode != "kill" and codes[-1] == 7:
                assert running.digest == old
            after.activate(after.install(new), keep=2)
            assert open_bundle(root / "current").digest == wanted
            version = after.rollback()
            assert version is not None
            assert version.digest == old
            if codes[-1] == 0 and served[-1] == wanted and len(codes) > 10:
                break
            shutil.rmtree(root)
            shutil.copytree(before, root, symlinks=True)
            driver.stdin.write("on\n")
            driver.stdin.flush()
        driver.stdin.close()
    assert set(served) == {old, wanted}
    assert len(codes) > 20  # changes that a deploy makes
