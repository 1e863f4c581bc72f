"""Text of others: reading it takes time and memory by its length, stops no other thread, and costs itself alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, get_origin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config import RelabelConfig, values
from agent.config.values import Text
from agent.http.answer import date, retry_after, words
from agent.http.secrets import hidden
from agent.regex import Regex, any_of, is_plain
from agent.relabel import compile_rules
from agent.scrape.exposition import sample
from agent.scrape.families import metadata
from agent.scrape.lines import LONGEST_LINE, MOST_LINES, ParseError
from agent.scrape.naming import Naming
from agent.scrape.table import MOST_EXPOSED, MOST_KEYS, Table
from agent.scrape.textfile import CROWDED_OUT, Textfile
from agent.system.events import Event
from buffer.codec import Decoder, Encoder
from buffer.model import Instant, Series, Tick
from tests.support.collecting import Log
from tests.support.hostile import LATE, lateness, peak, seconds

MIB = 1 << 20
LIMIT = 16 * MIB
KEPT = 16 * MIB
"""Bytes next to the body and to what is kept."""


def table(most: int = 20_000) -> Table:
    return Table(Naming({"hostname": "a", "job": "b"}), most)


def read(body: bytes, *, openmetrics: bool = False) -> None:
    with suppress(ParseError):
        table().read(body, openmetrics=openmetrics)


HOSTILE = {
    "tabs": b"a" + 200_000 * b"\t" + b"{",
    "tabs in a line": b"a" + (LONGEST_LINE - 3) * b"\t" + b"{\n",
    "blanks behind": b"a 1" + (LONGEST_LINE - 5) * b" " + b"x\n",
    "digits": b"a " + (LONGEST_LINE - 3) * b"1" + b"\n",
    "a small number": b"a 0." + (LONGEST_LINE - 10) * b"0" + b"1\n",
    "blanks in pairs": b"a{b" + (LONGEST_LINE - 5) * b" " + b"}\n",
    "quotes": b"a{" + (LONGEST_LINE // 2 - 2) * b'""' + b"\n",
    "escapes": b'a{b="' + (LONGEST_LINE // 2 - 8) * b"\\n" + b'"} 1\n',
    "commas": b"a{" + 10_000 * b',b="c"' + b"} 1\n",
    "labels": b"a{" + b",".join(b'a%d=""' % i for i in range(6000)) + b"} 1\n",
    "TYPE and tabs": b"#" + (LONGEST_LINE - 10) * b"\t" + b"TYPE a\n",
    "HELP and escapes": b"# HELP a " + (LONGEST_LINE // 2 - 9) * b"\\\\" + b"\n",
    "same lines": LIMIT // 6 * b"aa 11\n",
    "one blank": LIMIT // 2 * b" \n",
    "empty lines": LIMIT * b"\n",
    "comments": LIMIT // 2 * b"#\n",
    "one label": b'a{b="' + (LIMIT - 10) * b"c" + b'"} 1\n',
    "one label of escapes": b'a{b="' + (LIMIT // 2 - 8) * b"\\n" + b'"} 1\n',
    "many metrics": b"".join(b"# HELP a%d b\n" % i for i in range(500_000)),
    "long labels of four bytes": b"".join(
        b'a{b="%d' % i + 16_000 * "\U0001f600".encode() + b'"} 1\n' for i in range(250)
    ),
}


@pytest.mark.parametrize("openmetrics", [False, True], ids=["text", "openmetrics"])
@pytest.mark.parametrize("shape", HOSTILE)
def test_no_thread_is_late_for_an_exposition(shape: str, openmetrics: bool) -> None:
    body = HOSTILE[shape] + (b"# EOF\n" if openmetrics else b"")
    assert lateness(lambda: read(body, openmetrics=openmetrics)) < LATE


@pytest.mark.parametrize("shape", HOSTILE)
def test_an_exposition_takes_little_memory_next_to_what_is_kept(shape: str) -> None:
    one, body = table(), HOSTILE[shape]

    def work() -> None:
        with suppress(ParseError):
            one.read(body, openmetrics=False)

    kept = MOST_KEYS if shape.startswith("long labels") else 0
    assert peak(work) < KEPT + 4 * kept


def test_what_relabeling_drops_is_limited_too() -> None:
    dropping = Table(lambda *_: None, 10)
    many = b"".join(b"a%d 1\n" % i for i in range(MOST_EXPOSED + 1))
    with pytest.raises(ParseError, match=f"more than {MOST_EXPOSED} samples"):
        dropping.read(many, openmetrics=False)
    with pytest.raises(ParseError, match=f"more than {MOST_LINES} lines"):
        dropping.read(MOST_LINES * b"\n" + b"\n\n", openmetrics=False)
    wide = b"".join(b'a{b="%d%s"} 1\n' % (i, 60_000 * b"c") for i in range(MOST_KEYS // 60_000 + 1))
    with pytest.raises(ParseError, match=f"more than {MOST_KEYS} bytes"):
        dropping.read(wide, openmetrics=False)
    assert dropping.read(b"a 1\n", openmetrics=False).scraped == 1


def test_a_line_is_as_long_as_the_limit_and_no_longer() -> None:
    line = b'a{b="%s"} 1' % (b"c" * (LONGEST_LINE - 9))
    assert len(line) == LONGEST_LINE
    assert table().read(line + b"\n" + b"d 2\n", openmetrics=False).values == [1, 2]
    with pytest.raises(ParseError, match=f"a line of more than {LONGEST_LINE} bytes"):
        table().read(line + b"0\n", openmetrics=False)


def test_lines_that_cross_the_pieces_are_whole() -> None:
    lines = [b'a%d{b="%s"} %d' % (i, b"c" * (i % 700), i) for i in range(3000)]
    for openmetrics in (False, True):
        body = b"\n".join(lines) + (b"\n# EOF\n" if openmetrics else b"\n")
        assert table().read(body, openmetrics=openmetrics).values == list(range(3000))


PIECES = st.sampled_from(
    [
        b"a",
        b"{",
        b"}",
        b'"',
        b"\\",
        b"=",
        b",",
        b" ",
        b"\t",
        b"1",
        b"#",
        b"# HELP ",
        b"# TYPE ",
        b'b="c"',
        b"\xff",
    ]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(PIECES, max_size=4), st.lists(PIECES, min_size=1, max_size=4), st.lists(PIECES, max_size=4))
def test_a_line_takes_time_linear_in_its_length(
    head: list[bytes], row: list[bytes], tail: list[bytes]
) -> None:
    middle = b"".join(row)
    line = b"".join(head) + middle * (LONGEST_LINE // 2 // len(middle)) + b"".join(tail)
    for openmetrics in (False, True):
        for work in (
            lambda line, openmetrics: sample(line, {}, openmetrics=openmetrics),
            lambda line, openmetrics: metadata([line], openmetrics=openmetrics),
        ):

            def once(work: Callable[..., object] = work, openmetrics: bool = openmetrics) -> None:
                with suppress(ParseError):
                    work(line, openmetrics=openmetrics)

            assert min(seconds(once) for _ in range(2)) < 5e-6 * len(line)


PATTERNS = (".*a.*b", "(a*)*b", "(.+)+x", ".*.*.*=.*", "([a-z]+)*1", "a.*b", "(.*)_total", "a*(a|a)(a|a)b")


@pytest.mark.parametrize("pattern", PATTERNS)
def test_no_thread_is_late_for_a_match(pattern: str) -> None:
    text = 200_000 * "a"
    rule = RelabelConfig(source_labels=("b",), regex=pattern, target_label="c", replacement="$1")
    relabel = compile_rules([rule])
    assert relabel is not None
    assert lateness(lambda: relabel({"__name__": "a", "b": text})) < LATE
    assert lateness(lambda: any_of([pattern, "b"])(text)) < LATE


def test_a_pattern_and_a_template_are_read_in_linear_time() -> None:
    """Four times the text takes about four times as long, not sixteen; whatever else slows this process down."""
    regex = Regex("a")
    reads: list[tuple[Callable[[str], object], tuple[str, ...]]] = [
        (regex.template, ("$a", "${", "$")),
        (is_plain, ("[", "(", r"\Q", "a|", "a*")),
    ]
    for read, shapes in reads:
        for shape in shapes:
            short, long = (seconds(partial(read, count * shape)) for count in (15_000, 60_000))
            assert long < 9 * max(short, 0.002), (read, shape)


@pytest.mark.parametrize(
    "text",
    [60_000 * " ", 60_000 * "1", 60_000 * "(", 30_000 * "1:", 30_000 * "1 ", 30_000 * ", ", 30_000 * "-1"],
)
def test_no_thread_is_late_for_the_headers_and_words_of_an_answer(text: str) -> None:
    assert lateness(lambda: (date(text), retry_after(text, 0.0), words(text.encode()))) < LATE
    assert lateness(lambda: date("Sun, 06 Nov 1994 " + text)) < LATE
    assert lateness(lambda: hidden(text, {text[:5000], "secret"})) < LATE


VALUES = {
    name: text
    for name, kind in vars(values).items()
    if get_origin(kind) is Annotated
    for text in kind.__metadata__
    if isinstance(text, Text) and name != "Pattern"  # of patterns see test_regex
}
ROWS = (" ", "1", "a", "1h", ".", "/", "%", "(", "a ", "1.", "é", "@", "a:", "\n")


@pytest.mark.parametrize("kind", VALUES)
def test_a_value_of_the_configuration_is_read_in_linear_time(kind: str) -> None:
    def read(text: str) -> None:
        VALUES[kind].value(text)

    for row in ROWS:
        for head in ("", "basic http://a"):
            texts = (head + row * (size // len(row)) + "!" for size in (4_000, 16_000))
            short, long = (seconds(partial(read, text)) for text in texts)
            assert long < 9 * max(short, 0.002), (row, head)


def test_a_long_secret_is_looked_for_in_linear_time() -> None:
    short, long = (seconds(partial(hidden, 200 * "a", {size * "a" + "b"})) for size in (15_000, 60_000))
    assert long < 9 * max(short, 0.002)


class TestWhatCannotBeStored:
    """It costs itself."""

    AT = Instant(1_700_000_000_000, 5, 32 * "a")

    def tick(self, group: str, label: str, value: float = 1.0, seconds: int = 0) -> Tick:
        at = self.AT._replace(wall_ms=self.AT.wall_ms + 1000 * seconds, mono_ms=5 + 1000 * seconds)
        return Tick(at, group, (Series("a", (("b", label),)),), [value])

    @pytest.mark.parametrize("label", ["caf\udce9.prom", 2_000_000 * "\x01"])
    def test_the_records_behind_it_are_no_key_frames(self, label: str) -> None:
        encoder, decoder = Encoder(), Decoder()
        good = self.tick("good", "c")
        body, key = encoder.encode([good], 0)
        assert key
        decoder.decode(body, good.at.wall_ms, key)
        for i in range(1, 4):
            with pytest.raises(ValueError, match=r"utf-8|do not fit"):
                encoder.encode([self.tick("bad", label, seconds=i)], 0)
            good = self.tick("good", "c", i, i)._replace(series=good.series)
            body, key = encoder.encode([good], 0)
            assert not key
            assert decoder.decode(body, good.at.wall_ms, key).ticks == [good]

    def test_values_of_another_number_than_the_series_change_nothing(self) -> None:
        encoder = Encoder()
        good = self.tick("good", "c")
        encoder.encode([good], 0)
        with pytest.raises(ValueError, match="2 values for 1 series"):
            encoder.encode([good, good._replace(group="bad", values=[1.0, 2.0])], 0)
        assert encoder.encode([good], 0)[1] is False


class TestTextFiles:
    def test_a_name_that_is_not_unicode_is_shown_with_escapes(self, tmp_path: Path) -> None:
        (tmp_path / "caf\udce9.prom").write_text("a 1\n")
        (tmp_path / "b.prom").write_text("b 2\n")
        series, values = Textfile(str(tmp_path), {}, Log())(0.0)
        assert (
            dict(zip([one.name for one in series], values, strict=True)).items() >= {"a": 1, "b": 2}.items()
        )
        assert json.dumps(series, ensure_ascii=False).encode()
        assert (("file", f"{tmp_path}/caf\\xe9.prom"),) in [one.labels for one in series]

    def test_the_largest_file_is_left_out_where_all_together_are_too_large(self, tmp_path: Path) -> None:
        log = Log()
        collect = Textfile(str(tmp_path), {}, log)

        def write(name: str, lines: int, char: str = "c") -> None:
            text = "".join(f'{name}{{b="{i}{60_000 * char}"}} 1\n' for i in range(lines))
            (tmp_path / f"{name}.prom").write_text(text)

        def names() -> set[str]:
            return {one.name for one in collect(0.0)[0]} & {"aa", "bb", "cc"}

        write("aa", 60)
        write("bb", 1)
        write("cc", 40)
        assert names() == {"bb", "cc"}
        assert [one["error"] for one in log.of(Event.TEXTFILE_FAILED)] == [CROWDED_OUT]
        assert names() == {"bb", "cc"}  # and it is not read again
        (tmp_path / "cc.prom").unlink()
        assert names() == {"aa", "bb"}
        write("cc", 16, "\x01")  # escapes make six of one
        assert names() == {"aa", "bb"}
        assert len(log.of(Event.TEXTFILE_FAILED)) == 2
