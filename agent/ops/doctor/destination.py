"""The walk to one destination: each step needs the one before, and the first that fails ends it.

Every request goes through the sender's own `Client`, and an error has the sender's own words, so that the walk and the
agent come to the same verdict. No step takes longer than the
timeout by more than GRACE.
"""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from agent import __version__, crew
from agent.config import HttpDestination, RemoteWrite
from agent.destinations import types
from agent.destinations.base import Outcome, Request, Verdict
from agent.destinations.remote_write import formats
from agent.destinations.remote_write.protocol import Protocol
from agent.destinations.verdict import TLS_PORT
from agent.http import endpoint
from agent.http.answer import Answer
from agent.http.certificates import Certificate, ends
from agent.http.failures import Cause, Failure, failure
from agent.http.proxy import Proxy, route
from agent.http.secrets import secrets
from agent.ops.doctor import certificate, receiver, sample
from agent.ops.doctor.step import NOT_TRIED, Finding, Step, fine, step, unknown, warning, wrong
from agent.send.client import Client
from buffer.errors import LimpetError

GRACE = 0.5
"""Seconds beyond the timeout after which a step is given up that does not end by itself."""

Address = tuple[Any, ...]
Found = Sequence[tuple[Any, int, int, str, Address]]
"""What `socket.getaddrinfo` returns."""

_ASKED = (401, 403, 407)
_DO = {
    Cause.ADDRESS: "Check the url, and the name servers of this host (/etc/resolv.conf).",
    Cause.TIMEOUT: "Look at name servers, routes and firewalls on the way, and at the receiver.",
    Cause.UNREACHABLE: "Check host and port of the url, that the receiver runs, and the firewalls on the way.",
}
"""What to do, by the cause of a failure."""
_REMOTE_WRITE = (
    "Correct the url: Prometheus takes writes at /api/v1/write, and only when it was started with "
    "--web.enable-remote-write-receiver."
)
_NO_PATH = "Give the url its path: Prometheus takes writes at /api/v1/write."
_INFLUXDB = "Correct url, api, db, rp, org and bucket, or make there what is missing."


Resolve = Callable[[str, int], Found]


def _resolve(host: str, port: int) -> Found:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


class _Exchange(NamedTuple):
    """The empty write: what came back and when by the receiver's clock, our clock before and after (Unix seconds),
    how long it took (s).
    """

    outcome: Outcome
    date: str | None
    begun: float
    ended: float
    took: float


def walk(to: HttpDestination, timeout: float, resolve: Resolve = _resolve) -> Iterator[Step]:
    """Yield every step as it is done, the ones that were not tried as well. Nothing is raised."""
    visit, going = _Visit(to, timeout, resolve), True
    known = secrets(visit.endpoint)
    try:
        for title, take in visit.steps():
            found = unknown(NOT_TRIED)
            if going:
                found = _found(take, visit, timeout)
                going = found.ok is not False
            yield step(to.name, title, found, known | visit.learned)
    finally:
        visit.client.interrupt()  # a step that was given up may still be in it
        visit.client.close()


def _found(take: Callable[[], Finding], visit: _Visit, timeout: float) -> Finding:
    host = visit.host
    try:
        return crew.call(take, timeout + GRACE)
    except LimpetError as error:
        return wrong(f"{error.where}: {error.what}", error.do)
    except ValueError as error:  # a name that no host can have
        return wrong(failure(error, host).text, "Correct the url, or tls_config.server_name.")
    except OSError as error:
        found = failure(error, host if visit.proxy is None else visit.proxy.host)
        if found.cause is Cause.TLS:
            return wrong(found.text, certificate.refused(found.verify_code))
        if visit.proxy is not None:
            return wrong(
                found.text, f"Check proxy_url, and that the proxy {visit.proxy!r} runs and is reached."
            )
        return wrong(found.text, _DO.get(found.cause, _DO[Cause.UNREACHABLE]))


def _no_token(found: Failure) -> Finding:
    if found.cause is Cause.TLS and found.holds:
        return wrong(found.text, certificate.refused(found.verify_code, "token server", "oauth2."))
    if found.holds:
        return wrong(found.text, "Correct oauth2, or what the token server knows of this client.")
    do = "Check token_url, that the token server runs, and the way to it; the agent tries again by itself."
    return wrong(found.text, do)


Classify = Callable[[Request, Answer | Failure], Outcome]


def _empty_write(
    client: Client, request: Request, classify: Classify, within: float
) -> tuple[Outcome, str | None]:
    """Send an empty write; return what it means, and the answer's Date."""
    answer = client.exchange(request, within=within)
    outcome = classify(request, answer)
    date = answer.headers.get("date") if isinstance(answer, Answer) else None
    return outcome._replace(error=outcome.error and client.hidden(outcome.error)), date


def _correct(to: HttpDestination, error: str) -> str:
    """Return what to correct where something answers that takes no writes."""
    if TLS_PORT in error:
        return "Begin the url with https://, and set tls_config.ca_file if the authority is your own."
    if not isinstance(to, RemoteWrite):
        return _INFLUXDB
    return _NO_PATH if urlsplit(to.url).path in ("", "/") else _REMOTE_WRITE


class _Visit:
    def __init__(self, to: HttpDestination, timeout: float, resolve: Resolve) -> None:
        self._to, self._timeout, self._resolve = to, timeout, resolve
        self.endpoint = endpoint.of_destination(to)
        self.host = self.endpoint.host
        self._port = urlsplit(to.url).port or (443 if self.endpoint.is_https else 80)
        self.client = Client(to, __version__)
        self._message = to.protobuf_message if isinstance(to, RemoteWrite) else None
        """Of remote write, which protocol it is to be; None: it is another type."""
        self.proxy: Proxy | None = None
        """The one on the way, once the name was looked up."""
        self._found: Found = ()
        self._exchanged: _Exchange  # which the step "authentication" sets, or ends the walk
        self.learned: set[str] = set()
        """Secrets that were not known before the walk."""

    def steps(self) -> tuple[tuple[str, Callable[[], Finding]], ...]:
        """Return the steps, in order."""
        return (
            ("name", self._name),
            ("connection", self._connection),
            ("TLS", self._tls),
            ("authentication", self._authentication),
            ("empty write", self._write),
            *((("protocol", self._protocol),) if self._message else ()),
            ("clock", self._clock),
            *((("window", self._window),) if self._message else ()),
            ("sample", self._sample),
        )

    def _empty(self, within: float, spoken: Protocol | None = None) -> tuple[Outcome, str | None]:
        """Send an empty write of the destination's type, of this protocol where that is remote write."""
        if spoken is not None:
            request, wall = formats.probe(spoken), time.time
            return _empty_write(
                self.client, request, lambda sent, answer: formats.classify(sent, answer, wall()), within
            )
        plain = types.speaks(self._to)()
        return _empty_write(self.client, plain.probe(), plain.classify, within)

    def _name(self) -> Finding:
        """Look up the host, or the proxy on the way there, which looks it up itself."""
        self.proxy = proxy = route(self.endpoint, os.environ)
        host, self._port = (proxy.host, proxy.port) if proxy else (self.host, self._port)
        found = self._resolve(host, self._port)
        if not found:
            return wrong(f"the name {host} has no address", "Check the url, or the proxy's.")
        self._found = found
        addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
        said = f"{host} is {', '.join(addresses)}" if addresses != [host] else host
        return fine(f"through the proxy {said}" if proxy else said)

    def _connection(self) -> Finding:
        """Try every address: the agent takes the first that answers, and loses time at those before."""
        end = time.monotonic() + self._timeout
        good, bad = [], []
        error: OSError | None = None
        for i, one in enumerate(self._found):
            begun = time.monotonic()
            patience = max(0.001, (end - begun) / (len(self._found) - i))
            try:
                socket.create_connection(one[4][:2], patience).close()
            except OSError as raised:
                error = TimeoutError("no connection in time") if isinstance(raised, TimeoutError) else raised
                bad.append((one, f"{one[4][0]} ({failure(error, self.host).text})"))
            else:
                good.append((one, f"{one[4][0]} in {(time.monotonic() - begun) * 1000:.0f} ms"))
        if error is not None and not good:
            raise error
        self._found = [one for one, _ in good]
        said = f"port {self._port} answers at {', '.join(text for _, text in good)}"
        if not bad:
            return fine(said)
        said += f", not at {', '.join(text for _, text in bad)}"
        return warning(said, "Fix or remove the addresses that do not answer: each try of them costs time.")

    def _tls(self) -> Finding:
        context = endpoint.tls(self.endpoint)
        if context is None:
            return fine("none: plain http")
        if self.proxy:
            return unknown("it is within the proxy's tunnel, where the empty write tries it")
        verified = context.verify_mode is not ssl.CERT_NONE
        try:
            how, chain = self._handshake(context, verified=verified)
        except ssl.SSLCertVerificationError as error:
            found = failure(error, self.host)
            return wrong(f"{found.text}{self._presented()}", certificate.refused(found.verify_code))
        except TimeoutError:
            return wrong("no TLS handshake in time", "Check that this port speaks TLS.")
        return certificate.verdict(chain, how, time.time(), verified=verified)

    def _handshake(self, context: ssl.SSLContext, *, verified: bool) -> tuple[str, list[Certificate]]:
        with socket.create_connection(self._found[0][4][:2], self._timeout) as plain:
            name = self._to.tls_config.server_name or self.host
            with context.wrap_socket(plain, server_hostname=name) as sock:
                inner: Any = sock._sslobj  # type: ignore[attr-defined]  # noqa: SLF001  public from 3.13 on, as bytes only
                chain = inner.get_verified_chain() if verified else inner.get_unverified_chain()
                return sock.version() or "TLS", [one.get_info() for one in chain]

    def _presented(self) -> str:
        """Describe the certificate that was not accepted."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            _, chain = self._handshake(context, verified=False)
        except OSError:
            return ""
        own = chain[0]
        until = time.strftime("%Y-%m-%d", time.gmtime(ends(own)))
        who = f"for {certificate.names(own)}, issued by {certificate.issuer(own)}, good until {until}"
        return f"; it is {who}"

    def _authentication(self) -> Finding:
        to = self._to
        endpoint.headers(self.endpoint)  # says what is wrong with a file, and what to do
        within = self._timeout
        if self.client.session.tokens is not None:
            started = time.monotonic()
            found = self.client.session.tokens.authorization(to.remote_timeout, within)
            if isinstance(found, Failure):
                return _no_token(found)
            self.learned = {found.decode().partition(" ")[2]}
            within -= time.monotonic() - started
        started, begun = time.monotonic(), time.time()
        first = Protocol.V2 if self._message == Protocol.V2.value else Protocol.V1
        outcome, date = self._empty(within, first if self._message else None)
        if outcome.status == 415 and self._message == "auto":  # then the agent sends 2.0
            within = max(0.0, within - (time.monotonic() - started))
            newer, _ = self._empty(within, Protocol.V2)
            outcome = outcome if newer.written is None else newer
        self._exchanged = _Exchange(outcome, date, begun, time.time(), time.monotonic() - started)
        how = next((key for key in ("basic_auth", "authorization", "oauth2") if getattr(to, key)), None)
        if outcome.status in _ASKED:
            said = outcome.error or f"HTTP {outcome.status}"
            if how is None:
                do = "Set basic_auth, authorization or oauth2: the receiver asks for credentials."
                return wrong(said, do)
            return wrong(said, f"Correct {how}, or the rights of this user at the receiver.")
        if outcome.verdict is not Verdict.DELIVERED:
            return unknown("unknown: the empty write was not taken")
        return fine(f"accepted ({how})" if how else "none is configured, and the receiver wants none")

    def _write(self) -> Finding:
        done = self._exchanged
        outcome, status = done.outcome, done.outcome.status
        if outcome.verdict is Verdict.DELIVERED:
            return fine(f"HTTP {status} in {done.took * 1000:.0f} ms")
        if outcome.verdict is Verdict.HELD:
            certificate_needed = (
                "Fix this; a receiver that wants a certificate needs tls_config.cert_file and key_file."
            )
            do = _correct(self._to, outcome.error or "") if status else certificate_needed
        elif outcome.verdict is Verdict.RETRY:
            do = "Look at the receiver, and at the proxies before it; the agent tries again by itself."
        elif status == 415 and self._message not in (None, "auto"):
            do = "Set protobuf_message to auto, so that what the receiver takes is sent."
        elif outcome.verdict is Verdict.TOO_LARGE:
            do = "Raise the largest request that the receiver, or a proxy before it, takes."
        else:
            do = f"{_correct(self._to, outcome.error or '')} Nothing is sent until an empty write or a part of the samples is taken."
        return wrong(outcome.error or "no answer", do)

    def _protocol(self) -> Finding:
        """Ask with an empty write in 2.0: only the counts in the answer show that it was understood."""
        message = self._message
        if message == Protocol.V1.value:
            return fine("remote write 1.0 is taken, which is what is configured")
        outcome, _ = self._empty(self._timeout, Protocol.V2)
        if outcome.verdict is Verdict.DELIVERED and outcome.written is not None:
            return fine("remote write 2.0 is taken")
        if outcome.verdict in (Verdict.RETRY, Verdict.HELD):
            return warning(f"2.0 was tried: {outcome.error}", "Try again.")
        said = outcome.error or f"HTTP {outcome.status} without the counts"
        if message == Protocol.V2.value:
            return wrong(f"remote write 2.0 is not spoken there: {said}", "Set protobuf_message to auto.")
        return fine(f"remote write 1.0 is taken, and sent; 2.0 is not spoken there ({said})")

    def _clock(self) -> Finding:
        done = self._exchanged
        return receiver.agree(done.date, done.begun, done.ended)

    def _window(self) -> Finding:
        url = receiver.config_url(self._to.url)
        answer = url and self.client.get(url, receiver.LARGEST_CONFIG, self._timeout)
        return receiver.window(answer or b"")

    def _sample(self) -> Finding:
        """Write a sample, and read it back."""
        return sample.check(self._to, self.client, self._timeout)
