"""The on-disk write-ahead buffer. It knows nothing of HTTP, psutil, or the agent."""
