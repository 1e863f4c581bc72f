"""Made-up expositions: the same seed gives the same pages. About half of them hold something that is odd or wrong."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

from tests.support.exporter import OPENMETRICS, TEXT, Page

NAMES = ("a", "b_total", "c:d", "_e", "h_bucket", "h_count", "s", "x_info", "y_created", "é", "1z", "a-b", "")
QUOTED = (
    "m.n",
    "a b",
    "ünï",
    'q\\"uote',
    "back\\\\slash",
    "l\\nf",
    "a",
    "",
    "line\nfeed",
    "x#y",
    "a{b}",
    "\\q",
)
LABELS = ("l", "le", "quantile", "job", "_u", "L9", "é", "9x", "a-b", "__name__", "a:b", "")
TEXTS = (
    "v", "", " ", "ü", "🦟", "\\n", "\\\\", "\\\"", "a,b", "}", "{", "=", " # {", "1", "0.50", "1e3", "1000000",
    "+Inf", "NaN", "it", "line\nfeed", "\\x", "\n# HELP a b\n", "\n\n", "\t", "tail\\", "Inf", "0x10", "-0", "1_0",
)  # fmt: skip
VALUES = (
    "1", "0", "-0", "1.5", ".5", "5.", "+2", "1e3", "1E-3", "1e400", "-1e400", "1e-400", "NaN", "nan", "-nan", "+NaN", "Inf",
    "+inf", "-Inf", "infinity", "-INFINITY", "0x1p3", "0x10", "1_000", "1e", "e1", ".", "", "1,5", "one", "1d", "179769313486231580793e289",
    "123456789012345678", "0.1", "4.9e-324", "1f", "+", "1 ", "true", "nil", "in", "infin",
)  # fmt: skip
STAMPS = (
    "1700000000000", "0", "-1", "1.5", "99999999999999999999", "9223372036854775807", "x", "1700000000", "1700000000.123",
    "NaN", "Inf", "1e3", "+5", "0x10", "1_0", "007",
)  # fmt: skip
TYPES = (
    "counter",
    "gauge",
    "histogram",
    "summary",
    "untyped",
    "unknown",
    "info",
    "stateset",
    "gaugehistogram",
    "GAUGE",
    "",
    "x",
)
HELPS = ("Help.", "", " two  blanks ", "back\\\\slash", "l\\nf", "\\q", "ü", 'qu\\"ote', "\\", "#", "{")


DEADLY = re.compile(rb"\{(?:[^\n]*[{,\" \t])?[ \t]*[a-zA-Z_][a-zA-Z0-9_]*[ \t]*[,}]")
"""A name without quotes in braces, as in `{a}`: Prometheus 3.5.3 ends with a panic there, so its answer cannot be compared."""


class Maker:
    """Makes lines out of pieces; `oddity` is how likely a piece is one that few programs would write.

    The names of all metrics begin with `prefix`.
    """

    def __init__(
        self, dice: random.Random, *, openmetrics: bool = False, oddity: float = 0.1, prefix: str = ""
    ) -> None:
        self._dice, self._open, self._oddity, self._prefix = dice, openmetrics, oddity, prefix

    def _of(self, pieces: Sequence[str], usual: int) -> str:
        return self._dice.choice(pieces if self._odd() else pieces[:usual])

    def _odd(self, times: float = 1.0) -> bool:
        return self._dice.random() < self._oddity * times

    def _blank(self, usual: str = "") -> str:
        if self._open and not self._odd(0.5):
            return usual
        return self._dice.choice((usual, usual, " ", "\t", "  ")) if not self._odd(0.5) else ""

    def _quoted(self, pieces: Sequence[str], usual: int) -> str:
        text = self._of(pieces, usual)
        return f'"{text}"' if not self._odd(0.2) else self._dice.choice((f'"{text}', text, f"'{text}'"))

    def _pair(self) -> str:
        name = self._of(LABELS, 6) if not self._odd() else self._quoted(QUOTED, 8)
        equal = "=" if not self._odd(0.2) else self._dice.choice(("", "==", ":", "!="))
        return f"{self._blank()}{name}{self._blank()}{equal}{self._blank()}{self._quoted(TEXTS, 20)}{self._blank()}"

    def _labels(self, first: Sequence[str] = ()) -> str:
        count = self._dice.choice((0, 1, 1, 2, 3))
        pairs = [*first, *(self._pair() for _ in range(count))]
        if first and self._odd():
            self._dice.shuffle(pairs)
        comma = "," if not self._odd(0.2) else self._dice.choice((",,", " ", "", ";"))
        end = "," if self._odd() else self._dice.choice(("", ",,", ", ")) if self._odd(0.3) else ""
        return "{" + comma.join(pairs) + end + ("}" if not self._odd(0.1) else "")

    def exemplar(self) -> str:
        """Return an exemplar of OpenMetrics, or something like one."""
        if not (self._open or self._odd(0.2)):
            return ""
        if self._dice.random() > 0.3:
            return ""
        mark = " # " if not self._odd(0.5) else self._dice.choice((" #", "# ", " #  ", " ## "))
        stamp = f" {self._of(('1700000000.5', '1', '-1', *STAMPS), 3)}" if self._dice.random() < 0.4 else ""
        value = self._of(VALUES, 10)
        return f"{mark}{self._labels()} {value}{stamp}"

    def sample(self) -> str:
        """Return a line with a sample, or something like one."""
        if self._odd(1.5):
            series = self._labels([self._quoted([self._prefix + name for name in QUOTED], 8)])
        else:
            series = (
                self._prefix
                + self._of(NAMES, 9)
                + (self._blank() + self._labels() if self._dice.random() < 0.8 else "")
            )
        stamp = self._of(STAMPS, 2) if self._dice.random() < 0.15 else ""
        if self._open and stamp and self._dice.random() < 0.8:
            stamp = self._of(("1700000000.123", "1700000000", "1.5e9", "-1", *STAMPS), 4)
        value = self._of(VALUES, 8)
        end = ("" if self._prefix and not self._odd() else self._blank()) + (
            "" if not self._odd(0.1) else self._dice.choice(("x", "\r", "\0", " 1 2", "#"))
        )
        between = f"{self._blank(' ') or ' '}{stamp}" if stamp else ""
        return f"{self._blank()}{series}{self._blank(' ') or ' '}{value}{between}{self.exemplar()}{end}"

    def comment(self) -> str:
        """Return HELP, TYPE or UNIT, or something like it."""
        word = self._of(
            ("TYPE", "TYPE", "HELP", "UNIT" if self._open else "HELP", "help", "FOO", "", "EOF", "UNIT"), 4
        )
        name = (
            self._of(("a", "b", "b_total", "h", "s", "x", "y", *NAMES), 7)
            if not self._odd()
            else self._quoted(QUOTED, 8)
        )
        kinds = TYPES[:4] + (("unknown",) if self._open else ("untyped",))
        name = f'"{self._prefix}{name[1:]}' if name[:1] == '"' else self._prefix + name
        text = (
            (self._dice.choice(kinds) if not self._odd() else self._of(TYPES, 12))
            if word == "TYPE"
            else self._of(HELPS, 6)
        )
        if word == "UNIT":
            text = self._of(("", name.rpartition("_")[2], "x"), 1)
        mark = "# " if not self._odd(0.5) else self._dice.choice(("#", "#  ", " # ", "## ", "#\t"))
        between = " " if not self._odd(0.5) else self._dice.choice(("", "  ", "\t", "-"))
        return f"{mark}{word}{self._blank(' ') or ' '}{name}{between}{text}"

    def page(self) -> bytes:
        """Return an exposition of a few lines."""
        lines = []
        for _ in range(self._dice.randrange(1, 7)):
            make: Callable[[], str] = self.comment if self._dice.random() < 0.3 else self.sample
            lines.append(
                make()
                if not self._odd(0.1)
                else self._dice.choice(("", " ", "#", "# EOF", "# a comment", "\0", "\xff"))
            )
        if self._open:
            lines.append("# EOF" if not self._odd(0.1) else "")
        body = "\n".join(lines) + ("\n" if not self._odd(0.3) else "")
        made = body.encode()
        if self._odd(0.3) and made:
            at = self._dice.randrange(len(made))
            made = (
                made[:at]
                + self._dice.choice((b"\xff", b"\xc3", b"\xed\xa0\x80", b"\0", b""))
                + made[at + 1 :]
            )
        return made


def generated(seed: int, count: int) -> list[Page]:
    """Return `count` pages in both formats; the same for the same seed."""
    dice = random.Random(seed)
    made = []
    for _ in range(count):
        openmetrics = dice.random() < 0.4
        maker = Maker(dice, openmetrics=openmetrics, oddity=dice.choice((0.0, 0.05, 0.1, 0.2)))
        body = maker.page()
        while DEADLY.search(body):
            body = maker.page()
        made.append(Page(body, OPENMETRICS if openmetrics else TEXT))
    return made


def generated_files(seed: int, count: int) -> dict[str, bytes]:
    """Return `count` text files by name, which share no metric; the same for the same seed."""
    dice = random.Random(seed)
    return {
        f"{i}.prom": Maker(dice, oddity=dice.choice((0.0, 0.05, 0.1)), prefix=f"f{i}_").page()
        for i in range(count)
    }
