"""Counters and histograms of our own say what those of Prometheus' client say."""

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram

from millrace.streams.series import Distribution, Totals

BOUNDS = (0.05, 0.5, 1, 2.5)


def page(registry: CollectorRegistry) -> set[tuple[str, tuple[tuple[str, str], ...], float]]:
    """All samples, but when each series began."""
    return {
        (sample.name, tuple(sorted(sample.labels.items())), round(sample.value, 9))
        for family in registry.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b"]),
            st.one_of(st.sampled_from(BOUNDS), st.floats(min_value=0, max_value=9)),
        )
    )
)
def test_they_count_as_prometheus_does(values: list[tuple[str, float]]) -> None:
    """Also at the bounds of buckets."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    totals = Totals("spent", "Spent.", ("model",), registry=ours)
    counter = Counter("spent", "Spent.", ("model",), registry=theirs)
    distribution = Distribution("took", "Took.", ("model",), bounds=BOUNDS, registry=ours)
    histogram = Histogram("took", "Took.", ("model",), buckets=BOUNDS, registry=theirs)
    for model, value in values:
        totals.add((model,), value)
        counter.labels(model).inc(value)
        distribution.observe((model,), value)
        histogram.labels(model).observe(value)

    assert page(ours) == page(theirs)


def test_what_was_not_counted_yet_is_named() -> None:
    """So that whoever looks for a series finds that it exists."""
    registry = CollectorRegistry()
    Totals("spent", "Spent.", ("model",), registry=registry)
    Distribution("took", "Took.", (), bounds=BOUNDS, registry=registry)

    assert [family.name for family in registry.collect()] == ["spent", "took"]
