"""The protocols that the sender is tested with: each test that takes `protocol` runs in all of them."""

from __future__ import annotations

V1 = "prometheus.WriteRequest"

PROTOCOLS = (V1,)
"""Values of `protobuf_message`. A receiver of tests/support speaks all of them."""
