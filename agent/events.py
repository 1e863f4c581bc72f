"""The names of what the agent logs, outside the sender.  They are kept: somebody alerts on them."""

from __future__ import annotations

from enum import StrEnum


class Event(StrEnum):
    """What happened in the process, the schedule, or the buffer."""

    STARTED = "agent.started"
    """info: collecting and sending have begun."""
    STOPPING = "agent.stopping"
    """info: a signal asked for the end; `series_end` says whether the host's series end with it."""
    STOPPED = "agent.stopped"
    """info: everything is on disk, the lock is released."""
    THREAD_DIED = "agent.thread_died"
    """critical: a defect; the process ends, so that whoever watches it starts it again."""
    CONFIG_WARNING = "config.warning"
    """warning: the configuration is good, but the operator should know something."""
    CLOCK_STEPPED = "schedule.clock_stepped"
    """warning: the wall clock went back by more than an interval."""
    COLLECTOR_FAILED = "collector.failed"
    """warning: a run raised; the first of a row, debug for the others."""
    COLLECTOR_TIMED_OUT = "collector.timed_out"
    """warning: a run took longer than its timeout and is left behind; said once."""
    COLLECTOR_RECOVERED = "collector.recovered"
    """info: a collector that failed or was left behind gave a tick again."""
    APPEND_FAILED = "buffer.append_failed"
    """error: ticks could not be written and are lost; the first of a row, debug for the others."""
    APPEND_RECOVERED = "buffer.append_recovered"
    """info: ticks are written again."""
    SYNC_FAILED = "buffer.sync_failed"
    """error: what was appended is not durable yet; the first of a row, debug for the others."""
    EVICTED = "buffer.evicted"
    """warning: the buffer was full, and its oldest segment was dropped."""
    TRIMMED = "buffer.trimmed"
    """warning: `limpet buffer trim` asked for it, and the oldest segment was dropped."""
    THINNED = "buffer.thinned"
    """info: the buffer was nearly full, and its oldest segments were made coarser."""
    FORGOTTEN = "buffer.forgotten"
    """warning: a destination that is not configured any more was let go, with what waited for it."""
    CURSOR_RESET = "buffer.cursor_reset"
    """warning: a cursor file could not be read; its destination starts at the oldest record."""
