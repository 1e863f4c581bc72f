"""`make audit`: pip-audit over the locks, against a database of vulnerabilities on loopback. No answer is never reported as "none found"."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.installed import locked
from tests.support.net import free_port

PROJECT = Path(__file__).resolve().parents[2]
FOUND = {
    "id": "PYSEC-2026-1",
    "summary": "Made up.",
    "details": "Made up.",
    "aliases": [],
    "affected": [{"package": {"name": "h11", "ecosystem": "PyPI"}, "ranges": [], "versions": []}],
}


@contextmanager
def database(vulnerable: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """An OSV server that knows these vulnerabilities by package. Yields its URL, and the packages that were queried so far."""
    asked: list[str] = []

    class Osv(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            name = query["package"]["name"]
            asked.append(name)
            body = json.dumps({"vulns": [vulnerable[name]]} if name in vulnerable else {}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Osv) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1/query", asked
        finally:
            server.shutdown()
            thread.join()


def audit(url: str) -> subprocess.CompletedProcess[str]:
    """The command of the make target, asking this database."""
    if not shutil.which("make"):
        pytest.skip("there is no make")
    dry = ["make", "--dry-run", "--no-print-directory", "audit", f"ARGS=--osv-url {url}"]
    told = subprocess.run(dry, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    command = shlex.split(told.splitlines()[-1])
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False)


def test_everything_in_the_lock_is_looked_up() -> None:
    with database({}) as (url, asked):
        done = audit(url)
    assert done.returncode == 0, done.stderr
    assert set(locked()) - set(asked) <= {"colorama", "tzdata"}  # of the lock, for other systems
    assert "setuptools" in asked


def test_a_vulnerability_is_found() -> None:
    with database({"h11": FOUND}) as (url, _):
        done = audit(url)
    assert done.returncode == 1
    assert "PYSEC-2026-1" in done.stdout


def test_a_database_that_does_not_answer_is_a_failure_reported_in_a_line() -> None:
    done = audit(f"http://127.0.0.1:{free_port()}/v1/query")
    assert done.returncode == 2
    [line] = done.stderr.strip().splitlines()
    assert "gave no answer, so nothing is known" in line and "refused" in line


def test_a_database_that_is_ill_is_a_failure_reported_in_a_line() -> None:
    with database({"h11": "of no known form"}) as (url, _):
        done = audit(url)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
