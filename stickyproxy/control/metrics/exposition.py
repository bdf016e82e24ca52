"""Samples in the formats that Prometheus reads, by its own client library. Floor 5.

The text format 0.0.4 (https://prometheus.io/docs/instrumenting/exposition_formats/), and OpenMetrics 1.0 for who
accepts that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.utils import floatToGoString

from stickyproxy.control.metrics.families import Told


def exposition(samples: Sequence[Told], accept: str = "") -> tuple[bytes, str]:
    """``samples`` written for a client whose Accept field is ``accept``; and the value of Content-Type for them."""
    encode, content_type = choose_encoder(accept)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Telling(samples))
    return encode(registry), content_type


class _Telling(Collector):
    def __init__(self, samples: Sequence[Told]) -> None:
        self._samples = samples

    def describe(self) -> Iterable[Metric]:
        """Nothing: what is collected would be, to be compared with that of others, of which there are none."""
        return ()

    def collect(self) -> Iterator[Metric]:
        return map(_metric, self._samples)


def _metric(told: Told) -> Metric:
    if told["type"] == "histogram":
        return _histogram(told)
    kind = CounterMetricFamily if told["type"] == "counter" else GaugeMetricFamily
    family = kind(told["name"], told["help"], labels=told["labels"])
    for values, value in told["samples"]:
        family.add_metric(values, value)
    return family


def _histogram(told: Told) -> Metric:
    family = HistogramMetricFamily(told["name"], told["help"], labels=told["labels"])
    ends = [*map(floatToGoString, told["bounds"]), "+Inf"]
    for values, (*counts, total) in told["samples"]:
        below, buckets = 0, []
        for end, count in zip(ends, counts, strict=True):
            below += count
            buckets.append((end, below))
        family.add_metric(values, buckets, total)
    return family
