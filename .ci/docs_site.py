"""Which files beside docs/ does the documentation site show? Those that its pages link to, each at its own place."""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
"""Page of the site -> file of the repository; their links to docs/ become links between pages."""
FOLDERS = ("examples", "reports/example")
LINKS = (
    ("](docs/decisions/)", "](decisions/0001-attribution-by-annotation.md)"),
    ("](docs/", "]("),
    ("](../examples/", "](examples/"),
    ("](../reports/example/", "](reports/example/"),
    ("](../CONTRIBUTING.md", "](contributing.md"),
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The pages and files from outside docs/ join those of docs/."""
    for page, source in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).iterdir()):
            if path.is_file() and path.suffix != ".md":
                files.append(File.generated(config, f"{folder}/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, /, *, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Links that are right in the repository become links that are right on the site."""
    for theirs, ours in LINKS:
        markdown = markdown.replace(theirs, ours)
    return markdown
