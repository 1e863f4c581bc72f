"""A log event as one line of words, for people who read the journal.

Promises:
1. Each event of the list has a sentence; a sentence leaves out what an event does not have. The event's name is at
   the end in brackets, so that a page, an alert or `journalctl -g` that names it finds the line.
2. No field is lost: what the sentence has no place for follows in parentheses, and then what to do.
3. An event is one line without anything that a terminal obeys, whatever its fields hold; only the traceback of a defect
   has lines of its own, and each of them has the priority.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from agent.system.events import Event
from agent.text import human

_OBJECT = (" file {file}", " device {device}", " interface {interface}", " mount point {mountpoint}")
_DESTINATION = "{destination} "

SENTENCES: Mapping[str, tuple[str, ...]] = {
    Event.STARTED: ("Limpet", " {version}", " runs as process {pid}", " and sends to {destinations}"),
    Event.RELOADED: (
        "the configuration was read again",
        ", these sections changed: {changed}",
        "; it sends to {destinations}",
    ),
    Event.RENAMED: ("the host is called {hostname} now", ", and was {was}"),
    Event.RELOAD_REFUSED: (
        "the new configuration was refused, the agent runs on as before",
        ": {problems}",
    ),
    Event.THREAD_STUCK: ("a thread does not come back", " for {seconds}", ": systemd restarts the agent"),
    Event.STOPPING: ("stopping", " on {signal}", ", the series of this host end{series_end}"),
    Event.STOPPED: ("stopped", " after {seconds}", ", everything is on disk"),
    Event.THREAD_DIED: ("a defect ended", " the thread {thread}", ": the agent stops, to be started again"),
    Event.CONFIG_WARNING: ("configuration: {text}",),
    Event.CLOCK_STEPPED: ("the clock went back", " by {back_seconds}"),
    Event.CLOCK_DOUBTED: (
        "the clock is not believed",
        " ({source})",
        ": what is collected is kept, and sent when its time is known",
    ),
    Event.CLOCK_BELIEVED: ("the clock is believed", " ({source})"),
    Event.CLOCK_PLACED: (
        "{samples} that were collected by a wrong clock have their times",
        ", by an estimate {estimated} of them",
    ),
    Event.CLOCK_NOT_PLACED: ("the times of a wrong clock could not be written", ": {error}"),
    Event.COLLECTOR_FAILED: ("collector {collector} failed", ": {error}"),
    Event.COLLECTOR_TIMED_OUT: (
        "collector {collector} is left behind",
        ", it took longer than {timeout_seconds}",
    ),
    Event.COLLECTOR_UNREADABLE: ("collector {collector} cannot read", *_OBJECT, ": {error}"),
    Event.COLLECTOR_DENIED: ("collector {collector} may not read", *_OBJECT, ": {error}"),
    Event.COLLECTOR_STUCK: ("collector {collector} gets no answer from", *_OBJECT, ": {error}"),
    Event.COLLECTOR_READABLE: ("collector {collector} can read again, or misses no more,", *_OBJECT),
    Event.COLLECTOR_RECOVERED: ("collector {collector} works again", " after {seconds}"),
    Event.SCRAPE_FAILED: ("target {job}", " {instance}", " was not scraped", ": {error}"),
    Event.SCRAPE_RECOVERED: ("target {job}", " {instance}", " is scraped again"),
    Event.SCRAPE_DUPLICATES: ("target {job}", " {instance}", " exposes {duplicates} series twice"),
    Event.TEXTFILE_FAILED: ("text file {file} is left out", ": {error}"),
    Event.TEXTFILE_RECOVERED: ("text file {file} is read again",),
    Event.APPEND_FAILED: ("lost {samples}", " of collector {collector}", ", not written", ": {error}"),
    Event.APPEND_RECOVERED: ("samples are written again", ", of collector {collector}"),
    Event.SHELTERED: ("samples are kept in memory, for a disk that is {state}", ": {error}"),
    Event.UNSHELTERED: ("the disk is well again, what was in memory is on it", ": {samples}"),
    Event.RESTARTING: ("the data directory can be used again, the agent restarts itself for that",),
    Event.SYNC_FAILED: ("what was collected is not durable yet", ": {error}"),
    Event.EVICTED: ("the buffer is full, its oldest samples were dropped", ", up to record {upto}"),
    Event.TRIMMED: (
        "the oldest samples were dropped, as `limpet buffer trim` asked",
        ", up to record {upto}",
    ),
    Event.THINNED: ("the buffer is nearly full, its oldest samples were made coarser",),
    Event.FORGOTTEN: (
        _DESTINATION,
        "is not configured any more and was forgotten",
        ", with {pending_samples} that waited",
    ),
    Event.CURSOR_RESET: (_DESTINATION, "has a position that cannot be read, and begins at record {position}"),
    Event.FIRST_DELIVERED: (_DESTINATION, "takes samples", " at {url}", ", {samples} so far"),
    Event.DELIVERED: (_DESTINATION, "took {samples}", " in {bytes}"),
    Event.REFUSED: (_DESTINATION, "refused a request of {samples}", ": {error}"),
    Event.RETRY: (
        _DESTINATION,
        "waiting",
        ": {error}",
        "; failed {attempt}",
        "; nothing went for {troubled_seconds}",
        "; next try in {next_try_seconds}",
    ),
    Event.HELD: (
        _DESTINATION,
        "held",
        ": {error}",
        "; failed {attempt}",
        "; nothing went for {troubled_seconds}",
        "; next try in {next_try_seconds}",
    ),
    Event.RESUMED: (_DESTINATION, "takes samples again", " after {seconds}"),
    Event.REJECTED: (_DESTINATION, "refused {samples} for good", ": {error}"),
    Event.APART: (_DESTINATION, "fails on a series, and {samples} of it wait apart", ": {error}"),
    Event.AGED: (_DESTINATION, "refused {samples} for their age", ": {error}"),
    Event.QUARANTINED: (
        _DESTINATION,
        "refused {samples} that are in the quarantine now",
        ": {error}",
    ),
    Event.QUARANTINE_FAILED: (
        _DESTINATION,
        "refused {samples} that could not be kept",
        ": {error}",
    ),
    Event.QUARANTINE_FULL: (
        "the quarantine is full, its item {item}",
        " of {destination}",
        " was dropped",
        ", with {samples}",
    ),
    Event.REPEATED: (
        _DESTINATION,
        "has several values for one instant, one of each was sent",
        "; left out: {samples}",
    ),
    Event.BATCH_HALVED: (_DESTINATION, "takes only smaller requests", ", {limit} samples now", ": {error}"),
    Event.PROTOCOL: (_DESTINATION, "is sent remote write {remote_write} from now on", ": {error}"),
    Event.DRAIN_ORDER: (
        _DESTINATION,
        "is behind, and is sent its backlog in the order {order}",
        ": {error}",
    ),
    Event.BUDGET_SPENT: (_DESTINATION, "gets no samples for now", ": {error}"),
    Event.LANE_FAILED: (_DESTINATION, "could not be sent to, that is tried again", ": {error}"),
    Event.SERVE_STARTED: ("Limpet", " {version}", " answers at {address}"),
    Event.SERVE_STOPPED: ("Limpet answers no more", ": {signal}"),
    Event.SERVE_ACCESS: (
        "a request",
        " of {user}",
        " from {address}",
        ": {method} {path}",
        " {query}",
        ": {status}",
        ", {bytes}",
        " in {seconds}",
        ": {error}",
    ),
    Event.SERVE_RELOADED: ("users, tokens and certificates were read again",),
    Event.SERVE_KEPT: (
        "the new users, tokens or certificates were refused, those before still count",
        ": {problems}",
    ),
    Event.SERVE_LOG_FAILED: ("the access log", " {file}", " cannot be written", ": {error}"),
    Event.SERVE_FAILED: ("a defect", " in request {request}", ", {path}"),
}
"""By event its sentence in parts. A part is left out where the event has no value for its field."""

_FIELD = re.compile(r"\{(\w+)\}")
_COUNTED = {"samples": "sample", "pending_samples": "sample", "attempt": "time"}
_OWN = frozenset(("event", "level", "do", "exception"))


def line(event: Mapping[str, Any]) -> str:
    """Return an event in words. Only a traceback has further lines."""
    texts = {name: _text(name, value) for name, value in event.items() if name not in _OWN}
    name = str(event["event"])
    parts, used = SENTENCES.get(name, (human.plain(name),)), set[str]()
    said = ""
    for part in parts:
        fields = _FIELD.findall(part)
        used.update(fields)
        if all(texts.get(field) is not None for field in fields):
            said += _FIELD.sub(lambda found: texts[found[1]] or "", part)
    rest = [f"{key}: {text}" for key, text in texts.items() if key not in used and text]
    said = said.strip() or human.plain(name)
    said += f" ({', '.join(rest)})" if rest else ""
    said += f"; to do: {human.plain(str(event['do']))}" if event.get("do") else ""
    said += f" [{name}]" if name in SENTENCES else ""
    lines = str(event["exception"]).splitlines() if event.get("exception") else ()
    return "\n".join((said, *map(human.plain, lines)))


def _text(name: str, value: object) -> str | None:
    """Return a field's value as people read it; None where there is nothing to say."""
    if value is None or value is False or value in ("", [], ()):
        return None
    if value is True:
        return ""
    if isinstance(value, (int, float)):
        if name.endswith("seconds"):
            return human.duration(value)
        if name == "bytes":
            return human.size(value)
        if name in _COUNTED and isinstance(value, int):
            is_first = name == "attempt" and value == 1  # which is worth no word
            return None if is_first else human.plural(value, _COUNTED[name])
        return str(value) if isinstance(value, float) or name == "pid" else human.count(value)
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        return human.plain(", ".join(map(str, value)))
    return human.plain(str(value))
