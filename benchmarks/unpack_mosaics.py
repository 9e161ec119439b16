"""Unpacks the image mosaics of EDGEC_DATA into `.npz` files that `edgec build --train … --test … --ood …` takes.

A mosaic is one WebP file with square tiles in row-major order; `labels.npz` beside it holds labels and names.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from edgec.core.errors import DataError, EdgecError
from edgec.core.files import require_writable, write_bytes

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, kw_only=True)
class Mosaic:
    """One file of tiles, and where its labels stand in `labels.npz`."""

    file: str
    side: int
    labels: str
    names: str | None
    left_out: str | None = None
    """Marks tiles that are not unpacked."""


MOSAICS = {
    "cifar10_train.npz": Mosaic(file="cifar10_train10k.webp", side=32, labels="train_y", names="cifar10_names"),
    "cifar10_test.npz": Mosaic(file="cifar10_test.webp", side=32, labels="test_y", names="cifar10_names"),
    # Images only, as OOD images are, and none of the classes that resemble one of CIFAR-10.
    "cifar100_ood.npz": Mosaic(file="cifar100_ood2500.webp", side=32, labels="ood_y", names=None, left_out="ood_near"),
    "trashnet64.npz": Mosaic(file="trashnet64.webp", side=64, labels="trash_y", names="trash_names"),
}


def main() -> int:
    """Unpacks what is not there yet; prints the path of every file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", nargs="?", type=Path, default=HERE / "data", help="where the .npz files go")
    folder = parser.parse_args().folder
    data = Path(os.environ.get("EDGEC_DATA") or HERE.parents[1] / "shared" / "data")
    try:
        for path in unpack(data, folder):
            print(path)
    except EdgecError as error:
        print(f"error: {error}\nhint: {error.hint}", file=sys.stderr)
        return error.exit_code
    return 0


def unpack(data: Path, folder: Path) -> list[Path]:
    """Writes every `.npz` that is missing; one that is there is whole, as it is renamed into place.

    Args:
        data: Holds the mosaics and `labels.npz`.
        folder: Gets the `.npz` files.

    Returns:
        All the files, old and new.

    Raises:
        DataError: A mosaic is missing or too small for its labels.
        ConfigError: The folder cannot be written to.
    """
    paths = [folder / name for name in MOSAICS]
    require_writable(paths[0])
    for path in paths:
        if not path.exists():
            write_bytes(path, _packed(MOSAICS[path.name], data))
    return paths


def _packed(mosaic: Mosaic, data: Path) -> bytes:
    """An uncompressed `.npz`: read as fast as the disk, and the same bytes every time."""
    with np.load(_present(data / "labels.npz"), allow_pickle=False) as stored:
        labels = stored[mosaic.labels]
        keep = ~stored[mosaic.left_out] if mosaic.left_out else np.ones(len(labels), dtype=bool)
        names = stored[mosaic.names] if mosaic.names else None
    images = tiles(_present(data / mosaic.file), count=len(labels), side=mosaic.side)[keep]
    buffer = io.BytesIO()
    if names is None:
        np.savez(buffer, images=images)
    else:
        np.savez(buffer, images=images, labels=labels[keep].astype(np.int64), names=names)
    return buffer.getvalue()


def _present(path: Path) -> Path:
    if not path.is_file():
        raise DataError(f"'{path}' does not exist", hint="set EDGEC_DATA to the folder that holds the mosaics")
    return path


def tiles(path: Path, *, count: int, side: int) -> np.ndarray:
    """The first tiles of a mosaic, uint8 [count, side, side, 3].

    Raises:
        DataError: It has fewer.
    """
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    rows, columns = pixels.shape[0] // side, pixels.shape[1] // side
    if rows * columns < count:
        raise DataError(f"'{path}' has {rows * columns} tiles, {count} have a label", hint="fetch the file again")
    cut = pixels[: rows * side, : columns * side].reshape(rows, side, columns, side, 3)
    return cut.swapaxes(1, 2).reshape(-1, side, side, 3)[:count]


if __name__ == "__main__":
    sys.exit(main())
