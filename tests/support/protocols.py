"""The protocols that the sender is tested with: each test that takes `protocol` runs in all of them."""

from __future__ import annotations

from agent.destinations.remote_write import protocol
from agent.destinations.remote_write.protocol import Protocol

V1, V2 = Protocol.V1.value, Protocol.V2.value

PROTOCOLS = (V1, V2)
"""Values of `protobuf_message`. A receiver of tests/support speaks all of them."""

EMPTY = protocol.EMPTY[Protocol.V1]
"""What a client posts that a test has made: a 1.0 request without series."""
