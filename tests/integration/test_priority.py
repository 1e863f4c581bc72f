"""A data budget with `priority`, a kill -9 in it, and a real Prometheus that takes nothing out of order and says so."""

from __future__ import annotations

import time
from pathlib import Path

from buffer.fs import RealFs
from buffer.ledger import load_hints
from tests.support.agent import HOSTNAME, QUICK, Agent
from tests.support.net import free_port, wait_for
from tests.support.prometheus import Prometheus

NAME, FIRST = "paid", "limpet_start_time_seconds"
SIGNS = ("limpet_data_budget_used_ratio", "limpet_data_budget_next_sign_timestamp_seconds")


def test_what_has_priority_goes_ahead_over_a_kill_and_the_rest_follows_once(
    tmp_path: Path, prometheus_program: Path
) -> None:
    strict = tmp_path / "prometheus.yml"
    strict.write_text("global: {}\n")
    prometheus = Prometheus(prometheus_program, tmp_path / "prometheus", config=strict)
    # Some eighty requests spend the budget, and what is kept for priority is worth eight of them.
    queue = {**QUICK, "batch_send_deadline": "200ms"}
    to = {
        "url": prometheus.write_url,
        "name": NAME,
        "headers": {"X-Long": "x" * 13000},
        "queue_config": queue,
    }
    budget = {"per_day": "1000KiB", "priority": [FIRST]}
    # The second destination takes nothing, so the log keeps everything that was appended.
    nobody = {"url": f"http://127.0.0.1:{free_port()}/api/v1/write", "name": "nobody"}
    agent = Agent(tmp_path / "agent", [{**to, "data_budget": budget}, nobody])
    agent.config["collect"]["interval"] = "200ms"

    def newest(name: str) -> float:
        found = prometheus.query(f'timestamp({name}{{hostname="{HOSTNAME}"}})')
        return max(found.values(), default=0.0)

    def written() -> int:
        """Return up to where what has priority is settled in the cursor file: after a kill what is behind it goes out again."""
        kept = load_hints(
            RealFs(str(agent.data_dir)), str(agent.data_dir / "cursors" / f"{NAME}.json")
        ).priority
        return kept.until if kept is not None else 0

    with prometheus, agent:
        wait_for(
            lambda: "without priority" in str(agent.destination(NAME).get("last_error")),
            120,
            "the end of the budget",
        )
        assert agent.destination(NAME)["state"] == "waiting"
        rest = newest("memory_total_bytes")
        settled = wait_for(written, 30, "the cursor")
        for _ in range(2):  # the next turn is hours away, but an agent that starts has one
            before = newest(FIRST)
            time.sleep(max(0.0, before + 2.5 - time.time()))  # for new ticks
            agent.kill()
            agent.config["remote_write"][0][
                "headers"
            ] = {}  # which were there to spend the budget in half a minute
            agent.start()
            wait_for(lambda: newest(FIRST) > before, 60, "a sample with priority")  # noqa: B023
            assert newest("memory_total_bytes") == rest
            wait_for(
                lambda: (
                    set(SIGNS)
                    <= {one["__name__"] for one in prometheus.series("{__name__=~'limpet_data.*'}")}
                ),
                30,
                "a sign",
            )
            wait_for(lambda: agent.destination(NAME)["pending_samples"] > 100, 30, "what waits")
            settled = wait_for(lambda: written() > settled and written(), 30, "the cursor")  # noqa: B023
        ledger = agent.destination(NAME)["ledger"]
        assert ledger["appended"] == ledger["delivered"] + ledger["pending"]
        assert agent.stop() == 0
        agent.config["remote_write"][0]["data_budget"] = {}
        agent.start()
        wait_for(
            lambda: agent.destination(NAME)["pending_samples"] < 2000 and newest("memory_total_bytes") > rest,
            60,
            "the rest",
        )
        agent.stop()
        ledger = agent.destination(NAME)["ledger"]
        assert not any(ledger["dropped"].values())
        assert ledger["appended"] == ledger["delivered"] + ledger["pending"]
        received = prometheus.raw_samples(f'{{hostname="{HOSTNAME}"}}', 0, int(time.time() * 1000))
        assert not agent.lost(
            {labels: found for labels, found in received.items() if dict(labels)["__name__"] not in SIGNS}
        )
