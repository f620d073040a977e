"""Small pieces of Markdown: tables, percentages, where a figure comes from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["Result", "command", "load", "percent", "source", "spread", "table"]

ROOT = Path(__file__).parents[1]
Result = Mapping[str, Any]


def load(path: str) -> Result:
    """Read a result file, by its path from the root of the repository."""
    return json.loads((ROOT / path).read_text())


def percent(value: float | None, digits: int = 2) -> str:
    """Return a fraction as a percentage, and nothing for None.

    Example:
        >>> percent(0.9339), percent(None)
        ('93.39 %', '')
    """
    return "" if value is None else f"{100 * value:.{digits}f} %"


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Return the mean, with the sample standard deviation where there are several values.

    Example:
        >>> spread([78.0]), spread([77.0, 79.0])
        ('78.00', '78.00 ± 1.41')
    """
    mean = sum(values) / len(values)
    if len(values) == 1:
        return f"{mean:.{digits}f}"
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return f"{mean:.{digits}f} ± {variance**0.5:.{digits}f}"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table.

    Example:
        >>> print(table(["a", "b"], [[1, 2]]))
        | a | b |
        |---|---|
        | 1 | 2 |
    """
    lines = [head, ["---"] * len(head), *rows]
    texts = ["| " + " | ".join(str(cell) for cell in line) + " |" for line in lines]
    texts[1] = "|" + "---|" * len(head)
    return "\n".join(texts)


def source(path: str, environment: Result | None = None) -> str:
    """Say which file figures come from, on what device, with which versions."""
    known = environment or load(path)["environment"]
    versions = known["versions"]
    names = [name for name in ("python", "jax", "torch") if versions.get(name)]
    listed = ", ".join(f"{name} {versions[name]}" for name in names)
    commit = f", commit {known['commit'][:8]}" if known.get("commit") else ""
    device = known["device"].replace("none: compiled", "not run, compiled")
    return f"From [`{path}`](../../{path}): {device}, {listed}{commit}."


def command(*lines: str) -> str:
    """Return a command line as a block; continued lines are indented.

    Example:
        >>> print(command("python a.py", "--b 1"))
        ```bash
        python a.py \\
            --b 1
        ```
    """
    return "```bash\n" + " \\\n    ".join(lines) + "\n```"
