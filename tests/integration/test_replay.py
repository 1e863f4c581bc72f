"""Replays by the real command, to real servers: complete, harmless when repeated, and resumed after a kill."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.cli.output import INTERRUPTED
from agent.ops.replay.files import paths
from buffer.buffer import Buffer
from buffer.model import Instant, Series, Tick
from tests.integration.test_cli_terminal import terminal
from tests.support.agent import Agent
from tests.support.certs import Certs
from tests.support.folders import folder, samples_of
from tests.support.limpet import Done, command, environment, limpet
from tests.support.net import free_port, wait_for
from tests.support.prometheus import CONFIG, Prometheus
from tests.support.receiver import Answer, Receiver
from tests.support.sending import host
from tests.support.server import Login, Samples
from tests.support.ticks import BOOT, tick

SERIES = tuple(Series(f"m{n}", (("device", f"d{n % 4}"), ("hostname", "rock"))) for n in range(50))
STEP_MS = 10_000
LOGIN = Login("stick", "of wood")


def history(folder: Path, first_ms: int, count: int) -> Samples:
    """Append `count` ticks to a buffer from this time on, and return their samples."""
    buffer, samples = Buffer(str(folder)), Samples()
    for n in range(count):
        at = first_ms + n * STEP_MS
        values = [float(n * 100 + i) for i in range(len(SERIES))]
        buffer.append([Tick(Instant(at, n * STEP_MS, BOOT), "all", SERIES, values)])
        for series, value in zip(SERIES, values, strict=True):
            samples.setdefault(tuple(sorted([*series.labels, ("__name__", series.name)])), []).append(
                (at, value)
            )
    buffer.close()
    return samples


def grid_ms(hours_ago: float) -> int:
    return int(time.time() - hours_ago * 3600) * 1000


def size(samples: Samples) -> int:
    return sum(map(len, samples.values()))


def once(receiver: Receiver) -> Samples:
    """What a receiver has: a sample that came twice is one, and must have the same value."""
    found = {}
    for labels, samples in receiver.received().items():
        found[labels] = sorted(set(samples))
        assert len({at for at, _ in found[labels]}) == len(found[labels])
    assert not receiver.broken
    return found


def saved(home: Path) -> int:
    """Return how many samples an unfinished replay has delivered, as it will know when it is resumed."""
    for file in (home / ".local/state/limpet").glob("replay-*.json"):
        return int(json.loads(file.read_text())["ledger"]["delivered"])
    for file in (home / ".local/state/limpet").glob("played-*"):  # of one file: a line for each step
        return int(file.read_text().splitlines()[-1].split()[1])
    return 0


def replay(home: Path, *arguments: str | Path) -> Done:
    return limpet(home, "buffer replay", *arguments)


@pytest.fixture(scope="module")
def prometheus(
    prometheus_program: Path, certs: Certs, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """One with the shipped configuration, TLS and a password."""
    with Prometheus(prometheus_program, tmp_path_factory.mktemp("p"), certs=certs, login=LOGIN) as server:
        yield server


def configured(folder: Path, url: str, certs: Certs, **more: Any) -> Path:
    """A configuration with one destination, `central`, over TLS with a password."""
    there = {
        "url": url,
        "name": "central",
        "basic_auth": {"username": LOGIN.user, "password": LOGIN.password},
        "tls_config": {"ca_file": str(certs.ca)},
    }
    file = folder / "limpet.yaml"
    file.write_text(yaml.safe_dump({"data_dir": "data", "remote_write": [there | more]}))
    return file


def test_history_older_than_what_prometheus_has_arrives_and_again_does_no_harm(
    tmp_path: Path, prometheus: Prometheus, certs: Certs
) -> None:
    first = grid_ms(hours_ago=8)
    newest = history(tmp_path / "newest", grid_ms(hours_ago=0.1), 20)
    oldest = history(tmp_path / "data", first, 500)
    config = configured(tmp_path, prometheus.write_url, certs)
    now = int(time.time() * 1000)
    done = replay(tmp_path, "--config", config, "--to", "central", "--data-dir", tmp_path / "newest")
    assert done.status == 0, done
    appended = prometheus.own("prometheus_tsdb_head_samples_appended_total")
    for _ in range(2):  # the second time Prometheus has it all
        done = replay(tmp_path, "--config", config, "--to", "central", "--json")
        assert done.status == 0, done
        found = done.json
        assert (found["ended"], found["refusals"], found["resumable"]) == ("complete", [], False)
        assert found["read"] == found["selected"] == found["delivered"] == size(oldest)
        assert (found["oldest_timestamp_ms"], found["newest_timestamp_ms"]) == (first, first + 499 * STEP_MS)
        stored = prometheus.raw_samples('{hostname="rock"}', first, now)
        assert stored == {labels: [*oldest[labels], *newest[labels]] for labels in oldest}
    assert LOGIN.password not in done.out + done.err
    if appended:  # it counts a sample once for each time that it stored it
        assert prometheus.own("prometheus_tsdb_head_samples_appended_total") - appended <= 2 * size(oldest)


def test_a_window_that_is_too_small_refuses_and_accepts_when_it_is_changed(
    tmp_path: Path, prometheus_program: Path
) -> None:
    settings = tmp_path / "prometheus.yml"
    settings.write_text("global: {scrape_interval: 1m}\n")
    first = grid_ms(hours_ago=30)
    old = history(tmp_path / "old", first, 300)
    history(tmp_path / "new", grid_ms(hours_ago=0.1), 5)
    server = Prometheus(prometheus_program, tmp_path / "prometheus", config=settings)
    with server:
        assert replay(tmp_path, "--data-dir", tmp_path / "new", "--to", server.write_url).status == 0
        done = replay(tmp_path, "--data-dir", tmp_path / "old", "--to", server.write_url, "--json")
        assert done.status == 1
        found = done.json
        assert (found["ended"], found["delivered"], found["rejected"]) == ("complete", 0, size(old))
        assert sum(one["samples"] for one in found["refusals"]) == size(old)
        assert all(one["status"] == 400 for one in found["refusals"])
        words = " ".join(one["message"] for one in found["refusals"])
        assert "out of bounds" in words or "too old" in words or "out of order" in words
        told = replay(tmp_path, "--data-dir", tmp_path / "old", "--to", server.write_url)
        assert found["refusals"][0]["message"] in told.out
        assert not (tmp_path / "old/quarantine").exists()

        settings.write_text(CONFIG.read_text())
        server.stop()
        server.start()
        done = replay(tmp_path, "--data-dir", tmp_path / "old", "--to", server.write_url, "--json")
        assert (done.status, done.json["delivered"], done.json["refusals"]) == (0, size(old), [])
        assert server.raw_samples('{hostname="rock"}', first, first + 300 * STEP_MS) == old


@pytest.mark.parametrize("source", ["--data-dir", "--from"])
def test_a_replay_that_is_killed_continues_where_it_was(tmp_path: Path, source: str) -> None:
    samples = history(tmp_path / "data", grid_ms(hours_ago=12), 4000)
    place = tmp_path / "data"
    if source == "--from":
        place = tmp_path / "export.jsonl"
        export = ("buffer export --data-dir", tmp_path / "data", "--output", place)
        assert limpet(tmp_path, *export).status == 0
    with Receiver() as receiver:
        receiver.default = Answer(delay_s=0.3)
        config = tmp_path / "limpet.yaml"
        there = {"url": receiver.url, "name": "slow", "queue_config": {"max_samples_per_send": 5000}}
        config.write_text(yaml.safe_dump({"data_dir": "data", "remote_write": [there]}))
        options = ("buffer replay", source, place, "--config", config, "--to", "slow", "--json")
        come = [0]
        for n in range(3):
            process = subprocess.Popen(
                command(*options, *["--resume"] * (n > 0)),
                env=environment(tmp_path),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            wait_for(lambda: saved(tmp_path) > come[-1] or process.poll() is not None, 30, "it to save")  # noqa: B023
            assert process.poll() is None
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            come.append(saved(tmp_path))
        # Each began where the one before had come to.
        assert 0 < come[1] < come[2] < come[3] <= size(once(receiver)) < size(samples)
        receiver.default = Answer()
        done = limpet(tmp_path, *options, "--resume")
        assert done.status == 0, done
        # It saves once a second, and a request takes 0.3 seconds: what was settled since the last time was sent
        # once more, with what was under way.
        assert 0 <= receiver.samples - size(samples) <= 3 * 5 * 5000
        assert once(receiver) == samples
        found = done.json
        if source == "--data-dir":  # of a file, a replay counts what is new
            assert (found["read"], found["selected"], found["delivered"]) == (size(samples),) * 3
            assert found["seconds"] > 3
        nothing = limpet(tmp_path, *options, "--resume")
        if source == "--from":  # which continues by itself, and knows what was played to its end
            assert (nothing.status, nothing.json["delivered"], nothing.json["played_before"]) == (0, 0, 1)
        else:
            assert (nothing.status, "there is no unfinished replay" in nothing.err) == (2, True)
            assert list((tmp_path / ".local/state/limpet").iterdir()) == []


def test_giving_up_says_how_far_it_came_and_how_to_continue(tmp_path: Path) -> None:
    samples = history(tmp_path / "data", grid_ms(hours_ago=10), 1000)
    with Receiver([Answer(), Answer(), *[Answer(503)] * 10_000]) as receiver:
        where = ("--data-dir", tmp_path / "data", "--to", receiver.url)
        done = replay(tmp_path, *where, "--give-up-after", "2500ms")
        assert done.status == 1
        assert re.search(r"delivered +11,000\n", done.out)  # the first request finds out what is spoken there
        assert "gave up: HTTP 503" in done.out
        assert "--resume" in done.err
        receiver.answers.clear()
        other = replay(tmp_path, *where, "--resume", "--selector", "m1")
        assert other.status == 2  # another selection is another replay
        rest = replay(tmp_path, *where, "--resume", "--json")
        assert (rest.status, rest.json["delivered"], rest.json["retried"] > 0) == (0, size(samples), True)
        assert once(receiver) == samples
        assert receiver.samples == size(samples)


def test_ctrl_c_ends_it_in_good_order(tmp_path: Path) -> None:
    samples = history(tmp_path / "data", grid_ms(hours_ago=10), 1000)
    with Receiver() as receiver:
        receiver.default = Answer(delay_s=0.3)
        where = ("--data-dir", tmp_path / "data", "--to", receiver.url)
        process = subprocess.Popen(
            command("buffer replay", *where),
            env=environment(tmp_path),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_for(lambda: receiver.samples, 30, "a first batch")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
        assert (process.returncode, "--resume" in err) == (INTERRUPTED, True)
        assert re.search(rf"delivered +{receiver.samples:,}\n", out)
        assert "Traceback" not in err
        rest = replay(tmp_path, *where, "--resume")
        assert rest.status == 0
        assert (receiver.samples, once(receiver)) == (size(samples), samples)


def test_a_person_sees_how_it_gets_on(tmp_path: Path) -> None:
    samples = history(tmp_path / "data", grid_ms(hours_ago=10), 1000)
    with Receiver() as receiver:
        receiver.answers.extend(
            [Answer(), *[Answer(400, body=b"out of \x1b[31mpatience")] * 7]
        )  # until all of a batch is refused; the one before it finds out what is spoken there
        receiver.default = Answer(delay_s=0.3)
        where = ("--data-dir", str(tmp_path / "data"), "--to", receiver.url)
        with terminal("buffer", "replay", *where, columns=120, HOME=str(tmp_path)) as shown:
            shown.until("refused: HTTP 400: out of .*patience")
            shown.until(r"[4-9]2%.*,000 delivered, .* 10,000 refused")
            shown.press(b"\x03")
            told = shown.rest()
            assert "--resume" in told
            assert "\x1b[31mpatience" not in told
            assert shown.process.returncode == INTERRUPTED
        receiver.default = Answer()
        with terminal("buffer", "replay", *where, "--resume", HOME=str(tmp_path)) as shown:
            assert "Traceback" not in shown.rest()
            assert shown.process.returncode == 1  # what was refused before still is
    assert size(once(receiver)) == size(samples) - 10_000


def test_a_file_goes_to_a_site_with_a_link(tmp_path: Path, prometheus: Prometheus, certs: Certs) -> None:
    """The way of the stick: exported here, replayed there, over TLS with a password of the configuration there."""
    here, there = tmp_path / "here", tmp_path / "there"
    there.mkdir()
    first = grid_ms(hours_ago=20)
    samples = history(here / "data", first, 400)
    file = here / "stick.jsonl"
    assert limpet(here, "buffer export --data-dir", here / "data", "--output", file).status == 0
    subprocess.run(["gzip", file], check=True)
    config = configured(there, prometheus.write_url, certs)
    done = replay(there, "--from", f"{file}.gz", "--config", config, "--to", "central", "--json")
    assert (done.status, done.json["delivered"]) == (0, size(samples)), done
    assert not (there / "data").exists()
    assert prometheus.raw_samples('{hostname="rock"}', first, first + 400 * STEP_MS) == samples
    fewer = replay(
        there,
        "--from",
        f"{file}.gz",
        "--config",
        config,
        "--to",
        "central",
        "--dry-run",
        "--json",
        "--selector",
        '{device="d1"}',
        "--since",
        str(first / 1000 + 1000),
        "--until",
        str(first / 1000 + 1990),
    )
    picked = [labels for labels in samples if ("device", "d1") in labels]
    assert (fewer.json["selected"], fewer.json["delivered"]) == (100 * len(picked), 0)


def test_a_file_that_was_exchanged_is_not_taken_for_the_unfinished_one(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text('{"name":"a","labels":{},"samples":[[1,1]]}\n')
    nowhere = f"http://127.0.0.1:{free_port()}/"
    assert replay(tmp_path, "--from", file, "--to", nowhere, "--give-up-after", "200ms").status == 1
    with Receiver() as receiver:
        for name in "aab":
            file.write_text(f'{{"name":"{name}","labels":{{}},"samples":[[1,1]]}}\n')
            done = replay(tmp_path, "--from", file, "--to", receiver.url, "--json")
            assert (done.status, done.json["ended"]) == (0, "complete")
        assert receiver.samples == 2


@pytest.mark.parametrize("form", ["jsonl", "segments"])
def test_files_of_a_stick_are_delivered_once(tmp_path: Path, form: str) -> None:
    """As often as they are played, under whatever name, and however a play ends."""
    stick, first = tmp_path / "stick", grid_ms(hours_ago=3)
    with host(tmp_path, folder(stick, format=form), ticks=0) as one:
        for number in range(100):
            one.buffer.append([tick(number)._replace(at=Instant(first + number * STEP_MS, number, BOOT))])
        one.settled()
    samples = samples_of(stick)
    files = paths([str(stick)])
    assert len(files) > 10
    options = ("--from", stick, "--json")
    with Receiver() as receiver:
        where = ("--to", receiver.url)
        dry = replay(tmp_path, *options, *where, "--dry-run").json
        assert (dry["selected"], dry["delivered"], receiver.samples) == (300, 0, 0)
        some = replay(tmp_path, "--from", *files[3:7], *where, "--json").json
        whole = replay(tmp_path, *options, *where).json
        assert (some["played_before"], whole["played_before"]) == (0, 4)
        assert some["delivered"] + whole["delivered"] == 300
        stick.rename(tmp_path / "elsewhere")
        again = replay(tmp_path, "--from", tmp_path / "elsewhere", *where, "--json")
        assert (again.status, again.json["delivered"], again.json["played_before"]) == (0, 0, len(files))
        assert receiver.samples == 300
        assert {labels: sorted(of) for labels, of in once(receiver).items()} == samples
        said = replay(tmp_path, "--from", tmp_path / "elsewhere", *where).err
        assert f"{len(files)} files were played before: --again sends them again" in said
        once_more = replay(tmp_path, "--from", tmp_path / "elsewhere", *where, "--again", "--json").json
        assert (once_more["delivered"], receiver.samples) == (300, 600)
    with Receiver() as other:  # which has none of it
        done = replay(tmp_path, "--from", tmp_path / "elsewhere", "--to", other.url, "--json").json
        assert (done["delivered"], other.samples) == (300, 300)


def test_a_damaged_file_is_left_out_and_the_others_are_played(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    with host(tmp_path, folder(stick), ticks=40) as one:
        one.settled()
    files = [Path(path) for path in paths([str(stick)])]
    data = bytearray(files[1].read_bytes())
    data[len(data) // 2] ^= 1
    files[1].write_bytes(data)
    (stick / "host/00000/00000099-x-00000000.jsonl.gz.json").write_text("no manifest")
    os.mkfifo(stick / "pipe")
    (stick / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        (stick / f"{name}.json").write_text("{}")
    with Receiver() as receiver:
        where = ("--to", receiver.url, "--json")
        done = replay(tmp_path, "--from", stick, *where)
        assert (done.status, done.json["failed"], done.json["ended"]) == (1, 1, "complete")
        assert f"left out: {files[1]}: it is damaged" in done.err
        assert 0 < receiver.samples == done.json["delivered"] < 80
        alone = replay(tmp_path, "--from", files[1], *where)
        assert (alone.status, "it is damaged" in alone.err) == (2, True)
        empty = tmp_path / "empty"
        empty.mkdir()
        assert replay(tmp_path, "--from", empty, *where).status == 2
        text = tmp_path / "f.om"
        text.write_text("# TYPE a gauge\na 1 1\n# EOF\n")
        assert "promtool" in replay(tmp_path, "--from", text, *where).err


def test_a_damaged_file_without_a_manifest_costs_no_other_file(tmp_path: Path) -> None:
    """A file system that was not unmounted can damage both."""
    stick = tmp_path / "stick"
    with host(tmp_path, folder(stick), ticks=40) as one:
        one.settled()
    files = [Path(path) for path in paths([str(stick)])]
    files[1].write_bytes(files[1].read_bytes()[:-20])
    Path(f"{files[1]}.json").write_bytes(b"")
    with Receiver() as receiver:
        options = ("--from", stick, "--to", receiver.url, "--json")
        done = replay(tmp_path, *options)
        assert (done.status, done.json["ended"], done.json["damaged"]) == (1, "failed", 1)
        assert str(files[1]) in done.json["error"]
        sent = receiver.samples
        assert 80 > sent == done.json["delivered"] > 40
        again = replay(tmp_path, *options)
        assert (again.status, again.json["played_before"], receiver.samples) == (1, len(files) - 1, sent)


def test_a_folder_is_no_receiver_of_a_replay(tmp_path: Path) -> None:
    config = tmp_path / "limpet.yaml"
    config.write_text(f"file: [{{path: {tmp_path}/stick, name: stick}}]\n")
    done = replay(tmp_path, "--data-dir", tmp_path, "--config", config, "--to", "stick")
    assert (done.status, "limpet buffer export" in done.err) == (2, True)


def test_it_works_with_a_running_agent_a_stopped_and_a_dead_one(tmp_path: Path) -> None:
    with Receiver() as central, Receiver() as backup:
        # The second destination takes nothing, so the log keeps everything.
        nobody = {"url": f"http://127.0.0.1:{free_port()}/", "name": "nobody"}
        agent = Agent(tmp_path / "agent", [{"url": central.url, "name": "central"}, nobody])
        where = ("--data-dir", agent.data_dir, "--to", backup.url, "--json")
        with agent:
            wait_for(
                lambda: agent.destination("central").get("ledger", {}).get("delivered"), 20, "a delivery"
            )
            running = replay(tmp_path, *where).json
            assert agent.destination("central")["ledger"]["delivered"] <= central.samples
            wait_for(lambda: size(agent.buffered()) > running["delivered"], 10, "another tick")
            agent.kill()
            dead = replay(tmp_path, *where).json
            agent.start()
            wait_for(lambda: size(agent.buffered()) > dead["delivered"], 10, "another tick")
            assert agent.stop() == 0
        before = [one["ledger"] for one in agent.status()["destinations"]]
        stopped = replay(tmp_path, *where).json
        assert [one["ledger"] for one in agent.status()["destinations"]] == before
        assert 0 < running["delivered"] < dead["delivered"] < stopped["delivered"]
        assert once(backup) == {labels: sorted(of) for labels, of in agent.buffered().items()}
        assert {labels: set(of) for labels, of in backup.ended().items()} == {
            labels: set(of) for labels, of in agent.ended().items()
        }
        assert stopped["delivered"] == agent.appended() > size(agent.buffered())


def test_it_only_reads(tmp_path: Path) -> None:
    samples = history(tmp_path / "data", grid_ms(hours_ago=1), 100)

    def state() -> dict[str, tuple[int, int]]:
        files = sorted(path for path in (tmp_path / "data").rglob("*"))
        return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in files}

    before = state()
    with Receiver() as receiver:
        assert replay(tmp_path, "--data-dir", tmp_path / "data", "--to", receiver.url).status == 0
        assert once(receiver) == samples
    assert state() == before


def test_without_a_place_for_its_state_it_says_so_and_continues(tmp_path: Path) -> None:
    samples = history(tmp_path / "data", grid_ms(hours_ago=1), 100)
    (tmp_path / ".local").write_text("no folder")
    with Receiver() as receiver:
        done = replay(tmp_path, "--data-dir", tmp_path / "data", "--to", receiver.url)
        assert (done.status, done.err.count("--resume cannot continue here")) == (0, 1)
        assert once(receiver) == samples


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--to", "http://example.com/"], "plain http:// to another host"),
        (["--to", "https://user:secret@example.com/"], "the URL holds a user or a password"),
        (["--to", "central"], "no --config to look it up in"),
        (["--to", "http://127.0.0.1:1/", "--since", "later"], "--since: 'later' is not a time"),
        (["--to", "http://127.0.0.1:1/", "--since", "1h", "--until", "2h"], "it is after --until"),
        (["--to", "http://127.0.0.1:1/", "--selector", "{"], "selector: "),
        (["--to", "http://127.0.0.1:1/", "--resume"], "there is no unfinished replay"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_what_is_wrong_is_reported_before_anything_is_sent(
    tmp_path: Path, arguments: list[str], error: str
) -> None:
    (tmp_path / "data").mkdir()
    done = replay(tmp_path, "--data-dir", tmp_path / "data", *arguments)
    assert (done.status, done.out, error in done.err, "secret" in done.err) == (2, "", True, False), done


def test_a_place_that_is_not_there(tmp_path: Path) -> None:
    for where in (["--data-dir", "/nonexistent"], ["--from", "/nonexistent"], []):
        done = replay(tmp_path, *where, "--to", "http://127.0.0.1:1/")
        assert (done.status, done.out) == (2, "")
        assert "Traceback" not in done.err
