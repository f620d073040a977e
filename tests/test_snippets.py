"""The code on the pages runs as it stands, and prints what stands below it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import jaxcompress as jc
from docs import cells, snippets

TABS = snippets.snippets(snippets.START.read_text())
NAMES = [tab.heading for tab in TABS]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what the block of a plain function leaves; it runs once, by the recipe's default."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(tmp_path_factory.mktemp("plain"))
        return snippets.plain()


@pytest.mark.parametrize("tab", TABS, ids=NAMES)
def test_a_network_of_ones_own_is_compressed(
    tab: snippets.Snippet, monkeypatch: pytest.MonkeyPatch
) -> None:
    if lacking := snippets.missing(tab):
        pytest.skip(f"needs {', '.join(lacking)}")
    # The default is compiled for the plain function alone: what it chooses is not what is printed.
    keywords = jc.recipes.prune.__kwdefaults__
    assert keywords is not None
    monkeypatch.setitem(keywords, "importance", jc.recipes.Magnitude())
    assert tab.output and snippets.run(tab, {}) == tab.output
    assert len(tab.code.splitlines()) <= 40


@pytest.mark.parametrize("page", snippets.GUIDES, ids=lambda page: page.stem)
def test_a_guide_prints_what_it_says(page: Path, plain: dict[str, Any]) -> None:
    known = dict(plain)
    blocks = snippets.snippets(page.read_text())
    assert len(blocks) > 1 and any(block.output for block in blocks)
    for block in blocks:
        assert snippets.run(block, known) == (block.output or ""), block.code


def test_an_output_that_is_not_so_is_written_anew() -> None:
    page = "```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n\nEnd.\n"
    assert snippets.written(page, {}, alone=False) == page.replace("3", "2")


@pytest.mark.parametrize("path", cells.NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path) -> None:
    pytest.importorskip("matplotlib").use("agg")
    # Accuracies are not compared: another version of JAX trains another network.
    notebook = json.loads(path.read_text())
    made = cells.executed(notebook)["cells"]
    for cell, before in zip(made, notebook["cells"], strict=True):
        if cell["cell_type"] == "code":
            kinds = [[output["output_type"] for output in c["outputs"]] for c in (cell, before)]
            assert kinds[0] == kinds[1], "".join(cell["source"])
