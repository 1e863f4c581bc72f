"""Limpet for authors of plugins: `limpet.collectors`. Everything else, in `agent` and `buffer`, may change at any time."""
