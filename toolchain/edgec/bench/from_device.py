"""What `edgec bench --json` told on a device, as rows that gates are held against."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgec.bench.latency import Latency, latency_measurements
from edgec.bench.repeats import Repeated
from edgec.core.errors import DataError
from edgec.core.measurement import Machine, Measurement

__all__ = ["Benched", "parse_bench"]


class _BatchRecord(BaseModel):
    model_config = ConfigDict(frozen=True)

    batch: int = Field(ge=1)
    latency: Latency
    energy_j: Repeated | None = None


class Benched(BaseModel):
    """The fields that gates ask for; further ones are for people.

    Attributes:
        digest: Of the bundle that ran.
        where: The machine.
        memory_mb: The most that a fresh process holds that runs one image.
    """

    model_config = ConfigDict(frozen=True)

    digest: str
    where: str
    memory_mb: Repeated
    batches: tuple[_BatchRecord, ...]

    def measurements(self) -> Iterator[Measurement]:
        """Latency and energy of one image at a time, and memory; whoever hands them over says that it is the target.

        Raises:
            DataError: Single images were not measured.
        """
        single = next((record for record in self.batches if record.batch == 1), None)
        if single is None:
            raise DataError("the measurement holds no batch of 1 image", hint="edgec bench BUNDLE --batch 1 --json")
        yield from latency_measurements(single.latency, where=self.where, machine=Machine.TARGET)
        common = {"where": self.where, "machine": Machine.TARGET}
        yield self.memory_mb.measurement("peak_memory_mb", "MB", **common)
        if single.energy_j is not None:
            yield single.energy_j.measurement("energy_j", "J", **common)


def parse_bench(data: bytes, *, where: str) -> Benched:
    """Reads what `edgec bench --json` printed.

    Raises:
        DataError: It is not that.
    """
    try:
        return Benched.model_validate_json(data)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        field = ".".join(map(str, fault["loc"]))
        message = f"'{where}' is not what edgec bench --json prints: {field or 'JSON'}: {fault['msg']}"
        raise DataError(message, hint="edgec bench BUNDLE --json > bench.json") from error
