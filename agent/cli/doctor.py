"""`limpet doctor`: walks the way of a sample, destination by destination and then this host, and says what to do.

Changes nothing on disk, and works beside a running agent. All that it sends is one empty write for each
destination. Exit status: 0 all is fine, 1 something needs doing.
"""

from __future__ import annotations

from agent.cli import output
from agent.config import load_file
from agent.http.endpoint import of_destination
from agent.http.secrets import secrets
from agent.ops.doctor import destination, host
from agent.ops.doctor.step import Step, needing


def doctor(file: str, timeout: float, *, as_json: bool) -> int:
    """Show every step; `timeout` in seconds is for each of them. Raises ConfigErrors."""
    config, warnings = load_file(file)
    known = {secret for to in config.remote_write for secret in secrets(of_destination(to))}
    parts = [destination.walk(to, timeout) for to in config.remote_write]
    parts.append(host.look(config, warnings, known, timeout))
    steps: list[Step] = []
    for part in parts:
        found = list(part)
        steps += found
        if not as_json:
            from agent.cli import show, show_doctor

            output.write(show.text(show_doctor.part(found)))
    count = needing(steps)
    if as_json:
        output.write_json([step._asdict() for step in steps])
    elif count:
        output.write(f"{count} {'thing needs' if count == 1 else 'things need'} doing.\n")
    else:
        output.write("Nothing needs doing.\n")
    return 1 if count else 0
