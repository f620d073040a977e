"""Run the notebooks and keep in them what their cells print and draw.

python -m docs.cells [PART OF A NAME]

The cells of a notebook run one after the other in this process; no kernel is started.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from docs.snippets import elsewhere

__all__ = ["NOTEBOOKS", "executed", "main"]

NOTEBOOKS = tuple(sorted((Path(__file__).parent / "notebooks").glob("*.ipynb")))


def executed(notebook: Mapping[str, Any]) -> dict[str, Any]:
    """Return a notebook with its cells run, in the working directory.

    Example:
        >>> cell = {"cell_type": "code", "source": ["print(2)"], "outputs": []}
        >>> executed({"cells": [cell]})["cells"][0]["outputs"][0]["text"]
        ['2\\n']
    """
    known: dict[str, Any] = {"__name__": "__main__"}
    cells, count = [], 0
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            count += 1
            printed = io.StringIO()
            code = "".join(cell["source"])
            with contextlib.redirect_stdout(printed):
                exec(compile(code, f"cell {count}", "exec"), known)
            cell = {**cell, "execution_count": count, "outputs": _outputs(printed.getvalue())}
        cells.append(cell)
    return {**notebook, "cells": cells}


def _outputs(printed: str) -> list[dict[str, Any]]:
    outputs: list[dict[str, Any]] = []
    if printed:
        text = printed.splitlines(keepends=True)
        outputs.append({"output_type": "stream", "name": "stdout", "text": text})
    if "matplotlib.pyplot" in sys.modules:
        outputs += [
            {"output_type": "display_data", "metadata": {}, "data": {"image/png": picture}}
            for picture in _pictures()
        ]
    return outputs


def _pictures() -> list[str]:
    """Return the figures that are open, as PNG in base64, and close them."""
    from matplotlib import pyplot

    pictures = []
    for number in pyplot.get_fignums():
        file = io.BytesIO()
        pyplot.figure(number).savefig(file, format="png", dpi=72, bbox_inches="tight")
        pictures.append(base64.b64encode(file.getvalue()).decode())
    pyplot.close("all")
    return pictures


def main(wanted: str = "") -> None:
    """Run notebooks and write them."""
    with elsewhere():
        for path in [path for path in NOTEBOOKS if wanted in path.name]:
            made = executed(json.loads(path.read_text()))
            path.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
