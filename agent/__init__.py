"""Limpet: the agent process. The disk buffer it writes to is the package `buffer`."""

import sys

__version__ = "0.1.0"

# httpx imports its own command line, and with it rich and pygments, wherever click happens to be installed:
# 4 MB that a daemon has no use for. A None makes that import fail as if click were not there.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
