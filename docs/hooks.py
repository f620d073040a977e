"""What the site does to the pages beyond Markdown; on GitHub they are read as they are.

Headings between `<!-- tabs -->` and `<!-- end of tabs -->` become tabs, blocks of `math` MathML,
notebooks pages; files of the repository that pages link to come along below `files/`. What stands
on GitHub in the place of the reference gives way to it.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["math", "notebook_page", "on_files", "on_page_markdown", "place", "tabs", "targets"]

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ROOT_PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
LINK = re.compile(r"(?<=\]\()(?!#|\w+:)(?P<path>[^)#\s]+)(?P<anchor>#[^)\s]*)?(?=\))")
TABS = re.compile(r"<!-- tabs -->\n(.*?)<!-- end of tabs -->\n", re.DOTALL)
INSTEAD = re.compile(
    r"<!-- in the place of the reference -->\n.*?<!-- end of that -->\n", re.DOTALL
)
MATH = re.compile(r"^```math\n(.*?)^```\n", re.DOTALL | re.MULTILINE)


def source_of(uri: str) -> Path:
    """Return the file that a page of the site is made of."""
    for name, page in ROOT_PAGES.items():
        if uri == page:
            return ROOT / name
    notebook = (DOCS / uri).with_suffix(".ipynb")
    return notebook if notebook.exists() else DOCS / uri


def place(path: Path) -> str:
    """Return where a file of the repository lies on the site.

    Example:
        >>> place(ROOT / "docs/start.md"), place(ROOT / "CONTRIBUTING.md")
        ('start.md', 'contributing.md')
        >>> place(ROOT / "benchmarks/results/a.json"), place(ROOT / "docs/notebooks/a.ipynb")
        ('files/benchmarks/results/a.json', 'notebooks/a.md')
    """
    name = path.relative_to(ROOT).as_posix()
    if name == "README.md":
        return "index.md"
    if name in ROOT_PAGES:
        return ROOT_PAGES[name]
    if path.is_relative_to(DOCS) and path.suffix != ".py":
        return path.relative_to(DOCS).as_posix().replace(".ipynb", ".md")
    return f"files/{name}"


def targets(text: str, source: Path) -> Iterator[tuple[re.Match[str], Path]]:
    """Yield the links of a page to files that are there, and these."""
    for match in LINK.finditer(text):
        path = Path(os.path.normpath(source.parent / match["path"]))
        if path.is_file() and path.is_relative_to(ROOT):
            yield match, path


def tabs(text: str) -> str:
    """Return a page whose marked headings of the third level are tabs.

    Links go to the names of tabs as they go to headings on GitHub; MkDocs looks for them in `a`.

    Example:
        >>> print(tabs("<!-- tabs -->\\n\\n### A B\\n\\none\\n\\n<!-- end of tabs -->\\n"))
        <div hidden><a name="a-b"></a></div>
        <BLANKLINE>
        === "A B"
        <BLANKLINE>
            one
        <BLANKLINE>
        <BLANKLINE>
    """

    def made(match: re.Match[str]) -> str:
        parts = re.split(r"^### (.*)\n", match[1], flags=re.MULTILINE)[1:]
        names, bodies = parts[::2], parts[1::2]
        anchors = "".join(f'<a name="{name.lower().replace(" ", "-")}"></a>' for name in names)
        indented = [re.sub(r"^(?=.)", "    ", body, flags=re.MULTILINE) for body in bodies]
        shown = [f'=== "{name}"\n{body}' for name, body in zip(names, indented, strict=True)]
        return f"<div hidden>{anchors}</div>\n\n" + "".join(shown)

    return TABS.sub(made, text)


def math(text: str) -> str:
    """Return a page whose blocks of TeX are MathML, which browsers draw without a script."""
    from latex2mathml.converter import convert

    return MATH.sub(lambda m: f'<div class="math">{convert(m[1], display="block")}</div>\n', text)


def notebook_page(notebook: Mapping[str, Any]) -> str:
    """Return a notebook as Markdown: its text, its code and what that printed and drew.

    Example:
        >>> output = {"output_type": "stream", "name": "stdout", "text": ["2\\n"]}
        >>> cell = {"cell_type": "code", "source": ["print(2)"], "outputs": [output]}
        >>> notebook_page({"cells": [cell]})
        '```python\\nprint(2)\\n```\\n\\n```text\\n2\\n```\\n'
    """
    parts = []
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(f"{text}\n")
            continue
        parts.append(f"```python\n{text}\n```\n")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                parts.append(f"![](data:image/png;base64,{''.join(data['image/png']).strip()})\n")
                continue
            printed = "".join(output.get("text") or data.get("text/plain", ""))
            parts.append(f"```text\n{printed.rstrip()}\n```\n")
    return "\n".join(parts)


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are not Markdown below `docs`, and the files that pages link to."""
    from mkdocs.structure.files import File

    for file in list(files):
        if file.src_uri.endswith(".ipynb"):
            files.remove(file)
            text = notebook_page(json.loads(file.content_string))
            uri = file.src_uri.replace(".ipynb", ".md")
            files.append(File.generated(config, uri, content=text))
    for name, uri in ROOT_PAGES.items():
        files.append(File.generated(config, uri, content=(ROOT / name).read_text()))
    for file in list(files.documentation_pages()):
        for _, path in targets(file.content_string, source_of(file.src_uri)):
            uri = place(path)
            if uri.startswith("files/") and uri not in files.src_uris:
                files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Point links to where files lie on the site, and make tabs and formulas."""
    here = posixpath.dirname(page.file.src_uri)
    parts, begin = [], 0
    for match, path in targets(markdown, source_of(page.file.src_uri)):
        uri = posixpath.relpath(place(path), here or ".")
        parts += [markdown[begin : match.start()], uri, match["anchor"] or ""]
        begin = match.end()
    return math(tabs(INSTEAD.sub("", "".join([*parts, markdown[begin:]]))))
