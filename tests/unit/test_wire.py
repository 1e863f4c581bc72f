"""The tests' own idea of remote write: the messages of the `.proto` files, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from tests.support import proto, wire
from tests.support.wire import Metadata, TimeSeries, WireError, Write

V1, V2 = "prometheus", "io.prometheus.write.v2"

# By the specifications: remote write 1.0, "Protocol"; 2.0-rc.4, "Protobuf Message".
FIELDS: dict[str, dict[int, tuple[str, str]]] = {
    f"{V1}.WriteRequest": {
        1: ("timeseries", f"repeated {V1}.TimeSeries"),
        3: ("metadata", f"repeated {V1}.MetricMetadata"),
    },
    f"{V1}.TimeSeries": {1: ("labels", f"repeated {V1}.Label"), 2: ("samples", f"repeated {V1}.Sample")},
    f"{V1}.Label": {1: ("name", "string"), 2: ("value", "string")},
    f"{V1}.Sample": {1: ("value", "double"), 2: ("timestamp", "int64")},
    f"{V1}.MetricMetadata": {
        1: ("type", f"{V1}.MetricMetadata.MetricType"),
        2: ("metric_family_name", "string"),
        4: ("help", "string"),
        5: ("unit", "string"),
    },
    f"{V2}.Request": {4: ("symbols", "repeated string"), 5: ("timeseries", f"repeated {V2}.TimeSeries")},
    f"{V2}.TimeSeries": {
        1: ("labels_refs", "packed uint32"),
        2: ("samples", f"repeated {V2}.Sample"),
        4: ("exemplars", f"repeated {V2}.Exemplar"),
        5: ("metadata", f"{V2}.Metadata"),
    },
    f"{V2}.Sample": {1: ("value", "double"), 2: ("timestamp", "int64"), 3: ("start_timestamp", "int64")},
    f"{V2}.Exemplar": {
        1: ("labels_refs", "packed uint32"),
        2: ("value", "double"),
        3: ("timestamp", "int64"),
    },
    f"{V2}.Metadata": {
        1: ("type", f"{V2}.Metadata.MetricType"),
        3: ("help_ref", "uint32"),
        4: ("unit_ref", "uint32"),
    },
}
KINDS = {
    FieldDescriptor.TYPE_DOUBLE: "double",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_UINT32: "uint32",
    FieldDescriptor.TYPE_STRING: "string",
}
RESERVED = {f"{V1}.WriteRequest": [(2, 3)], f"{V2}.Request": [(1, 4)], f"{V2}.TimeSeries": [(6, 7)]}


def kind(field: FieldDescriptor) -> str:
    named = field.message_type or field.enum_type
    found = named.full_name if named is not None else KINDS[field.type]
    if field.is_packed:
        return f"packed {found}"
    return f"repeated {found}" if field.is_repeated else found


def messages(root: Descriptor) -> dict[str, Descriptor]:
    return {one.full_name: one for one in root.file.message_types_by_name.values()}


def test_the_proto_files_say_what_the_specifications_say() -> None:
    found = messages(wire.Request.DESCRIPTOR) | messages(wire.WriteRequest.DESCRIPTOR)
    found |= messages(wire.POOL.FindMessageTypeByName(f"{V1}.Label"))
    assert {
        name: {field.number: (field.name, kind(field)) for field in one.fields} for name, one in found.items()
    } == FIELDS
    for name, one in found.items():
        told = one.file.serialized_pb and _reserved(one)
        assert told == RESERVED.get(name, [])


def _reserved(message: Descriptor) -> list[tuple[int, int]]:
    from google.protobuf.descriptor_pb2 import DescriptorProto

    copy = DescriptorProto()
    message.CopyToProto(copy)
    return [(one.start, one.end) for one in copy.reserved_range]


@pytest.mark.parametrize(
    "text",
    [
        'syntax = "proto2"; package a;',
        'syntax = "proto3"; package a; service B {}',
        'syntax = "proto3"; package a; message B { optional string c = 1; }',
        'syntax = "proto3"; package a; message B { bytes c = 1; }',
        'syntax = "proto3"; package a; message B { string c = 1 [deprecated = true]; }',
        'syntax = "proto3"; package a; message B { string c = one; }',
        'syntax = "proto3"; package a; message B { reserved 1 2; }',
        'syntax = "proto3"; package a; message B { string c = 1;',
        "syntax = proto3; package a;",
        "package a;",
    ],
)
def test_a_proto_file_that_is_not_understood_is_refused(text: str) -> None:
    with pytest.raises(proto.ProtoError):
        proto.parse(text, "some.proto")


A = (("__name__", "a"),)
GOOD = TimeSeries((("__name__", "a"), ("b", "c")), ((1, 1.0), (5, -0.0)))
TOLD = GOOD._replace(metadata=Metadata("a", "counter", "bytes", "Help."), starts=(0, 3))


def test_what_is_encoded_is_decoded() -> None:
    meta = Metadata("a", "gauge", "", "Help.")
    assert wire.decode(wire.encode([GOOD], "1.0", [meta])) == Write((GOOD,), (meta,))
    other = GOOD._replace(labels=A, metadata=TOLD.metadata)
    found = wire.decode(wire.encode([TOLD, other, GOOD], "2.0"), "2.0")
    assert found == Write((TOLD, other, GOOD), (Metadata("a", "counter", "bytes", "Help."),), "2.0")
    assert found.samples == 6


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize(
    "series",
    {
        "labels not sorted": TimeSeries((("b", "1"), ("__name__", "a")), ((1, 1.0),)),
        "a label twice": TimeSeries((*A, ("b", "1"), ("b", "2")), ((1, 1.0),)),
        "no name": TimeSeries((("b", "1"),), ((1, 1.0),)),
        "no labels": TimeSeries((), ((1, 1.0),)),
        "an empty label": TimeSeries((*A, ("b", "")), ((1, 1.0),)),
        "no sample": TimeSeries(A, ()),
        "not in order": TimeSeries(A, ((2, 1.0), (1, 1.0))),
        "a time twice": TimeSeries(A, ((2, 1.0), (2, 1.0))),
    }.items(),
    ids=lambda one: one[0] if isinstance(one, tuple) else one,
)
def test_a_series_that_breaks_a_rule_of_remote_write_is_refused(
    version: wire.Version, series: tuple[str, TimeSeries]
) -> None:
    with pytest.raises(WireError):
        wire.decode(wire.encode([series[1]], version), version)


def request2(change: Callable[[Any], object]) -> bytes:
    request = wire.Request(symbols=["", "__name__", "a"])
    request.timeseries.add(labels_refs=[1, 2]).samples.add(value=1.0, timestamp=5)
    change(request)
    message: bytes = request.SerializeToString()
    return message


BROKEN: dict[str, Callable[[Any], object]] = {
    "no symbols": lambda r: (r.symbols.clear(), r.timeseries.clear()),
    "the first symbol is not empty": lambda r: (
        r.symbols.pop(0),
        r.timeseries[0].labels_refs.__setitem__(0, 0),
    ),
    "a symbol twice": lambda r: (r.symbols.append("a"), r.timeseries[0].labels_refs.extend([2, 3])),
    "the empty symbol twice": lambda r: r.symbols.append(""),
    "a symbol that nobody uses": lambda r: r.symbols.append("b"),
    "no such symbol": lambda r: r.timeseries[0].labels_refs.extend([2, 3]),
    "a label without a value": lambda r: r.timeseries[0].labels_refs.append(2),
    "an empty value": lambda r: r.timeseries[0].labels_refs.extend([2, 0]),
    "no such help": lambda r: setattr(r.timeseries[0].metadata, "help_ref", 3),
    "no such unit": lambda r: setattr(r.timeseries[0].metadata, "unit_ref", 3),
    "no such type": lambda r: setattr(r.timeseries[0].metadata, "type", 8),
    "a start after its sample": lambda r: setattr(r.timeseries[0].samples[0], "start_timestamp", 6),
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN)
def test_a_2_0_message_that_breaks_a_rule_is_refused(change: Callable[[Any], object]) -> None:
    assert wire.decode_message(request2(lambda _: None), "2.0").samples == 1
    with pytest.raises(WireError):
        wire.decode_message(request2(change), "2.0")


@pytest.mark.parametrize(
    "message",
    {
        "a start for the whole series": "22002a023001",
        "a histogram": "22002a021a00",
        "an exemplar with a field more": "22002a04220220 01".replace(" ", ""),
        "a 1.0 message": "0a050a030a0161",
        "cut short": "22",
        "no unicode": "22002201ff",
    }.items(),
    ids=lambda one: one[0],
)
def test_a_2_0_message_with_unknown_fields_is_refused(message: tuple[str, str]) -> None:
    with pytest.raises(WireError, match=r"unknown fields|no protobuf message"):
        wire.decode_message(bytes.fromhex(message[1]), "2.0")


@pytest.mark.parametrize("message", ["0a7f", "120161", "0a021a00", "1a021800"])
def test_a_1_0_message_with_unknown_fields_is_refused(message: str) -> None:
    with pytest.raises(WireError):
        wire.decode_message(bytes.fromhex(message))


@pytest.mark.parametrize("names", [["", "a"], ["a", "a"]])
def test_1_0_metadata_needs_a_name_once(names: list[str]) -> None:
    with pytest.raises(WireError):
        wire.decode(wire.encode([], "1.0", [Metadata(name, "gauge", "", "") for name in names]))


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("body", [b"", b"\xff" * 20, wire.encode([])[:-1] + b"\x05junk"])
def test_what_is_no_snappy_block_is_refused(body: bytes, version: wire.Version) -> None:
    with pytest.raises(WireError, match="snappy"):
        wire.decode(body, version)
