"""edgec's own calibration and quantisation, as a build does them; MODEL and IMAGES as its stages left them.

IMAGES is the folder of the stage `data`, METHOD a JSON object: the config's path, and settings by dotted name.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from runner import Job, run

from edgec import __version__
from edgec.core.files import write_bytes
from edgec.core.progress import Silent
from edgec.pipeline.accelerator import Accelerator
from edgec.pipeline.config import read_config
from edgec.pipeline.plan import plan_build
from edgec.pipeline.sources import Sources
from edgec.pipeline.stages import calibrate, data, quantize


def main() -> None:
    run(quantise, version=f"edgec {__version__}")


def quantise(job: Job) -> None:
    asked = json.loads(job.method)
    plan = plan_build(read_config(Path(asked["config"]), list(asked["settings"].items())), accelerator=Accelerator.CPU)
    sources, images = Sources(plan, Silent()), data.read(job.images, plan)
    with tempfile.TemporaryDirectory() as folder:
        calibrate.run(sources, Path(folder), images=images, model=job.model)
        ranges = Path(folder) / calibrate.RANGES
        quantize.run(sources, Path(folder), images=images, model=job.model, ranges=ranges)
        write_bytes(job.output, (Path(folder) / quantize.MODEL).read_bytes())


if __name__ == "__main__":
    main()
