"""The Grafana dashboards, as code next to the JSON that it generates: `python -m dashboards` generates the JSON.

Built with Grafana's own library, grafana-foundation-sdk. Nothing of it is part of the agent.
"""
