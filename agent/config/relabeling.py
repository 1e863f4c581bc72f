"""Rules of relabeling, as Prometheus has them."""

from __future__ import annotations

import re

from agent.config import values as v
from agent.config.section import Given, Problem, Problems, Section

# Keys that an action does not take, and the actions that need a target.
_WITHOUT = {
    "keepequal": frozenset(("separator", "regex", "modulus", "replacement")),
    "dropequal": frozenset(("separator", "regex", "modulus", "replacement")),
    "labeldrop": frozenset(("source_labels", "separator", "target_label", "modulus", "replacement")),
    "labelkeep": frozenset(("source_labels", "separator", "target_label", "modulus", "replacement")),
    "lowercase": frozenset(("replacement",)),
    "uppercase": frozenset(("replacement",)),
}
_WITH_TARGET = frozenset(("replace", "hashmod", "keepequal", "dropequal", "lowercase", "uppercase"))
# A name that every receiver takes, with the references that a rule fills in.
_PLAIN_NAME = re.compile(r"(?![0-9])(?:\w|\$\{\w++\}|\$\w++)*", re.ASCII)


class RelabelConfig(Section, frozen=True, kw_only=True):
    """A rule of relabeling. The keys, and what they need and exclude, are Prometheus's (relabel.go)."""

    never_null = frozenset(("action", "regex", "replacement", "separator"))

    source_labels: tuple[v.SourceLabel, ...] = ()
    separator: v.Anything = ";"
    target_label: v.Anything = ""
    regex: v.Pattern = "(.*)"
    modulus: v.Modulus = 0
    replacement: v.Anything = "$1"
    action: v.Action = "replace"

    @staticmethod
    def rules(got: Given) -> Problems:
        """Require the keys that the action needs, refuse those it would not heed, and warn of groups that are missing."""
        action, target = got["action"], got["target_label"]
        if action is None:
            return
        for key in sorted(got.given & _WITHOUT.get(action, frozenset())):
            # Where the default was written, Prometheus sees it of these two only.
            if key in ("regex", "source_labels") or got[key] not in (None, getattr(RelabelConfig(), key)):
                yield Problem(key, f"action {action} does not take this key", "Remove it.")
        if action in _WITH_TARGET and target == "":
            yield Problem("target_label", f"action {action} needs it", "Write the name of a label.")
        if action == "hashmod" and got["modulus"] == 0:
            yield Problem("modulus", "action hashmod needs it", "Write a number from 1.")
        if action == "labelmap" and got["replacement"] == "":
            yield Problem("replacement", "action labelmap needs the name of a label", "Write one, or $1.")
        if action in ("replace", "labelmap") and got["regex"] is not None:
            yield from _filled_in(got, action)
        if action in _WITH_TARGET - {"keepequal", "dropequal"} and not _PLAIN_NAME.fullmatch(target or ""):
            yield Problem("target_label", "receivers older than Prometheus 3 take no label of this name")


def _filled_in(got: Given, action: str) -> Problems:
    """Warn of references, such as $1, to groups that the regex does not have."""
    from agent.regex import Regex  # not needed where nothing is relabeled

    regex = Regex(got["regex"])
    for key in ("replacement", "target_label")[: 2 if action == "replace" else 1]:
        if unknown := " and ".join(regex.template(got[key] or "").unknown):
            what = f"{unknown} is no group of the regex, so it becomes empty; group 1 is $1 or ${{1}}"
            yield Problem(key, what)
