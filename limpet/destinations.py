"""What a destination type of your own is made of; docs/own-destinations.md explains it with an example.

The promise of stability is that of `limpet.collectors`.
"""

from agent.config.custom import Custom
from agent.destinations.base import (
    REJECTED,
    UNSTORABLE,
    Age,
    Destination,
    Encoded,
    Outcome,
    Request,
    Verdict,
    failed,
)
from agent.destinations.columns import merge
from agent.destinations.labels import final, relabeling
from agent.destinations.verdict import verdict
from agent.http.answer import Answer
from agent.http.failures import Failure
from buffer.model import Series, Tick, is_stale

__all__ = [
    "REJECTED",
    "UNSTORABLE",
    "Age",
    "Answer",
    "Custom",
    "Destination",
    "Encoded",
    "Failure",
    "Outcome",
    "Request",
    "Series",
    "Tick",
    "Verdict",
    "failed",
    "final",
    "is_stale",
    "merge",
    "relabeling",
    "verdict",
]
