"""What a receiver refuses for good: kept with its words, counted, replayed; over kills, and on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from buffer.quarantine import Quarantine
from tests.integration.test_cli_terminal import terminal
from tests.support.agent import Agent
from tests.support.limpet import limpet
from tests.support.net import free_port, wait_for
from tests.support.receiver import Answer, Receiver
from tests.support.server import Samples
from tests.support.ticks import tick, values
from tests.support.wire import Write

WORDS = "label value too long, says the receiver"
REFUSED = Answer(400, body=WORDS.encode())
CULPRIT = "memory_total_bytes"


def refuse(write: Write) -> Answer | None:
    """Refuse what has the culprit in it."""
    return REFUSED if any(dict(series.labels)["__name__"] == CULPRIT for series in write.series) else None


def kept(data_dir: Path) -> Samples:
    """Every sample in the quarantine, by its labels."""
    quarantine, found = Quarantine(str(data_dir)), Samples()
    for item in quarantine.items():
        for entry in quarantine.entries(item.id):
            for one in entry.ticks:
                for series, value in zip(one.series, one.values, strict=True):
                    labels = tuple(sorted([*series.labels, ("__name__", series.name)]))
                    found.setdefault(labels, []).append((one.at.wall_ms, value))
    return found


def count(samples: Samples) -> int:
    return sum(len(of) for of in samples.values())


def test_a_refused_batch_is_kept_with_its_words_and_delivered_by_a_replay(tmp_path: Path) -> None:
    with Receiver() as receiver:
        receiver.refuse = refuse
        # The second destination takes nothing, so the log keeps everything to compare with.
        nobody = {"url": f"http://127.0.0.1:{free_port()}/", "name": "nobody"}
        agent = Agent(tmp_path / "agent", [{"url": receiver.url, "name": "there"}, nobody])
        with agent:
            wait_for(
                lambda: sum(item.samples for item in Quarantine(str(agent.data_dir)).items()) >= 2,
                30,
                "two batches with the culprit",
            )
            receiver.refuse = lambda _: None  # the receiver's setting is fixed while the agent runs
            samples = count(kept(agent.data_dir))
            wait_for(
                lambda: agent.destination("there")["ledger"]["dropped"]["rejected"] == samples,
                10,
                "the ledger",
            )

            config = agent.config_file
            listed = limpet(tmp_path, "buffer quarantine list --config", config, "--json").json
            assert sum(item["samples"] for item in listed) == samples == count(kept(agent.data_dir))
            assert {dict(labels)["__name__"] for labels in kept(agent.data_dir)} == {CULPRIT}
            assert {(i["destination"], i["status"], i["reason"]) for i in listed} == {
                ("there", 400, "rejected")
            }
            assert all(item["message"] == f"HTTP 400: {WORDS}" for item in listed)
            told = limpet(tmp_path, "buffer quarantine list --data-dir", agent.data_dir)
            assert told.out.count(WORDS) == len(listed)
            shown = limpet(tmp_path, "buffer quarantine show", listed[0]["id"], "--config", config)
            assert (shown.status, WORDS in shown.out) == (0, True)
            whole = limpet(tmp_path, "buffer quarantine show", listed[0]["id"], "--config", config, "--json")
            assert sum(len(one["samples"]) for one in whole.json["series"]) == listed[0]["samples"]

            done = limpet(tmp_path, "buffer quarantine replay --all --config", config, "--json")
            assert (done.status, [one["removed"] for one in done.json]) == (0, [True] * len(listed))
            assert sum(one["delivered"] for one in done.json) == samples
            assert kept(agent.data_dir) == {}
            assert (
                agent.destination("there")["ledger"]["dropped"]["rejected"] == samples
            )  # history is not changed
            # Not "nothing pending": where the phases of tick, batch and sync are unlucky, that is never seen.
            wait_for(lambda: agent.destination("there")["state"] == "idle", 10, "the lane to be idle")
            assert agent.stop() == 0
        got = {labels: sorted(of) for labels, of in receiver.received().items()}
        assert got == agent.buffered()
        assert receiver.ended() == agent.ended() != {}
        assert not receiver.broken
    events = [e for e in agent.events() if e["event"] in ("sender.rejected", "sender.quarantined")]
    aloud = [e["event"] for e in events if e["level"] != "debug"]
    assert aloud == ["sender.rejected", "sender.quarantined"]  # once an hour


def test_what_is_refused_again_stays_with_the_new_words(tmp_path: Path) -> None:
    quarantine = Quarantine(str(tmp_path / "data"))
    for position in range(3):
        quarantine.put("there", position, [tick(position)], "rejected", 400, f"{WORDS} {position}", position)
    names = [item.id for item in quarantine.items()]
    still = Answer(422, body=b"still not")  # the batch, and what it is bisected into: 2 and 1 of 3 series
    with Receiver([Answer(), *[still] * 5]) as receiver:
        to = ("--data-dir", tmp_path / "data", "--to", receiver.url)
        done = limpet(tmp_path, "buffer quarantine replay --all", *to)
        assert done.status == 1
        assert [line.partition(": ")[0] for line in done.out.splitlines()] == names
        assert [
            word in line
            for word, line in zip(("removed", "still not", "removed"), done.out.splitlines(), strict=True)
        ]
        assert [item.id for item in quarantine.items()] == [names[1]]
        assert quarantine.items()[0].message == f"{WORDS} 1"
        again = limpet(tmp_path, "buffer quarantine replay", names[0], names[1], *to, "--json")
    assert (again.status, [one["removed"] for one in again.json]) == (1, [True])
    assert f"{names[0]}: there is no such item" in again.err
    assert quarantine.items() == []


def test_a_receiver_that_is_down_is_waited_for_once(tmp_path: Path) -> None:
    quarantine = Quarantine(str(tmp_path / "data"))
    for position in range(3):
        quarantine.put("there", position, [tick(position)], "rejected", 400, f"{WORDS} {position}", position)
    url = f"http://127.0.0.1:{free_port()}/"
    where = ("--data-dir", tmp_path / "data", "--to", url, "--give-up-after", "300ms")
    done = limpet(tmp_path, "buffer quarantine replay --all", *where)
    assert (done.status, done.err.count("kept, not tried")) == (1, 2)
    assert "refused" in done.out
    assert len(quarantine.items()) == 3


def test_each_goes_where_it_was_refused(tmp_path: Path) -> None:
    quarantine = Quarantine(str(tmp_path / "data"))
    for position, name in enumerate(("a", "b", "gone")):
        quarantine.put(name, position, [tick(position)], "rejected", 400, WORDS, position)
    with Receiver() as a, Receiver() as b:
        config = tmp_path / "limpet.yaml"
        config.write_text(
            f"data_dir: data\nremote_write: [{{url: {a.url}, name: a}}, {{url: {b.url}, name: b}}]\n"
        )
        done = limpet(tmp_path, "buffer quarantine replay --all --config", config, "--json")
        assert (a.samples, b.samples) == (3, 3)
    assert done.status == 1
    assert [(one["destination"], one["removed"]) for one in done.json] == [("a", True), ("b", True)]
    assert "no destination is called 'gone'; the configuration has a, b" in done.err
    assert [item.destination for item in quarantine.items()] == ["gone"]
    unclear = limpet(tmp_path, "buffer quarantine replay --all --data-dir", tmp_path / "data")
    assert unclear.status == 2


def test_dropping_asks_and_says_what_it_did(tmp_path: Path) -> None:
    quarantine = Quarantine(str(tmp_path / "data"))
    for position in range(3):
        quarantine.put("there", position, [tick(position)], "rejected", 400, f"{WORDS} {position}", position)
    first, second, third = (item.id for item in quarantine.items())
    drop: tuple[Any, ...] = ("buffer quarantine drop --data-dir", tmp_path / "data")
    nobody = limpet(tmp_path, *drop, first)
    assert (nobody.status, "--yes" in nobody.err) == (2, True)
    assert len(quarantine.items()) == 3
    one = limpet(tmp_path, *drop, first, "nonsense", "--yes")
    assert (one.status, one.out) == (1, "dropped 1 of 1: 3 samples\n")
    rest = limpet(tmp_path, *drop, "--all", "--yes", "--json")
    assert (rest.status, [item["id"] for item in rest.json]) == (0, [second, third])
    assert quarantine.items() == []
    missing = limpet(tmp_path, "buffer quarantine show", first, "--data-dir", tmp_path / "data")
    assert (missing.status, missing.out) == (1, "")


@pytest.mark.parametrize(("key", "left", "status"), [(b"y\n", 0, 0), (b"n\n", 1, 1), (b"\n", 1, 1)])
def test_dropping_at_a_terminal(tmp_path: Path, key: bytes, left: int, status: int) -> None:
    quarantine = Quarantine(str(tmp_path))
    quarantine.put("there", 0, [tick(0)], "rejected", 400, WORDS, 1)
    with terminal("buffer", "quarantine", "drop", "--all", "--data-dir", str(tmp_path)) as shown:
        shown.until(r"Drop 1 refused batch with 3 samples for good\? \[y/N\]")
        shown.press(key)
        shown.rest()
        assert shown.process.returncode == status
    assert len(quarantine.items()) == left


@pytest.mark.parametrize("kills", [6])
def test_no_kill_loses_what_was_refused(tmp_path: Path, kills: int) -> None:
    """Everything is refused, and the agent is killed again and again: the quarantine has all that is settled."""
    with Receiver() as receiver:
        receiver.default = REFUSED
        nobody = {"url": f"http://127.0.0.1:{free_port()}/", "name": "nobody"}
        agent = Agent(tmp_path, [{"url": receiver.url, "name": "there"}, nobody])
        with agent:
            for kill in range(kills):
                if kill:
                    agent.start()
                before = len(receiver.requests)
                wait_for(lambda: len(receiver.requests) > before + 1, 20, "some refusals")  # noqa: B023
                agent.kill()
            agent.start()
            wait_for(
                lambda: agent.destination("there")["ledger"]["dropped"]["rejected"], 20, "the last refusal"
            )
            assert agent.stop() == 0
    ledger = agent.destination("there")["ledger"]
    assert ledger["appended"] == ledger["dropped"]["rejected"] + ledger["pending"]
    assert ledger["delivered"] == 0
    appended, found = agent.buffered(), values(kept(agent.data_dir))
    missing = {labels: set(of) - set(found.get(labels, [])) for labels, of in appended.items()}
    assert sum(map(len, missing.values())) <= ledger["pending"]
    assert all(set(of) <= set(appended[labels]) for labels, of in found.items())
