"""What has happened reaches all who want to know it, by the batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from stickyproxy.config.logs import AccessLog as Spec
from stickyproxy.config.tracing import OpenTelemetry
from stickyproxy.model import Entry, HTTPEntry, RelayEntry, Trace
from stickyproxy.recording import BATCH, Recorder, Recording

REQUEST = HTTPEntry("192.0.2.7", None, 200, 0, 0.0, 0.0)
RELAY = RelayEntry("192.0.2.7", "tcp", 1, 2, 0.0, 0.5)


def test_entries_are_told_each_second() -> None:
    """What happened is known a second later, and where nothing happens nobody is woken."""
    clock, told = Clock(), list[Sequence[Entry]]()
    recorder = Recorder([told.append], clock)
    recorder.startService()
    assert clock.getDelayedCalls() == []
    recorder.record(REQUEST)
    recorder.record(RELAY)
    clock.advance(0.5)
    assert told == []
    clock.advance(0.5)
    assert told == [[REQUEST, RELAY]]
    assert clock.getDelayedCalls() == []


def test_a_full_batch_is_told_at_once() -> None:
    """Under load, entries do not pile up until the second is over."""
    clock, told = Clock(), list[Sequence[Entry]]()
    recorder = Recorder([told.append], clock)
    recorder.startService()
    for _ in range(BATCH + 1):
        recorder.record(REQUEST)
    assert [len(batch) for batch in told] == [BATCH]
    assert len(clock.getDelayedCalls()) == 1
    clock.advance(1)
    assert [len(batch) for batch in told] == [BATCH, 1]


def test_entries_after_the_stop_are_told() -> None:
    """A tunnel that ends while the proxy shuts down is told of, too."""
    clock, told = Clock(), list[Sequence[Entry]]()
    recorder = Recorder([told.append], clock)
    recorder.startService()
    recorder.record(REQUEST)
    recorder.stopService()
    recorder.record(RELAY)
    assert told == [[REQUEST], [RELAY]]
    assert clock.getDelayedCalls() == []


def test_who_fails_silences_nobody() -> None:
    """A defect in one of several who are told is logged, and the others are told all the same."""
    told = list[Sequence[Entry]]()
    recorder = Recorder([lambda entries: 1 // 0, told.append], Clock())
    with capturedLogs() as events:
        recorder.record(REQUEST)
    assert told == [[REQUEST]]
    assert [event["log_level"].name for event in events] == ["critical"]


def test_frontends_of_one_log_share_a_file(tmp_path: Path) -> None:
    """Frontends with the same access log write one file, each batch once, and who takes all gets everything."""
    told, path = list[Sequence[Entry]](), tmp_path / "access.log"
    recording = Recording(Clock(), [told.append])
    records = [recording.record(spec) for spec in (Spec(str(path)), Spec(str(path)), None)]
    recording.startService()
    for record in records:
        assert record is not None
        record(REQUEST)
    recording.flush()
    assert path.read_text().count("\n") == 2
    assert sorted(map(len, told)) == [1, 2]
    recording.stopService()


def test_nobody_wants_to_know() -> None:
    """Without a log, metrics and traces a frontend records nothing."""
    assert Recording(Clock()).record(None) is None


def test_all_logs_are_opened_again(tmp_path: Path) -> None:
    """After the files have been moved away, every log goes on in a new one, and nothing is lost."""
    recording, paths = Recording(Clock()), [tmp_path / "a.log", tmp_path / "b.log"]
    records = [recording.record(Spec(str(path))) for path in paths]
    recording.startService()
    for record, path in zip(records, paths, strict=True):
        assert record is not None
        record(REQUEST)
        path.rename(path.with_suffix(".1"))
    recording.reopen()
    for record in records:
        assert record is not None
        record(REQUEST)
    recording.stopService()
    assert [path.read_text().count("\n") for path in paths] == [1, 1]
    assert [path.with_suffix(".1").read_text().count("\n") for path in paths] == [1, 1]


def test_spans_come_and_go_with_a_reload() -> None:
    """A reload that turns spans on has them sent from then on, one that leaves them changes nothing, and off is off."""
    recording, table = Recording(Clock()), OpenTelemetry()
    assert recording.spans_of(None) is None
    spans = recording.spans_of(table)
    assert spans is not None
    record = recording.record(None, wanted=True)
    recording.use_spans(spans)
    assert record is not None and recording.spans_of(OpenTelemetry()) is spans
    told = list[Sequence[Entry]]()
    spans._processor = type("Processor", (), {"on_end": lambda self, span: told.append(span)})()
    traced = REQUEST._replace(trace=Trace("ab" * 16, "cd" * 8))
    record(traced)
    assert len(told) == 1
    other = recording.spans_of(OpenTelemetry(service="other"))
    assert other is not None and other is not spans
    recording.use_spans(None)
    record(traced)
    assert len(told) == 1
