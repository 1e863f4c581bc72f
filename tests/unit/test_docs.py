"""Every page of the documentation: links lead to files and titles that exist, each page can be found, and what people
are to type is right.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from agent.config import ConfigErrors, load
from agent.config.destination import HttpDestination

PROJECT = Path(__file__).resolve().parents[2]
DOCS = PROJECT / "docs"
PAGES = sorted(
    [*PROJECT.glob("*.md"), *DOCS.rglob("*.md"), *(PROJECT / "packaging").rglob("*.md")],
)
OWN = ("docs/own-collectors.md", "docs/own-destinations.md")
"""A page that configures a collector of its own, which this test has not installed."""
NAMES = [str(page.relative_to(PROJECT)) for page in PAGES]
INSTALL = (DOCS / "install.md").read_text()


def blocks(text: str) -> list[str]:
    """The blocks of YAML in a page."""
    return re.findall(r"(?ms)^```yaml\n(.*?)^```$", text)


def prose(text: str) -> str:
    """The text without its blocks of code, in which brackets are no links and `#` is no title."""
    return re.sub(r"(?ms)^ *```.*?^ *```$", "", text)


def links(text: str) -> Iterator[tuple[str, str]]:
    """The relative links of a page: the file (empty: this page) and the title's anchor (may be empty)."""
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", prose(text))):
        if not re.match(r"[a-z]+:", target):
            path, _, anchor = target.partition("#")
            yield path, anchor


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to a page's titles; the same title again gets a number."""
    found: set[str] = set()
    for title in re.findall(r"^#+ (.+)$", prose(page.read_text()), re.MULTILINE):
        shown = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title)
        name = re.sub(r"[^\w\- ]", "", shown.lower()).strip().replace(" ", "-")
        number = 0
        while name + (f"-{number}" if number else "") in found:
            number += 1
        found.add(name + (f"-{number}" if number else ""))
    return found


def test_links_and_anchors_are_seen() -> None:
    text = "# A `b`: c\n[x](y.md#z) [w](https://example.com) `[no](no.md)`\n```\n[no](no.md)\n# no\n```\n"
    assert list(links(text)) == [("y.md", "z")]
    assert "# no" not in prose(text)


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    page = PROJECT / name
    for target, anchor in links(page.read_text()):
        path = (page.parent / target).resolve() if target else page
        assert path.exists() and path.is_relative_to(PROJECT), target
        if anchor:
            assert path.suffix == ".md" and anchor in anchors(path), f"{target}#{anchor}"


@pytest.mark.parametrize("index", ["README.md", "docs/README.md"])
def test_both_indexes_lead_to_every_page(index: str) -> None:
    page = PROJECT / index
    linked = {(page.parent / target).resolve() for target, _ in links(page.read_text()) if target}
    assert [one.name for one in sorted(DOCS.glob("*.md")) if one not in linked | {DOCS / "README.md"}] == []


def test_every_runbook_is_linked_from_the_alerts_page() -> None:
    linked = {(DOCS / target).resolve() for target, _ in links((DOCS / "alerts.md").read_text())}
    assert [page.name for page in sorted((DOCS / "runbooks").glob("*.md")) if page not in linked] == []


def test_no_two_decisions_have_one_number() -> None:
    pages = sorted((DOCS / "decisions").glob("*.md"))
    numbers = [int(page.name[:4]) for page in pages]
    assert numbers == sorted(set(numbers))
    for page in pages:
        assert re.match(rf"# {page.name[:4]}\b|# {int(page.name[:4])}\b", page.read_text()), page.name


def configurations() -> Iterator[tuple[str, str]]:
    """Every limpet.yaml in the pages: blocks that begin as one does, and those within the user data of cloud-init."""
    first = r"(hostname|labels|data_dir|collect|buffer|remote_write|influxdb|otlp|file|custom|mask|log):"
    for name, page in zip(NAMES, PAGES, strict=True):
        for block in blocks(page.read_text()):
            if re.match(rf"(#.*\n)*{first}", block) and name not in OWN:
                yield name, block
            elif block.startswith("#cloud-config"):
                files = yaml.safe_load(block)["write_files"]
                yield from ((name, one["content"]) for one in files if one["path"].endswith("limpet.yaml"))


@pytest.mark.parametrize(("name", "text"), list(configurations()))
def test_every_configuration_is_right(name: str, text: str) -> None:
    """It has no error. A fragment has no destination, and gets no warning but for that."""
    try:
        loaded = load(text, "limpet.yaml")
    except ConfigErrors as error:
        pytest.fail(f"{name}: {error}")
    assert [line for line in loaded.warnings if "there is no destination" not in line] == []


def test_pages_that_other_files_name_exist() -> None:
    """In code, packaging, configuration and decisions."""
    folders = ("agent", "buffer", "config", "dashboards", "packaging", "tests", "tools")
    files = [PROJECT / "Makefile", PROJECT / "pyproject.toml", *(PROJECT / "docs" / "decisions").iterdir()]
    files += [path for folder in folders for path in (PROJECT / folder).rglob("*") if path.is_file()]
    missing = []
    for path in files:
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        named = set(re.findall(r"\bdocs/[a-z-]+\.md\b", text))
        missing += [f"{path.relative_to(PROJECT)}: {name}" for name in named if not (PROJECT / name).exists()]
    assert missing == []


def test_the_playbook_of_the_page_is_the_one_that_ships_and_its_configuration_is_right() -> None:
    [shown] = [block for block in blocks(INSTALL) if "limpet_config:" in block]
    assert (PROJECT / "packaging/ansible/site.yml").read_text().endswith(shown)
    [[play]] = [yaml.safe_load(shown)]
    variables = play["roles"][0]["vars"]
    files = [f"/etc/limpet/{name}" for name in variables["limpet_secrets"]]
    loaded = load(yaml.safe_dump(variables["limpet_config"]), "limpet.yaml")
    [to] = loaded.config.destinations
    assert isinstance(to, HttpDestination) and to.basic_auth is not None
    assert [to.basic_auth.password_file, to.tls_config.ca_file] == files
    options = PROJECT / "packaging/ansible/roles/limpet/meta/argument_specs.yml"
    known = yaml.safe_load(options.read_text())["argument_specs"]["main"]["options"]
    assert set(known) == set(re.findall(r"^\| `(limpet_\w+)` \|", INSTALL, re.MULTILINE)) >= set(variables)


def test_one_host_is_installed_as_the_readme_has_it() -> None:
    readme = (PROJECT / "README.md").read_text().partition("## Install")[2]
    commands = [line for line in readme.splitlines() if line.startswith("    ")][:4]
    assert all(command in INSTALL for command in commands)


@pytest.mark.parametrize("page", ["install.md", "operating.md", "capacity.md", "alerts.md"])
def test_files_that_are_named_exist(page: str) -> None:
    path = r"(?<![\w/])((?:packaging|config|requirements|tests|docs)/[\w./-]+\w)"
    named = set(re.findall(path, (DOCS / page).read_text()))
    assert [one for one in sorted(named) if not (PROJECT / one).exists()] == []
