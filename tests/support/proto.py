"""Message classes of protobuf's own library, made from the project's `.proto` files.

So the files are what the tests parse by, and cannot lie. It reads the part of the language that they use and refuses
everything else: syntax, package, import, message, enum, reserved, and fields of these types, `repeated` or not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_F = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "double": _F.TYPE_DOUBLE,
    "int64": _F.TYPE_INT64,
    "uint32": _F.TYPE_UINT32,
    "string": _F.TYPE_STRING,
}
_TOKEN = re.compile(r'\s+|//[^\n]*|(?P<token>[A-Za-z_][\w.]*|\d+|"[^"]*"|[{}=;,])')


class ProtoError(ValueError):
    """A file that this parser does not understand."""


def load(*paths: Path) -> descriptor_pool.DescriptorPool:
    """Return the messages of these files; those that a file imports come before it."""
    pool = descriptor_pool.DescriptorPool()
    for path in paths:
        pool.Add(parse(path.read_text(), path.name))
    return pool


def message(pool: descriptor_pool.DescriptorPool, name: str) -> Any:
    """Return the class of a message, by its full name."""
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def parse(text: str, name: str) -> descriptor_pb2.FileDescriptorProto:
    """Return a file's text as the descriptor that protoc would make of it, but for its comments."""
    file = descriptor_pb2.FileDescriptorProto(name=name)
    tokens = _Tokens(text)
    while tokens.more():
        word = tokens.take()
        if word == "syntax":
            tokens.expect("=")
            file.syntax = tokens.quoted()
            tokens.expect(";")
        elif word == "package":
            file.package = tokens.take()
            tokens.expect(";")
        elif word == "import":
            file.dependency.append(tokens.quoted())
            tokens.expect(";")
        elif word == "message":
            _message(tokens, file.message_type.add())
        else:
            raise ProtoError(f"{name}: {word!r} is not understood")
    if file.syntax != "proto3":
        raise ProtoError(f"{name}: not proto3, in which lists of numbers are packed")
    for one in file.message_type:
        _settle(file.package, one)
    return file


class _Tokens:
    def __init__(self, text: str) -> None:
        self._left = list(self._split(text))[::-1]

    @staticmethod
    def _split(text: str) -> Iterator[str]:
        at = 0
        while at < len(text):
            found = _TOKEN.match(text, at)
            if found is None:
                raise ProtoError(f"not understood: {text[at : at + 20]!r}")
            if found["token"] is not None:
                yield found["token"]
            at = found.end()

    def more(self) -> bool:
        return bool(self._left)

    def take(self) -> str:
        if not self._left:
            raise ProtoError("the file ends too early")
        return self._left.pop()

    def expect(self, token: str) -> None:
        if (found := self.take()) != token:
            raise ProtoError(f"{token!r} expected, {found!r} found")

    def quoted(self) -> str:
        found = self.take()
        if found[0] != '"':
            raise ProtoError(f"a string expected, {found!r} found")
        return found[1:-1]

    def number(self) -> int:
        found = self.take()
        if not found.isdecimal():
            raise ProtoError(f"a number expected, {found!r} found")
        return int(found)


def _message(tokens: _Tokens, into: descriptor_pb2.DescriptorProto) -> None:
    into.name = tokens.take()
    tokens.expect("{")
    while (word := tokens.take()) != "}":
        if word == "reserved":
            _reserved(tokens, into)
        elif word == "enum":
            _enum(tokens, into.enum_type.add())
        else:
            repeated = word == "repeated"
            kind = tokens.take() if repeated else word
            field = into.field.add(label=_F.LABEL_REPEATED if repeated else _F.LABEL_OPTIONAL)
            if kind in _SCALARS:
                field.type = _SCALARS[kind]
            elif kind[0].isupper():
                field.type_name = kind
            else:
                raise ProtoError(f"{kind!r} is not understood")
            field.name = tokens.take()
            tokens.expect("=")
            field.number = tokens.number()
            tokens.expect(";")


def _reserved(tokens: _Tokens, into: descriptor_pb2.DescriptorProto) -> None:
    end = ","
    while end == ",":
        first = last = tokens.number()
        end = tokens.take()
        if end == "to":
            last, end = tokens.number(), tokens.take()
        into.reserved_range.add(start=first, end=last + 1)
    if end != ";":
        raise ProtoError(f"{end!r} is not understood")


def _enum(tokens: _Tokens, into: descriptor_pb2.EnumDescriptorProto) -> None:
    into.name = tokens.take()
    tokens.expect("{")
    while (name := tokens.take()) != "}":
        tokens.expect("=")
        into.value.add(name=name, number=tokens.number())
        tokens.expect(";")


def _settle(package: str, message: descriptor_pb2.DescriptorProto) -> None:
    """Say of each named type whether it is an enum of the message, or another message of the package."""
    enums = {one.name for one in message.enum_type}
    for field in message.field:
        if field.type_name in enums:
            field.type = _F.TYPE_ENUM
            field.type_name = f".{package}.{message.name}.{field.type_name}"
        elif field.type_name:
            field.type = _F.TYPE_MESSAGE
            field.type_name = f".{package}.{field.type_name}"
