"""What `limpet buffer replay` and `limpet buffer quarantine replay` share: the destination, the bar, the answer."""

from __future__ import annotations

from typing import Any

from agent.cli import output
from agent.cli.progress import Bar
from agent.config import Config, ConfigErrors, HttpDestination, load
from agent.config.urls import public_url
from agent.ops.replay.cursor import Tally
from agent.ops.replay.run import Replayed, Watcher
from agent.text import human
from buffer.errors import LimpetError


def destination(to: str, config: Config | None) -> HttpDestination:
    """Return a destination of the configuration by its name, or of a plain URL. Raises LimpetError."""
    for one in config.destinations if config else ():
        if one.name != to:
            continue
        if isinstance(one, HttpDestination):
            return one
        do = "Write files with limpet buffer export, or give a receiver."
        raise LimpetError("--to", f"{to} is a folder, and a replay goes to a receiver", do)
    if "://" not in to:
        names = ", ".join(one.name for one in config.destinations) if config else ""
        known = (
            f"the configuration has {names or 'none'}" if config else "there is no --config to look it up in"
        )
        raise LimpetError("--to", f"no destination is called {to!r}; {known}", "Give its name, or a URL.")
    try:
        return load(output.json_text({"remote_write": [{"url": to}]}), "--to").config.remote_write[0]
    except ConfigErrors as error:
        raise LimpetError(
            "--to",
            f"{public_url(to)}: {error.problems[0].what}",
            "Give an https:// URL, or --config and the name of a destination in it: credentials, and plain http "
            "to another host, are possible only there.",
        ) from None


def watcher(bar: Bar) -> Watcher:
    """Return what shows a replay's progress on a bar."""

    def progress(tally: Tally, doing: str) -> None:
        pace = tally.delivered / tally.seconds if tally.seconds else 0.0
        text = f"{human.count(tally.delivered)} delivered, {human.size(tally.bytes)}, {human.number(pace)}/s"
        refused = f", {human.count(tally.rejected)} refused" if tally.rejected else ""
        bar.update(tally.done, text + refused + (f"; {doing}" if doing else ""))

    return Watcher(progress, bar.say)


def document(report: Replayed) -> dict[str, Any]:
    """Return what `--json` prints of a replay."""
    tally = report.tally._asdict()
    del tally["position"], tally["done"]
    refusals = [refusal._asdict() for refusal in report.refusals]
    return {"ended": report.ended.value, "error": report.error, **tally, "refusals": refusals}
