"""A page of one or several reports, side by side, in one file that asks the network for nothing."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from jaxcompress.annotations import Json
from jaxcompress.files import atomic_file
from jaxcompress.report.comparison import comparison
from jaxcompress.report.html import Markup, element
from jaxcompress.report.runs import Run, read_runs, runs_of
from jaxcompress.report.sections import run_section
from jaxcompress.report.summary import summary

__all__ = ["page", "write_page"]


def page(reports: Mapping[str, Json]) -> str:
    """Return a page of reports as HTML: summary, accuracy against cost, and each run by itself.

    What a report lacks is left out.

    Args:
        reports: what `report.json` files hold, by the name that each run gets on the page.

    Raises:
        ValueError: if a report breaks the schema (`jaxcompress.report.schema`); all that is wrong
            is named.

    Example:
        >>> row = dict.fromkeys(("accuracy", "num_params", "num_nonzero", "flops", "bytes"))
        >>> row |= {"name": "dense", "latency_ms": None, "seconds": 2.0}
        >>> environment = {"device": "cpu", "versions": {}, "commit": None}
        >>> report = {"experiment": "demo", "config": {}, "environment": environment, "rows": [row]}
        >>> page({"first": report}).startswith("<!doctype html>")
        True
    """
    return _page(runs_of(reports))


def write_page(path: str | os.PathLike[str], workdirs: Sequence[str | os.PathLike[str]]) -> Path:
    """Write a page of the reports of working folders, whole or not at all, and return its path.

    Args:
        path: the file.
        workdirs: folders that hold a `report.json`, or such files.

    Raises:
        FileNotFoundError: naming all folders without a report.
        ValueError: if a report is damaged; all that is wrong is named.

    Example:
        >>> write_page("page.html", ["no/such/run"])
        Traceback (most recent call last):
            ...
        FileNotFoundError: a page is made of reports, but there is no no/such/run/report.json; \
give folders in which an experiment has finished
    """
    text = _page(read_runs(workdirs))
    with atomic_file(path) as stream:
        stream.write(text.encode())
    return Path(path)


def _page(runs: Sequence[Run]) -> str:
    experiments = dict.fromkeys(run.report["experiment"] for run in runs)
    title = f"Compression report: {', '.join(experiments)}"
    count = sum(len(run.rows) for run in runs)
    networks = "1 network" if count == 1 else f"{count} networks"
    note = f"{networks} of {'one run' if len(runs) == 1 else f'{len(runs)} runs'}"
    content = element(
        "main",
        element("header", element("h1", title), element("p", note, class_="note")),
        _contents(runs) if len(runs) > 1 else None,
        summary(runs),
        comparison(runs),
        [run_section(run) for run in runs],
    )
    script = _asset("page.js")
    document = element(
        "html", _head(title, script), element("body", content, _script(script)), lang="en"
    )
    return f"<!doctype html>\n{document}\n"


def _contents(runs: Sequence[Run]) -> Markup:
    links = [("Summary", "summary"), *((run.name, f"run{run.number + 1}") for run in runs)]
    items = [element("li", element("a", name, href=f"#{place}")) for name, place in links]
    return element("nav", element("ul", items), aria_label="Contents")


def _head(title: str, script: str) -> Markup:
    """Return the head, whose policy lets nothing be fetched and only this script run."""
    style = _asset("page.css")
    policy = f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}"
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Markup(style)),
    )


def _script(script: str) -> Markup:
    return element("script", Markup(script))


def _asset(name: str) -> str:
    return files("jaxcompress.report").joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
