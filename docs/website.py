"""Hooks of mkdocs.yml: README.md is the site's first page, links out of docs/ lead to the repository.

The build fails where a page would fetch something from another host: nobody else learns who reads it.
"""

from __future__ import annotations

import re
from pathlib import Path
from posixpath import normpath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
REPOSITORY = "https://github.com/edgec/edgec/blob/main"
_LINK = re.compile(r"(\]\()(?!https?:|#)([^)\s]+)\)")
_FENCE = re.compile(r"^(```\w+) [^\n]*$", re.MULTILINE)
_FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed)\b[^>]*?\bsrc=["']?((?:https?:)?//[^"'\s>]+)"""
    r"""|<link\b(?![^>]*\brel=["']?canonical)[^>]*?\bhref=["']?((?:https?:)?//[^"'\s>]+)"""
    r"""|url\(["']?((?:https?:)?//[^"')]+)"""
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """README.md becomes index.md."""
    from mkdocs.structure.files import File

    text = linked((ROOT / "README.md").read_text(encoding="utf-8"), folder="")
    files.append(File.generated(config, "index.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Links and code blocks as the site needs them."""
    if page.file.src_uri != "index.md":
        markdown = linked(markdown, folder=str(Path("docs", page.file.src_uri).parent))
    return _FENCE.sub(r"\1", markdown)  # the words behind a language are for our tests


def on_post_build(config: MkDocsConfig) -> None:
    """Raises where a page fetches from elsewhere."""
    from mkdocs.exceptions import PluginError

    for path in sorted(Path(config.site_dir).rglob("*")):
        if path.suffix in (".html", ".css"):
            hosts = fetched(path.read_text(encoding="utf-8"))
            if hosts:
                raise PluginError(f"{path.relative_to(config.site_dir)} would fetch {', '.join(hosts)}")


def linked(markdown: str, *, folder: str) -> str:
    """The text with links to files outside docs/ leading to the repository.

    Args:
        markdown: Of a page in the repository.
        folder: The page's, from the repository's root; empty for the root, whose links into docs/ lose that prefix.
    """

    def anew(link: re.Match[str]) -> str:
        target = normpath(f"{folder}/{link[2]}" if folder else link[2])
        if not target.startswith("docs/"):
            return f"{link[1]}{REPOSITORY}/{target})"
        return link[0] if folder else f"{link[1]}{target.removeprefix('docs/')})"

    return _LINK.sub(anew, markdown)


def fetched(text: str) -> list[str]:
    """Addresses on other hosts from which a page or a style sheet takes scripts, styles, fonts or pictures."""
    return sorted({next(filter(None, found.groups())) for found in _FETCHED.finditer(text)})
