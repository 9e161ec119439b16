"""The documentation as a site: every page is in its menu, links lead on, nothing comes from another host."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]


@pytest.fixture
def website() -> ModuleType:
    return import_module("website")


def leaves(menu: Any) -> Iterator[str]:
    if isinstance(menu, str):
        yield menu
    else:
        for inner in menu.values() if isinstance(menu, dict) else menu:
            yield from leaves(inner)


def test_every_page_is_in_the_menu() -> None:
    menu = set(leaves(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    assert {page for page in menu if page.endswith(".md")} == pages | {"index.md"}


@pytest.mark.parametrize(
    ("folder", "link", "leads_to"),
    [
        ("", "docs/ci.md#verdicts", "ci.md#verdicts"),
        ("", "docs/images/report.png", "images/report.png"),
        ("", "CONTRIBUTING.md", "https://github.com/edgec/edgec/blob/main/CONTRIBUTING.md"),
        ("docs", "ci.md", "ci.md"),
        ("docs", "../SECURITY.md#how", "https://github.com/edgec/edgec/blob/main/SECURITY.md#how"),
        ("docs/adr", "../methods.md", "../methods.md"),
        ("docs/adr", "../../README.md", "https://github.com/edgec/edgec/blob/main/README.md"),
        ("docs", "https://example.org/a", "https://example.org/a"),
        ("docs", "#here", "#here"),
    ],
)
def test_a_link_leads_to_the_same_file_as_in_the_repository(
    website: ModuleType, folder: str, link: str, leads_to: str
) -> None:
    assert website.linked(f"see [it]({link}), or not", folder=folder) == f"see [it]({leads_to}), or not"


@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://cdn.example/a.js"></script>',
        '<img alt="x" src=//cdn.example/a.js>',
        '<link rel="stylesheet" href="https://cdn.example/a.js">',
        "@font-face { src: url(https://cdn.example/a.js) }",
    ],
)
def test_what_a_page_would_fetch_from_another_host_is_found(website: ModuleType, text: str) -> None:
    assert [address.removeprefix("https:") for address in website.fetched(text)] == ["//cdn.example/a.js"]


def test_links_and_files_of_its_own_are_not_fetched_from_another_host(website: ModuleType) -> None:
    text = '<a href="https://example.org">x</a> <img src="../a.png"> <link rel="canonical" href="https://example.org/">'
    assert website.fetched(text) == []
