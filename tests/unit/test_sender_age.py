"""Which words of a receiver mean that samples are too old, and what to do about it."""

from __future__ import annotations

import pytest

from agent.destinations.base import Age
from agent.destinations.remote_write.too_old import advice, age

SERIES = '{__name__="up", job="a"}'

TABLE = [
    # Prometheus, storage/interface.go
    ("out of bounds", Age.WINDOW, "storage.tsdb.out_of_order_time_window"),
    ("too old sample", Age.WINDOW, "storage.tsdb.out_of_order_time_window"),
    ("out of order sample", Age.ORDER, "storage.tsdb.out_of_order_time_window"),
    (
        "duplicate sample for timestamp 1749978400000; overrides not allowed: existing 1, new value 2",
        Age.DUPLICATE,
        "another sender",
    ),
    # Mimir, its catalog of errors
    (
        "failed pushing to ingester: the sample has been rejected because its timestamp is too old (err-mimir-sample-timestamp-too-old). The affected sample has timestamp 1970-01-19T05:30:43.969Z",
        Age.WINDOW,
        "out_of_order_time_window of Mimir",
    ),
    ("(err-mimir-sample-out-of-bounds)", Age.WINDOW, "out_of_order_time_window of Mimir"),
    ("(err-mimir-too-far-in-past)", Age.WINDOW, "past_grace_period"),
    ("(err-mimir-sample-out-of-order)", Age.ORDER, "out_of_order_time_window of Mimir"),
    ("(err-mimir-sample-duplicate-timestamp)", Age.DUPLICATE, "another sender"),
    # Cortex
    (f"user=1: err: out of bounds. timestamp=2026-01-01T00:00:00Z, series={SERIES}", Age.WINDOW, "Cortex"),
    (f"user=1: err: out of order sample. timestamp=.., series={SERIES}", Age.ORDER, "Cortex"),
    ("timestamp too old: 1749978400000 metric: up", Age.WINDOW, "reject_old_samples_max_age"),
    # Thanos
    ("store locally for endpoint a: add 3 samples: out of bounds", Age.WINDOW, "--tsdb.out-of-order"),
    ("add 3 samples: too old sample", Age.WINDOW, "--tsdb.out-of-order"),
]


@pytest.mark.parametrize(("words", "kind", "do"), TABLE)
def test_refusals_for_age(words: str, kind: Age, do: str) -> None:
    assert age(f"HTTP 400: {words}") is kind
    assert age(f"HTTP 409: {words.upper()}") is kind
    assert do in advice(f"HTTP 400: {words}")


@pytest.mark.parametrize(
    "words",
    [
        None,
        "",
        "HTTP 400",
        "HTTP 400: out of bounds: timestamp is too far in the future",
        "HTTP 400: (err-mimir-too-far-in-future)",
        "HTTP 400: label name too long",
        "HTTP 400: per-user series limit of 1000 exceeded (err-mimir-max-series-per-user)",
        "HTTP 400: out of order exemplar",
        "HTTP 409: store locally for endpoint a: conflict",
        "HTTP 422: duplicate label name",
    ],
)
def test_refusals_for_something_else(words: str | None) -> None:
    assert age(words) is None
