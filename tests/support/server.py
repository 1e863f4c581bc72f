"""A real server as a context manager: what all of them share, from Prometheus to a proxy.

It listens on a loopback port that stays the same over every restart, keeps everything below a folder of its own,
and says what it says into a file there, whose end a start that fails shows. It ends with the process that started
it, even when that is killed (util-linux's setpriv asks the kernel for it).
"""

from __future__ import annotations

import base64
import shutil
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self
from urllib.parse import urlencode

from buffer.model import Labels
from tests.support.net import free_port, wait_for

if TYPE_CHECKING:
    from tests.support.certs import Certs

START_DEADLINE_S = 30.0
STOP_DEADLINE_S = 30.0

Samples = dict[Labels, list[tuple[int, float]]]


class Login(NamedTuple):
    """A user's name and password."""

    user: str
    password: str


class ServerFailed(RuntimeError):
    """A server did not start or stop, or refused a question; the message holds what it said."""


def tied(command: list[str]) -> list[str]:
    """Return the command so that it gets SIGTERM when its parent ends, however that ends."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM", *command] if setpriv else command


class Server:
    """A program that serves below `folder`, at `url`: with `certs` over TLS, with `login` for that user alone.

    A kind of server says how it is started (`command`, which writes what it needs below `folder`), and when it
    is ready (`is_ready`, which may raise what a server that is not there yet makes one raise).
    """

    name = "the server"
    taken = "address already in use"
    """What it says, in lower case, when somebody else has its port."""

    def __init__(
        self,
        program: Path,
        folder: Path,
        *,
        certs: Certs | None = None,
        login: Login | None = None,
        port: int | None = None,
    ) -> None:
        self.program, self.folder, self.certs, self.login = program, folder, certs, login
        self.log = folder / f"{self.name.lower()}.log"
        self._fixed_port = port is not None
        self.port = port or free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._tls: ssl.SSLContext | None = None
        if certs is not None:
            self._tls = ssl.create_default_context(cafile=str(certs.ca))
            self._tls.load_cert_chain(certs.client_cert, certs.client_key)

    def command(self) -> list[str]:
        """Return the command that starts it in the foreground."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        """Whether it serves."""
        raise NotImplementedError

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
        return f"{'https' if self.certs else 'http'}://127.0.0.1:{self.port}"

    @property
    def write_url(self) -> str:
        """Where to push."""
        return f"{self.url}/api/v1/write"

    @property
    def pid(self) -> int | None:
        """Its process, None when it does not run."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        """Start it and return when it is ready. Raises ServerFailed when it is not within 30 s."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for attempts_left in (4, 3, 2, 1, 0):
            try:
                self._start()
                break
            except ServerFailed as error:
                self.kill()
                # Between choosing a port and using it, somebody else may have taken it.
                if self._fixed_port or not attempts_left or self.taken not in str(error).lower():
                    raise
                self.port = free_port()
        self._fixed_port = True

    def _start(self) -> None:
        command = self.command()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                tied(command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            wait_for(self._ready, START_DEADLINE_S, f"{self.name} to be ready")
        except AssertionError as error:
            raise ServerFailed(f"{error}\n{self.tail()}") from None

    def _ready(self) -> bool:
        if self.pid is None:
            raise ServerFailed(f"{self.name} ended at its start:\n{self.tail()}")
        try:
            return self.is_ready()
        except (OSError, ServerFailed):
            return False

    def stop(self) -> None:
        """End it in good order (SIGTERM). Raises ServerFailed when it takes more than 30 s."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise ServerFailed(f"{self.name} did not stop:\n{self.tail()}") from None
        finally:
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.kill()
        if failure[0] is not None:
            print(f"The end of {self.log}:\n{self.tail()}", file=sys.stderr)

    def tail(self, lines: int = 20) -> str:
        """Return the last lines of what it said."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def get(self, path: str, parameters: dict[str, str] | None = None) -> bytes:
        """Return what is at a path. Raises ServerFailed with its words for another answer than 2xx."""
        query = f"?{urlencode(parameters)}" if parameters else ""
        request = urllib.request.Request(self.url + path + query)
        if self.login:
            token = base64.b64encode(f"{self.login.user}:{self.login.password}".encode()).decode()
            request.add_header("Authorization", f"Basic {token}")
        try:
            with urllib.request.urlopen(request, timeout=10, context=self._tls) as answer:
                body: bytes = answer.read()
                return body
        except urllib.error.HTTPError as error:
            with error:
                said = error.read().decode(errors="replace")
            raise ServerFailed(f"{path}: HTTP {error.code}: {said}") from None
