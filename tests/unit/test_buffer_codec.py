"""Lanes and bodies: every value comes back bit for bit, and no body does harm."""

from __future__ import annotations

import json
import math
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from buffer import codec, scaled
from buffer.codec import CodecError, Decoder, Encoder
from buffer.model import Instant, Series, Tick
from buffer.varint import Bytes, unzigzag, varint, zigzag
from tests.support.ticks import BOOT, bits, exactly, table, tick

AGAIN = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def double(number: int) -> float:
    (value,) = struct.unpack("<d", struct.pack("<Q", number))
    return float(value)


any_double = st.integers(0, 2**64 - 1).map(double)
awkward = st.sampled_from(
    [
        0.0,
        -0.0,
        math.inf,
        -math.inf,
        math.nan,
        double(0x7FF0000000000001),  # a signaling NaN
        double(0xFFF8DEADBEEF0000),  # a NaN with a payload and a sign
        5e-324,
        -5e-324,
        2.2250738585072014e-308,
        2.0**53,
        2.0**53 + 2,
        -(2.0**62),
        2.0**62,
        2.0**63,
        2.0**72,
        2.0**72 + 2.0**20,
        1.7976931348623157e308,
        0.1,
        0.3,
        0.0001,
        1e-5,
        123456.7891,
        1024.0,
        1536.0,
        1e15 + 0.5,
    ]
)
ordinary = st.one_of(
    st.integers(-(10**12), 10**12).map(float),
    st.decimals(-1000, 1000, places=2).map(float),
    st.decimals(-1000, 1000, places=4).map(float),
    st.integers(0, 2**40).map(lambda n: n * 1024.0),
)
value = st.one_of(ordinary, awkward, any_double, st.floats(allow_subnormal=True))


# Numbers.


@given(st.integers(0, 2**70 - 1))
def test_a_varint_comes_back(number: int) -> None:
    data = varint(number)
    found = Bytes(data + b"\xff")
    assert found.varint() == number
    assert found.at == len(data)


@given(st.integers(-(2**69), 2**69 - 1))
def test_zigzag_comes_back(number: int) -> None:
    assert unzigzag(zigzag(number)) == number
    assert zigzag(number) >= 0


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xff" * 9, b"\xff" * 40])
def test_a_varint_that_is_cut_or_too_long_is_an_error(data: bytes) -> None:
    with pytest.raises((ValueError, IndexError)):
        Bytes(data).varint()


# Lanes.


@given(value, st.integers(0, scaled.RAW))
def test_a_scale_represents_its_value_bit_for_bit(number: float, at_least: int) -> None:
    scale = scaled.scale_of(number, at_least)
    assert scale >= min(at_least, scaled.RAW)
    if scale < scaled.RAW:
        whole = round(number * scaled.SCALES[scale])
        assert bits([whole / scaled.SCALES[scale]]) == bits([number])


@given(st.lists(value, min_size=1, max_size=40), st.data())
def test_a_row_brings_the_decoder_to_the_same_values(first: list[float], data: st.DataObject) -> None:
    second = [data.draw(st.one_of(st.just(v), value)) for v in first]
    modes = bytearray(max(scaled.scale_of(a), scaled.scale_of(b)) for a, b in zip(first, second, strict=True))
    scales, raw = scaled.divisors(modes), [i for i, mode in enumerate(modes) if mode == scaled.RAW]
    before, there, values = [0] * len(first), [0] * len(first), [0.0] * len(first)
    for row_of in (first, second):
        now = scaled.to_cells(row_of, scales, raw)
        assume(now is not None)  # the larger of two scales need not fit the other value
        assert now is not None
        row = scaled.to_row(now, before)
        before = now
        assert scaled.from_row(b"?" + row + b"!", 1, there, values, scales, raw) == len(row) + 1
        assert bits(values) == bits(row_of)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0, 3.0]])
def test_values_of_another_length_are_refused(values: list[float]) -> None:
    for mode in (1, scaled.RAW):
        modes = bytes([mode, mode])
        raw = [i for i in range(2) if mode == scaled.RAW]
        with pytest.raises(ValueError, match="2 series"):
            scaled.to_cells(values, scaled.divisors(modes), raw)


def test_what_did_not_change_costs_one_bit() -> None:
    same = list(range(80))
    assert scaled.to_row(same, same) == bytes(10)


# Bodies.


def write(ticks: list[list[Tick]]) -> list[tuple[bytes, bool]]:
    encoder = Encoder()
    return [encoder.encode(instant, number) for number, instant in enumerate(ticks)]


def check_round_trip(instants: list[list[Tick]]) -> list[tuple[bytes, bool]]:
    """Check that all come back bit for bit, from the start and from every key frame on."""
    bodies = write(instants)
    assert bodies[0][1]
    for first, (_, key) in enumerate(bodies):
        if not key:
            continue
        decoder = Decoder()
        for number in range(first, len(bodies)):
            body, is_key = bodies[number]
            frame = decoder.decode(body, instants[number][0].at.wall_ms, is_key)
            assert exactly(frame.ticks) == exactly(instants[number])
            assert frame.missed == number
    return bodies


boots = st.sampled_from([BOOT, "f" * 32, "0" * 32])


@st.composite
def histories(draw: st.DrawFn) -> list[list[Tick]]:
    """What an agent may append: groups that come and go, series that change, boots, a clock that jumps."""
    names = draw(st.lists(st.sampled_from(["cpu", "net", "disk", "é\U0001f980"]), min_size=1, unique=True))
    now: dict[str, tuple[Series, ...]] = {name: table(name, draw(st.integers(0, 6))) for name in names}
    last: dict[str, list[float]] = {name: [0.0] * len(series) for name, series in now.items()}
    boot, wall, mono = draw(boots), 10**12, 0
    history = []
    for _ in range(draw(st.integers(1, 12))):
        wall += draw(st.sampled_from([10_000, 10_000, 60_000, -5_000, 1]))
        mono += draw(st.sampled_from([10_000, 10_000, 60_000, 1]))
        if draw(st.integers(0, 7)) == 0:
            boot, mono = draw(boots), 0
        at = Instant(wall, mono, boot)
        instant = []
        for name in draw(
            st.lists(st.sampled_from(names), min_size=1, unique=draw(st.booleans()), max_size=4)
        ):
            if draw(st.integers(0, 4)) == 0:
                now[name] = table(name, draw(st.integers(0, 6)))
                last[name] = [0.0] * len(now[name])
            last[name] = [draw(st.one_of(st.just(v), st.just(v + 1), value)) for v in last[name]]
            instant.append(Tick(at, name, now[name], list(last[name])))
        history.append(instant)
    return history


@AGAIN
@given(histories())
def test_every_tick_comes_back_bit_for_bit(history: list[list[Tick]]) -> None:
    check_round_trip(history)


@AGAIN
@given(st.lists(value, min_size=2, max_size=30))
def test_a_series_may_take_any_value_after_any_other(values: list[float]) -> None:
    series = table("probe", 1)
    check_round_trip(
        [[Tick(Instant(10**12 + i, i, BOOT), "probe", series, [v])] for i, v in enumerate(values)]
    )


@example(["a\nb", '"', "\\", "\u2028", "\ud7ff", "\U0010ffff", "\x00"])
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=7, max_size=7))
def test_names_and_labels_of_any_text_come_back(texts: list[str]) -> None:
    group, name, kind, unit, help_text, label, label_value = texts
    series = (Series(name, ((label, label_value), (label + "x", "")), kind, unit, help_text),)
    check_round_trip([[Tick(Instant(1, 1, BOOT), group, series, [1.5])]])


def test_a_reader_may_start_at_every_key_frame_of_a_long_run() -> None:
    history = [[tick(n, 12), tick(n, 5, "other")] for n in range(400)]
    for n, instant in enumerate(history):
        instant[0].values[:] = [math.sin(n * i) for i in range(12)]  # type: ignore[index]
    bodies = check_round_trip(history)
    keys = [n for n, (_, key) in enumerate(bodies) if key]
    assert len(keys) > 3
    # The promise on size: key frames are a fraction of what is written.
    whole = sum(len(body) for body, _ in bodies)
    assert sum(len(bodies[n][0]) for n in keys) < whole / 4


def test_the_same_table_after_a_key_frame_is_the_same_object() -> None:
    bodies = write([[tick(0, 4)], [tick(1, 4, boot="a" * 32)]])
    decoder = Decoder()
    first, second = (decoder.decode(body, 1, key).ticks[0] for body, key in bodies)
    assert first.series is second.series
    assert first.at.boot_id != second.at.boot_id


def test_a_decoded_tick_is_not_changed_by_the_next_one() -> None:
    bodies = write([[tick(n)] for n in range(3)])
    decoder = Decoder()
    frames = [decoder.decode(body, 1, key) for body, key in bodies]
    assert [f.ticks[0].values for f in frames] == [tick(n).values for n in range(3)]


# What the encoder refuses, and that it is none the worse for it.


@pytest.mark.parametrize(
    "ticks",
    [
        [],
        [tick(1), tick(2, 3, "other")],
        [tick(1)._replace(values=[1.0])],
        [tick(1)._replace(values=[1.0] * 4)],
        [tick(1), tick(1, 3, "other")._replace(values=[])],
    ],
    ids=["nothing", "two instants", "too few values", "too many values", "no values, second group"],
)
def test_ticks_that_do_not_belong_together_are_refused(ticks: list[Tick]) -> None:
    for raw in (False, True):
        encoder = Encoder()
        encoder.encode([tick(0)._replace(values=[math.nan if raw else 1.0] * 3)], 0)
        with pytest.raises(ValueError):
            encoder.encode(ticks, 0)
        encoder.reset()
        body, key = encoder.encode([tick(3)], 7)
        assert key
        assert exactly(Decoder().decode(body, tick(3).at.wall_ms, key).ticks) == exactly([tick(3)])


def test_a_scale_that_was_needed_is_known_after_a_reset() -> None:
    encoder = Encoder()
    odd = tick(0)._replace(values=[0.25, 1.0, 0.1])
    encoder.encode([odd], 0)
    encoder.reset()
    body, key = encoder.encode([odd], 0)
    fresh, _ = Encoder().encode([odd], 0)
    assert exactly(Decoder().decode(body, odd.at.wall_ms, key).ticks) == exactly([odd])
    assert len(body) < len(fresh)


def test_an_encoder_forgets_series_that_went_away() -> None:
    encoder = Encoder()
    tracemalloc.start()
    try:
        sizes = []
        for number in range(4):
            for n in range(150):  # a container's interfaces: each is there once
                series = (*table("probe", 2), *table(f"veth{number}x{n}", 6))
                at = Instant(10**12 + n, n, BOOT)
                encoder.encode([Tick(at, "net", series, [0.1 * i for i in range(8)])], 0)
            encoder.reset()
            encoder.encode([tick(1)], 0)
            encoder.reset()
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert sizes[-1] < sizes[0] + 200_000


# Bodies that this module never wrote.


def deflate(plain: bytes) -> bytes:
    stream = zlib.compressobj(6, zlib.DEFLATED, -15)
    return (stream.compress(plain) + stream.flush(zlib.Z_SYNC_FLUSH)).removesuffix(codec.FLUSHED)


HEAD = struct.pack("<qQ16s", 0, 0, bytes(16))


def body_with(table_json: bytes, modes: bytes, columns: bytes = b"\x00") -> bytes:
    """Return a key frame with one definition."""
    return deflate(
        HEAD + b"\x01" + varint(len(modes)) + modes + varint(len(table_json)) + table_json + columns
    )


ROW = '["m","gauge","","",{"a":"b"}]'
MALFORMED: dict[str, bytes] = {
    "empty": b"",
    "no deflate": b"\xff" * 20,
    "nothing in it": deflate(b""),
    "cut within its head": deflate(HEAD[:20]),
    "no definitions": deflate(HEAD),
    "bytes behind its end": deflate(HEAD + b"\x00\x00") + b"\x07",
    "more than its ticks": deflate(HEAD + b"\x00\x00\x00"),
    "a group that is not there": deflate(HEAD + b"\x00\x01\x05\x00"),
    "endless definitions": deflate(HEAD + b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f"),
    "endless columns": deflate(HEAD + b"\x00\xff\xff\xff\xff\xff\xff\xff\xff\x7f"),
    "a table that is no JSON": body_with(b"[", b""),
    "a table that is no UTF-8": body_with(b'["\xff",[]]', b""),
    "a table that is a number": body_with(b"7", b""),
    "a table that is null": body_with(b"null", b""),
    "a table of null": body_with(b"[null,null]", b""),
    "a table without rows": body_with(b'["g"]', b""),
    "rows of text": body_with(b'["g","abcde"]', b"\x00"),
    "a row of text": body_with(b'["g",["abcde"]]', b"\x00"),
    "a row of five lists": body_with(b'["g",[[[],[],[],[],[]]]]', b"\x00"),
    "labels in a list": body_with(b'["g",[["m","gauge","","",["a"]]]]', b"\x00"),
    "labels that are a number": body_with(b'["g",[["m","gauge","","",1]]]', b"\x00"),
    "labels of numbers": body_with(b'["g",[["m","gauge","","",{"a":1}]]]', b"\x00"),
    "a name that is a number": body_with(b'["g",[[1,"gauge","","",{}]]]', b"\x00"),
    "a table of endless depth": body_with(b"[" * 100_000, b""),
    "a number of endless length": body_with(b"[" + b"9" * 100_000 + b",[]]", b""),
    "scales for other series": body_with(f'["g",[{ROW}]]'.encode(), b"\x00\x00"),
    "a scale that does not exist": body_with(f'["g",[{ROW}]]'.encode(), b"\x63"),
    "a row that is cut short": body_with(f'["g",[{ROW}]]'.encode(), b"\x00", b"\x01\x00\x00\x01"),
    "a row with bits too many": body_with(f'["g",[{ROW}]]'.encode(), b"\x00", b"\x01\x00\x00\xff"),
    "a new scale for no cell": body_with(f'["g",[{ROW}]]'.encode(), b"\x00", b"\x01\x00\x01\x09\x00\x00"),
    "a new scale that is none": body_with(f'["g",[{ROW}]]'.encode(), b"\x00", b"\x01\x00\x01\x00\x63\x00"),
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_body_is_a_codec_error_and_nothing_else(body: bytes) -> None:
    good, key = Encoder().encode([tick(0)], 0)
    decoder = Decoder()
    decoder.decode(good, 1, key)
    for is_key in (True, False):
        with pytest.raises(CodecError):
            decoder.decode(body, 1, is_key)
        # After it only a key frame is taken.
        with pytest.raises(CodecError):
            decoder.decode(deflate(b"\x00\x00\x00\x00"), 1, key=False)
    assert exactly(decoder.decode(good, tick(0).at.wall_ms, key).ticks) == exactly([tick(0)])


def test_a_body_without_its_key_frame_is_a_codec_error() -> None:
    (_, _), (second, key) = write([[tick(0)], [tick(1)]])
    assert not key
    with pytest.raises(CodecError, match="key frame"):
        Decoder().decode(second, 1, key)


def harmless(body: bytes, key: bool, decoder: Decoder) -> bool:
    try:
        decoder.decode(body, 1, key)
    except CodecError:
        return False
    return True


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_any_plain_text_is_decoded_or_a_codec_error(plain: bytes, key: bool) -> None:
    decoder = Decoder()
    harmless(deflate((HEAD if key else b"") + plain), key, decoder)
    harmless(plain, key, decoder)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_body_with_changed_bytes_is_decoded_or_a_codec_error(data: st.DataObject) -> None:
    bodies = write([[tick(n, 9), tick(n, 2, "other")] for n in range(3)])
    decoder, stream = Decoder(), zlib.decompressobj(-15)
    for body, key in bodies:
        plain = bytearray(stream.decompress(body + codec.FLUSHED))
        for _ in range(data.draw(st.integers(0, 3))):
            plain[data.draw(st.integers(0, len(plain) - 1))] = data.draw(st.integers(0, 255))
        harmless(deflate(bytes(plain)), key, decoder)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(st.one_of(json_values, st.lists(json_values, min_size=2, max_size=2)), st.integers(0, 3))
def test_any_json_as_a_table_is_decoded_or_a_codec_error(thing: object, width: int) -> None:
    harmless(body_with(json.dumps(thing).encode(), bytes(width)), True, Decoder())


ROOM = codec.MAX_PLAIN - 200


def empty_ticks(count: int) -> bytes:
    return deflate(HEAD + b"\x01\x00\x08" + b'["g",[]]' + varint(count) + b"\x00\x00" * count)


def one_group(width: int, mode: int, ticks: int) -> bytes:
    text = b'["g",[' + b",".join([b'["","","","",{}]'] * width) + b"]]"
    column = b"\x00\x00" + bytes((width + 7) // 8)
    return body_with(text, bytes([mode]) * width, varint(ticks) + column * ticks)


BOMBS: dict[str, Callable[[], bytes]] = {  # as much as fits into MAX_PLAIN, unless it says otherwise
    "zeros, more than fits": lambda: deflate(bytes(200 << 20)),
    "empty ticks": lambda: empty_ticks(ROOM // 2),
    "as many empty ticks as are allowed": lambda: empty_ticks(codec.MAX_SAMPLES - 1),
    "ticks of one wide group": lambda: one_group(20_000, 1, 3_000),
    "as many raw samples as are allowed": lambda: one_group(10_000, scaled.RAW, 26),
    "a very wide group": lambda: one_group(ROOM // 19, 1, 1),
    "lists in a table": lambda: body_with(b"[" + b"[]," * (ROOM // 3) + b"1]", b""),
    "changes of one scale": lambda: body_with(
        f'["g",[{ROW}]]'.encode(),
        b"\x00",
        b"\x01\x00" + varint(ROOM // 2) + b"\x00\x01" * (ROOM // 2) + b"\x00",
    ),
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_a_small_body_costs_a_bounded_amount_of_memory_and_time(bomb: Callable[[], bytes]) -> None:
    body = bomb()
    assert len(body) < 1 << 18
    began = time.process_time()
    tracemalloc.start()  # which makes everything three times as slow
    try:
        harmless(body, True, Decoder())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 25 * codec.MAX_PLAIN
    assert time.process_time() - began < 25


def test_what_fits_into_no_record_is_refused_and_the_limits_are_one_for_both_sides() -> None:
    wide = table("wide", 1)
    most = Tick(Instant(1, 1, BOOT), "wide", wide * (codec.MAX_SAMPLES - 1), [0.0] * (codec.MAX_SAMPLES - 1))
    for ticks in ([most, tick(0, 1)], [most._replace(series=(*most.series, *wide), values=[0.0])]):
        with pytest.raises(ValueError):
            Encoder().encode([t._replace(at=most.at) for t in ticks], 0)


def test_series_that_always_change_are_followed_by_key_frames_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(codec, "MAX_SAMPLES", 50)
    monkeypatch.setattr(codec, "KEY_COST", 1000)
    history = [[tick(n, 10 + n % 9)] for n in range(60)]
    assert sum(key for _, key in check_round_trip(history)) > 5
