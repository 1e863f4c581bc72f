"""Refusals for age, recognized by a receiver's words: pure, one table.

| words                                                              | receiver                       | kind   |
|--------------------------------------------------------------------|--------------------------------|--------|
| out of bounds, too old sample                                      | Prometheus, Cortex, Thanos     | WINDOW |
| err-mimir-sample-timestamp-too-old, err-mimir-sample-out-of-bounds | Mimir                          | WINDOW |
| err-mimir-too-far-in-past                                          | Mimir, `past_grace_period`     | WINDOW |
| timestamp too old                                                  | Cortex, `reject_old_samples`   | WINDOW |
| out of order sample, err-mimir-sample-out-of-order                 | Prometheus, Cortex, Thanos, Mimir | ORDER |
| duplicate sample for timestamp, err-mimir-sample-duplicate-timestamp | the same                     | DUPLICATE |

What lies too far in the future is not old, although Prometheus calls it out of bounds too. VictoriaMetrics has no
words: it takes a request and drops what is older than its retention. Thanos' bare "conflict" may mean labels as well.
"""

from __future__ import annotations

from agent.destinations.base import Age

_WORDS = (
    ("out of bounds", Age.WINDOW),
    ("too old sample", Age.WINDOW),
    ("timestamp too old", Age.WINDOW),
    ("err-mimir-sample-timestamp-too-old", Age.WINDOW),
    ("err-mimir-sample-out-of-bounds", Age.WINDOW),
    ("err-mimir-too-far-in-past", Age.WINDOW),
    ("out of order sample", Age.ORDER),
    ("duplicate sample for timestamp", Age.DUPLICATE),
    ("err-mimir-sample-out-of-order", Age.ORDER),
    ("err-mimir-sample-duplicate-timestamp", Age.DUPLICATE),
)

_DO = (
    ("duplicate", "another sender has the same series: give one of them another hostname or label"),
    ("too-far-in-past", "raise past_grace_period of Mimir, then replay the quarantine"),
    ("err-mimir", "set out_of_order_time_window of Mimir (limits), then replay the quarantine"),
    ("timestamp too old", "raise reject_old_samples_max_age of Cortex, then replay the quarantine"),
)


def age(words: str | None) -> Age | None:
    """What a receiver's words say of the age of samples; None: nothing."""
    said = (words or "").lower()
    if "future" in said:
        return None
    return next((kind for part, kind in _WORDS if part in said), None)


def advice(words: str | None) -> str:
    """What an operator can do about a refusal for age with these words."""
    said = (words or "").lower()
    return next(
        (do for part, do in _DO if part in said),
        "set storage.tsdb.out_of_order_time_window of Prometheus (Thanos: --tsdb.out-of-order.time-window,"
        " Cortex: out_of_order_time_window), then replay the quarantine",
    )
