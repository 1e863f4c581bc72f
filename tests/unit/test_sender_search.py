"""The search for culprits over ticks that are relabeled: which samples are sent, and which go into the quarantine."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.destinations.base import Age, Outcome, Verdict
from agent.destinations.remote_write.encode import Encoder
from agent.destinations.remote_write.encode1 import Encoder1
from agent.destinations.remote_write.encode2 import Encoder2
from agent.send.culprits import Search
from buffer.model import Instant, Series, Tick
from tests.support import wire

DELIVERED = Outcome(Verdict.DELIVERED, 204)
REFUSED = Outcome(Verdict.REJECTED, 400, "HTTP 400: label value too long")
OLD = Outcome(Verdict.REJECTED, 400, "HTTP 400: out of bounds", age=Age.WINDOW)
BOOTED, NOW = 1_750_000_000_000, 1_750_003_600_000


def series(name: str, **labels: str) -> Series:
    return Series(name, tuple(sorted(labels.items())), "counter", "bytes", f"The {name}.")


def tick(at: int, *columns: Series, group: str = "net") -> Tick:
    return Tick(
        Instant(at, at - BOOTED, "boot"), group, columns, [float(at - NOW + i) for i in range(len(columns))]
    )


def keep(labels: Mapping[str, str]) -> dict[str, str] | None:
    """Drops the series `gone`, and the label `core` of all others."""
    if labels["__name__"] == "gone":
        return None
    return {name: value for name, value in labels.items() if name != "core"}


GOOD, BAD, GONE = series("good"), series("bad"), series("gone")


Receiver = Callable[[wire.Write], Outcome]


def refuses(name: str) -> Receiver:
    return lambda write: (
        REFUSED if name in {dict(one.labels)["__name__"] for one in write.series} else DELIVERED
    )


def refuses_before(time: int) -> Receiver:
    return lambda write: OLD if any(one.samples[0][0] < time for one in write.series) else DELIVERED


def settle(
    encoder: Encoder, ticks: list[Tick], version: wire.Version, receiver: Receiver
) -> tuple[Search, list[wire.Write]]:
    """Let a receiver answer until all is settled. Each request has samples exactly as the whole batch has them."""
    first = wire.decode_message(encoder.encode(ticks).body, version)
    whole, taken = cells(first), list[wire.Write]()
    search = Search(ticks, encoder.labels, receiver(first))
    while asked := search.ask():
        encoded = encoder.encode(asked)
        assert (encoded.repeated, encoded.relabeled) == (0, 0)
        write = wire.decode_message(encoded.body, version)
        assert cells(write).items() <= whole.items()
        answer = receiver(write)
        if answer is DELIVERED:
            taken.append(write)
        search.hear(answer)
    return search, taken


def cells(write: wire.Write) -> dict[tuple[wire.Labels, int], tuple[float, int]]:
    """Value and start of each sample."""
    return {
        (one.labels, at): (value, start)
        for one in write.series
        for (at, value), start in zip(one.samples, one.starts or [0] * len(one.samples), strict=True)
    }


ENCODERS: dict[wire.Version, Encoder] = {
    "1.0": Encoder1(keep),
    "2.0": Encoder2(keep, from_boot=frozenset({"net"})),
}
both = pytest.mark.parametrize("version", ENCODERS)


@both
def test_what_is_relabeled_away_is_neither_asked_about_nor_a_culprit(version: wire.Version) -> None:
    ticks = [tick(NOW + at, GONE, GOOD, BAD, GONE._replace(labels=(("x", "y"),))) for at in (0, 10)]
    search, taken = settle(ENCODERS[version], ticks, version, refuses("bad"))
    assert {dict(one.labels)["__name__"] for write in taken for one in write.series} == {"good"}
    assert search.delivered == 2
    [culprits] = search.culprits()
    assert culprits.samples == 2
    assert [one.series for one in culprits.ticks] == [(BAD,), (BAD,)]
    assert [one.values for one in culprits.ticks] == [[2.0], [12.0]]
    assert [one.at for one in culprits.ticks] == [one.at for one in ticks]
    assert search.learned() == ({ENCODERS[version].labels(BAD): REFUSED}, {})


@both
def test_of_series_that_relabeling_made_one_all_are_culprits_as_they_came(version: wire.Version) -> None:
    first, second = series("bad", core="0"), series("bad", core="1")
    ticks = [tick(NOW, first, GOOD), tick(NOW + 10, second, GOOD), tick(NOW + 10, first, GOOD)]
    search, taken = settle(ENCODERS[version], ticks, version, refuses("bad"))
    assert sum(write.samples for write in taken) == search.delivered == 2
    [culprits] = search.culprits()
    assert culprits.samples == 2
    assert [one.series for one in culprits.ticks] == [(first,), (second,), (first,)]


def test_a_part_of_a_batch_says_the_same_of_its_series_as_the_whole() -> None:
    ticks = [tick(NOW + at, GOOD, BAD) for at in (0, 10)] + [tick(NOW, series("own"), group="limpet")]
    whole = wire.decode_message(ENCODERS["2.0"].encode(ticks).body, "2.0")
    _, taken = settle(ENCODERS["2.0"], ticks, "2.0", refuses("bad"))
    parts = {one.labels: one for write in taken for one in write.series}
    assert parts == {one.labels: one for one in whole.series if dict(one.labels)["__name__"] != "bad"}
    assert parts[("__name__", "good"),].starts == (BOOTED, BOOTED)


@both
def test_series_of_other_times_keep_their_own(version: wire.Version) -> None:
    ticks = [
        tick(NOW, GOOD),
        tick(NOW + 10, series("other")),
        tick(NOW, BAD),
        tick(NOW + 10, series("bad", a="b")),
    ]
    search, taken = settle(ENCODERS[version], ticks, version, refuses("bad"))
    assert [len(write.series) for write in taken] == [2]  # so both were in one request
    assert search.delivered == 2


NAMES = st.sampled_from(["good", "bad", "gone", "other"])
COLUMNS = st.lists(
    st.builds(lambda name, core: series(name, core=core), NAMES, st.sampled_from("012")), max_size=4
)


@both
@settings(deadline=None)
@given(st.data())
def test_all_that_is_sent_is_delivered_or_a_culprit(version: wire.Version, data: st.DataObject) -> None:
    sets = data.draw(st.lists(COLUMNS, min_size=1, max_size=3))
    ticks = [
        tick(NOW + data.draw(st.integers(0, 6)), *data.draw(st.sampled_from(sets)))
        for _ in range(data.draw(st.integers(0, 6)))
    ]
    encoder = ENCODERS[version]
    receiver = data.draw(st.sampled_from([refuses("bad"), refuses_before(NOW + 3), lambda _: REFUSED]))
    whole = encoder.encode(ticks)
    if not whole.samples or receiver(wire.decode_message(whole.body, version)) is DELIVERED:
        return
    search, taken = settle(encoder, ticks, version, receiver)
    culprits = search.culprits()
    assert search.delivered + sum(one.samples for one in culprits) == whole.samples
    assert search.delivered == sum(write.samples for write in taken)
    # What goes into the quarantine makes the same samples when it is replayed.
    for one in culprits:
        assert encoder.encode(one.ticks).samples == one.samples
        assert encoder.encode(one.ticks).relabeled == 0
