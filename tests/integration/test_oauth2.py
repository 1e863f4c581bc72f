"""`oauth2` and `http_headers` next to a real Prometheus with the same settings: both ask for a token in the same way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.agent import Agent
from tests.support.net import free_port, wait_for
from tests.support.prometheus import Prometheus
from tests.support.receiver import Received
from tests.support.tokens import CLIENT, SECRET, Asked, Guarded, TokenServer

SAME = ("authorization", "content-type", "content-length")


def asked(tokens: TokenServer) -> list[tuple[Any, ...]]:
    """What was requested, up to the first token."""

    def what(one: Asked) -> tuple[Any, ...]:
        return one.path, one.form, *(one.headers.get(name) for name in SAME)

    return [what(one) for one in tokens.asked]


@pytest.mark.parametrize("style", ["header", "body"])
def test_a_token_is_requested_as_prometheus_does(
    tmp_path: Path, prometheus_program: Path, style: str
) -> None:
    secret, key = tmp_path / "secret", tmp_path / "key"
    secret.write_text(f"{SECRET}\n")
    key.write_text("a canary\n")

    def to(receiver: Guarded, tokens: TokenServer) -> dict[str, Any]:
        return {
            "url": receiver.url,
            "http_headers": {"X-Key": {"values": ["a"]}, "X-File": {"files": [str(key)]}},
            "oauth2": {
                "client_id": CLIENT,
                "client_secret_file": str(secret),
                "token_url": f"{tokens.url}?a=b",
                "scopes": ["metrics:write", "b"],
                "endpoint_params": {"audience": "x & y"},
            },
        }

    def written(receiver: Guarded) -> Received:
        wait_for(lambda: receiver.requests, 60, "a request with a token")
        return receiver.requests[0]

    with TokenServer() as tokens, Guarded(tokens) as receiver:
        tokens.styles = {style}
        port = free_port()
        config = tmp_path / "prometheus.yml"
        scrape = {"job_name": "p", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
        config.write_text(
            yaml.safe_dump(
                {
                    "global": {"scrape_interval": "1s"},
                    "scrape_configs": [scrape],
                    "remote_write": [to(receiver, tokens) | {"metadata_config": {"send": False}}],
                }
            )
        )
        with Prometheus(prometheus_program, tmp_path / "p", config=config, port=port):
            theirs = written(receiver).headers
        their_questions = asked(tokens)
        tokens.asked.clear()
        receiver.requests.clear()
        with Agent(tmp_path / "agent", [to(receiver, tokens)]) as agent:
            ours = written(receiver).headers
            assert agent.stop() == 0
        assert asked(tokens) == their_questions
        assert len(their_questions) == (1 if style == "header" else 2)
        for name in ("x-key", "x-file"):
            assert ours[name] == theirs[name]
        assert tokens.good(ours["authorization"])
        assert tokens.good(theirs["authorization"])
        assert "canary" not in agent.log.read_text()
