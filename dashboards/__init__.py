"""The Grafana dashboards, as code beside the JSON that it makes: `python -m dashboards` makes the JSON anew.

Built with Grafana's own library, grafana-foundation-sdk. Nothing of it is part of the agent.
"""
