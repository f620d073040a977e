"""The reference: a page for each public package, made from its docstrings."""

from __future__ import annotations

import importlib
import inspect
import re
from types import ModuleType

from docs.markdown import table

__all__ = ["PACKAGES", "index", "page"]

PACKAGES = {
    "recipes": "jaxcompress.recipes",
    "graph": "jaxcompress.graph",
    "compression": "jaxcompress.compression",
    "prune": "jaxcompress.prune",
    "importance": "jaxcompress.prune.importance",
    "latency": "jaxcompress.latency",
    "low_rank": "jaxcompress.low_rank",
    "statistics": "jaxcompress.low_rank.statistics",
    "ranks": "jaxcompress.low_rank.ranks",
    "sparse": "jaxcompress.sparse",
    "schedule": "jaxcompress.sparse.schedule",
    "quantization": "jaxcompress.quantization",
    "knowledge": "jaxcompress.knowledge",
    "store": "jaxcompress.knowledge.store",
    "training": "jaxcompress.training",
    "parallel": "jaxcompress.parallel",
    "processes": "jaxcompress.processes",
    "backend": "jaxcompress.backend",
    "models": "jaxcompress.models",
    "adapters": "jaxcompress.adapters",
    "artifact": "jaxcompress.artifact",
    "report": "jaxcompress.report",
}


def _name(module: str) -> str:
    return module.replace("jaxcompress", "jc").replace("prune.importance", "importance")


def _first(value: object) -> str:
    """Return the first sentence on a function, class or module; nothing for other values."""
    if not (inspect.isfunction(value) or inspect.isclass(value) or inspect.ismodule(value)):
        return ""
    paragraph = (inspect.getdoc(value) or "").split("\n\n")[0].replace("\n", " ")
    return re.split(r"(?<=\.)\s", paragraph)[0].replace("|", "\\|")


def _names(module: ModuleType) -> str:
    names = sorted(module.__all__, key=str.lower)
    return table(
        ["name", "what it is"],
        [[f"`{name}`", _first(getattr(module, name))] for name in names],
    )


def page(name: str) -> str:
    """Return the page of a package: its names, what it says of itself, and each of them."""
    module = importlib.import_module(PACKAGES[name])
    text = inspect.getdoc(module) or ""
    return f"""# {_name(PACKAGES[name])}

{_names(module)}

<!-- in the place of the reference -->

{text}

<!-- end of that -->

::: {PACKAGES[name]}
"""


def index() -> str:
    """Return the page of the library itself: where everything is."""
    import jaxcompress

    packages = [
        [f"[`{_name(path)}`]({name}.md)", _first(importlib.import_module(path))]
        for name, path in PACKAGES.items()
    ]
    short = [
        [f"`jc.{name}`", _first(value)]
        for name in sorted(jaxcompress.__all__, key=str.lower)
        if not inspect.ismodule(value := getattr(jaxcompress, name))
    ]
    return f"""# Reference

`import jaxcompress as jc`. Everything public is listed here; its docstring has the equation, the
shapes, the errors, the source and an example that runs.

{table(["package", "what it is"], packages)}

## At the top

{table(["name", "what it is"], short)}
"""
