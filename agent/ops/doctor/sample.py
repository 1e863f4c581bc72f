"""Whether a receiver keeps what it takes: one sample is written as the agent writes, and read back where that is possible.

The sample is of the series `SERIES`, with this host's name and the time as its value; relabeling and the format are the
destination's. A receiver that takes it has to refuse a body that nobody can read, as for the agent. It is read back by the
query of the Prometheus API, next to the path of the `url`; where there is none, or it wants other credentials, that is
no fault.
"""

from __future__ import annotations

import json
import socket
import time
from urllib.parse import quote, urlsplit, urlunsplit

from agent.config import HttpDestination
from agent.destinations import types
from agent.destinations.base import Outcome, Speaks, Verdict
from agent.ops.doctor.receiver import WRITE
from agent.ops.doctor.step import Finding, fine, unknown, wrong
from agent.send.client import Client
from buffer.model import Instant, Series, Tick

SERIES = "limpet_doctor_sample"
QUERY = "/api/v1/query"
LARGEST = 1 << 20
_DO = {
    Verdict.REJECTED: "Look at the receiver's words, and at this host's clock: such samples go into the quarantine.",
    Verdict.RETRY: "Look at the receiver, and at the proxies before it; the agent tries again by itself.",
}
_ELSE = "Correct the url: what answers there does not take samples."
_POLL = 0.25
_MOST_REQUESTS = 4
"""The sample in both formats, and a check of each."""


def check(to: HttpDestination, client: Client, timeout: float) -> Finding:
    """Write the sample, and look for it until `timeout` seconds have passed."""
    end, now_ms = time.monotonic() + timeout, int(time.time() * 1000)
    series = Series(SERIES, (("hostname", socket.gethostname()),), "gauge")
    tick = Tick(Instant(now_ms, 0, ""), "doctor", (series,), [float(now_ms)])
    outcome = _written(types.speaks(to), client, tick, end)
    if outcome is None:
        return unknown(f"write_relabel_configs drop {SERIES}, so it was not sent")
    if outcome.verdict is not Verdict.DELIVERED:
        do = (
            f"{outcome.advice[0].upper()}{outcome.advice[1:]}."
            if outcome.advice
            else _DO.get(outcome.verdict, _ELSE)
        )
        return wrong(client.hidden(outcome.error or f"HTTP {outcome.status}"), do)
    url, found = query_url(to.url), None
    while url is not None and (left := end - time.monotonic()) > 0:
        found = contains(client.get(url, LARGEST, left) or b"", now_ms)
        if found is not False:
            break
        time.sleep(min(_POLL, left))
    if found:
        return fine(f"a sample of {SERIES} was written, and read back")
    if found is None:
        return fine(f"a sample of {SERIES} was taken; it cannot be read back from here")
    do = "A receiver may show new samples late: look for it there in a minute."
    return unknown(f"a sample of {SERIES} was taken, and a query does not find it yet", do)


def _written(speaks: Speaks, client: Client, tick: Tick, end: float) -> Outcome | None:
    """Send the sample as the agent does; None where relabeling leaves nothing of it."""
    taken: Outcome | None = None
    outcome: Outcome | None = None
    for _ in range(_MOST_REQUESTS):
        request, _dropped = speaks().encode([tick], True)
        if not request.samples:
            return None
        check = taken.check if taken is not None else None
        asked = check or request
        outcome = speaks().classify(asked, client.exchange(asked, within=max(0.0, end - time.monotonic())))
        if outcome.verdict is Verdict.UNPROVEN:
            taken = outcome
        elif outcome.verdict is not Verdict.REWRITE:
            return outcome
    return outcome


def query_url(url: str) -> str | None:
    """Return where a receiver that takes writes at `url` is queried for the sample; None for another path."""
    parts = urlsplit(url)
    if not parts.path.endswith(WRITE):
        return None
    selector = quote(f'{SERIES}{{hostname="{socket.gethostname()}"}}')
    path = parts.path.removesuffix(WRITE) + QUERY
    # VictoriaMetrics hides what is newer than half a minute, and caches, unless the query says otherwise.
    return urlunsplit(parts._replace(path=path, query=f"query={selector}&latency_offset=1ms&nocache=1"))


def contains(answer: bytes, value: int) -> bool | None:
    """Return whether the answer to the query has the sample; None: it is no answer of this API."""
    try:
        found = json.loads(answer)
        if found["status"] != "success":
            return None
        return any(float(series["value"][1]) == value for series in found["data"]["result"])
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return None
