"""What the doctor makes of what it finds: clocks, windows, certificates, secrets, and this host's side."""

from __future__ import annotations

import errno
import json
import os
import random
import tempfile
import time
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any, NoReturn

import pytest
from rich.console import Console

from agent.cli import doctor, screen
from agent.collect import mask
from agent.collect.mask import KEY_FILE
from agent.collectors import HostPaths
from agent.config import Config, load
from agent.http.endpoint import of_destination
from agent.http.secrets import hidden, secrets
from agent.ops.doctor import certificate, host, receiver, sample
from agent.ops.doctor.step import Finding, Step, fine, needing, step, unknown, warning, wrong
from agent.system.timesync import HostClock
from buffer.buffer import Buffer
from buffer.limits import Limits
from buffer.quarantine import Quarantine
from tests.support.hosts import Host
from tests.support.net import free_port
from tests.support.ticks import tick
from tests.support.walks import check
from tests.unit.test_buffer_versions import later_segment, make

NOBODY = 65534
NOW = 1_750_000_000.0
DATE = "Sun, 15 Jun 2025 15:06:40 GMT"  # NOW


# Steps.


def test_what_needs_doing() -> None:
    found = [fine("a"), warning("b", "Do b."), wrong("c", "Do c."), unknown("d"), unknown("e", "Ask e.")]
    steps = [step("p", "s", one, ()) for one in found]
    assert [one.needs_doing for one in steps] == [False, True, True, False, False]
    assert needing(steps) == 2


def test_secrets_are_hidden_wherever_they_are() -> None:
    known = {"hunter2", "hunter2-and-more", "1"}
    assert hidden("1: hunter2, hunter2-and-more", known) == "1: <secret>, <secret>"
    assert hidden("HTTP 401: no (you said hunter)", known) == "HTTP 401: no (you said <secret>)"
    assert hidden("HTTP 400: you said hunt", known) == "HTTP 400: you said <secret>"
    assert hidden("HTTP 400: you said hun", known) == "HTTP 400: you said hun"
    made = step("p", "s", wrong("said hunter2", "Do not hunter2."), known)
    assert made == Step("p", "s", False, "said <secret>", "Do not <secret>.")


def test_the_secrets_of_a_destination(tmp_path: Path) -> None:
    (tmp_path / "password").write_text(" in  a file\n")
    config = load(
        "remote_write:\n"
        " - {url: 'https://a/w?key=per%20cent&b=plain', headers: {X-Key: headed},"
        " basic_auth: {username: user, password_file: password}}\n"
        " - {url: 'https://b/w', authorization: {credentials: bearing}}\n"
        " - {url: 'https://c/w', basic_auth: {username: user, password_file: missing}}\n",
        str(tmp_path / "limpet.yaml"),
    ).config
    first, second, third = map(secrets, map(of_destination, config.remote_write))
    assert {"per cent", "per%20cent", "plain", "headed", "in  a file", "in a file"} <= first
    assert "dXNlcjppbiAgYSBmaWxl" in first
    assert "user" not in first
    assert second == {"bearing"}
    assert third == set()


def test_the_secrets_of_oauth2_and_of_http_headers(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(" in a+file\n")
    (tmp_path / "key").write_text("the key\n")
    config = load(
        "remote_write:\n"
        " - url: https://a/w\n"
        "   oauth2: {client_id: id, client_secret_file: secret, token_url: 'https://t/x?key=queried',"
        " endpoint_params: {a: parameter}, proxy_url: 'http://u:pro%20xy@p:1'}\n"
        "   http_headers: {X-A: {values: [valued], secrets: [secreted], files: [key]}}\n"
        " - url: https://b/w\n"
        "   oauth2: {client_id: id, client_secret_file: missing, token_url: 'https://t/x'}\n"
        "   http_headers: {X-A: {values: [valued], files: [missing]}}\n",
        str(tmp_path / "limpet.yaml"),
    ).config
    first, second = map(secrets, map(of_destination, config.remote_write))
    assert {"in a+file", "in+a%2Bfile", "id:in+a%2Bfile", "aWQ6aW4rYSUyQmZpbGU="} <= first
    assert {"queried", "parameter", "pro%20xy", "pro xy", "valued", "secreted", "the key"} <= first
    assert "id" not in first
    assert second == set()


# The receiver.


def test_the_difference_of_clocks() -> None:
    # A Date has whole seconds, and a slow answer says little.
    spans = ((0, 0, 0), (0.9, 0.95, 0), (-10, 10, 0), (-7, -6, 6), (7, 8, -6))
    for begun, ended, off in spans:
        assert receiver.difference(DATE, NOW + begun, NOW + ended) == off


@pytest.mark.parametrize("date", [None, "", "yesterday", "Sun, 99 Jun 99999 15:06:40 GMT", "0"])
def test_what_is_no_date(date: str | None) -> None:
    check(receiver.agree(date, NOW, NOW), "unknown")


@pytest.mark.parametrize(
    ("off", "kind", "said"),
    [
        (0, "fine", "agree to a second"),
        (5, "fine", "5 s ahead of ours"),
        (-4, "fine", "3 s behind ours"),
        (6, "warning", "6 s ahead of ours"),
        (60, "warning", "60 s ahead"),
        (61, "wrong", "61 s ahead"),
        (-62, "wrong", "61 s behind ours"),
    ],
)
def test_clocks(off: int, kind: str, said: str) -> None:
    check(receiver.agree(DATE, NOW - off, NOW - off), kind, said)


def test_where_a_prometheus_shows_its_configuration() -> None:
    shown = receiver.config_url
    assert shown("https://p/api/v1/write") == "https://p/api/v1/status/config"
    below = shown("http://p:9090/prom/api/v1/write?token=x")
    assert below == "http://p:9090/prom/api/v1/status/config?token=x"
    assert shown("https://mimir/api/v1/push") is None
    assert shown("https://p/api/v1/write/") is None


GLOBAL = "global:\n  scrape_interval: 1m\n"
TSDB = "storage:\n  tsdb:\n    retention:\n      time: 60d\n"
KEY = "out_of_order_time_window"


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        (f"{GLOBAL}{TSDB}    {KEY}: 30d\notlp:\n  x: 1\n", "fine", "is 30d"),
        (f"{GLOBAL}{TSDB}    {KEY}: 1h30m\n", "fine", "is 1h30m"),
        (GLOBAL + TSDB, "warning", "is not set"),
        (GLOBAL, "warning", "is not set"),
        (f"other:\n  {KEY}: 30d\n" + TSDB, "warning", "is not set"),
        (f"{TSDB}    {KEY}: soon\n", "advice", "unknown from outside"),
    ],
)
def test_the_window(text: str, kind: str, said: str) -> None:
    answer = json.dumps({"status": "success", "data": {"yaml": text}}).encode()
    check(receiver.window(answer), kind, said)


@pytest.mark.parametrize("answer", [b"", b"<html>", b"[]", b'{"data": 1}', b'{"data": {"yaml": 3}}', b"\xff"])
def test_a_window_that_is_not_known(answer: bytes) -> None:
    check(receiver.window(answer), "advice", do=KEY)


# Certificates.


def decoded(days: float, name: str = "a.example.com", **more: Any) -> dict[str, Any]:
    ends = time.strftime("%b %d %H:%M:%S %Y GMT", time.gmtime(NOW + days * 86400 + 60))
    issuer = ((("organizationName", "Rock"),), (("organizationalUnitName", "CA 1"),))
    return {"notAfter": ends, "subjectAltName": (("DNS", name), ("DNS", "b")), "issuer": issuer} | more


def chain(days: float, root: float) -> Finding:
    above = decoded(root, subject=((("commonName", "Root"),),), subjectAltName=())
    return certificate.verdict([decoded(days), above], "TLSv1.3", NOW, verified=True)


def test_a_good_chain() -> None:
    said = "TLSv1.3, for a.example.com, b, issued by Rock, CA 1, 14 days left, verified by a chain of 2"
    assert chain(14, 900) == fine(said)


@pytest.mark.parametrize(("days", "said"), [(13.9, "13 days left"), (0, "0 days left"), (-3, "expired")])
def test_a_certificate_that_ends(days: float, said: str) -> None:
    found = certificate.verdict([decoded(days)], "TLSv1.2", NOW, verified=False)
    check(found, "warning", said, "Renew the certificate of a.example.com, b.")
    assert "NOT verified" in found.said


def test_the_authority_that_ends_first_is_named() -> None:
    check(chain(300, 3), "warning", "3 days left of Root", "Renew the certificate of Root.")


def test_a_certificate_without_a_name() -> None:
    assert certificate.names({"subject": ()}) == "nobody in particular"


def test_what_to_do_about_a_refused_certificate() -> None:
    codes = {9: "clock", 10: "Renew", 20: "ca_file", 62: "server_name", 1: "speaks TLS", 0: "speaks TLS"}
    assert [code for code, word in codes.items() if word not in certificate.refused(code)] == []


def test_what_to_do_about_a_token_servers_certificate() -> None:
    signed = "the certificate of the authority that signed the token server's"
    codes = {
        10: "Renew the token server's certificate",
        20: f"Set oauth2.tls_config.ca_file to {signed}",
        62: "or set oauth2.tls_config.server_name to one",
        1: "min_version and max_version of oauth2.tls_config",
    }
    refused = certificate.refused
    assert [code for code, do in codes.items() if do not in refused(code, "token server", "oauth2.")] == []


# This host.


def configured(data_dir: Path, text: str = "") -> Config:
    return load(f"data_dir: {data_dir}\nremote_write: [{{url: 'https://a/w', name: a}}]\n{text}", "x").config


def look(config: Config, *, hide: bool = True, **system: Any) -> dict[str, Step]:
    there = host.System(wall=lambda: NOW, **system)
    return {one.step: one for one in host.look(config, (), set(), 10, there, hide=hide)}


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


def fill(data_dir: Path, samples: int = 9, **note: str) -> None:
    buffer = Buffer(str(data_dir), Limits(), ["a"])
    for number in range(samples // 3):
        buffer.append([tick(number)])
    if note:
        buffer.cursors["a"].note(note["state"], note["error"])
    buffer.close()


def test_a_host_before_the_first_start(data_dir: Path) -> None:
    found = look(configured(data_dir))
    assert needing(list(found.values())) == 0, found
    assert "not there yet" in found["data_dir"].said
    check(found["agent"], "advice", f"none runs, and none has run with {data_dir}", "Start it: limpet run")
    assert found["backlog of a"].said == "nothing has been kept for it yet"
    assert not data_dir.exists()


def test_the_warnings_of_the_configuration_are_repeated(data_dir: Path) -> None:
    first = next(iter(host.look(configured(data_dir), ("x:3: a is ignored: b", "x:4: c"), set(), 10)))
    assert first == Step("this host", "configuration", True, "fine; x:3: a is ignored: b; x:4: c")


def test_a_host_where_all_is_well(data_dir: Path) -> None:
    fill(data_dir)
    found = look(configured(data_dir))
    assert [name for name, one in found.items() if one.needs_doing] == ["agent"], (
        found
    )  # which is not started
    check(found["agent"], "wrong", do="limpet run")
    assert found["agent"].said == "none runs; 9 samples wait"
    assert found["permissions"].said.startswith("0700, ")
    assert found["lock"].said == "free: no agent runs here"
    assert "9 samples" in found["buffer"].said
    assert found["backlog of a"].said.startswith("stopped, 9 samples pending")
    assert {"cpu", "memory", "host"} <= {n.removeprefix("collector ") for n in found}


@pytest.fixture
def not_root() -> Iterator[Path]:
    """A folder outside of those of pytest, and no right to do everything in it."""
    folder = Path(tempfile.mkdtemp())
    if os.geteuid() != 0:
        yield folder
    else:
        os.chown(folder, NOBODY, NOBODY)
        os.seteuid(NOBODY)
        try:
            yield folder
        finally:
            os.seteuid(0)
    folder.chmod(0o700)
    for path in sorted(folder.rglob("*"), reverse=True):
        path.chmod(0o700)
        path.rmdir()
    folder.rmdir()


def test_a_folder_that_cannot_be_written(not_root: Path) -> None:
    (not_root / "data").mkdir(0o500)
    check(look(configured(not_root / "data"))["data_dir"], "wrong", "may not write there")
    not_root.chmod(0o500)
    check(look(configured(not_root / "more"))["data_dir"], "wrong", "may not make it in")


def test_a_folder_that_cannot_be_read(not_root: Path) -> None:
    (not_root / "data" / "segments").mkdir(parents=True)
    (not_root / "data").chmod(0)
    found = look(configured(not_root / "data"))
    check(found["buffer"], "wrong", "permission denied")
    assert [found[step].ok for step in ("backlog of a", "permissions")] == [False, False]


def test_a_folder_that_others_can_read(data_dir: Path) -> None:
    fill(data_dir)
    data_dir.chmod(0o755)
    check(look(configured(data_dir))["permissions"], "warning", do=f"Close it: chmod 0700 {data_dir}")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_files_of_somebody_else(data_dir: Path) -> None:
    fill(data_dir)
    os.chown(data_dir / "segments", NOBODY, NOBODY)
    said = f"{data_dir}/segments does not belong to root"
    check(look(configured(data_dir))["permissions"], "wrong", said)


@pytest.mark.parametrize(
    ("free", "kind", "said"),
    [
        (1 << 40, "fine", "the buffer may grow by"),
        (300 << 20, "warning", "may have to grow by 256 MiB above a floor of 100 MiB"),
        (99 << 20, "wrong", "less than buffer.min_free_space (100 MiB)"),
    ],
)
def test_space(data_dir: Path, free: int, kind: str, said: str) -> None:
    config = configured(data_dir, "buffer: {min_free_space: 100MiB}")
    check(look(config, free=lambda _: (free, 1 << 41))["space"], kind, said)


def test_a_held_destination_and_damage(data_dir: Path) -> None:
    fill(data_dir, state="held", error="HTTP 401: wrong")
    segment = next((data_dir / "segments").iterdir())
    content = bytearray(segment.read_bytes())
    content[-30] ^= 255
    content += bytes(content[:200])
    segment.write_bytes(content)
    found = look(configured(data_dir))
    assert "HTTP 401: wrong" in found["backlog of a"].said
    # No agent runs: it is stopped, not held; what the walk finds counts.
    assert found["backlog of a"].said.startswith("stopped")
    check(found["buffer"], "warning", do="limpet buffer verify")


@pytest.mark.parametrize(("state", "kind"), [("held", "wrong"), ("waiting", "warning")])
def test_what_a_running_agent_says_about_a_destination(data_dir: Path, state: str, kind: str) -> None:
    buffer = Buffer(str(data_dir), Limits(), ["a"])
    dice = random.Random(1)
    for number in range(121):
        buffer.append([tick(number, 64)._replace(values=[dice.random() for _ in range(64)])])
    buffer.cursors["a"].note(state, "HTTP 401: wrong")
    buffer.sync()
    found = look(configured(data_dir, "buffer: {max_size: 1MiB}"))
    buffer.close()
    assert found["lock"].said == f"held by process {os.getpid()}: the agent runs"
    check(found["backlog of a"], kind)
    # The samples came in 20 minutes: at that pace the megabyte is full soon, and nothing is sent.
    assert found["buffer"].do == "Fix the destinations that take nothing, or raise buffer.max_size."


def test_the_quarantine(data_dir: Path) -> None:
    fill(data_dir)
    Quarantine(str(data_dir)).put("a", 0, [tick(0)], "rejected", 400, "out of bounds", 1)
    found = look(configured(data_dir))["quarantine"]
    check(found, "warning", do="quarantine list")
    assert found.said == "1 batch, 3 samples are in quarantine"


CLOCKS = [
    (0, "nothing", "fine"),
    (5, "run/systemd/timesync", "warning"),
    (5, "run/chrony", "warning"),
    (5, "nothing", "advice"),
    (None, "run/systemd/timesync/synchronized", "fine"),
    (None, "run/chrony", "advice"),
]


@pytest.mark.parametrize(("kernel", "made", "kind"), CLOCKS)
def test_the_clock(data_dir: Path, tmp_path: Path, kernel: int | None, made: str, kind: str) -> None:
    (tmp_path / made).mkdir(parents=True)
    clock = HostClock(root=str(tmp_path), kernel=lambda: kernel)
    check(look(configured(data_dir), clock=lambda: clock)["clock"], kind, "synchronized")


def test_a_collector_that_cannot_be_read_and_one_that_hangs(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    os.mkfifo(tmp_path / "proc" / "meminfo")  # nobody writes
    config = configured(data_dir, "collect: {collectors: {memory: {timeout: 200ms}}}")
    found = look(config, paths=HostPaths(str(tmp_path / "proc"), str(tmp_path / "sys")))
    os.close(os.open(tmp_path / "proc" / "meminfo", os.O_WRONLY))  # lets the thread go
    check(found["collector memory"], "wrong", "within 0.2 s")
    check(found["collector cpu"], "wrong", "cannot be read", "collect.collectors.cpu.enabled: false")


def test_a_target_that_is_down_and_a_text_file_that_is_left_out(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "a.prom").write_text("bad\n")
    port = free_port()
    target = f"{{url: 'http://127.0.0.1:{port}', job: app}}"
    collectors = f"{{scrape: {{targets: [{target}]}}, textfile: {{directory: {tmp_path}}}}}"
    found = look(configured(data_dir, f"collect: {{collectors: {collectors}}}"))
    down, textfile = found[f"collector scrape/app/127.0.0.1:{port}"], found["collector textfile"]
    check(down, "wrong", "no connection with 127.0.0.1: connection refused", "See that the program runs")
    off = "collect.collectors.textfile.enabled: false"
    check(textfile, "wrong", f"{tmp_path}/a.prom: 1 line left out; not a sample: 'bad'", off)


def test_the_mask(data_dir: Path) -> None:
    assert "mask" not in look(configured(data_dir))
    config = configured(data_dir, "mask: [mountpoint, device]")
    found = look(config)["mask"]
    differ = "masked names are hashed with a temporary key and differ from the agent's"
    said = f"mountpoint, device: there is no key yet; {differ}"
    assert (found.ok, found.said) == (None, said)
    assert not data_dir.exists()
    data_dir.mkdir()
    mask.load(str(data_dir), config.mask)
    assert look(config)["mask"][2:] == (True, f"mountpoint, device, by the key in {data_dir}", None)
    (data_dir / KEY_FILE).write_text("spoiled")
    steps = look(config)
    check(steps["mask"], "wrong", "does not hold 64 hex digits")
    assert steps["collector disk_usage"].ok is not None  # and continues, with names masked somehow


def test_what_a_collector_cannot_read_is_a_warning(data_dir: Path, tmp_path: Path) -> None:
    recorded = Host("server", tmp_path)  # whose list of mounts has two lines that are not a kernel's
    text = "collect: {collectors: {disk_usage: {include_mountpoints: [/nowhere]}}}"
    found = look(configured(data_dir, text), paths=recorded.paths)["collector disk_usage"]
    said = f"but not all: file {recorded.root}/proc/self/mountinfo: it has 2 lines"
    check(found, "warning", said)


def test_what_belongs_to_another_user_is_not_worth_a_warning(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def statvfs(path: bytes) -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("agent.collectors.disk_usage.statvfs", statvfs)
    found = look(configured(data_dir), paths=Host("raspberrypi", tmp_path).paths)["collector disk_usage"]
    assert found.ok is True
    said = "without what its user may not read: mountpoint /: permission denied"
    assert said in found.said
    # A mask hides names from everybody but the person at the terminal.
    for hide in (True, False):
        config = configured(data_dir, "mask: [mountpoint]")
        found = look(config, hide=hide, paths=Host("raspberrypi", tmp_path).paths)["collector disk_usage"]
        assert (said in found.said) is not hide


# The view.


def test_the_view() -> None:
    steps = [
        Step("p", "name", True, "p is \x1b[2J"),
        Step("p", "TLS", True, "3 days left", "Renew it."),
        Step("p", "clock", None, "not tried"),
        Step("p", "window", None, "unknown from outside", "Set it."),
        Step("p", "write", False, "HTTP 500", "Look."),
    ]
    out = StringIO()
    Console(file=out, width=80, highlight=False, markup=False, no_color=True).print(
        screen.renderable(doctor.show(steps))
    )
    assert [line.split() for line in out.getvalue().splitlines()] == [
        ["p"],
        ["✓", "fine", "name", "p", "is", "\\x1b[2J"],
        ["!", "warning", "TLS", "3", "days", "left"],
        ["→", "Renew", "it."],
        ["-", "not", "tried", "clock"],
        ["?", "unknown", "window", "unknown", "from", "outside"],
        ["→", "Set", "it."],
        ["✗", "wrong", "write", "HTTP", "500"],
        ["→", "Look."],
    ]


def test_a_buffer_of_a_later_version_is_reported(tmp_path: Path) -> None:
    make(tmp_path)
    later_segment(path := max((tmp_path / "segments").iterdir()))
    found = look(configured(tmp_path))["buffer"]
    check(found, "wrong", f"{path}: it is of format version 3", "Run the version of Limpet that wrote it")
    assert host.early(configured(tmp_path), "x").seen is None  # the steps report it


# The sample that is read back.


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (b'{"status": "success", "data": {"result": [{"value": [1, "7"]}]}}', True),
        (b'{"status": "success", "data": {"result": [{"value": [1, "6"]}]}}', False),
        (b'{"status": "success", "data": {"result": []}}', False),
        (b'{"status": "error"}', None),
        (b'{"status": "success", "data": {"result": [7]}}', None),
        (b'{"status": "success", "data": {"result": [{"value": [1, "x"]}]}}', None),
        (b'{"status": "success"}', None),
        (b"[]", None),
        (b"<html>", None),
        (b"", None),
        (b"[" * 100_000, None),
    ],
)
def test_what_the_answer_to_a_query_shows(answer: bytes, found: bool | None) -> None:
    assert sample.contains(answer, 7) is found


def test_where_a_receiver_is_queried() -> None:
    url = sample.query_url("https://there:9/prefix/api/v1/write?x=1")
    assert url is not None
    assert url.startswith("https://there:9/prefix/api/v1/query?query=limpet_doctor_sample")
    assert sample.query_url("https://there/api/v1/push") is None
