"""The metadata of the metrics in an exposition: HELP, TYPE and UNIT."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from agent.scrape.lines import NAME, QUOTED, ParseError, quoted_name, shown, unescaped

TEXT_TYPES = {b"counter": "counter", b"gauge": "gauge", b"histogram": "histogram", b"summary": "summary"} | {
    b"untyped": "unknown"
}
TYPES = {b"unknown": "unknown"} | {
    kind: kind.decode()
    for kind in (b"counter", b"gauge", b"histogram", b"gaugehistogram", b"summary", b"info", b"stateset")
}
SUFFIXES = ("_total", "_bucket", "_count", "_sum", "_created", "_info", "_gcount", "_gsum")
"""Endings of series names that the name of their family does not have."""

MOST_FAMILIES = 20_000
"""Metrics that an exposition may describe with HELP, TYPE and UNIT."""
MOST_METADATA = 4 << 20
"""Bytes of these descriptions together."""


# The time is linear in the line, as in agent.scrape.lines.
_META = re.compile(rb"[ \t]*+#[ \t]++(HELP|TYPE)[ \t]++(" + NAME + rb"|" + QUOTED + rb")(?:.(.*+))?")
_OPEN_META = re.compile(rb"# (HELP|TYPE|UNIT) (" + NAME + rb"|" + QUOTED + rb") (.*+)")
_FILE_META = re.compile(
    rb"[ \t]*+#[ \t]*+(HELP|TYPE)(?:[ \t]++(" + NAME + rb"|" + QUOTED + rb")(?:[ \t]++(.*+))?)?[ \t]*+"
)
_LIKE_META = re.compile(rb"[ \t]*+#[ \t]++(?:HELP|TYPE)[ \t]")
_HELP_ESCAPE = re.compile(rb"\\([\\n])")


class Family(NamedTuple):
    """The metadata of a metric in an exposition."""

    type: str = "unknown"
    unit: str = ""
    help: str = ""


NO_FAMILY = Family()


def metadata(
    comments: Iterable[bytes], *, openmetrics: bool, wrong: list[str] | None = None
) -> dict[str, Family]:
    """Return what the lines that begin with # say of each metric. Raises ParseError.

    With `wrong` they are read as node_exporter reads them in text files, and a line that is malformed goes there.
    """
    families: dict[str, Family] = {}
    pattern = _OPEN_META if openmetrics else _META if wrong is None else _FILE_META
    size = 0
    for line in comments:
        match = pattern.fullmatch(line)
        if match is None and not openmetrics and not _LIKE_META.match(line):
            continue
        size += len(line)
        if size > MOST_METADATA or len(families) > MOST_FAMILIES:
            raise ParseError(
                f"the descriptions of more than {MOST_FAMILIES} metrics, or more than {MOST_METADATA} bytes of them"
            )
        try:
            if match is None:
                raise ParseError(f"not HELP, TYPE or UNIT as they should be: {shown(line)}")
            _describe(match, families, TYPES if openmetrics else TEXT_TYPES, lenient=wrong is not None)
        except ParseError as error:
            if wrong is None:
                raise
            wrong.append(str(error))
    return families


def _describe(
    match: re.Match[bytes], families: dict[str, Family], kinds: Mapping[bytes, str], *, lenient: bool
) -> None:
    """Add what one line says."""
    line = match[0]
    word, raw, text = match.group(1, 2, 3)
    text = text or b""
    if lenient and (raw is None or (word == b"TYPE" and not text)):
        return  # it says nothing, which is no error there
    name = quoted_name(raw, line) if raw[:1] == b'"' else raw.decode()
    known = families.get(name, NO_FAMILY)
    if word == b"TYPE":
        kind = kinds.get(text.strip().lower() if lenient else text)
        if kind is None:
            raise ParseError(f"not a type: {shown(line)}")
        families[name] = known._replace(type=kind)
        return
    text = unescaped(text) if kinds is TYPES else unescaped(text, _HELP_ESCAPE)
    try:
        plain = text.decode(errors="replace" if lenient else "strict")
    except UnicodeDecodeError:
        raise ParseError(f"not UTF-8: {shown(line)}") from None
    if word == b"UNIT":
        if plain and not name.endswith(f"_{plain}"):
            raise ParseError(f"the unit is not the end of the name: {shown(line)}")
        families[name] = known._replace(unit=plain)
    else:
        families[name] = known._replace(help=plain)


def family(name: str, families: Mapping[str, Family]) -> Family:
    """Return the metadata of the metric that a series of this name belongs to."""
    found = families.get(name)
    if found is None:
        for suffix in SUFFIXES:
            if name.endswith(suffix):
                found = families.get(name.removesuffix(suffix))
                break
    return found or NO_FAMILY
