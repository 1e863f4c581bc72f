r"""The kinds of value a key can have: one table. A row says how a text is checked, what an error says, and how it is read.

`Text` is in a field's annotation. The first check that fails says what was expected, in a phrase, and what to do.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple, get_args

from agent.config.section import Problem
from agent.config.units import parse_duration, parse_size
from agent.config.urls import split_url

Passes = str | Callable[[str], bool]
"""A check: a pattern for the whole text, or a function that returns whether the text is right."""


class Text(NamedTuple):
    """How a single value is read: `passes`, or else `what` and `do` are reported; then the checks in `also`; `read`.

    An error does not repeat a `hidden` value. A `file` must be readable when the configuration is loaded, and so must a
    `root`, which is a folder; a `folder` may not exist yet, and neither a `written` file. All are joined to the folder of the configuration.
    """

    passes: Passes = "(?s).*"
    what: str = ""
    do: str = ""
    read: Callable[[str], Any] = str
    also: tuple[tuple[Passes, str, str], ...] = ()
    hidden: bool = False
    kind: Literal["value", "file", "folder", "root", "written"] = "value"

    def value(self, text: str) -> Any:
        """Return the value, or a Problem without a path."""
        for passes, what, do in (self[:3], *self.also):
            if not (re.fullmatch(passes, text) if isinstance(passes, str) else passes(text)):
                return Problem("", what, do)
        return self.read(text)


class Secret:
    """A text that shows itself only to a caller of `reveal()`."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text. Not for logs, errors or anything else that is kept."""
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
        """Return the floor in bytes on a volume of this size."""
        if self.percent is not None:
            return int(volume_bytes * self.percent / 100)
        return self.bytes or 0


def choice(allowed: tuple[str, ...], default: str = "its default", read: Callable[[str], str] = str) -> Text:
    """Return how one of some texts is read."""
    what = f"expected {', '.join(allowed[:-1])} or {allowed[-1]}"
    return Text(lambda text: read(text) in allowed, what, f"Remove the key to have {default}.", read)


_DURATION = (
    "expected a duration such as 10s, 500ms or 1h30m",
    "Write whole numbers with their units: ms, s, m, h, d, w, y.",
)
_SIZE = (
    "expected a size such as 256MiB, 1.5GiB or a number of bytes",
    "Write one number with B, KiB, MiB, GiB or TiB; KB, MB, GB and TB mean the same.",
)
_NOT_EMPTY = (r"(?s).*\S.*", "expected a text that is not empty", "Remove the key to have its default.")
_ONE_LINE = ("expected one line of printable ASCII", "A header cannot carry anything else.")
_PATH = (r"[^\0]+", "expected the path of a file or folder", "Relative paths start at this file's folder.")
_LOGIN = "basic_auth, the password to its password_file"

# --- functions of the table -------------------------------------------------------------------------------------------


def _is(parse: Callable[[str], float], least: float = 0) -> Callable[[str], bool]:
    def passes(text: str) -> bool:
        try:
            return parse(text) >= least
        except ValueError:
            return False

    return passes


def _day_times(text: str) -> tuple[int, int]:
    begin, end = (60 * int(one[:2]) + int(one[3:]) for one in text.split("-"))
    return begin, end


def _duration(least: str) -> Text:
    what, do = f"expected a duration of {least} or more", "Choose a longer one."
    enough = _is(parse_duration, parse_duration(least))
    return Text(_is(parse_duration), *_DURATION, parse_duration, also=((enough, what, do),))


def _size(least: int = 0, most: int = 1 << 63, what: str = "", do: str = "") -> Text:
    also = ((lambda text: least <= parse_size(text) <= most, what, do),)
    return Text(_is(parse_size), *_SIZE, parse_size, also=also)


def _url(example: str, login: str = _LOGIN, read: Callable[[str], str] = str) -> Text:
    also: tuple[tuple[Passes, str, str], ...] = (
        (_has_no_login, "the URL holds a user or a password", f"Move them to {login}."),
        ("[^#]*", "the URL has a part after #, which no server ever sees", "Remove it, or write # as %23."),
    )
    what, do = "expected an http:// or https:// URL with a host", f"Write it like {example}."
    return Text(lambda text: split_url(text) is not None, what, do, read, also, hidden=True)


def _has_no_login(text: str) -> bool:
    parts = split_url(text)
    return parts is not None and "@" not in parts.netloc


def _is_proxy(text: str) -> bool:
    parts = split_url(text)
    return parts is not None and not (parts.path.strip("/") or parts.query or parts.fragment)


def _with_path(text: str) -> str:
    """Return the URL, with the default of Prometheus's metrics_path where it has no path."""
    parts = split_url(text)
    assert parts is not None
    return text if parts.path else parts._replace(path="/metrics").geturl()


def _free_space(text: str) -> FreeSpace:
    return FreeSpace(percent=float(text[:-1])) if text.endswith("%") else FreeSpace(bytes=parse_size(text))


def _pattern(text: str) -> str | Problem:
    from agent.regex import Regex, RegexError

    try:
        Regex(text)
    except RegexError as error:
        return Problem("", error.what, error.do)
    return text


def _selector(text: str) -> str | Problem:
    from agent.ops.selector import SelectorError, parse

    try:
        parse(text)
    except SelectorError as error:
        return Problem("", error.what, error.do)
    return text


TAKEN_LABELS = frozenset(
    (
        *("core", "device", "family", "fstype", "interface"),
        *("kernel_release", "machine", "mountpoint", "os", "sensor", "state"),
    )
)
"""Labels of the collectors' series: a second label of that name would make them invalid."""
MOST_SAMPLES = 100_000
# As Prometheus refuses them (reservedHeaders in its config.go), and what this sender sets itself.
_RESERVED_HEADERS = (
    "accept-encoding|connection|content-encoding|content-length|content-type|host|keep-alive|proxy-authenticate"
    "|proxy-authorization|retry-attempt|transfer-encoding|user-agent|www-authenticate|x-amz-content-sha256|x-amz-date"
    "|x-amz-security-token|x-prometheus-remote-read-version|x-prometheus-remote-write-version"
)
_NAME = "[A-Za-z0-9!#$%&'*+.^_`|~-]+"  # a token of RFC 9110, 5.6.2

SCRAPE_PROTOCOLS = (
    "OpenMetricsText1.0.0",
    "OpenMetricsText0.0.1",
    "PrometheusText1.0.0",
    "PrometheusText0.0.4",
)
"""The formats that a target may be requested to send, in Prometheus's order."""
PROTOBUF = "PrometheusProto"


def _is_address(text: str) -> bool:
    parts = split_url(f"http://{text}/")
    return (
        parts is not None
        and parts.path == "/"
        and "@" not in parts.netloc
        and not (parts.query or parts.fragment)
    )


# --- the table: what a text must be, what is reported otherwise, what to do, how it is read -----------------------------
# fmt: off

Duration = Annotated[float, _duration("1ms")]
Age = Annotated[float, _duration("0")]
Interval = Annotated[float, _duration("100ms")]
Limit = Annotated[float, _duration("0s")]
Size = Annotated[int, _size()]
DayTimes = Annotated[tuple[int, int], Text(
    r"(?:[01][0-9]|2[0-3]):[0-5][0-9]-(?:(?:[01][0-9]|2[0-3]):[0-5][0-9]|24:00)", "expected two times of the day such as 22:00-06:00",
    "Write hours and minutes with two digits each, in the host's local time.", _day_times)]
DataSize = Annotated[int, _size(100 << 10, what="expected 100KiB or more", do="Write a size, such as 5MiB.")]
Bandwidth = Annotated[int, _size(100, what="expected 100 bytes per second or more", do="Write a size, such as 16KiB.")]
BodySizeLimit = Annotated[int, _size(
    1 << 10, 256 << 20, "expected a size from 1KiB to 256MiB", "It is held in memory; remove the key to have 16MiB.")]
Floor = Annotated[FreeSpace, Text(
    lambda text: bool(re.fullmatch(r"[0-9]{1,2}(\.[0-9]{1,3})?%", text)) or _is(parse_size)(text),
    "expected a share such as 5% or a size such as 500MiB", "Percentages are below 100; 0% sets no floor.", _free_space)]
Count = Annotated[int, Text(
    "(?=.*[1-9])[0-9]{1,9}", "expected a whole number from 1 to 999999999", "Write digits only.", int)]
Whole = Annotated[int, Text("-?[0-9]{1,15}", "expected a whole number", "Write digits only.", int)]
Number = Annotated[float, Text(
    r"-?[0-9]{1,15}(\.[0-9]{1,15})?", "expected a number", "Write digits, and a point where it is no whole number.", float)]
Modulus = Annotated[int, Text(
    lambda text: bool(re.fullmatch("0|[1-9][0-9]{0,19}", text)) and int(text) < 1 << 64,
    "expected a whole number that fits into 64 bits", "Write digits only.", int)]
SampleLimit = Annotated[int, Text(
    lambda text: bool(re.fullmatch("[0-9]{1,9}", text)) and int(text) <= MOST_SAMPLES,
    f"expected a whole number up to {MOST_SAMPLES}", "A scrape with more is one for a server.",
    lambda text: int(text) or MOST_SAMPLES)]  # 0 is no limit in Prometheus
NoOrLimit = Annotated[int, Text("[0-9]{1,9}", "expected a whole number", "Write digits only; 0 is no limit.", int)]
Address = Annotated[str, Text(
    _is_address, "expected a host, with a port behind a colon", "Write it like localhost:9100, without http:// and path.")]
Scheme = Annotated[str, choice(("http", "https"))]
UrlPath = Annotated[str, Text(r"/[^\s?#]*", "expected a path that begins with /", "Write what follows a ? into params.")]
ScrapeProtocol = Annotated[str, choice((*SCRAPE_PROTOCOLS, PROTOBUF))]
TextProtocol = Annotated[str, choice(SCRAPE_PROTOCOLS)]
ValidationScheme = Annotated[str, choice(("utf8", "legacy"))]
EscapingScheme = Annotated[str, choice(("allow-utf-8", "underscores", "dots", "values"))]
Flag = Annotated[bool, Text(
    "(?i)true|yes|on|false|no|off", "expected true or false", "Write one of the two.",
    lambda text: text.lower() in ("true", "yes", "on"))]
Anything = Annotated[str, Text()]
Words = Annotated[str, Text(*_NOT_EMPTY)]
Pem = Annotated[str, Text(*_NOT_EMPTY, hidden=True)]
Hidden = Annotated[Secret, Text(read=Secret, hidden=True)]
Username = Annotated[str, Text(
    r"[^:\x00-\x1f\x7f]*", "expected a user name without colons and control characters", "HTTP cannot transport them.",
    hidden=True)]
Credentials = Annotated[Secret, Text("[\x20-\x7e]+", *_ONE_LINE, Secret, hidden=True)]
HeaderValue = Annotated[str, Text("[\t\x20-\x7e]*", *_ONE_LINE, hidden=True)]
HeaderName = Annotated[str, Text(_NAME, "expected the name of an HTTP header", "Use letters, digits and -.", also=(
    ("(?i)(?!authorization$).*", "this header is not set here", "Use basic_auth, authorization or oauth2."),
    (f"(?i)(?!(?:{_RESERVED_HEADERS})$).*", "this header belongs to the protocol and cannot be changed", "Remove it.")))]
AuthorizationType = Annotated[str, Text(
    r"(?is)(?!\s*basic\s*$).*", "expected a type other than Basic", "Use basic_auth, which sets it.", str.strip, also=(
        (rf"\s*{_NAME}\s*", "expected a single word such as Bearer", "Remove the key to have Bearer."),), hidden=True)]
Url = Annotated[str, _url("https://prometheus.example.com/api/v1/write")]
TokenUrl = Annotated[str, _url("https://auth.example.com/oauth2/token", "client_id and client_secret_file")]
TargetUrl = Annotated[str, _url("http://localhost:9100/metrics", read=_with_path)]
ProxyUrl = Annotated[Secret, Text(
    _is_proxy, "expected the http:// URL of a proxy", "Write it like http://user:password@proxy.example.com:3128.", Secret,
    also=(("(?i)http:.*", "a proxy is spoken to in plain HTTP only", "Write http://; an https:// destination is tunneled."),),
    hidden=True)]
File = Annotated[str, Text(*_PATH, kind="file")]
Folder = Annotated[str, Text(*_PATH, kind="folder")]
Written = Annotated[str, Text(*_PATH, kind="written")]
Place = Annotated[str, Text(
    r"/[^\0]*", "expected an absolute path", "Begin it with /.", lambda text: os.path.normpath(text).replace("//", "/"))]
Root = Annotated[str, Text(*_PATH, lambda text: text.rstrip("/") or "/", kind="root")]
_LABEL = (
    "(?!__)[a-zA-Z_][a-zA-Z0-9_]*", "expected a label name: letters, digits and _, not a digit first, not __ first",
    "Choose another name.")
_NOT_HOSTNAME = ("(?!hostname$).*", "every series has this label already", "Set `hostname` at the top of the file instead.")
TargetLabel = Annotated[str, Text(
    *_LABEL, also=(
        _NOT_HOSTNAME,
        ("(?!(?:job|instance)$).*", "every target has this label already", "Give the target another `job`, or a `url` with another host.")))]
LabelName = Annotated[str, Text(
    *_LABEL, also=(
        _NOT_HOSTNAME,
        (lambda text: text not in TAKEN_LABELS, "some series have a label of this name already", "Choose another name.")))]
SourceLabel = Annotated[str, Text("(?s).+", "expected the name of a label", "Remove it, or write the name.")]
DestinationName = Annotated[str, Text(
    "[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", "expected a name of 1 to 64 letters, digits, _, - and .",
    "It names a file: start it with a letter or digit.")]
Pattern = Annotated[str, Text(read=_pattern)]
SeriesSelector = Annotated[str, Text(read=_selector)]
TlsVersion = Annotated[Literal["TLS12", "TLS13"], Text(
    "(?!TLS1[01]$).*", "TLS 1.0 and 1.1 are not spoken here (RFC 8996)",
    "Write TLS12 or TLS13, one of which it must speak.",
    also=(("TLS1[23]", "expected TLS12 or TLS13", "Remove the key to have its default."),))]
RelabelAction = Literal[
    "replace", "keep", "drop", "keepequal", "dropequal", "hashmod", "labelmap", "labeldrop", "labelkeep", "lowercase",
    "uppercase"]
Action = Annotated[RelabelAction, choice(get_args(RelabelAction), "replace", str.lower)]
