"""A configuration as it may be shown to anybody: pure.

Promises: what is shown is what differs from the defaults, and of that only numbers, names and patterns. A text is shown if its
type in `agent.config` says that it may be; what belongs to a collector of somebody else is not, since nobody knows what it is. A URL
has no user and no query. Comments are not shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from agent.config import Config
from agent.config.urls import public_url
from agent.config.values import Secret, Text
from agent.http.secrets import HIDDEN

URLS = ("url", "token_url")


def shown(config: Config) -> dict[str, Any]:
    """Return the configuration as lists, dicts, numbers and texts."""
    return _struct(config)


def _struct(of: msgspec.Struct) -> dict[str, Any]:
    hints = get_type_hints(type(of), include_extras=True)
    ours = type(of).__module__.startswith("agent.")
    found = {}
    for field in msgspec.structs.fields(type(of)):
        value = getattr(of, field.name)
        usual = field.default_factory() if callable(field.default_factory) else field.default
        if value != usual:
            is_url = ours and field.name in URLS and isinstance(value, str)
            found[field.encode_name] = (
                public_url(value) if is_url else _value(value, hints[field.name], ours=ours)
            )
    return found


def _value(value: Any, hint: Any, *, ours: bool) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, msgspec.Struct):
        return _struct(value)
    if isinstance(value, dict):
        of = (get_args(hint) or (None, None))[-1]
        return {str(key): _value(one, of, ours=ours) for key, one in value.items()}
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return [_value(one, hint, ours=ours) for one in value]
    if isinstance(value, Secret) or not _is_open(hint, ours=ours):
        return HIDDEN
    return str(value)


def _is_open(hint: Any, *, ours: bool) -> bool:
    """Return whether a text of this type may be shown."""
    texts = list(_texts(hint))
    return all(not one.hidden and one != Text() for one in texts) if texts else ours


def _texts(hint: Any) -> Iterator[Text]:
    if get_origin(hint) is Annotated:
        yield from (one for one in hint.__metadata__ if isinstance(one, Text))
    if get_origin(hint) is not Literal:
        for one in get_args(hint):
            yield from _texts(one)
