"""The messages in docs/alerts.md, made from the templates that ship: `python -m tools.alert_texts [RECEIVED...]`.

`MESSAGES` has what Alertmanager's webhook received for each of them in the tests, with times and addresses replaced. In
the page, a block of text behind `<!-- TEMPLATE of MESSAGE -->` is what amtool renders from the message with that
template of config/alertmanager/templates. The tests fail if a block differs, or if what really arrives
differs from `MESSAGES`: then they name the file with what they received, which is this command's argument.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tools.servers import ensure

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "alerts.md"
MESSAGES = ROOT / "tests" / "fixtures" / "alerts"
TEMPLATES = ROOT / "config" / "alertmanager" / "templates"

_BLOCK = re.compile(r"(<!-- (\S+) of (\S+) -->\n```text\n).*?(```\n)", re.DOTALL)
_STARTED, _ENDED, _OPEN = "2026-11-24T02:14:30Z", "2026-11-24T02:52:10Z", "0001-01-01T00:00:00Z"
_GRAPH = "https://prometheus.example.com/graph?g0.expr=disk_usage_percent&g0.tab=1"
_OWN = ("startsAt", "endsAt", "generatorURL", "fingerprint")


def render(amtool: Path, template: str, message: Path, kind: str = "text") -> str:
    """Return a message rendered with a template that ships. Raises CalledProcessError."""
    command = [
        *(str(amtool), "template", "render"),
        f"--template.glob={TEMPLATES}/*.tmpl",
        f"--template.data={message}",
        f"--template.type={kind}",
        f'--template.text={{{{ template "{template}" . }}}}',
    ]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def filled(page: str, amtool: Path) -> str:
    """Return the page with its blocks rendered again."""

    def block(found: re.Match[str]) -> str:
        text = render(amtool, found[2], MESSAGES / f"{found[3]}.json")
        return f"{found[1]}{text.rstrip()}\n{found[4]}"

    return _BLOCK.sub(block, page)


def comparable(message: dict[str, Any]) -> dict[str, Any]:
    """Return the parts of a message that are equal each time: no times, no addresses, not what else is wrong."""
    kept = {key: message[key] for key in ("receiver", "status", "groupLabels", "commonLabels", "externalURL")}
    alerts = [{key: value for key, value in one.items() if key not in _OWN} for one in message["alerts"]]
    for one in alerts:
        one["annotations"] = {key: text for key, text in one["annotations"].items() if key != "also"}
    return kept | {"alerts": alerts}


def keep(received: Path) -> None:
    """Put a received message into `MESSAGES`, under the same name, with times and addresses for the page."""
    message = json.loads(received.read_text())
    for one in message["alerts"]:
        ended = _ENDED if one["status"] == "resolved" else _OPEN
        one |= {"startsAt": _STARTED, "endsAt": ended, "generatorURL": one["generatorURL"] and _GRAPH}
    (MESSAGES / received.name).write_text(json.dumps(message, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        keep(Path(name))
    PAGE.write_text(filled(PAGE.read_text(), ensure("amtool").path))
