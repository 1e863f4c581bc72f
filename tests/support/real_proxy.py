"""Real proxies as context managers: a forward proxy on the way out, and a reverse proxy before a receiver."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.support.certs import Certs
from tests.support.server import Login, Server, ServerFailed


class Tinyproxy(Server):
    """A forward proxy, `url` is for proxy_url: CONNECT, and requests with whole URLs. With `login` for it alone."""

    name = "tinyproxy"
    taken = "could not create listening sockets"

    def __init__(self, program: Path, folder: Path, *, login: Login | None = None) -> None:
        super().__init__(program, folder, login=login)

    def command(self) -> list[str]:
        """Return the command, with a configuration that was just written."""
        lines = [
            f"Port {self.port}",
            "Listen 127.0.0.1",
            "Allow 127.0.0.1",
            "Timeout 60",
            "MaxClients 20",
            f'PidFile "{self.folder / "pid"}"',
            "LogLevel Connect",  # to its output, since there is no LogFile
            "DisableViaHeader Yes",
        ]
        if self.login:
            lines.append(f"BasicAuth {self.login.user} {self.login.password}")
        config = self.folder / "tinyproxy.conf"
        config.write_text("\n".join(lines) + "\n")
        return [str(self.program), "-d", "-c", str(config)]

    def is_ready(self) -> bool:
        """Whether it listens."""
        socket.create_connection(("127.0.0.1", self.port), 1).close()
        return True

    def asked(self) -> list[str]:
        """Return the first lines of the requests that it has got so far."""
        lines = self.log.read_text(errors="replace").splitlines()
        return [line.partition("): ")[2] for line in lines if "Request (file descriptor" in line]


class Nginx(Server):
    """A reverse proxy with TLS before the server at `to`; it takes only clients with a certificate of `certs`.

    Bodies are at most `largest`, as its configuration writes sizes.
    """

    name = "nginx"

    def __init__(
        self, program: Path, folder: Path, to: Server, *, certs: Certs, largest: str = "64m"
    ) -> None:
        super().__init__(program, folder, certs=certs)
        self.to, self.largest = to, largest

    def command(self) -> list[str]:
        """Return the command, with a configuration that was just written."""
        assert self.certs is not None
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = "".join(f"  {kind}_temp_path {self.folder / kind};\n" for kind in kinds)
        config = self.folder / "nginx.conf"
        config.write_text(
            f"""\
daemon off;
master_process off;
pid {self.folder / "nginx.pid"};
error_log stderr;
events {{}}
http {{
{temporary}  access_log off;
  server {{
    listen 127.0.0.1:{self.port} ssl;
    ssl_certificate {self.certs.server_cert};
    ssl_certificate_key {self.certs.server_key};
    ssl_client_certificate {self.certs.ca};
    ssl_verify_client on;
    client_max_body_size {self.largest};
    location / {{ proxy_pass {self.to.url}; proxy_http_version 1.1; }}
  }}
}}
"""
        )
        return [str(self.program), "-p", str(self.folder), "-c", str(config), "-e", "stderr"]

    def is_ready(self) -> bool:
        """Whether it passes on what the server answers, whatever that is."""
        try:
            self.get("/")
        except ServerFailed as error:
            return "HTTP 502" not in str(error)
        return True


class Vmauth(Server):
    """VictoriaMetrics' router before the server at `to`: it passes on what comes below `paths`, and `reload` changes these."""

    name = "vmauth"

    def __init__(self, program: Path, folder: Path, to: Server, paths: str = "/api/v1/.*") -> None:
        super().__init__(program, folder)
        self.to, self.paths = to, paths

    @property
    def _config(self) -> Path:
        return self.folder / "auth.yml"

    def command(self) -> list[str]:
        """Return the command, with a configuration that was just written."""
        self._write()
        return [
            str(self.program),
            f"-auth.config={self._config}",
            f"-httpListenAddr=127.0.0.1:{self.port}",
        ]

    def reload(self, paths: str) -> None:
        """Pass on other paths from now on."""
        self.paths = paths
        self._write()
        self.get("/-/reload")

    def _write(self) -> None:
        self._config.write_text(
            "unauthorized_user:\n"
            f"  url_map:\n    - {{src_paths: ['{self.paths}'], url_prefix: '{self.to.url}/'}}\n"
        )

    def is_ready(self) -> bool:
        """Whether it says so itself."""
        return self.get("/health") == b"OK"
