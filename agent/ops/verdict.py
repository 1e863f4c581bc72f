"""What is right and what is wrong with an agent, from what was seen of it, in words. Pure: values in, findings out.

`limpet status` shows all of it, `limpet doctor` the parts on the agent and its configuration. A finding is as in
`agent.ops.doctor.step`: fine, a warning, wrong, or not known. `first` is the order in which a person should act: a cause
before what follows from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from agent.ops.doctor.receiver import CLOCK_WARNING, CLOCK_WRONG
from agent.ops.doctor.step import HERE, Finding, Step, fine, step, unknown, warning, wrong
from agent.ops.seen import MISSING, Seen
from agent.system import answering
from agent.text import human
from agent.text.advice import DISK, about_disk
from buffer.inspect.status import DestinationStatus, Status

AGENT, CONFIGURATION, CLOCK, KEPT, COLLECTING, REFUSED = (
    "agent",
    "configuration",
    "clock",
    "kept",
    "collecting",
    "refused",
)
OK, ATTENTION, STOPPED, UNKNOWN = "ok", "attention", "stopped", "unknown"
"""The words for all of it."""
REFUSED_FOR = {
    "aged": "Check this host's clock, and how old samples the receiver takes",
    "duplicate": "Another sender has the same series: give one of them another hostname",
}
"""What to look at first, by the reason for which a receiver refused samples."""
PATIENCE = 120.0
"""Seconds that a destination may fail, and that an agent may take for its first sample, before somebody should look."""
COPIED = 86400.0
"""Seconds for which it is reported that a data_dir came from another machine."""
TWINS = "If that machine still runs, give this one another hostname, and an empty data_dir"
QUIET = 3
"""Intervals without a sample that are still no reason to look."""
NEARLY_FULL = 86400.0
PACE = 600.0
"""Seconds of samples from which the pace of growth can be seen."""


CORRECT = (
    ("through the proxy", "Check proxy_url, and that the proxy runs"),
    ("cannot be resolved", "Check the url, and the name servers of this host (/etc/resolv.conf)"),
    ("connection refused", "Check host and port of the url, and that the receiver runs"),
    ("has expired", "Renew the receiver's certificate, unless this host's clock is wrong (timedatectl)"),
    ("not yet valid", "Set this host's clock: timedatectl"),
    ("HTTP 401", "Set user and password (basic_auth) or other credentials, or correct them"),
    ("HTTP 403", "Correct the credentials, or their rights at the receiver"),
    ("HTTP 404", "Correct the path of the url, or let the receiver accept remote write"),
    ("HTTP 405", "Correct the path of the url"),
    ("a redirect", "Write the address that it names into the url"),
    ("this port speaks TLS", "Begin the url with https://"),
)
"""What to do, by the words of a destination's last error."""


class Part(NamedTuple):
    """A line of the report, and how early it is to be acted on (0 first)."""

    title: str
    finding: Finding
    turn: int


def parts(seen: Seen) -> list[Part]:
    """Return every part, in the order in which they are shown."""
    if seen.reason == answering.SILENT:
        return [Part(AGENT, agent(seen), 1)]
    is_alive = seen.is_running or seen.homeless is not None
    is_cause = not is_alive and seen.file is not None and seen.file.problem is not None
    found = [Part(AGENT, agent(seen), 1), Part(CONFIGURATION, configuration(seen), 0 if is_cause else 2)]
    if seen.status is None:
        return found
    found += [Part(CLOCK, clock(seen), 3), Part(COLLECTING, collecting(seen), 6)]
    here = [one for one in seen.status.destinations if one.removed_timestamp_ms is None]
    found += [Part(f"to {one.name}", delivering(seen, one), 5) for one in here]
    found.append(Part(KEPT, kept(seen.status, seen.foreign, seen.owner), 0 if seen.foreign else 4))
    found.append(Part(REFUSED, refused(seen.status), 7))
    return found


def word(seen: Seen, found: Sequence[Part]) -> str:
    """Return one word for everything: `ok`, `attention`, `stopped` where no agent runs, `unknown` for a stranger."""
    if seen.status is None and seen.reason != MISSING:
        return UNKNOWN
    if not seen.is_running and seen.homeless is None:
        return STOPPED
    return ATTENTION if first(found) is not None else OK


def first(found: Sequence[Part]) -> Part | None:
    """Return what to act on first: what is wrong before what is a warning, and a cause before what follows from it."""
    acting = [one for one in found if steps([one])[0].needs_doing]
    return min(acting, key=lambda one: (one.finding.ok is not False, one.turn), default=None)


def steps(found: Sequence[Part]) -> list[Step]:
    """Return the parts as steps of a report."""
    return [step(HERE, one.title, one.finding, ()) for one in found]


def agent(seen: Seen) -> Finding:
    """Return whether an agent runs, and if not, whether it was stopped or died."""
    note, found = seen.note, seen.status
    if found is not None and found.writer_pid is not None:
        said = f"process {found.writer_pid} runs"
        if note is not None and note.pid == found.writer_pid:
            said += f" since {human.moment(note.started_ms)} ({ago(note.started_ms, seen.now)}), version {note.version}"
            if note.copied_ms is not None and seen.now - note.copied_ms / 1000 < COPIED:
                said += f"; its data_dir began on another machine ({ago(note.copied_ms, seen.now)})"
                return warning(said, TWINS)
        return fine(said)
    start = _start(seen)
    if seen.homeless is not None:
        where = "is gone" if seen.reason == MISSING else "is not the one that it began with"
        said = f"process {seen.homeless} runs, and its data_dir {seen.data_dir} {where}: new samples are in memory only"
        return wrong(said, "Restart it, so that it makes the folder again: systemctl restart limpet")
    if seen.reason == answering.SILENT:
        return wrong(f"unknown: {seen.data_dir} does not answer", answering.DO)
    if found is None and seen.reason != MISSING:
        whose = f", which belongs to {seen.owner}," if seen.owner else ""
        said = f"unknown: {seen.data_dir}{whose} cannot be read by this user ({seen.reason})"
        return wrong(said, f"Run this as root, or as {seen.owner or 'the user of the agent'}.")
    if found is None or (note is None and found.newest_timestamp_ms is None):
        return wrong(f"none runs, and none has run with {seen.data_dir}", start)
    if note is None:
        return wrong("none runs", start)
    if note.ended_ms is not None:
        return wrong(f"none runs: it was stopped {ago(note.ended_ms, seen.now)}", start)
    if note.boot_id != seen.boot_id:
        return wrong("none runs: this host was restarted, and the agent was not started again", start)
    newest = found.newest_timestamp_ms
    when = f", its newest sample is {age(newest, seen.now)}" if newest is not None else ""
    return wrong(
        f"none runs: process {note.pid} died without a stop{when}", f"{start}; why: journalctl -u limpet"
    )


def has_run(seen: Seen) -> bool:
    """Return whether an agent has ever run here, as far as can be seen: where nothing can be, it may have."""
    if seen.status is None:
        return seen.reason != MISSING or seen.note is not None or seen.homeless is not None
    return seen.is_running or seen.note is not None or seen.status.newest_timestamp_ms is not None


def _start(seen: Seen) -> str:
    if seen.service == "masked":
        masked = "Its service is masked, so somebody wanted it off: ask why, then start it"
        return f"{masked}: systemctl unmask limpet && systemctl enable --now limpet"
    if seen.service == "there":
        return "Start it: systemctl enable --now limpet"
    return "Start it: limpet run" + (f" --config {seen.file.path}" if seen.file else "")


def _reload(seen: Seen) -> str:
    pid = seen.homeless or seen.reachable
    return "systemctl reload limpet" if seen.service == "there" or pid is None else f"kill -HUP {pid}"


def configuration(seen: Seen) -> Finding:
    """Return whether the file is right, and whether the agent runs with it."""
    file, note = seen.file, seen.note if seen.is_running or seen.homeless else None
    if file is None:
        return unknown("unknown: none is named", "Name it: --config")
    if file.is_denied:
        return unknown(f"unknown: {file.path} cannot be read by this user", "Run this as root.")
    if file.problem is not None:
        still = f"; the agent runs with what it read {ago(note.loaded_ms, seen.now)}" if note else ""
        after = f", then: {_reload(seen)}" if note else ""
        said = file.problem.removesuffix(".")
        return wrong(
            f"it has errors: {said}{still}",
            f"Correct it, see all of it: limpet check-config {file.path}{after}",
        )
    if note is None:
        return fine(f"{file.path} has no errors")
    if note.config != file.path:
        return warning(
            f"the agent runs with {note.config}, and not with {file.path}", "Name that one: --config"
        )
    if note.digest != file.digest:
        why = (
            f"a reload was refused {ago(note.refused_ms, seen.now)}; it has no errors now"
            if note.refused_ms
            else "it was not reloaded"
        )
        said = f"{file.path} has changed since the agent read it {ago(note.loaded_ms, seen.now)}, and {why}"
        return warning(said, f"Reload it: {_reload(seen)}")
    if note.refused_ms is not None:
        said = f"{file.path} is again what the agent runs with, after a reload that was refused"
        return warning(
            f"{said} {ago(note.refused_ms, seen.now)}: {note.problem}", f"Reload it: {_reload(seen)}"
        )
    return fine(f"{file.path}, as it was read {ago(note.loaded_ms, seen.now)}")


def collecting(seen: Seen) -> Finding:
    """Return how old the newest sample is, and which collectors fail."""
    assert seen.status is not None
    found, newest = seen.status, seen.status.newest_timestamp_ms
    if newest is None:
        young = seen.note is not None and seen.now - seen.note.started_ms / 1000 < PATIENCE
        if not seen.is_running or young:
            return unknown("no samples yet")
        return wrong("no samples yet", "See why: journalctl -u limpet -n 50")
    said = f"the newest sample is {age(newest, seen.now)}"
    if not seen.is_running:
        return unknown(said)
    config = seen.file.config if seen.file else None
    limit = max(PATIENCE, QUIET * (config.collect.interval if config else PATIENCE))
    if seen.now - newest / 1000 > limit:
        if found.disk_state not in (None, "ok"):
            return unknown(f"{said} on disk; newer ones are in memory")
        return wrong(said, "See why: journalctl -u limpet -n 50, then: systemctl restart limpet")
    if seen.failing:
        return warning(f"{said}; failing: {', '.join(seen.failing)}", "See why: limpet doctor")
    return fine(said)


def delivering(seen: Seen, one: DestinationStatus) -> Finding:
    """Return whether a destination takes samples."""
    last, waits = one.delivered_timestamp_ms, f"{human.count(one.pending_samples)} samples wait"
    if one.pending_samples:
        waits += f", the oldest for {human.duration(one.lag_seconds)}"
    since = "nothing was delivered yet" if last is None else f"last delivery {ago(last, seen.now)}"
    if not seen.is_running:
        return unknown(f"{since}; {waits}")
    if one.state == "held":
        said = f"held: {one.last_error or 'the receiver refuses'}; {waits}; {since}{_again(one, seen.now)}"
        do = _correct(seen, one) or "Correct that"
        return wrong(said, f"{do}; step by step: limpet doctor. To try at once: limpet retry")
    if one.state == "waiting":
        said = f"no delivery: {one.last_error or 'no answer'}; {waits}; {since}{_again(one, seen.now)}"
        if one.lag_seconds <= PATIENCE and last is not None:
            return fine(said)
        do = _correct(seen, one) or "See that the link and the receiver work"
        return warning(said, f"{do}; step by step: limpet doctor. It continues by itself.")
    if one.drain_eta_seconds is not None and one.lag_seconds > PATIENCE:
        return fine(f"catching up: {waits}, done in {human.duration(one.drain_eta_seconds)}")
    said = since if not one.pending_samples else f"{since}; {waits}"
    if one.link is not None:
        said += f"; {human.spent(*one.link)}"
    if one.last_error:
        said += f"; last error: {one.last_error}"
    return unknown(said) if last is None else fine(said)


def _correct(seen: Seen, one: DestinationStatus) -> str | None:
    """Return what to correct, as far as the configuration and the error show it."""
    config = seen.file.config if seen.file else None
    to = next((to for to in config.remote_write if to.name == one.name), None) if config else None
    if one.state == "held" and to is not None and urlsplit(to.url).path in ("", "/"):
        return "Give the url its path, which for Prometheus is /api/v1/write"
    return next((do for words, do in CORRECT if words in (one.last_error or "")), None)


def _again(one: DestinationStatus, now: float) -> str:
    said = f"; {human.plural(one.failed_tries, 'try', 'tries')}" if one.failed_tries else ""
    if one.next_try_timestamp_ms is None:
        return said
    left = one.next_try_timestamp_ms / 1000 - now
    return f"{said}; next {f'in {human.duration(left)}' if left > 1 else 'within seconds'}"


def until_full(found: Status) -> float | None:
    """Return the seconds until the buffer is full; None where it does not grow, or is too young to show a pace."""
    span_ms = (found.newest_timestamp_ms or 0) - (found.oldest_timestamp_ms or 0)
    return found.time_until_full_seconds if span_ms >= PACE * 1000 else None


def kept(found: Status, foreign: str | None = None, owner: str | None = None) -> Finding:
    """Return how full the buffer and its volume are; `foreign` is a file in it that does not belong to the folder's owner."""
    if foreign is not None:
        said = f"{foreign} does not belong to {owner}, as the folder does: the agent cannot use it"
        return wrong(said, f"Give it back: chown -R {owner} {found.data_dir}")
    free, floor, cap = human.size(found.free_bytes), found.min_free_bytes, found.max_bytes
    said = (
        f"{human.size(found.bytes)}{f' of {human.size(cap)}' if cap else ''}, {free} are free on the volume"
    )
    if found.history_bytes:
        said += f", {human.size(found.history_bytes)} of history"
    memory = f"; {human.count(found.unbuffered_samples)} samples were kept in memory only"
    memory = memory if found.unbuffered_samples else ""
    if found.disk_state == "full" or found.free_bytes + found.history_bytes < (floor or 0):
        least = f", less than buffer.min_free_space ({human.size(floor)})" if floor else ""
        said = f"{DISK['full']}: {free} are free{least}{memory}"
        return wrong(said, about_disk("full", found.data_dir))
    if found.disk_state in DISK:
        return wrong(f"{DISK[found.disk_state]}{memory}", about_disk(found.disk_state, found.data_dir))
    if found.damaged_records:
        said += f"; damage at {human.plural(found.damaged_records, 'place')}"
        return warning(said, "See what it cost: limpet buffer verify. The agent continues by itself.")
    if (left := until_full(found)) is not None:
        said += f", full in {human.duration(left)}"
        if left < NEARLY_FULL:
            return warning(said, "Correct the destinations that take nothing, or raise buffer.max_size.")
    return fine(said)


def refused(found: Status) -> Finding:
    """Return whether receivers refused samples for good."""
    if not found.quarantine_items:
        return fine("nothing is in quarantine")
    batches = human.plural(found.quarantine_items, "batch", "batches")
    said = f"{batches}, {human.count(found.quarantine_samples)} samples are in quarantine"
    causes = [REFUSED_FOR[reason] for reason in found.quarantine_reasons if reason in REFUSED_FOR]
    why = f"{'; '.join(causes)}. " if causes else ""
    return warning(said, f"{why}See why: limpet buffer quarantine list. Fix that, then replay or drop them.")


def clock(seen: Seen) -> Finding:
    """Return how far this host's clock is from those of the receivers, and from the newest sample."""
    assert seen.status is not None
    newest = seen.status.newest_timestamp_ms
    if waiting := seen.status.provisional_samples:
        said = f"it was not believed: {human.count(waiting)} samples wait for their times"
        return warning(
            said,
            "Set it, or let NTP set it: timedatectl set-ntp true. If it is right: clock: {trust: always}",
        )
    if newest is not None and (ahead := newest / 1000 - seen.now) > CLOCK_WRONG:
        said = f"it was set back: the newest sample is {human.duration(ahead)} ahead of it"
        return warning(said, "See that it is right now: timedatectl; chronyc tracking")
    skews = [(abs(skew), one) for one in _heard(seen) if (skew := one.clock_skew_seconds) is not None]
    if not skews:
        return unknown("not compared with a receiver's lately; limpet doctor does it")
    off, one = max(skews, key=lambda pair: pair[0])
    if off <= CLOCK_WARNING:
        return fine(f"within {off:.0f} s of the receivers'" if off >= 1 else "agrees with the receivers'")
    way = "ahead of" if (one.clock_skew_seconds or 0) > 0 else "behind"
    said = f"this host's clock is {human.duration(off)} {way} the one of {one.name}"
    do = "Set the one that is wrong: timedatectl set-ntp true; chronyc tracking"
    return warning(said, do) if off <= CLOCK_WRONG else wrong(said, do)


def _heard(seen: Seen) -> Iterator[DestinationStatus]:
    """Yield the destinations that an agent which runs has to do with."""
    if seen.is_running and seen.status is not None:
        yield from (one for one in seen.status.destinations if one.removed_timestamp_ms is None)


def ago(timestamp_ms: int, now: float) -> str:
    """Return how long ago a UTC time in ms was."""
    passed = now - timestamp_ms / 1000
    return f"{human.duration(max(0.0, passed))} ago" if passed > -CLOCK_WARNING else "in the future"


def age(timestamp_ms: int, now: float) -> str:
    """Return how old a sample of this UTC time in ms is."""
    passed = now - timestamp_ms / 1000
    return f"{human.duration(max(0.0, passed))} old" if passed > -CLOCK_WARNING else "in the future"
