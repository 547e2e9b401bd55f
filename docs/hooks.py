"""What the build of the documentation does beside MkDocs: generated parts, pages of the root folder, and equations."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parent))

from generated import ROOT, insert

__all__ = ["on_config", "on_files", "on_page_markdown"]

FROM_ROOT = {
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "benchmarks.md",
    "examples/README.md": "examples.md",
}
"""Pages that stand outside this folder, by their place in the repository, and their place in the site."""
CODE = re.compile(r"`[^`\n]+`")
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)#:\s]+)(#[^)\s]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Let blocks of the language ``math`` become MathML, which browsers draw without a script."""
    fence = {"name": "math", "class": "math", "format": _equation}
    config.mdx_configs.setdefault("pymdownx.superfences", {})["custom_fences"] = [fence]
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages that stand outside this folder."""
    for place, name in FROM_ROOT.items():
        if (ROOT / place).is_file():
            text = (ROOT / place).read_text(encoding="utf-8")
            files.append(File.generated(config, name, content=_moved(text, Path(place).parent)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Insert the generated parts, and let links to files of the repository lead to their place in the site."""
    del config, files
    is_from_root = page.file.src_uri in FROM_ROOT.values()
    text = insert(markdown if is_from_root else _moved(markdown, Path("docs")))
    # GitHub wants a backslash before a bar that stands in code in a table, and MkDocs would show the backslash.
    return CODE.sub(lambda found: found[0].replace(r"\|", "|"), text)


def _equation(source: str, *_: Any, **__: Any) -> str:
    return str(convert(source, display="block"))


def _moved(text: str, folder: Path) -> str:
    """Rewrite the links of a page that stands in a folder of the repository; see `_target`."""
    return LINK.sub(lambda found: _link(found[1], found[2], found[3] or "", folder), text)


def _link(words: str, target: str, anchor: str, folder: Path) -> str:
    """Give a link to a page of the site; words alone where the target is a file that the site does not have."""
    place = (ROOT / folder / target).resolve()
    inside = place.relative_to(ROOT).as_posix() if place.is_relative_to(ROOT) else target
    if inside.rstrip("/") == "examples":
        inside = "examples/README.md"
    if inside in FROM_ROOT:
        return f"[{words}]({FROM_ROOT[inside]}{anchor})"
    if inside.startswith("docs/"):
        return f"[{words}]({inside.removeprefix('docs/')}{anchor})"
    return words
