"""English that is understood at first reading: house words that are not used, in pages and in the prose of the code.

`python -m tools.language [FOLDER]` lists where one is, with a better word.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import language


def shown(places: list[language.Found]) -> list[str]:
    return [f"{one.file}:{one.line}: {one.word!r}: {one.do}" for one in places]


@pytest.mark.parametrize(
    "page", language.pages(), ids=lambda page: page.relative_to(language.ROOT).as_posix()
)
def test_no_page_has_one(page: Path) -> None:
    assert shown(language.found(page)) == []


def test_no_other_file_has_one() -> None:
    files = language.code()
    assert {"agent", "buffer", "tests", "tools"} <= {
        path.relative_to(language.ROOT).parts[0] for path in files
    }
    assert shown([one for path in files for one in language.found(path)]) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It is told, and `told` is code.", ["told"]),
        ("Besides, what is\ntold.told is no word", ["told"]),
        ("Mend it:\nit goes on beside us.", ["Mend", "beside", "goes on"]),
        ("a stand-in, amended, the specification of 2.0", []),
        ("Do it.\n\n    Raises:\n        Error: never", ["Raises:"]),
    ],
)
def test_words_are_found_where_they_are_words(text: str, words: list[str]) -> None:
    assert sorted(word for _, word, _ in language.in_text(1, text)) == sorted(words)


def test_prose_of_python_is_found_and_names_only_of_tests() -> None:
    source = "'''Doc.'''\ntold = 1  # a comment\nf(f\"{told} tells\")\ndef told(): ...\ndef test_a_b(): ...\n"
    found = [(1, "Doc."), (2, "# a comment"), (3, " tells"), (5, "test a b")]
    assert sorted(language.python_prose(source)) == found


def test_blocks_of_code_in_a_page_are_not_prose() -> None:
    text = "a\n```\nno\n```\n\n    no\nb"
    assert [line for _, line in language.markdown_prose(text)] == ["a", "", "b"]
