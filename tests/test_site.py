"""The pages of the site: they hang together, and say what the code says."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import jaxcompress
from docs import generate
from docs.hooks import tabs
from docs.pages import frozen
from docs.pages.api import PACKAGES
from docs.pages.parts import PARTS
from docs.pages.reasons import matches, reasons

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
FENCE = re.compile(r"^```.*?^```\n", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!\w+:)(?P<path>[^)#\s]*)(?:#(?P<anchor>[^)\s]*))?\)")
PART = re.compile(r"<!-- (.*): python -m docs\.generate -->")


def prose(page: Path) -> str:
    """Return a page without its blocks of code."""
    return FENCE.sub("", page.read_text())


def slug(heading: str) -> str:
    """Return the anchor of a heading, on GitHub as on the site."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", plain.lower()).strip().replace(" ", "-")


def anchors(page: Path) -> set[str]:
    return {slug(heading) for heading in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)}


def dead_links(page: Path, text: str) -> list[str]:
    """Return the links of a page that lead nowhere."""
    dead = []
    for match in LINK.finditer(text):
        path = page.parent / match["path"] if match["path"] else page
        missing = match["anchor"] and path.suffix == ".md" and match["anchor"] not in anchors(path)
        if not path.exists() or missing:
            dead.append(match[0])
    return dead


def nav() -> list[str]:
    lines = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2].splitlines()
    return [line.rpartition(": ")[2] for line in lines if line.endswith(".md")]


def test_links_and_anchors_lead_somewhere() -> None:
    dead = {page.name: lost for page in PAGES if (lost := dead_links(page, prose(page)))}
    assert not dead, dead
    page = ROOT / "docs/start.md"
    assert dead_links(page, "[a](no.md) [b](frozen.md#no) [c](#no) [d](frozen.md) [e](#plain-jax)")[
        :3
    ] == ["](no.md)", "](frozen.md#no)", "](#no)"]


def test_every_page_has_its_place_in_the_navigation() -> None:
    files = {page.relative_to(ROOT / "docs").as_posix() for page in PAGES[3:]}
    notebooks = {f"notebooks/{p.stem}.md" for p in (ROOT / "docs/notebooks").glob("*.ipynb")}
    assert sorted(nav()) == sorted(files | notebooks | {"contributing.md", "changelog.md"})


def test_every_part_with_figures_is_known_and_shown() -> None:
    shown = {name for page in generate.hand_written() for name in PART.findall(prose(page))}
    assert shown == set(PARTS)
    assert "docs/guides/pruning.md" in {
        p.relative_to(ROOT).as_posix() for p in generate.hand_written()
    }


def test_a_part_that_does_not_end_is_refused() -> None:
    with pytest.raises(ValueError, match="must hold the devices between"):
        generate.with_parts("<!-- devices: python -m docs.generate -->\n", "a.md")


def test_errors_on_the_page_are_those_of_the_code() -> None:
    said = " ".join(
        node.value
        for file in sorted((ROOT / "jaxcompress").rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    text = (ROOT / "docs/troubleshooting.md").read_text()
    headings = re.findall(r"^### `(.*)`$", text, re.MULTILINE)
    assert len(headings) > 30 and len(set(headings)) == len(headings)
    assert not [heading for heading in headings if heading not in said]


def test_layers_freeze_for_reasons_of_the_code() -> None:
    known = [reason.text for reason in reasons()]
    for code in frozen.CASES:
        said = frozen.said(code)
        assert bool(said) == (code != "hidden"), code
        for reason in said:
            assert any(matches(reason, text) for text in known), reason
    assert len(known) >= 35 and "it is sorted" in known


def test_every_package_has_its_page() -> None:
    modules = {f"jaxcompress.{name}" for name in jaxcompress.__all__}
    modules = {name for name in modules if importlib.util.find_spec(name) is not None}
    assert modules <= set(PACKAGES.values())


def test_tabs_are_the_headings_between_marks() -> None:
    made = tabs((ROOT / "docs/start.md").read_text())
    names = ["Linen", "NNX", "Equinox", "PyTorch", "Plain JAX"]
    assert re.findall(r'^=== "(.*)"$', made, re.MULTILINE) == names
    assert "\n    ```python\n    import jax\n" in made and "### " not in made


def test_the_site_builds(tmp_path: Path) -> None:
    needed = ("mkdocs", "material", "mkdocstrings", "latex2mathml")
    if lacking := [name for name in needed if importlib.util.find_spec(name) is None]:
        pytest.skip(f"needs the extra `docs`: no {', '.join(lacking)}")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert not built.returncode, built.stderr
    assert "plain-jax" in (tmp_path / "start/index.html").read_text()
