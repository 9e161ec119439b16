"""How far OOD images are from the few samples to the teacher, as they are and restyled: nothing is trained.

    python benchmarks/gaps.py [digits cifar10-resnet20 …] [--samples 50 10] [--seeds 0 1 2 3 4]

In nat, as `compress.oefsmc.ood = "auto"` measures them. First: python benchmarks/unpack_mosaics.py, then
train_trashnet.py and train_fashion.py for those.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from edgec.compress.domain import domain_gap
from edgec.compress.restyle import restyled
from edgec.core.progress import Silent
from edgec.core.samples import Images
from edgec.models.infer import to_tensor
from edgec.pipeline.accelerator import Accelerator
from edgec.pipeline.config import read_config
from edgec.pipeline.plan import plan_build
from edgec.pipeline.sources import Sources
from edgec.pipeline.stages import data
from rows import Row, arguments, over_seeds, show

CONFIGS = Path(__file__).parent / "configs"
SETS = ("digits", "cifar10-resnet20", "trashnet-resnet20", "fashion-resnet8")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("configs", nargs="*", default=SETS, help="names in benchmarks/configs, or digits")
    parser.add_argument("--samples", nargs="+", type=int, default=[50, 10])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    given = parser.parse_args()
    rows: list[Row] = []
    for config in given.configs:
        for samples in given.samples:
            seeds = given.seeds[: 1 if given.quick else None]
            pairs = {seed: gaps(config, samples, seed) for seed in seeds}
            title = f"{config}: {samples} samples"
            rows.append(over_seeds(f"{title}: as they are", "nat", {seed: pair[0] for seed, pair in pairs.items()}))
            rows.append(over_seeds(f"{title}: restyled", "nat", {seed: pair[1] for seed, pair in pairs.items()}))
    show(rows, as_json=given.json, output=given.output)


def gaps(config: str, samples: int, seed: int) -> tuple[float, float]:
    """Of the OOD images as they are, and restyled."""
    path = None if config == "digits" else CONFIGS / f"{config}.toml"
    plan = plan_build(read_config(path, [("data.few.total", samples), ("seed", seed)]), accelerator=Accelerator.AUTO)
    sources = Sources(plan, Silent())
    with tempfile.TemporaryDirectory() as folder:
        data.run(sources, Path(folder))
        images = data.read(Path(folder), sources.plan)
    teacher = sources.classifier
    near = to_tensor(images.few.decoded(), teacher.input)

    def gap(pool: Images) -> float:
        return domain_gap(teacher.module, near, to_tensor(pool.decoded(), teacher.input), fabric=sources.fabric)

    return gap(images.ood), gap(restyled(images.ood, images.few))


if __name__ == "__main__":
    main()
