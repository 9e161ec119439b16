"""`edgec report`: one page beside the bundle, never in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgec.cli.report import command
from edgec.core.errors import ConfigError, IntegrityError
from edgec.package import open_bundle, write_archive


@pytest.fixture
def reported(make_pets: Callable[..., Path]) -> Path:
    return make_pets()


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def test_the_page_appears_beside_the_folder_and_its_path_is_printed(reported: Path) -> None:
    result = run(reported)
    assert result.exit_code == 0, result.output
    page = reported.parent / "pets-report.html"
    assert result.stdout == f"{page}\n"
    assert "<h1>Pets</h1>" in page.read_text(encoding="utf-8")
    assert "Passes all 4 checks" in page.read_text(encoding="utf-8")
    open_bundle(reported).verify()


def test_the_page_appears_beside_the_archive(reported: Path, tmp_path: Path) -> None:
    archive = write_archive(reported, tmp_path / "out" / "v1.2.edgec")
    assert run(archive).stdout == f"{tmp_path / 'out' / 'v1.2-report.html'}\n"


def test_the_page_goes_where_it_was_asked_to(reported: Path, tmp_path: Path) -> None:
    wanted = tmp_path / "new" / "page.html"
    assert run(reported, "--output", wanted).stdout == f"{wanted}\n"
    assert wanted.is_file()


def test_two_bundles_make_one_page_beside_the_second(make_pets: Callable[..., Path]) -> None:
    before, after = make_pets("old"), make_pets("new", right=(20, 18, 3))
    result = run(before, after)
    assert result.exit_code == 0, result.output
    page = after.parent / "old-to-new.html"
    assert result.stdout == f"{page}\n"
    text = page.read_text(encoding="utf-8")
    assert "<h1>old → new</h1>" in text
    assert "1 class is worse, beyond chance" in text
    assert "Worse: Käfer. Over 60 test images that both saw, 13 were lost and 0 won." in text


def test_bundles_of_other_test_images_are_not_judged(make_pets: Callable[..., Path], tmp_path: Path) -> None:
    wanted = tmp_path / "page.html"
    assert run(make_pets("old"), make_pets("new", first=500), "-o", wanted).exit_code == 0
    assert "Not tested on the same images" in wanted.read_text(encoding="utf-8")


def test_json_of_two_bundles_is_refused_and_points_to_check(reported: Path) -> None:
    result = run(reported, reported, "--json")
    assert isinstance(result.exception, ConfigError)
    assert result.exception.hint == f"verdicts on both: edgec check {reported} --baseline {reported} --json"


def test_a_page_in_the_second_bundle_is_refused(make_pets: Callable[..., Path]) -> None:
    after = make_pets("new")
    result = run(make_pets("old"), after, "--output", after / "page.html")
    assert isinstance(result.exception, ConfigError)
    assert "lies in the bundle" in str(result.exception)


def test_json_is_the_bundles_own_file(reported: Path) -> None:
    assert run(reported, "--json").stdout_bytes == (reported / "report.json").read_bytes()
    assert not (reported.parent / "pets-report.html").exists()


def test_a_page_in_the_bundle_is_refused(reported: Path) -> None:
    result = run(reported, "--output", reported / "again.html")
    assert isinstance(result.exception, ConfigError)
    assert "lies in the bundle" in str(result.exception)
    open_bundle(reported).verify()


def test_a_folder_as_output_is_refused(reported: Path, tmp_path: Path) -> None:
    result = run(reported, "--output", tmp_path)
    assert isinstance(result.exception, ConfigError)
    assert str(result.exception.hint) == f"name a file, such as {tmp_path / 'report.html'}"


def test_a_report_of_another_schema_is_refused(make_bundle: Callable[..., Path]) -> None:
    result = run(make_bundle(files={"report.json": b'{"schema": 9}'}))
    assert isinstance(result.exception, IntegrityError)
    assert "report schema 9, expected 1" in str(result.exception)


def test_json_gives_the_terminal_no_orders(reported: Path, make_bundle: Callable[..., Path]) -> None:
    text = (reported / "report.json").read_text(encoding="utf-8")
    evil = text.replace('"title": "Pets"', '"title": "\x9b31m\u202ePets"')
    assert evil != text
    result = run(make_bundle(files={"report.json": evil.encode()}), "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == json.loads(evil)
    assert not {"\x9b", "\u202e"} & set(result.stdout)


@pytest.mark.parametrize("data", [b"\x1b[2J", b"[" * 100_000, b"\xff", '{"schema": 1}'.encode("utf-16")])
def test_json_that_is_none_is_refused(make_bundle: Callable[..., Path], data: bytes) -> None:
    result = run(make_bundle(files={"report.json": data}), "--json")
    assert isinstance(result.exception, IntegrityError)
    assert "is not valid JSON" in str(result.exception)
    assert result.stdout == ""
