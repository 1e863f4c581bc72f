"""A collector under watch: counted, logged once, over again, and never a name that is masked."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import structlog
from structlog.testing import capture_logs

from agent.collect.local import ANSWER_WITHIN, LocalCollector
from agent.collect.mask import Mask
from agent.collectors import Collect, HostPaths, Sample, Trouble
from agent.system.events import Event

SAMPLES = [Sample("disk_used_bytes", 1.0, (("mountpoint", "/srv/acme"),))]
GONE = Trouble("mountpoint", "/srv/acme", "stale file handle")
HANGS = Trouble("mountpoint", "/net/acme", "it does not answer", stuck=True)


class Probe:
    """A collector whose runs report `troubles`, and raise `error` if it is set."""

    def __init__(self) -> None:
        self.troubles: list[Trouble] = []
        self.error: BaseException | None = None
        self.paths = HostPaths()

    def build(self, paths: HostPaths) -> Collect:
        self.paths = paths

        def collect(now: float) -> list[Sample]:
            for trouble in self.troubles:
                paths.report(trouble)
            if self.error:
                raise self.error
            return SAMPLES

        return collect

    def watched(self, mask: Mask | None = None, timeout: float = 5.0) -> LocalCollector:
        log = structlog.get_logger()
        return LocalCollector(
            "disk_usage", self.build, timeout, HostPaths("/p", "/s", "/r"), mask or Mask(), log
        )


@pytest.fixture
def probe() -> Probe:
    return Probe()


def logged(run: Callable[[], object]) -> list[tuple[str, str, str | None]]:
    """Event, level and the mount point of each line."""
    with capture_logs() as logs:
        run()
    return [(line["event"], line["log_level"], line.get("mountpoint")) for line in logs]


def test_it_is_built_with_the_hosts_paths_and_its_patience(probe: Probe) -> None:
    for timeout, patience in ((60.0, ANSWER_WITHIN), (1.0, 0.5)):
        assert probe.watched(timeout=timeout)(0.0) is SAMPLES
        assert probe.paths[:4] == ("/p", "/s", "/r", patience)


def test_a_trouble_is_counted_each_time_and_said_when_it_begins_and_ends(probe: Probe) -> None:
    watched = probe.watched()
    assert logged(lambda: watched(0.0)) == []
    probe.troubles = [GONE, GONE]
    assert logged(lambda: watched(1.0)) == [(Event.COLLECTOR_UNREADABLE, "warning", "/srv/acme")]
    assert logged(lambda: watched(2.0)) == []
    assert watched.unreadable == 2  # one a run
    assert watched.stuck == {}
    other = Trouble("file", "/proc/stat", "permission denied")
    probe.troubles = [GONE, other]
    with capture_logs() as logs:
        watched(3.0)
    assert logs == [
        {
            "event": "collector.unreadable",
            "log_level": "warning",
            "collector": "disk_usage",
            "file": "/proc/stat",
            "error": "permission denied",
        }
    ]
    probe.troubles = []
    assert logged(lambda: watched(4.0)) == [
        (Event.COLLECTOR_READABLE, "info", "/srv/acme"),
        (Event.COLLECTOR_READABLE, "info", None),
    ]
    assert (watched.unreadable, watched.troubles) == (4, {})


def test_what_the_user_may_not_read_is_said_once_and_counted_apart(probe: Probe) -> None:
    """As for a stick of another user: nobody has anything to fix."""
    watched = probe.watched()
    private = Trouble("mountpoint", "/media/anna/stick", "permission denied", denied=True)
    probe.troubles = [private, GONE]
    assert logged(lambda: watched(0.0)) == [
        (Event.COLLECTOR_DENIED, "info", "/media/anna/stick"),
        (Event.COLLECTOR_UNREADABLE, "warning", "/srv/acme"),
    ]
    assert (watched.unreadable, watched.denied) == (1, 1)
    probe.troubles = [private]
    assert logged(lambda: watched(1.0)) == [(Event.COLLECTOR_READABLE, "info", "/srv/acme")]
    for _ in range(10):
        assert logged(lambda: watched(2.0)) == []
    assert (watched.unreadable, watched.denied) == (1, 1)
    probe.troubles = []
    assert logged(lambda: watched(3.0)) == [(Event.COLLECTOR_READABLE, "info", "/media/anna/stick")]
    assert watched.denied == 0


def test_what_hangs_is_reported_with_the_time_since_when(probe: Probe) -> None:
    watched = probe.watched()
    probe.troubles = [HANGS]
    assert logged(lambda: watched(10.0)) == [(Event.COLLECTOR_STUCK, "warning", "/net/acme")]
    probe.troubles = [HANGS, GONE]
    watched(20.0)
    assert watched.stuck == {("mountpoint", "/net/acme"): 10.0}
    probe.troubles = [GONE]
    assert logged(lambda: watched(30.0)) == [(Event.COLLECTOR_READABLE, "info", "/net/acme")]
    assert watched.stuck == {}
    probe.troubles = [HANGS]
    watched(40.0)
    assert watched.stuck == {("mountpoint", "/net/acme"): 40.0}


def test_a_run_that_raises_counts_what_it_reported(probe: Probe) -> None:
    watched = probe.watched()
    probe.troubles, probe.error = [GONE], OSError(5, "Input/output error")
    with pytest.raises(OSError, match="Input/output"):
        watched(0.0)
    assert watched.unreadable == 1
    probe.troubles, probe.error = [], None
    assert logged(lambda: watched(1.0)) == [(Event.COLLECTOR_READABLE, "info", "/srv/acme")]


@pytest.mark.parametrize("leaving", [SystemExit(1), KeyboardInterrupt(), GeneratorExit()])
def test_a_run_that_wants_to_end_more_than_itself_fails_like_any_other(
    probe: Probe, leaving: BaseException
) -> None:
    probe.error = leaving
    with pytest.raises(RuntimeError, match=f"it raised {type(leaving).__name__}: {leaving}"):
        probe.watched()(0.0)


def test_no_masked_name_comes_out(probe: Probe) -> None:
    mask = Mask(["mountpoint"], b"key")
    hidden = {name: mask.value("mountpoint", name) for name in ("/srv/acme", "/net/acme")}
    watched = probe.watched(mask)
    probe.troubles = [GONE, HANGS, Trouble("device", "sda", "its line is not the kernel's")]
    with capture_logs() as logs:
        [sample] = watched(0.0)
    assert sample.labels == (("mountpoint", hidden["/srv/acme"]),)
    assert watched.stuck == {("mountpoint", hidden["/net/acme"]): 0.0}
    assert {trouble.name for trouble in watched.troubles.values()} == {*hidden.values(), "sda"}
    probe.troubles = []
    for error in (
        OSError(5, "Input/output error", "/srv/acme"),
        ValueError("/srv/acme"),
        SystemExit("/srv/acme"),
    ):
        probe.error = error
        with capture_logs() as more, pytest.raises(Exception) as caught:
            watched(1.0)
        assert "acme" not in f"{caught.value!r} {caught.value} {caught.value.__cause__} {logs} {more}"
        assert caught.value.__suppress_context__
