"""What a server counts, in Prometheus' text format: requests, time, queue, predicted classes and their drift."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector

from edgec.serve.drift import ClassMix, Drift

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = CONTENT_TYPE_LATEST
_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """A server's own registry.

    Args:
        depth: Gives the number of requests that wait.
        window: Images over which drift is told.
    """

    def __init__(self, *, depth: Callable[[], int], window: int) -> None:
        self._registry = CollectorRegistry()
        self._window = window
        self._drift: Drift | None = None
        registry = self._registry
        self._requests = Counter(
            "edgec_requests", "Requests by route and status.", ("route", "status"), registry=registry
        )
        self._seconds = Histogram(
            "edgec_request_seconds",
            "From the request's headers to its answer.",
            ("route",),
            buckets=_BUCKETS_S,
            registry=registry,
        )
        self._predicted = Counter("edgec_predicted", "Images by predicted class.", ("label",), registry=registry)
        self._loads = Counter("edgec_loads", "Versions that were loaded, by outcome.", ("outcome",), registry=registry)
        self._model = Gauge(
            "edgec_model_info", "The version that answers.", ("name", "version", "engine"), registry=registry
        )
        Gauge("edgec_queue_depth", "Requests that wait for a worker.", registry=registry).set_function(depth)
        ProcessCollector(registry=self._registry)
        self._registry.register(self)  # pyright: ignore[reportArgumentType]  # it has `collect`, which is all that is asked
        self._by_class: list[Counter] = []
        self._members: Sequence[str] = ()
        self._answers: Mapping[int, int] = {}
        self._before: Mapping[int, int] = {}

    def switched(
        self,
        *,
        name: str,
        version: str,
        engine: str,
        labels: tuple[str, ...],
        mix: ClassMix | None,
        members: Sequence[str],
        answers: Mapping[int, int],
    ) -> None:
        """Another version answers from now on; its drift begins anew.

        Args:
            name: What clients call it.
            version: First digits of the bundle's digest.
            engine: What runs it.
            labels: Its classes.
            mix: Those that are expected of it.
            members: Of a deck, its members' names.
            answers: How many images each of them answered, by its position; it grows as they answer.
        """
        self._model.clear()
        self._model.labels(name, version, engine).set(1)
        self._by_class = [self._predicted.labels(label) for label in labels]
        self._drift = None if mix is None else Drift(mix, window=self._window)
        self._members, self._answers, self._before = members, answers, dict(answers)
        self._loads.labels("switched").inc()

    def refused(self) -> None:
        """A version was not taken: it is damaged, or answers differently here."""
        self._loads.labels("refused").inc()

    def request(self, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(route, status).inc()
        self._seconds.labels(route).observe(seconds)

    def predicted(self, classes: np.ndarray) -> None:
        """Images were classified, int [n]; of another version's classes those beyond are passed over."""
        found = [index for index in classes.tolist() if index < len(self._by_class)]
        for index in found:
            self._by_class[index].inc()
        if self._drift is not None:
            self._drift.add(index for index in found if index < len(self._drift.expected.counts))

    def collect(self) -> Iterator[Metric]:
        """Drift and a deck's answers, worked out when they are asked for."""
        if self._members:
            yield self._answered()
        drift = self._drift
        if drift is None:
            return
        of = f"the last images' predicted classes against the {drift.expected.of}"
        figures = {
            "edgec_class_drift_bits": (f"Jensen-Shannon divergence of {of}, 0 to 1.", drift.bits),
            "edgec_class_drift_by_chance_bits": ("What it exceeds by chance 1 time in 20.", drift.by_chance),
            "edgec_class_drift_images": ("Images in that window.", drift.images),
        }
        for name, (text, value) in figures.items():
            yield GaugeMetricFamily(name, text, value=value)

    def _answered(self) -> Metric:
        """Images that each member of a deck answered since the version is the current one."""
        found = CounterMetricFamily("edgec_deck_answers", "Images by the member that answered.", labels=["member"])
        for position, name in enumerate(self._members):
            found.add_metric([name], self._answers.get(position, 0) - self._before.get(position, 0))
        return found

    def text(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self._registry)
