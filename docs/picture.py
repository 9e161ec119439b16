"""The picture in README.md: the classes of a report page, as Chromium draws them.

edgec build --target jetson
python docs/picture.py build/digits-jetson-orin-nano-8gb/report.html
"""

from __future__ import annotations

import base64
import io
import sys
import tempfile
from pathlib import Path

import click
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests"))

from support.chromium import open_chromium  # noqa: E402

WIDTH = 1280
MARGIN = 24
PICTURE = ROOT / "docs" / "images" / "report.png"
_PLACE = f"""(() => {{
    const section = document.getElementById("classes");
    const top = section.getBoundingClientRect().top + scrollY - {MARGIN};
    const bottom = section.querySelector("details").getBoundingClientRect().top + scrollY;
    return {{x: 0, y: top, width: {WIDTH}, height: bottom - top, scale: 1}};
}})()"""


@click.command()
@click.argument("page", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), default=PICTURE, help="Default: docs/images/report.png.")
def main(page: Path, output: Path) -> None:
    """Write the plot of all classes of PAGE as a PNG file, 1280 pixels wide."""
    with tempfile.TemporaryDirectory() as profile, open_chromium(Path(profile)) as tab:
        tab.call("Emulation.setDeviceMetricsOverride", width=WIDTH, height=900, deviceScaleFactor=1, mobile=False)
        tab.open(page)
        shot = tab.call("Page.captureScreenshot", clip=tab.value(_PLACE), captureBeyondViewport=True)
    picture = Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")
    picture.save(output, optimize=True)
    click.echo(f"{output}: {picture.width} × {picture.height}, {output.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
