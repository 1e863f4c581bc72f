"""Relabeling: what `write_relabel_configs` makes of a series' labels, as Prometheus does (model/relabel).

A rule joins the values of its source labels with the separator (a missing label counts as empty) and matches the
regex against that text as `agent.regex` says:

- replace: on a match, sets the target label to the replacement; `$1`, `${1}` and `${name}` are filled in in both.
  An empty replacement deletes the label; an empty target changes nothing.
- keep, drop: keeps or drops the series that match.
- keepequal, dropequal: keeps or drops the series where the text is the target label's value.
- hashmod: sets the target label to the last eight bytes of the text's MD5, as a big-endian number, modulo
  the modulus.
- lowercase, uppercase: sets the target label to the text, letter by letter.
- labelmap: for each label whose name matches, gives its value to the label that the replacement names.
- labeldrop, labelkeep: removes or keeps the labels whose names match.

Each rule works on the result of the one before it. A label with an empty value is a missing label.
Names may be any text that is not empty, as in Prometheus 3 (`metric_name_validation_scheme: utf8`).
A byte that is not valid Unicode (a mount point may hold any bytes) is the escape that is sent for it.

One nonsense that Prometheus allows is left out: where labelmap makes an empty name, no label is set. Rules that
remove `__name__`, or make two series the same, do so as in Prometheus.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from agent.regex import Regex

if TYPE_CHECKING:
    from agent.config import RelabelConfig


Relabel = Callable[[Mapping[str, str]], dict[str, str] | None]
"""Returns a series' new labels, `__name__` among them, sorted by name; None: the series is dropped. Pure."""


def compile_rules(configs: Sequence[RelabelConfig]) -> Relabel | None:
    """Return the rules as one, or None where there are none. Raises RegexError."""
    rules = [_compiled(config) for config in configs]

    def relabel(labels: Mapping[str, str]) -> dict[str, str] | None:
        state = _Labels(labels)
        for rule in rules:
            if not rule(state):
                return None
        return dict(sorted(state.items()))

    return relabel if rules else None


class _Labels:
    """Labels while rules work on them.

    They have Prometheus's order, which shows where labelmap gives two values to one name and the last one stays:
    first the labels that no rule has set, by name, then those that rules have set.
    """

    __slots__ = ("_base", "_set")

    def __init__(self, labels: Mapping[str, str]) -> None:
        if not ("".join(labels) + "".join(labels.values())).isascii():  # one look at all of them
            labels = {_sent(name): _sent(value) for name, value in labels.items()}
        self._base = {name: value for name, value in sorted(labels.items()) if value}
        self._set: dict[str, str] = {}

    def get(self, name: str) -> str:
        return self._set.get(name) or self._base.get(name, "")

    def set(self, name: str, value: str) -> None:
        self._base.pop(name, None)
        if value:
            self._set[name] = value
        else:
            self._set.pop(name, None)

    def items(self) -> list[tuple[str, str]]:
        return [*self._base.items(), *self._set.items()]


_Rule = Callable[[_Labels], bool]  # changes the labels, and returns whether the series stays


def _compiled(config: RelabelConfig) -> _Rule:
    sources, separator, target = config.source_labels, config.separator, config.target_label

    def text(labels: _Labels) -> str:
        get = labels.get
        return get(sources[0]) if len(sources) == 1 else separator.join([get(name) for name in sources])

    match config.action:
        case "keep" | "drop" as action:
            matches, kept = Regex(config.regex).matches, action == "keep"
            return lambda labels: matches(text(labels)) is kept
        case "keepequal" | "dropequal" as action:
            equal = action == "keepequal"
            return lambda labels: (labels.get(target) == text(labels)) is equal
        case "hashmod":
            modulus = config.modulus
            return _setting(target, lambda labels: _hashmod(text(labels), modulus))
        case "lowercase" | "uppercase" as action:
            changed = lowercase if action == "lowercase" else uppercase
            return _setting(target, lambda labels: changed(text(labels)))
        case "labeldrop" | "labelkeep" as action:
            return _removing(Regex(config.regex).matches, action == "labeldrop")
        case "labelmap":
            return _labelmap(config)
        case "replace":
            return _replace(config, text)


def _setting(target: str, value: Callable[[_Labels], str]) -> _Rule:
    def rule(labels: _Labels) -> bool:
        labels.set(target, value(labels))
        return True

    return rule


def _removing(matches: Callable[[str], bool], matching: bool) -> _Rule:
    def rule(labels: _Labels) -> bool:
        for name in dict(labels.items()):
            if matches(name) is matching:
                labels.set(name, "")
        return True

    return rule


def _replace(config: RelabelConfig, text: Callable[[_Labels], str]) -> _Rule:
    regex = Regex(config.regex)
    target, replacement = regex.template(config.target_label), regex.template(config.replacement)

    def rule(labels: _Labels) -> bool:
        if (match := regex.fullmatch(text(labels))) and (name := target.expand(match)):
            labels.set(name, replacement.expand(match))
        return True

    return rule


def _labelmap(config: RelabelConfig) -> _Rule:
    regex = Regex(config.regex)
    replacement = regex.template(config.replacement)

    def rule(labels: _Labels) -> bool:
        for name, value in labels.items():
            if (match := regex.fullmatch(name)) and (mapped := replacement.expand(match)):
                labels.set(mapped, value)
        return True

    return rule


def _hashmod(text: str, modulus: int) -> str:
    digest = hashlib.md5(text.encode(), usedforsecurity=False).digest()
    return str(int.from_bytes(digest[8:], "big") % modulus)


def lowercase(text: str) -> str:
    """Map each letter on its own, as Go's strings.ToLower: Unicode's simple mapping, without context."""
    return text.lower() if text.isascii() else "".join([char.lower()[0] for char in text])


def uppercase(text: str) -> str:
    """Do the same for capitals: a letter that would become several (ß) stays as it is."""
    return text.upper() if text.isascii() else "".join([_capital(char) for char in text])


def _capital(char: str) -> str:
    for mapped in (char.upper(), char.title()):  # where the first is several letters, the second may be one
        if len(mapped) == 1:
            return mapped
    return char


def _sent(text: str) -> str:
    """Return the text as the encoders send it."""
    return text.encode("utf-8", "backslashreplace").decode()
