"""What is exchanged: requests, answers, and refusals, which are answers that say no.

Answers of the API have the shape of Prometheus's: `{"status": "error", "errorType": ..., "error": ...}` where it is a
refusal. Source: "Format overview" of Prometheus's documentation (querying/api).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MOST_PARAMETERS = 1000


class Peer(NamedTuple):
    """Who is at the other end of a connection.

    Attributes:
        address: the IP address; on a Unix socket the process and the user, as `uid=1000 pid=42`.
        port: the port, 0 on a Unix socket.
        certificate: the name in a client certificate that was verified (the subject's common name, else the first
            alternative name), None without one.
    """

    address: str
    port: int = 0
    certificate: str | None = None


class Request(NamedTuple):
    """A request as a whole. Header names are in lower case; of a header that is there twice the last one counts."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    peer: Peer

    def parameters(self) -> Parameters:
        """Return the parameters of the URL and of a form in the body. Raises Refusal."""
        form = b""
        if self.method == "POST" and self.headers.get("content-type", "").partition(";")[0].strip() == FORM:
            form = self.body
        try:
            # Those of the body come first, as in Go's ParseForm.
            pairs = parse_qsl(form.decode(), keep_blank_values=True, max_num_fields=MOST_PARAMETERS)
            pairs += parse_qsl(self.query, keep_blank_values=True, max_num_fields=MOST_PARAMETERS)
        except ValueError:
            raise bad_data(f"the parameters are not UTF-8, or more than {MOST_PARAMETERS}") from None
        return Parameters(pairs)


class Parameters:
    """The parameters of a request, by name."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._pairs = pairs

    def get(self, name: str) -> str:
        """Return the first value, empty where there is none."""
        return next((value for key, value in self._pairs if key == name), "")

    def all(self, name: str) -> list[str]:
        """Return every value."""
        return [value for key, value in self._pairs if key == name]


class Answer(NamedTuple):
    """An answer; `headers` are those besides its type and length. `is_packed`: its headers say how the body is encoded."""

    status: int
    body: bytes
    type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()
    is_packed: bool = False


class Refusal(Exception):
    """The request is answered with an error: an HTTP status, a type of Prometheus's, and what is wrong in words."""

    def __init__(
        self, status: int, type_: str, error: str, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        super().__init__(error)
        self.status, self.type, self.error, self.headers = status, type_, error, headers

    def answer(self) -> Answer:
        """Return it as an answer."""
        body = json_bytes({"status": "error", "errorType": self.type, "error": self.error})
        return Answer(self.status, body, headers=self.headers)


def bad_data(error: str) -> Refusal:
    """Return the refusal of a parameter that is wrong."""
    return Refusal(400, "bad_data", error)


def json_bytes(document: Any) -> bytes:
    """Return a JSON document."""
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()


def success(data: Any, warnings: list[str] | None = None) -> Answer:
    """Return an answer of the API."""
    document = {"status": "success", "data": data} | ({"warnings": warnings} if warnings else {})
    return Answer(200, json_bytes(document))
