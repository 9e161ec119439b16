"""A family of the digits: built at once, each device of a fleet gets its own member, nobody gets another's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import edgec as edgec_door
from edgec.cli.build import parse_setting
from edgec.package import open_bundle
from edgec.package.family import open_family, write_family
from support import sshd

Edgec = Callable[..., Any]
TARGETS = ("jetson-orin-nano-8gb", "raspberry-pi-5")
SMALL = ("compress.steps=2", "data.ood_count=60", "compress.compare=[]")


def options(folder: Path) -> tuple[str, ...]:
    settings = [option for setting in SMALL for option in ("--set", setting)]
    return ("--device", "cpu", "--cache", str(folder / "cache"), "--output", str(folder / "digits"), *settings)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, edgec: Edgec) -> tuple[Path, Any]:
    """A family and what its build printed. Nobody may change it."""
    folder = tmp_path_factory.mktemp("family")
    outcome = edgec("build", "--target", ",".join(TARGETS), *options(folder))
    assert outcome.exit_code == 0, outcome.stderr
    return folder / "digits", outcome


def test_a_build_for_two_targets_is_a_family_with_a_page(built: tuple[Path, Any]) -> None:
    family, outcome = built
    assert outcome.stdout.splitlines()[-2:] == [str(family / "family.html"), str(family)]
    assert list(open_family(family).members) == list(TARGETS)
    assert {path.name for path in family.iterdir()} == {
        *("family.json", "family.html"),
        *(name for target in TARGETS for name in (target, f"{target}.edgec")),
    }
    page = (family / "family.html").read_text(encoding="utf-8")
    for target in TARGETS:
        assert f'href="{target}/report.html"' in page
        open_bundle(family / target).verify()
        assert target in outcome.stdout


def test_built_again_nothing_is_made_and_signatures_stay(built: tuple[Path, Any], edgec: Edgec, tmp_path: Path) -> None:
    shutil.copytree(built[0].parent, tmp_path, dirs_exist_ok=True)
    (tmp_path / "digits" / TARGETS[0] / "signature.json").write_text("{}")
    outcome = edgec("build", "--target", ",".join(TARGETS), *options(tmp_path), "--json")
    assert outcome.exit_code == 0, outcome.stderr
    assert [len(member["cached"]) for member in outcome.last["members"]] == [9, 8]  # every stage; one has no TensorRT
    assert (tmp_path / "digits" / TARGETS[0] / "signature.json").read_text() == "{}"


def test_from_python_the_same_family_comes_of_the_same_cache(built: tuple[Path, Any], tmp_path: Path) -> None:
    shutil.copytree(built[0].parent / "cache", tmp_path / "cache")
    family = edgec_door.build_family(
        targets=TARGETS,
        output=tmp_path / "digits",
        settings=dict(map(parse_setting, SMALL)),
        cache=tmp_path / "cache",
        device="cpu",
    )
    assert list(family.members) == list(TARGETS)
    assert family.page.read_bytes() == (built[0] / "family.html").read_bytes()
    for target, bundle in family.members.items():
        assert bundle.target == target
        assert open_bundle(bundle.path).digest == open_bundle(built[0] / target).digest
    assert family._repr_html_().count("<table") >= len(TARGETS)


def test_a_member_that_is_not_built_any_more_is_told(built: tuple[Path, Any], edgec: Edgec, tmp_path: Path) -> None:
    shutil.copytree(built[0].parent, tmp_path, dirs_exist_ok=True)
    family = tmp_path / "digits"
    shutil.copytree(family / TARGETS[0], family / "lab")
    manifest = json.loads((family / "lab" / "manifest.json").read_bytes())
    manifest["target"]["name"] = "lab"
    (family / "lab" / "manifest.json").write_text(json.dumps(manifest))
    write_family(family, "digits", {target: open_bundle(family / target) for target in (*TARGETS, "lab")})
    outcome = edgec("build", "--target", ",".join(TARGETS), *options(tmp_path))
    assert outcome.exit_code == 0, outcome.stderr
    assert "had a member for 'lab', which is none any more" in outcome.stderr
    assert not (family / "lab").exists()


@pytest.mark.parametrize("damaged", ["model.onnx", "manifest.json"])
def test_a_damaged_member_is_mended_by_a_build(
    built: tuple[Path, Any], edgec: Edgec, tmp_path: Path, damaged: str
) -> None:
    shutil.copytree(built[0].parent, tmp_path, dirs_exist_ok=True)
    (tmp_path / "digits" / TARGETS[0] / damaged).unlink()
    assert edgec("build", "--target", ",".join(TARGETS), *options(tmp_path)).exit_code == 0
    assert open_family(tmp_path / "digits").digest == open_family(built[0]).digest


def test_a_member_that_cannot_be_built_leaves_the_family_as_it_was(
    built: tuple[Path, Any], edgec: Edgec, tmp_path: Path
) -> None:
    shutil.copytree(built[0].parent, tmp_path, dirs_exist_ok=True)
    before = open_family(tmp_path / "digits")
    broken = ("--set", "family.raspberry-pi-5.compress.keep_flops=0.001")
    outcome = edgec("build", "--target", ",".join(TARGETS), *options(tmp_path), "--set", "name=digits", *broken)
    assert outcome.exit_code == 2
    assert "keep_flops" in outcome.failure[0]
    assert open_family(tmp_path / "digits").digest == before.digest
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(("targets", "shared"), [(TARGETS, 2), (("raspberry-pi-5", "x86-vnni"), 4)])
def test_a_plan_says_what_members_share(edgec: Edgec, tmp_path: Path, targets: tuple[str, ...], shared: int) -> None:
    """Images and teacher; where pruning has the same rules, the student and its graph too."""
    outcome = edgec("build", "--target", ",".join(targets), *options(tmp_path), "--dry-run")
    assert outcome.exit_code == 0, outcome.stderr
    assert outcome.stdout.count("shared") == shared


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--target", "jetson,"), "unknown target ''"),
        (("--target", "jetson,jetson"), "stands twice"),
        (("--target", "jetson,rpi5", "--set", "family.x86-vnni.compress.steps=3"), "built are jetson, rpi5"),
        (("--set", "family.jetson.compress.steps=3"), "built are host"),
        (("--target", "jetson,rpi5", "--output", ".."), "does not name a folder of its own"),
        (("--target", "jetson,rpi5", "--from-trial", "1"), "a search has one target"),
    ],
)
def test_bad_targets_are_one_error(edgec: Edgec, tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    outcome = edgec("build", *options(tmp_path), *arguments)
    assert outcome.exit_code == 2
    assert told in outcome.failure[0]


def test_a_folder_that_is_no_family_is_left_alone(edgec: Edgec, tmp_path: Path) -> None:
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "thesis.txt").write_text("mine")
    outcome = edgec("build", "--target", "jetson,rpi5", *options(tmp_path))
    assert outcome.exit_code == 2
    assert "is no family" in outcome.failure[0]
    assert (tmp_path / "digits" / "thesis.txt").read_text() == "mine"


@pytest.mark.network
def test_each_device_of_a_fleet_gets_its_own_member_and_a_third_kind_is_left_alone(
    built: tuple[Path, Any], edgec: Edgec, bed: Any, tmp_path: Path
) -> None:
    targets = {"line": "jetson", "gate": "rpi5", "lab": "x86-vnni"}
    with bed.host("line") as line, bed.host("gate") as gate, bed.host("lab") as lab:
        hosts = {"line": line, "gate": gate, "lab": lab}
        tables = ['[defaults]\nkey = "identity"\nknown_hosts = "known_hosts"\n'] + [
            f'[[device]]\nname = "{name}"\nurl = "{host.url}"\npython = "{host.python}"\ntarget = "{targets[name]}"\n'
            for name, host in hosts.items()
        ]
        (tmp_path / "fleet.toml").write_text("\n".join(tables))
        outcome = edgec("deploy", built[0], "--fleet", tmp_path / "fleet.toml", "--json")
        assert outcome.exit_code == 5
        rows = {row["device"]: row for row in outcome.last["devices"]}
        members = {target: open_bundle(built[0] / target).digest for target in TARGETS}
        assert [rows[name]["result"] for name in hosts] == ["updated", "updated", "failed"]
        assert sshd.digest_at(line.root) == rows["line"]["digest"] == members["jetson-orin-nano-8gb"]
        assert sshd.digest_at(gate.root) == rows["gate"]["digest"] == members["raspberry-pi-5"]
        assert "the family has no member for 'x86-vnni'" in rows["lab"]["reason"]
        assert sshd.digest_at(lab.root) is None
        assert outcome.last["digest"] == open_family(built[0]).digest


def test_verify_and_sign_take_all_members(built: tuple[Path, Any], edgec: Edgec, tmp_path: Path) -> None:
    pytest.importorskip("model_signing")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    (tmp_path / "key.pem").write_bytes(key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain))
    public = key.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "public.pem").write_bytes(public)
    family = tmp_path / "digits"
    shutil.copytree(built[0], family)
    assert edgec("verify", family, "--key", tmp_path / "public.pem").exit_code == 4
    assert edgec("sign", family, "--key", tmp_path / "key.pem").exit_code == 0
    found = edgec("verify", family, "--key", tmp_path / "public.pem", "--json").last
    assert [member["signature"] for member in found["members"]] == ["good", "good"]
    assert found["digest"] == open_family(family).digest
