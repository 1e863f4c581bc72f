"""Where alerts go, on real sockets: a mail server with STARTTLS and a password, and an HTTP receiver for all else.

`mails` and `posts` have what arrived, oldest first, whole. What breaks the rules (mail without TLS or with the wrong
password, a body that is no JSON) is refused, as the real ones do, so it arrives nowhere.
"""

from __future__ import annotations

import json
import ssl
import threading
import time
from contextlib import ExitStack
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.support.certs import Certs
from tests.support.net import free_port
from tests.support.server import Login

LOGIN = Login("limpet@example.com", "mail & secret")
PATHS = {name: f"/{name}/of-a-secret" for name in ("slack", "pagerduty", "webhook")}


class Mail(NamedTuple):
    """A mail that was taken: when (monotonic seconds), to whom, its subject, and its two texts."""

    at: float
    to: tuple[str, ...]
    subject: str
    text: str
    html: str
    headers: dict[str, str]


class Post(NamedTuple):
    """A request with JSON: when (monotonic seconds), for which channel, and what it said."""

    at: float
    channel: str
    said: Any


class Channels:
    """A context manager; `smarthost` and `url(channel)` are where to send."""

    def __init__(self, certs: Certs) -> None:
        self.mails: list[Mail] = []
        self.posts: list[Post] = []
        self.refused: list[str] = []
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certs.server_cert, certs.server_key)
        self._smtp = Controller(
            self,
            hostname="127.0.0.1",
            port=free_port(),
            tls_context=tls,
            require_starttls=True,
            auth_required=True,
            auth_exclude_mechanism=["LOGIN"],  # for which Alertmanager does not know this server's questions
            authenticator=self._authenticate,
        )
        self._http = _Server(("127.0.0.1", free_port()), _Handler)
        self._http.channels = self
        self._stack = ExitStack()

    @property
    def smarthost(self) -> str:
        """Host and port of the mail server."""
        return f"127.0.0.1:{self._smtp.port}"

    def url(self, channel: str) -> str:
        """Where a channel of `PATHS` is posted to."""
        return f"http://127.0.0.1:{self._http.server_address[1]}{PATHS[channel]}"

    def said(self, channel: str) -> list[Any]:
        """Return what was posted to a channel."""
        return [post.said for post in self.posts if post.channel == channel]

    def __enter__(self) -> Self:
        self._smtp.start()
        self._stack.callback(self._smtp.stop)
        thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        for end in (thread.join, self._http.server_close, self._http.shutdown):  # called last to first
            self._stack.callback(end)
        return self

    def __exit__(self, *failure: object) -> None:
        self._stack.close()

    def _authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        good = (
            isinstance(data, LoginPassword)
            and session.ssl is not None
            and (data.login.decode(), data.password.decode()) == LOGIN
        )
        if not good:
            self.refused.append(f"mail: {mechanism}")
        return AuthResult(success=good)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Take a mail."""
        content = envelope.content
        assert isinstance(content, bytes)
        message = message_from_bytes(content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        texts = {part.get_content_type(): part.get_content() for part in message.walk() if _is_text(part)}
        self.mails.append(
            Mail(
                time.monotonic(),
                tuple(envelope.rcpt_tos),
                str(message["Subject"]),
                texts.get("text/plain", "").replace("\r\n", "\n"),
                texts.get("text/html", "").replace("\r\n", "\n"),
                {name: str(value) for name, value in message.items()},
            )
        )
        return "250 OK"

    def take(self, path: str, body: bytes) -> int:
        """Take a post, and return the status of its answer."""
        channel = next((name for name, there in PATHS.items() if path == there), None)
        try:
            said = json.loads(body)
        except ValueError:
            said = None
        if channel is None or said is None:
            self.refused.append(f"{path}: {body[:200]!r}")
            return 404
        self.posts.append(Post(time.monotonic(), channel, said))
        return 202 if channel == "pagerduty" else 200


def _is_text(part: EmailMessage) -> bool:
    return part.get_content_maintype() == "text"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    channels: Channels


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        status = self.server.channels.take(
            self.path, self.rfile.read(int(self.headers.get("Content-Length", "0")))
        )
        self.send_response(status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")  # what Slack answers

    def log_message(self, *_: object) -> None:
        """Say nothing."""
