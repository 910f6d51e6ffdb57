"""The handbook as HTML: every document of the repository and the lessons of docs/primer, by Sphinx: `make docs`.

A lesson's page is made of its percent form: the text of its comments, and its code between them. GitHub shows the same
files, so nothing in them is meant for Sphinx alone; which page stands where is said here.
"""

import re
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

from sphinx.application import Sphinx

project = "ServePath"
project_copyright = "the ServePath authors, Apache-2.0"
root_doc = "README"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown", ".py": "markdown"}
include_patterns = ["*.md", "docs/**.md", "docs/primer/*.py", "deploy/**.md", "models/**.md"]
myst_heading_anchors = 6
highlight_language = "none"
html_theme = "furo"
html_title = "ServePath"
html_show_sphinx = False
html_copy_source = False
# The pages by chapter, in order; the rest come last.
CHAPTERS = {
    "Primer": ("docs/primer/README", "docs/primer/[01]*", "docs/primer/answers"),
    "Use": (
        "docs/import",
        "docs/measuring",
        "docs/reading-a-report",
        "docs/tune",
        "docs/tpu",
        "docs/move-off-torchserve",
        "docs/glossary",
    ),
    "Operate": ("docs/operate", "docs/containers", "SECURITY", "docs/performance"),
    "Change": ("CONTRIBUTING", "docs/architecture", "docs/add-a-*", "docs/method", "docs/adr/README", "docs/adr/*"),
    "More": ("*",),
}


def contents(pages: Iterable[str]) -> str:
    """Return the pages by chapter as tables of contents that are hidden: they are for Sphinx alone."""
    left, text = sorted(pages), ""
    for chapter, patterns in CHAPTERS.items():
        own = list(dict.fromkeys(page for pattern in patterns for page in left if fnmatch(page, pattern)))
        left = [page for page in left if page not in own]
        text += "\n```{toctree}\n:hidden:\n:caption: " + "\n".join(
            [chapter, "", *(f"/{page}" for page in own), "```\n"]
        )
    return text


def lesson(source: str) -> str:
    """Return a script in percent form as Markdown."""
    cells = re.split(r"^# %%(.*)\n", source, flags=re.MULTILINE)[1:]
    texts = (cell.strip("\n") for cell in cells[1::2])
    return "\n\n".join(
        re.sub(r"^# ?", "", text, flags=re.MULTILINE) if "[markdown]" in kind else f"```python\n{text}\n```"
        for kind, text in zip(cells[::2], texts, strict=True)
    )


def read(app: Sphinx, page: str, source: list[str]) -> None:
    """Change what was read of a page into what Sphinx is to see."""
    if app.env.doc2path(page).suffix == ".py":
        source[0] = lesson(source[0])
    elif page == root_doc:
        source[0] += contents(app.env.found_docs - {root_doc})


def begin(app: Sphinx, error: Exception | None) -> None:
    """Write the page that a browser opens first, which sends it on to the README's."""
    if error is None:
        head = '<!doctype html><meta charset="utf-8"><title>ServePath</title>'
        refresh = f'<meta http-equiv="refresh" content="0; url={root_doc}.html">'
        Path(app.outdir, "index.html").write_text(f"{head}{refresh}\n")


def setup(app: Sphinx) -> None:
    """Join both to Sphinx."""
    app.connect("source-read", read)
    app.connect("build-finished", begin)
