"""`edgec predict`: lines for machines, a table for people, and errors that stop nothing but their file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from edgec.cli.predict import command
from edgec.core.errors import DataError, IntegrityError
from edgec.package import RuntimeEntry, UnknownEntry, write_archive


@pytest.fixture
def images(tmp_path: Path, pixels: np.ndarray) -> list[Path]:
    """Three lossless files of the first three images, one of them in a folder below."""
    paths = [tmp_path / "images" / name for name in ("a.png", "b.PNG", "below/c.webp")]
    for path, image in zip(paths, pixels, strict=False):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path, lossless=True)
    return paths


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_json_gives_a_line_a_file_with_the_scores_of_the_reference(
    bundle: Path, images: list[Path], linear: Any, pixels: np.ndarray
) -> None:
    result = run(bundle, *images, "--json")
    assert result.exit_code == 0, result.output
    rows = lines(result)
    exact = np.exp(linear.logits(pixels[:3]))
    exact /= exact.sum(axis=1, keepdims=True)
    assert [row["file"] for row in rows] == [str(path) for path in images]
    for row, expected in zip(rows, exact, strict=True):
        assert list(row) == ["file", "label", "score", "scores"]
        found = [row["scores"][label] for label in ("cat", "dog", "eel")]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)  # float32 logits below 10
        assert row["label"] == ("cat", "dog", "eel")[int(expected.argmax())]
        assert row["score"] == row["scores"][row["label"]] == max(found)


def test_scores_stand_best_first_and_top_cuts_them(bundle: Path, images: list[Path]) -> None:
    (row,) = lines(run(bundle, images[0], "--json"))
    assert list(row["scores"].values()) == sorted(row["scores"].values(), reverse=True)
    (best,) = lines(run(bundle, images[0], "--json", "--top", 2))
    assert list(best["scores"].items()) == list(row["scores"].items())[:2]


def test_a_folder_stands_for_its_images(bundle: Path, images: list[Path]) -> None:
    (images[0].parent / "notes.txt").write_text("no image")
    rows = lines(run(bundle, images[0].parent, "--json"))
    assert [row["file"] for row in rows] == [str(path) for path in images]


def test_an_archive_predicts_as_its_folder(bundle: Path, images: list[Path], tmp_path: Path) -> None:
    archive = write_archive(bundle, tmp_path / "b.edgec")
    assert run(archive, *images, "--json").stdout == run(bundle, *images, "--json").stdout


def test_people_get_a_table(bundle: Path, images: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    (row,) = lines(run(bundle, images[0], "--json"))
    result = run(bundle, images[0])
    assert result.exit_code == 0
    assert all(word in result.stdout for word in ("file", "label", "score", str(images[0])))
    assert f"{row['score']:.4f}" in result.stdout
    assert "\x1b" not in result.stdout
    best_two = run(bundle, images[0], "--top", 2).stdout
    assert all(f"{score:.4f}" in best_two for score in list(row["scores"].values())[:2])
    assert best_two.count(str(images[0])) == 1


def test_a_name_with_brackets_is_shown_as_it_is(bundle: Path, images: list[Path], tmp_path: Path) -> None:
    odd = images[0].rename(tmp_path / "[red]x[+].png")
    result = run(bundle, odd)
    assert result.exit_code == 0
    assert "[red]x[+].png" in "".join(result.stdout.split())


def test_an_unreadable_file_stops_only_itself(bundle: Path, images: list[Path], tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    result = run(bundle, images[0], tmp_path / "bad.png", tmp_path / "gone.png", images[1], "--json")
    assert [row["file"] for row in lines(result)] == [str(images[0]), str(images[1])]
    assert [line.partition(" '")[0] for line in result.stderr.splitlines()] == ["left out: image"] * 2
    assert isinstance(result.exception, DataError)
    assert str(result.exception) == "2 of the inputs could not be predicted"
    assert result.exception.exit_code == 2


def test_the_table_still_shows_what_could_be_read(bundle: Path, images: list[Path], tmp_path: Path) -> None:
    result = run(bundle, images[0], tmp_path / "gone.png")
    assert "a.png" in "".join(result.stdout.split())
    assert isinstance(result.exception, DataError)


def test_a_folder_without_images_is_an_error(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = run(bundle, tmp_path / "empty", "--json")
    assert result.stdout == ""
    assert isinstance(result.exception, DataError)
    assert "empty' holds no image (.avif, .bmp, " in str(result.exception)


def test_a_bundle_that_is_not_there(images: list[Path], tmp_path: Path) -> None:
    result = run(tmp_path / "gone", *images)
    assert isinstance(result.exception, DataError)
    assert str(result.exception).startswith("no bundle at")


def test_a_changed_bundle_predicts_nothing(bundle: Path, images: list[Path]) -> None:
    (bundle / "report.json").write_bytes(b"{}")
    result = run(bundle, *images)
    assert isinstance(result.exception, IntegrityError)
    assert result.stdout == ""


def test_how_it_runs_here_is_said_on_stderr(make_bundle: Callable[..., Path], images: list[Path]) -> None:
    result = run(make_bundle(runtime=RuntimeEntry(engine="tensorrt")), images[0], "--json")
    assert result.stderr.startswith("note: built for TensorRT, which does not run it here")
    assert len(lines(result)) == 1


@pytest.mark.parametrize("arguments", [["b"], [], ["b", "x.png", "--top", "0"]])
def test_missing_or_impossible_arguments_exit_2(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


def test_predicting_loads_no_build_tool(bundle: Path, images: list[Path]) -> None:
    code = (
        "import sys\n"
        "from edgec.cli.predict import command\n"
        "command.main(sys.argv[1:], standalone_mode=False)\n"
        "heavy = {'torch', 'torchvision', 'onnx', 'sklearn', 'lightning_fabric', 'jinja2'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    arguments = [sys.executable, "-c", code, str(bundle), str(images[0]), "--json"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["file"] == str(images[0])


class TestUnknown:
    @pytest.fixture
    def cautious(self, make_bundle: Callable[..., Path], images: list[Path], bundle: Path) -> tuple[Path, list[float]]:
        """A bundle whose threshold is above the lowest of the three scores, and the scores."""
        scores = [row["score"] for row in lines(run(bundle, *images, "--json"))]
        below = (min(scores) + sorted(scores)[1]) / 2
        return make_bundle("cautious", unknown=UnknownEntry(below=below, most=0.05)), scores

    def test_is_answered_where_it_is_asked_for(self, cautious: tuple[Path, list[float]], images: list[Path]) -> None:
        bundle, scores = cautious
        plain, asked = (lines(run(bundle, *images, "--json", *more)) for more in ((), ("--unknown",)))
        assert all("unknown" not in row for row in plain)
        assert [row["unknown"] for row in asked] == [score == min(scores) for score in scores]
        for before, after in zip(plain, asked, strict=True):
            assert after["label"] == ("unknown" if after["unknown"] else before["label"])
            assert (after["scores"], after["score"]) == (before["scores"], before["score"])

    def test_stands_in_the_table(self, cautious: tuple[Path, list[float]], images: list[Path]) -> None:
        assert "(unknown)" in run(cautious[0], *images, "--unknown").stdout
        assert "(unknown)" not in run(cautious[0], *images).stdout

    def test_is_refused_by_a_bundle_that_has_no_threshold(self, bundle: Path, images: list[Path]) -> None:
        error = run(bundle, images[0], "--unknown").exception
        assert isinstance(error, DataError)
        assert str(error) == f"'{bundle}' does not say when an image is unknown"
        assert error.hint


@pytest.mark.timeout(60)
def test_a_folder_stands_for_the_images_that_a_build_would_find_there(bundle: Path, images: list[Path]) -> None:
    """Links, loops, pipes and hidden names."""
    folder, outside = images[0].parent, images[0].parent.parent / "outside"
    outside.mkdir()
    images[0].rename(outside / "far.png")
    (folder / "linked").symlink_to(outside)
    (folder / "below" / "up").symlink_to(folder)
    (folder / "itself.png").symlink_to(folder / "itself.png")
    os.mkfifo(folder / "pipe.png")
    (folder / ".hidden").mkdir()
    shutil.copy(outside / "far.png", folder / ".hidden" / "x.png")
    result = run(bundle, folder, "--json")
    assert [Path(row["file"]).relative_to(folder).as_posix() for row in lines(result)] == [
        "b.PNG",
        "below/c.webp",
        "linked/far.png",
    ]
    assert isinstance(result.exception, DataError)
    assert "itself.png' does not exist" in str(result.exception)
