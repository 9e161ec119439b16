"""`edgec report`: one page beside the bundle, never in it."""

from __future__ import annotations

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
