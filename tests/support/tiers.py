"""Work on history, done in one go."""

from __future__ import annotations

from buffer.history.packed import Head
from buffer.history.tiers import Work


def done(work: Work) -> Head:
    """Do all the work, and return the head of the file that it has written."""
    while True:
        try:
            next(work)
        except StopIteration as stop:
            head: Head = stop.value
            return head
