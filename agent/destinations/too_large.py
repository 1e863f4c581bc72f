"""Requests that are too large, recognized by a receiver's words: pure, one table.

| words                                              | receiver                                              |
|----------------------------------------------------|-------------------------------------------------------|
| too big data size, too big unpacked                | VictoriaMetrics, `-maxInsertRequestSize`              |
| snappy: decoded length ... exceeds, decoded block is too large | Prometheus, Thanos, what else reads with Go's snappy |
| request body too large, request entity too large   | Go's net/http, gateways that answer 400               |
| received message larger than max, message larger than max | Cortex, Mimir, `max_recv_msg_size`; gRPC       |
| body size exceeds, body is too large, payload too large | Node, Java and cloud gateways                    |

A limit of one label or one series ("label value too long", "exceeds the limit of labels") is no limit of a request.
"""

from __future__ import annotations

import re

_WORDS = re.compile(
    r"too big (?:data size|unpacked|packet|request|body|message)"
    r"|decoded (?:length|block|size)[^:]{0,80}(?:exceeds|too large|too big)"
    r"|(?:request|message|body|payload|entity)(?: size| length)?(?: of \d+ bytes)?(?: is| was)? ?(?:exceeds|too large|too big|larger than)",
    re.IGNORECASE,
)
_STATUSES = (400, 422, 500)
"""What receivers answer whose limit is below the gateway's: some say 500 to a message that they cannot pass on."""


def says(status: int, words: str) -> bool:
    """Return whether these words say that the request as a whole was too large. They are short (`answer.WORDS`)."""
    return status in _STATUSES and _WORDS.search(words) is not None
