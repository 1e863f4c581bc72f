"""A small receiver for remote write 1.0 and 2.0, on a real socket, that answers by a script.

It decodes what arrives by `tests.support.wire`, which is stricter than Prometheus: a request that breaks the
specification is answered 400 and kept in `broken`. Answers are scripted as a list; when the list is used up,
`refuse` may answer by what is in the request, else `default` does (204). `requests` has all that could be decoded,
from the moment they are there; only those that are answered 2xx count as `accepted`, and those whose client was cut
off before the answer do not. The answer to a 2.0 message counts what was written: all with 2xx, else nothing.

A script's answer that is not 2xx is what goes wrong before a request is read: it is given to either protocol. Else
what comes in a protocol that it does not speak is kept in `foreign`, and answered 415 as remote write 2.0 requires, 400
as an old server that tries to read it, or 204 as one that reads it and finds nothing ("silent", as VictoriaMetrics
does). What nobody can read is answered 400, and an empty write after a refusal is taken, as every receiver does, and so is a
sample for now after everything was refused: these three are in `checks`, and in no other list. `to_unreadable`, `to_empty` and
`to_fresh` are other answers to them; `to_empty` is one to every empty write. Without `takes_empty_writes` an empty write is answered as the script says.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

from agent.destinations.remote_write.outcome import REFUSING
from agent.destinations.remote_write.protocol import UNREADABLE
from tests.support import ticks
from tests.support.tcp import Handler, WebServer
from tests.support.wire import Labels, Version, WireError, Write, decode, is_fresh

LARGEST_BODY = 64 * 1024 * 1024

Speaks = Literal["1.0", "2.0", "both"]
Foreign = Literal["415", "400", "silent"]

HEADERS: Mapping[Version, Mapping[str, str]] = {
    "1.0": {
        "Content-Encoding": "snappy",
        "Content-Type": "application/x-protobuf",
        "X-Prometheus-Remote-Write-Version": "0.1.0",
    },
    "2.0": {
        "Content-Encoding": "snappy",
        "Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request",
        "X-Prometheus-Remote-Write-Version": "2.0.0",
    },
}
"""What a request has to come with."""

WRITTEN = "X-Prometheus-Remote-Write-{}-Written"


class Answer(NamedTuple):
    """What a request is answered: after `delay_s`, or never (`hang`), or by a closed connection (`close`)."""

    status: int = 204
    headers: Mapping[str, str] = {}
    body: bytes = b""
    delay_s: float = 0.0
    hang: bool = False
    close: bool = False


class Received(NamedTuple):
    """A request: when it was there (monotonic seconds), what it was, and what it is to be answered."""

    at: float
    method: str
    path: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes
    write: Write
    answer: Answer


class Receiver(WebServer):
    """A context manager; `url` is where to push. The last `keep` requests are kept whole.

    `read` decodes what is no remote write, and `unreadable` is what it cannot read. `speaks` says which protocols it knows, `to_foreign` how it answers the other.
    All that may be changed while it
    runs, and so may `counts`: whether a 2.0 message is answered with the counts. An answer of the script may have
    counts of its own among its headers.
    """

    def __init__(
        self,
        answers: Iterable[Answer] = (),
        *,
        keep: int | None = None,
        speaks: Speaks = "both",
        to_foreign: Foreign = "415",
        counts: bool = True,
        read: Callable[[bytes, Mapping[str, str]], Write] | None = None,
        unreadable: bytes = UNREADABLE,
        **server: Any,
    ) -> None:
        super().__init__(**server)
        self._unreadable = unreadable
        self._read = read or (lambda body, headers: decode(body, _version(headers)))
        self.speaks, self.to_foreign, self.counts = speaks, to_foreign, counts
        self.default = Answer()
        self.refuse: Callable[[Write], Answer | None] = lambda _: None
        self.answers: deque[Answer] = deque(answers)
        self.requests: deque[Received] = deque(maxlen=keep)
        self.accepted: deque[Write] = deque(maxlen=keep)
        self.broken: deque[tuple[str, bytes]] = deque(maxlen=keep)
        self.foreign: deque[Received] = deque(maxlen=keep)
        self.checks: deque[bytes] = deque(maxlen=keep)
        self.to_empty: Answer | None = None
        self.to_unreadable: Answer | None = None
        self.to_fresh: Answer | None = None
        self.takes_empty_writes = True
        self._has_refused = False
        self.latest: dict[Labels, tuple[int, float]] = {}
        self.samples = 0
        self.writes = 0
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """The address to push to."""
        return f"{super().url}/api/v1/write"

    def received(self) -> dict[Labels, list[tuple[int, float]]]:
        """Return the samples of the kept requests that were answered 2xx, in the order of arrival.

        Without the markers of series that ended: those are in `ended`.
        """
        return ticks.values(self.everything())

    def ended(self) -> dict[Labels, list[int]]:
        """Return when each series ended, by the markers in those requests."""
        return ticks.ends(self.everything())

    def everything(self) -> dict[Labels, list[tuple[int, float]]]:
        """Return all that is in those requests."""
        samples: dict[Labels, list[tuple[int, float]]] = {}
        with self._lock:
            for write in self.accepted:
                for series in write.series:
                    samples.setdefault(series.labels, []).extend(series.samples)
        return samples

    def take(self, handler: Handler) -> None:
        """Decode a request, and answer it by the script."""
        at = time.monotonic()
        headers = handler.lowered()
        length = int(headers.get("content-length", "0"))
        if length > LARGEST_BODY:
            self._reply(handler, Answer(413))
            return
        body = handler.rfile.read(length)
        if len(body) < length:  # the client was killed, or has given up: this is no request
            handler.close_connection = True
            return
        if body == self._unreadable:
            self.checks.append(body)
            self._reply(handler, self.to_unreadable or Answer(400, body=b"proto: integer overflow\n"))
            return
        try:
            write = self._read(body, headers)
        except WireError as error:
            with self._lock:
                self.broken.append((str(error), body))
            self._reply(handler, Answer(400, body=f"{error}\n".encode()))
            return
        if not write.samples and (self.to_empty or (self._has_refused and self.takes_empty_writes)):
            self.checks.append(body)
            counts = _counts(0) if write.version == "2.0" and self.counts else {}
            self._reply(handler, self.to_empty or Answer(headers=counts))
            return
        if is_fresh(write):
            self.checks.append(body)
            counts = _counts(1) if write.version == "2.0" and self.counts else {}
            self._reply(handler, self.to_fresh or Answer(headers=counts))
            return
        with self._lock:
            scripted = self.answers.popleft() if self.answers else None
        understood = self.speaks in ("both", write.version)
        if not understood and (scripted is None or scripted.status // 100 == 2):
            answer = FOREIGN[self.to_foreign]
            with self._lock:
                self.foreign.append(Received(at, handler.command, handler.path, headers, body, write, answer))
            self._reply(handler, answer)
            return
        with self._lock:
            answer = scripted or self.refuse(write) or self.default
            self._has_refused = answer.status in REFUSING
            self.requests.append(Received(at, handler.command, handler.path, headers, body, write, answer))
        if self.stopping.wait(None if answer.hang else answer.delay_s) or answer.close:
            handler.close_connection = True
            return
        if answer.status // 100 == 2:
            with self._lock:
                self.accepted.append(write)
                self.samples += write.samples
                self.writes += 1
                for series in write.series:
                    self.latest[series.labels] = series.samples[-1]
        if write.version == "2.0" and self.counts and understood:
            written = write.samples if answer.status // 100 == 2 else 0
            own = {name.lower() for name in answer.headers}
            told = {name: value for name, value in _counts(written).items() if name.lower() not in own}
            answer = answer._replace(headers={**told, **answer.headers})
        self._reply(handler, answer)

    def _reply(self, handler: Handler, answer: Answer) -> None:
        if "Date" in answer.headers:  # the script's clock instead of ours
            handler.send_response_only(answer.status)
        else:
            handler.send_response(answer.status)
        for name, value in answer.headers.items():
            handler.send_header(name, value)
        if answer.status != 204:
            handler.send_header("Content-Length", str(len(answer.body)))
        handler.end_headers()
        if answer.status != 204:
            handler.wfile.write(answer.body)


FOREIGN: Mapping[Foreign, Answer] = {
    "415": Answer(415, body=b"this message is not supported\n"),
    "400": Answer(400, body=b"proto: illegal wireType\n"),
    "silent": Answer(204),
}


def _version(headers: Mapping[str, str]) -> Version:
    """Return the protocol of the headers. Raises WireError where they are not those of one."""
    for version, expected in HEADERS.items():
        if all(headers.get(name.lower()) == value for name, value in expected.items()):
            return version
    shown = {name: headers.get(name.lower()) for name in HEADERS["1.0"]}
    raise WireError(f"headers of no protocol: {shown}")


def _counts(samples: int) -> dict[str, str]:
    return {
        WRITTEN.format("Samples"): str(samples),
        WRITTEN.format("Histograms"): "0",
        WRITTEN.format("Exemplars"): "0",
    }
