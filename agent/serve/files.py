"""The files of the page: a table of names and bytes, made when this is imported. No path of a request is that of a file.

Every file in `agent/serve/page` is in it, packed too where that makes it smaller. `index.html` is also `/`.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from importlib import resources
from typing import NamedTuple

from agent.serve.message import Answer

TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "ico": "image/x-icon",
    "js": "text/javascript; charset=utf-8",
    "png": "image/png",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
    "woff2": "font/woff2",
}
"""What a file is, by the end of its name; any other is plain text."""
INDEX = "index.html"


class File(NamedTuple):
    """A file of the page: its bytes, and the same with gzip, empty where that is not smaller."""

    body: bytes
    packed: bytes
    type: str
    tag: str
    """Changes with the content."""

    def answer(self, *, packed: bool, known: str) -> Answer:
        """Return it, or that the client has it, who knows the tags in `known`; with gzip if he takes it."""
        headers = (("ETag", self.tag), ("Cache-Control", "no-cache"), ("Vary", "Accept-Encoding"))
        if self.tag in known:
            return Answer(304, b"", self.type, headers, is_packed=True)
        if packed and self.packed:
            return Answer(
                200, self.packed, self.type, (*headers, ("Content-Encoding", "gzip")), is_packed=True
            )
        return Answer(200, self.body, self.type, headers, is_packed=True)


def _read() -> dict[str, File]:
    found = {}
    for one in resources.files("agent.serve").joinpath("page").iterdir():
        if one.is_file() and not one.name.startswith((".", "__")):
            body = one.read_bytes()
            packed = gzip.compress(body, 9, mtime=0)
            tag = f'"{hashlib.sha256(body).hexdigest()[:24]}"'
            kind = TYPES.get(one.name.rpartition(".")[2], TYPES["txt"])
            found[one.name] = File(body, packed if len(packed) < len(body) else b"", kind, tag)
    return found


def styles(page: bytes) -> list[str]:
    """Return the hashes of the styles in a page, as a Content-Security-Policy has them: those are allowed, and no other."""
    found = re.findall(rb"<style>(.*?)</style>", page, re.DOTALL)
    return [f"'sha256-{base64.b64encode(hashlib.sha256(one).digest()).decode()}'" for one in found]


FILES = _read()
"""The table, by name."""
STYLES = styles(FILES[INDEX].body)
