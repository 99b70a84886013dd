"""Counters and histograms for Prometheus whose counting costs next to nothing.

A series of `prometheus_client` takes a lock and four calls for each increment, and a model call
makes ten. Everything here is counted by one thread, the event loop's, into a dict; what Prometheus
reads is made when it asks.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

Labels = tuple[str | None, ...]
"""The values of a series' labels, in the order of their names."""


class Totals:
    """A counter; `<name>_total` for each set of labels that was counted."""

    def __init__(
        self, name: str, says: str, labels: Sequence[str], *, registry: CollectorRegistry
    ) -> None:
        self._name = name
        self._says = says
        self._labels = tuple(labels)
        self._totals: dict[Labels, float] = {}
        registry.register(self)

    def add(self, labels: Labels, amount: float = 1.0) -> None:
        """Count so much more."""
        self._totals[labels] = self._totals.get(labels, 0.0) + amount

    def collect(self) -> Iterator[Metric]:
        """Tell the totals."""
        family = CounterMetricFamily(self._name, self._says, labels=self._labels)
        for labels, total in list(self._totals.items()):
            family.add_metric(list(map(str, labels)), total)
        yield family


class Distribution:
    """A histogram; buckets, sum and count for each set of labels that was observed."""

    def __init__(
        self,
        name: str,
        says: str,
        labels: Sequence[str],
        *,
        bounds: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self._name = name
        self._says = says
        self._labels = tuple(labels)
        self._bounds = tuple(bounds)
        self._titles = [*map(str, map(float, bounds)), "+Inf"]
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}
        registry.register(self)

    def observe(self, labels: Labels, value: float) -> None:
        """Take in a value; a bucket holds what is no greater than its bound."""
        counts = self._counts.get(labels)
        if counts is None:
            counts = self._counts[labels] = [0] * len(self._titles)
            self._sums[labels] = 0.0
        counts[bisect_left(self._bounds, value)] += 1
        self._sums[labels] += value

    def collect(self) -> Iterator[Metric]:
        """Tell how values are distributed."""
        family = HistogramMetricFamily(self._name, self._says, labels=self._labels)
        for labels, counts in list(self._counts.items()):
            buckets = list(zip(self._titles, accumulate(counts), strict=True))
            family.add_metric(list(map(str, labels)), buckets, self._sums[labels])
        yield family
