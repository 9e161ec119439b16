"""A candidate of a search, and which of many matter: the front, and the one to build."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field, field_validator

from edgec.core.frozen import Frozen
from edgec.tuning.space import Value, is_varied

__all__ = ["Candidate", "Found", "Tuned", "front", "hypervolume", "nearest", "winner"]

Share = Annotated[float, Field(ge=0, le=1)]


class Found(Frozen):
    """What was found of a candidate.

    Attributes:
        agreement: Share of its images on which each class agrees with the teacher.
        images: How many they are.
        latency_ms: Of one image.
        latency_share: Of what the teacher takes.
        size_bytes: Of the file that ships.
    """

    agreement: Annotated[Mapping[str, Share], Field(min_length=1)]
    images: int = Field(ge=1)
    latency_ms: float = Field(gt=0, allow_inf_nan=False)
    latency_share: float = Field(gt=0, allow_inf_nan=False)
    size_bytes: int = Field(ge=0)

    @property
    def worst(self) -> tuple[str, float]:
        """The class that agrees least, and its share."""
        return min(self.agreement.items(), key=lambda item: item[1])

    @property
    def quality(self) -> float:
        """What a search raises: the worst class's agreement."""
        return self.worst[1]


class Candidate(Frozen):
    """One build of a search, as far as it was made.

    Attributes:
        number: From 0, which is the config's own settings.
        settings: What it sets, by dotted name.
        seconds: How long it took.
        found: None where it could not be built.
        error: Why it could not.
    """

    number: int = Field(ge=0)
    settings: Mapping[str, Value]
    seconds: float = 0.0
    found: Found | None = None
    error: str | None = None

    @field_validator("settings")
    @classmethod
    def _may_be_varied(cls, settings: Mapping[str, Value]) -> Mapping[str, Value]:
        """A file from elsewhere names no model and no images."""
        for name in settings:
            if not is_varied(name):
                raise ValueError(f"'{name}' is no setting that a search varies")
        return settings

    @property
    def title(self) -> str:
        """What it sets, for people: `keep_flops 0.3, variant ours`."""
        told = ", ".join(f"{name.rpartition('.')[2]} {value}" for name, value in self.settings.items())
        return told or "the config's own settings"


class Tuned(Frozen):
    """A search, as far as it went; the file `tune.json`.

    Attributes:
        name: Of the build.
        target: The device's name.
        title: The device's title.
        identity: Digest of what all candidates have in common: a search goes on from no other.
        timed: Whether latencies are predicted or measured.
        timed_on: The machine on which they are measured.
        judged_on: `validation images`, or `views`: the few samples, strongly changed.
        machine: What the search ran on.
        edgec: The version that ran it.
        agreement: On what share of its images every class is to agree; None for as often as in candidate 0.
        candidates: In the order in which they were tried.
        chosen: The number of the candidate that was built; None where none is good enough, or not yet.
    """

    name: str
    target: str
    title: str
    identity: str
    timed: Literal["predicted", "measured"]
    timed_on: str | None = None
    judged_on: Literal["validation images", "views"] = "views"
    machine: str
    edgec: str
    agreement: Share | None
    candidates: tuple[Candidate, ...] = ()
    chosen: int | None = None

    @field_validator("candidates")
    @classmethod
    def _in_order(cls, candidates: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
        if [each.number for each in candidates] != list(range(len(candidates))):
            raise ValueError("the candidates' numbers are not 0, 1, 2 and so on")
        return candidates

    @property
    def required(self) -> float | None:
        """On what share of its images every class is to agree with the teacher; None where nothing says it.

        That is where candidate 0 is to say it and could not be built.
        """
        if self.agreement is not None:
            return self.agreement
        own = self.candidates[0].found if self.candidates else None
        return own and own.quality

    @property
    def built(self) -> list[tuple[Candidate, Found]]:
        """The candidates that could be built."""
        return [(each, each.found) for each in self.candidates if each.found is not None]


def front(tuned: Tuned) -> list[Candidate]:
    """The candidates that none beats, fastest first; of equal ones, the first that was tried."""
    best, highest = list[Candidate](), -1.0
    for each, found in sorted(tuned.built, key=lambda pair: (pair[1].latency_share, -pair[1].quality)):
        if found.quality > highest:
            best.append(each)
            highest = found.quality
    return best


def winner(tuned: Tuned) -> Candidate | None:
    """The fastest candidate in which every class agrees often enough; None where none is, or nothing says it."""
    required = tuned.required
    if required is None:
        return None
    enough = [each for each in front(tuned) if each.found and each.found.quality >= required]
    return enough[0] if enough else None


def nearest(tuned: Tuned) -> Candidate | None:
    """The candidate whose worst class agrees most; None where none could be built."""
    best = front(tuned)
    return best[-1] if best else None


def hypervolume(points: Sequence[Found], *, share: float = 1.0) -> float:
    """The area that candidates cover, from no agreement and the teacher's latency: larger is better.

    Args:
        points: Candidates; those slower than `share` cover nothing.
        share: Of the teacher's latency.
    """
    covered, best = 0.0, 0.0
    inside = sorted((found.latency_share, -found.quality) for found in points if found.latency_share < share)
    for at, negative in inside:
        if -negative > best:
            covered += (share - at) * (-negative - best)
            best = -negative
    return covered
