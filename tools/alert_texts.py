"""The messages in docs/alerting.md, made from the templates that ship: `python -m tools.alert_texts`.

`MESSAGES` has what Alertmanager's webhook got for each of them in the suite's tests, but for times and addresses. In
the page, a block of text that stands behind `<!-- TEMPLATE of MESSAGE -->` is what amtool makes of the message with that
template of config/alertmanager/templates. The suite fails when a block is another one, or when what really arrives
differs from what is in `MESSAGES`.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

from tools.servers import ensure

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "alerting.md"
MESSAGES = ROOT / "tests" / "fixtures" / "alerts"
TEMPLATES = ROOT / "config" / "alertmanager" / "templates"

_BLOCK = re.compile(r"(<!-- (\S+) of (\S+) -->\n```text\n).*?(```\n)", re.DOTALL)
_OWN = ("startsAt", "endsAt", "generatorURL", "fingerprint")


def render(amtool: Path, template: str, message: Path, kind: str = "text") -> str:
    """Return what a template that ships makes of a message. Raises CalledProcessError where it cannot."""
    command = [
        *(str(amtool), "template", "render"),
        f"--template.glob={TEMPLATES}/*.tmpl",
        f"--template.data={message}",
        f"--template.type={kind}",
        f'--template.text={{{{ template "{template}" . }}}}',
    ]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def filled(page: str, amtool: Path) -> str:
    """Return the page with its blocks made anew."""

    def block(found: re.Match[str]) -> str:
        text = render(amtool, found[2], MESSAGES / f"{found[3]}.json")
        return f"{found[1]}{text.rstrip()}\n{found[4]}"

    return _BLOCK.sub(block, page)


def comparable(message: dict[str, Any]) -> dict[str, Any]:
    """Return what is the same each time that a message arrives: no times, no addresses."""
    kept = {key: message[key] for key in ("receiver", "status", "groupLabels", "commonLabels", "externalURL")}
    alerts = [{key: value for key, value in one.items() if key not in _OWN} for one in message["alerts"]]
    return kept | {"alerts": alerts}


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(), ensure("amtool").path))
