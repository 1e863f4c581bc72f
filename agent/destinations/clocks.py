"""What the Date of an answer says about two clocks, the host's and the receiver's: pure functions.

A Date has whole seconds (RFC 9110, 6.6.1), and it was written at some time during the exchange. So an answer says
no more than that the difference lies in a span, of a second and as long as the exchange took. The result is the one
before, moved as little as makes it lie in that span: it stays where it is while nothing speaks against it, a slow
exchange does no harm, and each answer makes it more exact.
"""

from __future__ import annotations

from agent.text import human

WRONG = 60.0
"""Seconds by which two clocks differ, from which on one of them is wrong."""


def advice(skew: float | None) -> str | None:
    """Return what to do about samples that were refused for their age while the clocks differ so; None: it is not the clocks.

    With a clock that is a year behind, all that a host collects is a year old, and no window of a receiver helps.
    """
    if skew is None or abs(skew) <= WRONG:
        return None
    way = "ahead of" if skew > 0 else "behind"
    which = f"this host's is {human.duration(abs(skew))} {way} the receiver's"
    return f"set the clock that is wrong ({which}): timedatectl set-ntp true; chronyc tracking"


def skew(date: float, begun: float, ended: float, before: float = 0.0) -> float:
    """Return the seconds by which the host's clock is ahead (+) of the receiver's, given what was known before.

    The answer with this Date came between `begun` and `ended` by the host's clock; all are Unix seconds.
    """
    return min(max(before, begun - date - 1), ended - date)
