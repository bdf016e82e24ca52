"""What Prometheus reads of the samples."""

from __future__ import annotations

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from twisted.internet.task import Clock

from stickyproxy.control.metrics import Lag, exposition
from stickyproxy.control.metrics.families import FAMILIES
from stickyproxy.control.metrics.lag import PERIOD

OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"


def everything() -> list[dict[str, object]]:
    """A sample of every family; a name with all that is hard to write."""
    odd = 'a"b\\c\nd'
    return [
        family.told(
            [
                (
                    tuple(odd for _ in family.labels),
                    [1] * (len(family.bounds) + 1) + [2.5] if family.bounds else 7,
                )
            ]
        )
        for family in FAMILIES.values()
    ]


def test_both_formats_have_everything() -> None:
    """Whatever Prometheus asks for, it reads every family with its type, labels and values."""
    for accept, parse, kind in (("", parse_text, "text/plain"), (OPENMETRICS, parse_openmetrics, "application/openm")):
        page, content_type = exposition(everything(), accept)
        assert content_type.startswith(kind)
        read = {family.name.removesuffix("_total"): family for family in parse(page.decode())}
        assert read.keys() == {name.removesuffix("_total") for name in FAMILIES}
        for name, family in FAMILIES.items():
            told = read[name.removesuffix("_total")]
            assert (told.type, told.documentation) == (family.kind, family.meaning)
            for sample in told.samples:
                assert {key: value for key, value in sample.labels.items() if key != "le"} == dict.fromkeys(
                    family.labels, 'a"b\\c\nd'
                )
            assert family.bounds or [sample.value for sample in told.samples] == [7]


def test_buckets_are_cumulative() -> None:
    """A histogram is written as Prometheus wants it: each bucket with those below, and the count beside the sum."""
    family = FAMILIES["stickyproxy_request_duration_seconds"]
    counts = list(range(len(family.bounds) + 1))
    page, _ = exposition([family.told([(("app",), [*counts, 12.5])])])
    (read,) = parse_text(page.decode())
    values = {(sample.name, sample.labels.get("le")): sample.value for sample in read.samples}
    assert values[f"{family.name}_bucket", "0.001"] == 0
    assert values[f"{family.name}_bucket", "0.005"] == 0 + 1 + 2
    assert values[f"{family.name}_bucket", "+Inf"] == sum(counts) == values[f"{family.name}_count", None]
    assert values[f"{family.name}_sum", None] == 12.5


def test_lag() -> None:
    """A loop that was held up by 0.7 seconds says so, once."""
    clock = Clock()
    lag = Lag(clock)
    lag.startService()
    clock.advance(PERIOD)
    assert (lag.last, sum(lag.buckets[:-1])) == (0.0, 1)
    clock.advance(PERIOD + 0.7)
    assert round(lag.last, 6) == 0.7
    assert round(lag.buckets[-1], 6) == 0.7
    assert lag.buckets[9] == 1  # from 0.5 to 1 s
    lag.stopService()
    assert not clock.getDelayedCalls()
