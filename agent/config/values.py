"""The kinds of value a key can have: how each is read from its text, and what to say when it cannot be.

`Leaf` stands in a field's annotation. Its `read` takes the text as written and returns the value or raises
`Wrong`, which completes "the key is wrong, because": a phrase that says what was expected, and what to do.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple, get_args
from urllib.parse import SplitResult, urlsplit

from agent.config.units import parse_duration, parse_size


class Wrong(Exception):
    """A text is not what its key takes. `what` is a phrase, `do` whole sentences."""

    def __init__(self, what: str, do: str) -> None:
        super().__init__(what)
        self.what, self.do = what, do


class Leaf(NamedTuple):
    """How a single value is read. `shown`: an error may repeat what was written.

    A `file` is one that must be readable when the configuration is loaded, and so is a `root`, which is a
    folder; a `folder` may not exist yet. All are joined to the folder of the configuration.
    """

    read: Callable[[str], Any]
    shown: bool = True
    kind: Literal["value", "file", "folder", "root"] = "value"


class Secret:
    """A text that shows itself to nobody who does not ask for it by `reveal()`."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text. Not for logs, errors or anything else that is kept."""
        return self._text

    def __repr__(self) -> str:
        return "<secret>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


class FreeSpace(NamedTuple):
    """A floor of free space on a volume: a share of it or bytes, whichever is not None."""

    percent: float | None = None
    bytes: int | None = None

    def on(self, volume_bytes: int) -> int:
        """The floor in bytes on a volume of this size."""
        if self.percent is not None:
            return int(volume_bytes * self.percent / 100)
        return self.bytes or 0


def split_url(text: str) -> SplitResult | None:
    """The parts of an absolute http or https URL with a usable host and port, or None."""
    if re.search(r"[\s\\\x00-\x1f\x7f]", text):
        return None
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        return None
    return parts if usable else None


def public_url(text: str) -> str:
    """The URL without what may be secret: user, password, query and fragment. For logs and messages."""
    parts = split_url(text)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" if parts else "<not a URL>"


def is_loopback(host: str) -> bool:
    """Whether a host is this machine: 127.0.0.0/8, ::1 or localhost. No name is looked up."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _flag(text: str) -> bool:
    if text.lower() in ("true", "yes", "on"):
        return True
    if text.lower() in ("false", "no", "off"):
        return False
    raise Wrong("expected true or false", "Write one of the two.")


def _words(text: str) -> str:
    if not text.strip():
        raise Wrong("expected a text that is not empty", "Remove the key to have its default.")
    return text


def _seconds(least: str) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            seconds = parse_duration(text)
        except ValueError:
            raise Wrong(
                "expected a duration such as 10s, 500ms or 1h30m",
                "Write whole numbers with their units: ms, s, m, h, d, w, y.",
            ) from None
        if seconds < parse_duration(least):
            raise Wrong(f"expected a duration of {least} or more", "Choose a longer one.")
        return seconds

    return read


def _count(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) < 1:
        raise Wrong("expected a whole number from 1 to 999999999", "Write digits only.")
    return int(text)


def _whole(text: str) -> int:
    if not re.fullmatch("-?[0-9]{1,15}", text):
        raise Wrong("expected a whole number", "Write digits only.")
    return int(text)


def _number(text: str) -> float:
    if not re.fullmatch(r"-?[0-9]{1,15}(\.[0-9]{1,15})?", text):
        raise Wrong("expected a number", "Write digits, and a point where it is no whole number.")
    return float(text)


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError:
        raise Wrong(
            "expected a size such as 256MiB, 1.5GiB or a number of bytes",
            "Write one number with B, KiB, MiB, GiB or TiB; KB, MB, GB and TB mean the same.",
        ) from None


def _bandwidth(text: str) -> int:
    found = _size(text)
    if found < 100:
        raise Wrong("expected 100 bytes per second or more", "Write a size, such as 16KiB.")
    return found


def _free_space(text: str) -> FreeSpace:
    match = re.fullmatch(r"([0-9]{1,2}(?:\.[0-9]{1,3})?)%", text)
    if match:
        return FreeSpace(percent=float(match[1]))
    try:
        return FreeSpace(bytes=parse_size(text))
    except ValueError:
        raise Wrong(
            "expected a share such as 5% or a size such as 500MiB",
            "Percentages are below 100; 0% sets no floor.",
        ) from None


# Labels that the series carry of themselves: a second one of that name would make them invalid.
TAKEN_LABELS = frozenset(
    (
        "core",
        "device",
        "family",
        "fstype",
        "interface",
        "kernel_release",
        "machine",
        "mountpoint",
        "os",
        "state",
    )
)


def _label_name(text: str) -> str:
    if not re.fullmatch("[a-zA-Z_][a-zA-Z0-9_]*", text) or text.startswith("__"):
        raise Wrong(
            "expected a label name: letters, digits and _, not a digit first, not __ first",
            "Choose another name.",
        )
    if text == "hostname":
        raise Wrong("every series has this label already", "Set `hostname` at the top of the file instead.")
    if text in TAKEN_LABELS:
        raise Wrong("some series have a label of this name already", "Choose another name.")
    return text


def _destination_name(text: str) -> str:
    if not re.fullmatch("[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", text):
        raise Wrong(
            "expected a name of 1 to 64 letters, digits, _, - and .",
            "It names a file: start it with a letter or digit.",
        )
    return text


def _url_like(example: str, login: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        parts = split_url(text)
        if parts is None:
            raise Wrong("expected an http:// or https:// URL with a host", f"Write it like {example}.")
        if "@" in parts.netloc:
            raise Wrong("the URL holds a user or a password", f"Move them to {login}.")
        if parts.fragment or "#" in text:
            raise Wrong(
                "the URL has a part after #, which no server ever sees", "Remove it, or write # as %23."
            )
        return text

    return read


def _target_url(text: str) -> str:
    text = _url_like("http://localhost:9100/metrics", "basic_auth, the password to its password_file")(text)
    parts = split_url(text)
    assert parts is not None
    # As in Prometheus, whose metrics_path has this default.
    return text if parts.path else parts._replace(path="/metrics").geturl()


MOST_SAMPLES = 100_000


def _sample_limit(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) > MOST_SAMPLES:
        raise Wrong(
            f"expected a whole number up to {MOST_SAMPLES}", "A scrape with more is one for a server."
        )
    return int(text) or MOST_SAMPLES  # 0 is no limit in Prometheus


def _body_size_limit(text: str) -> int:
    size = _size(text)
    if not 1 << 10 <= size <= 256 << 20:
        raise Wrong(
            "expected a size from 1KiB to 256MiB", "It is held in memory; remove the key to have 16MiB."
        )
    return size


def _proxy_url(text: str) -> Secret:
    parts = split_url(text)
    if parts is None or parts.path.strip("/") or parts.query or parts.fragment:
        raise Wrong(
            "expected the http:// URL of a proxy",
            "Write it like http://user:password@proxy.example.com:3128.",
        )
    if parts.scheme != "http":
        raise Wrong(
            "a proxy is spoken to in plain HTTP only", "Write http://; an https:// destination is tunneled."
        )
    return Secret(text)


# As Prometheus refuses them (reservedHeaders in its config.go), and what this sender sets itself.
_RESERVED_HEADERS = frozenset(
    (
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "retry-attempt",
        "transfer-encoding",
        "user-agent",
        "www-authenticate",
        "x-amz-content-sha256",
        "x-amz-date",
        "x-amz-security-token",
        "x-prometheus-remote-read-version",
        "x-prometheus-remote-write-version",
    )
)


def _header_name(text: str) -> str:
    if not re.fullmatch("[A-Za-z0-9!#$%&'*+.^_`|~-]+", text):
        raise Wrong("expected the name of an HTTP header", "Use letters, digits and -.")
    if text.lower() == "authorization":
        raise Wrong("this header is not set here", "Use basic_auth, authorization or oauth2.")
    if text.lower() in _RESERVED_HEADERS:
        raise Wrong("this header belongs to the protocol and cannot be changed", "Remove it.")
    return text


def _header_value(text: str) -> str:
    if not re.fullmatch("[\t\x20-\x7e]*", text):
        raise Wrong("expected one line of printable ASCII", "A header cannot carry anything else.")
    return text


def _authorization_type(text: str) -> str:
    text = text.strip()
    if text.lower() == "basic":
        raise Wrong("expected a type other than Basic", "Use basic_auth, which sets it.")
    if not re.fullmatch("[A-Za-z0-9!#$%&'*+.^_`|~-]+", text):
        raise Wrong("expected a single word such as Bearer", "Remove the key to have Bearer.")
    return text


def _credentials(text: str) -> Secret:
    if not re.fullmatch("[\x20-\x7e]+", text):
        raise Wrong("expected one line of printable ASCII", "A header cannot carry anything else.")
    return Secret(text)


def _username(text: str) -> str:
    if ":" in text or re.search(r"[\x00-\x1f\x7f]", text):
        raise Wrong(
            "expected a user name without colons and control characters", "HTTP cannot transport them."
        )
    return text


def _path(text: str) -> str:
    if not text or "\0" in text:
        raise Wrong("expected the path of a file or folder", "Relative paths start at this file's folder.")
    return text


def _root(text: str) -> str:
    return _path(text).rstrip("/") or "/"


def _message(text: str) -> str:
    if text not in ("auto", "prometheus.WriteRequest", "io.prometheus.write.v2.Request"):
        raise Wrong(
            "expected auto, prometheus.WriteRequest or io.prometheus.write.v2.Request",
            "Remove the key to have auto.",
        )
    return text


def _tls_version(text: str) -> str:
    if text in ("TLS10", "TLS11"):
        raise Wrong(
            "TLS 1.0 and 1.1 are not spoken here (RFC 8996)",
            "Write TLS12 or TLS13, one of which it must speak.",
        )
    if text not in ("TLS12", "TLS13"):
        raise Wrong("expected TLS12 or TLS13", "Remove the key to have its default.")
    return text


def _pattern(text: str) -> str:
    from agent.regex import Regex, RegexError

    try:
        Regex(text)
    except RegexError as error:
        raise Wrong(error.what, error.do) from None
    return text


def _source_label(text: str) -> str:
    if not text:
        raise Wrong("expected the name of a label", "Remove it, or write the name.")
    return text


RelabelAction = Literal[
    "replace",
    "keep",
    "drop",
    "keepequal",
    "dropequal",
    "hashmod",
    "labelmap",
    "labeldrop",
    "labelkeep",
    "lowercase",
    "uppercase",
]


def _action(text: str) -> str:
    if text.lower() not in get_args(RelabelAction):
        *most, last = get_args(RelabelAction)
        raise Wrong(f"expected {', '.join(most)} or {last}", "Remove the key to have replace.")
    return text.lower()


def _modulus(text: str) -> int:
    if not re.fullmatch("0|[1-9][0-9]{0,19}", text) or int(text) >= 1 << 64:
        raise Wrong("expected a whole number that fits into 64 bits", "Write digits only.")
    return int(text)


Duration = Annotated[float, Leaf(_seconds("1ms"))]
Interval = Annotated[float, Leaf(_seconds("100ms"))]
Limit = Annotated[float, Leaf(_seconds("0s"))]
Count = Annotated[int, Leaf(_count)]
Whole = Annotated[int, Leaf(_whole)]
Number = Annotated[float, Leaf(_number)]
Size = Annotated[int, Leaf(_size)]
Bandwidth = Annotated[int, Leaf(_bandwidth)]
Floor = Annotated[FreeSpace, Leaf(_free_space)]
Flag = Annotated[bool, Leaf(_flag)]
Words = Annotated[str, Leaf(_words)]
LabelName = Annotated[str, Leaf(_label_name)]
DestinationName = Annotated[str, Leaf(_destination_name)]
Url = Annotated[
    str,
    Leaf(
        _url_like(
            "https://prometheus.example.com/api/v1/write", "basic_auth, the password to its password_file"
        ),
        shown=False,
    ),
]
TokenUrl = Annotated[
    str,
    Leaf(_url_like("https://auth.example.com/oauth2/token", "client_id and client_secret_file"), shown=False),
]
TargetUrl = Annotated[str, Leaf(_target_url, shown=False)]
SampleLimit = Annotated[int, Leaf(_sample_limit)]
BodySizeLimit = Annotated[int, Leaf(_body_size_limit)]
ProxyUrl = Annotated[Secret, Leaf(_proxy_url, shown=False)]
HeaderName = Annotated[str, Leaf(_header_name)]
HeaderValue = Annotated[str, Leaf(_header_value, shown=False)]
AuthorizationType = Annotated[str, Leaf(_authorization_type, shown=False)]
Credentials = Annotated[Secret, Leaf(_credentials, shown=False)]
Hidden = Annotated[Secret, Leaf(Secret, shown=False)]
Username = Annotated[str, Leaf(_username, shown=False)]
Pem = Annotated[str, Leaf(_words, shown=False)]
File = Annotated[str, Leaf(_path, kind="file")]
Folder = Annotated[str, Leaf(_path, kind="folder")]
Message = Annotated[
    Literal["auto", "prometheus.WriteRequest", "io.prometheus.write.v2.Request"], Leaf(_message)
]
TlsVersion = Annotated[Literal["TLS12", "TLS13"], Leaf(_tls_version)]
Root = Annotated[str, Leaf(_root, kind="root")]
Pattern = Annotated[str, Leaf(_pattern)]
Text = Annotated[str, Leaf(str)]
SourceLabel = Annotated[str, Leaf(_source_label)]
Action = Annotated[RelabelAction, Leaf(_action)]
Modulus = Annotated[int, Leaf(_modulus)]
