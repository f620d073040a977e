"""Reports that nobody ran: one with everything, and what an HTML parser sees of a page."""

from __future__ import annotations

import html.parser
from typing import Any, NamedTuple

from jaxcompress.annotations import Json

__all__ = ["Seen", "minimal", "numbers_of", "report_of", "row_of", "seen", "whole"]

VOID = {"meta", "br", "img", "input", "link"}
DETAILS: Json = {
    "groups": [
        {"name": "params/first/kernel[3]", "before": 16, "after": 11},
        {"name": "params/second/kernel[3]", "before": 64, "after": 64},
    ],
    "ranks": [
        {
            "site": "params/head/kernel",
            "form": "dense",
            "full": 8,
            "rank": 3,
            "spectrum": [[1, 9.5], [3, 2.25], [8, 0.125]],
        }
    ],
    "sparsity": [{"path": "params/first/kernel", "size": 432, "nonzero": 87}],
    "frozen": [{"reason": "it reaches an output", "source": "net.py:7", "axes": ["params/b[0]"]}],
    "curves": [{"name": "train_loss", "epochs": [1, 2, 3], "values": [2.5, 1.25, 0.75]}],
}


def row_of(name: str, accuracy: float | None, share: float, **further: Json) -> Json:
    """Return a row that costs a share of an original."""
    return {
        "name": name,
        "accuracy": accuracy,
        "num_params": int(853_018 * share),
        "num_nonzero": int(700_001 * share),
        "flops": 250_971_392.0 * share,
        "bytes": int(3_501_392 * share),
        "latency_ms": 386.25 * share,
        "seconds": 12.5,
        "count": 1_000,
        **further,
    }


def report_of(rows: list[Json], **further: Json) -> Json:
    """Return a report of rows."""
    return {
        "experiment": "demo",
        "config": {"dataset": "digits", "views": {"pad": 4, "flip": True}, "seed": 7},
        "environment": {
            "device": "AMD EPYC, as 1 devices",
            "versions": {"python": "3.11.7", "jax": "0.10.2"},
            "commit": "43953a340eedc5936a60af11eb5aeda75eef88f3",
        },
        "rows": rows,
        **further,
    }


def whole() -> Json:
    """Return a report with everything that a page shows."""
    rows = [
        row_of("dense", 0.9339, 1.0),
        row_of("half", 0.9274, 0.5, details=DETAILS, sweeps=3),
        row_of("worse", 0.81, 0.6),
    ]
    stages = [
        {"name": "teacher", "seconds": 95.5, "device_hours": 0.026, "cpu_seconds": 90.25},
        {"name": "gates", "seconds": 7.5, "device_hours": 0.002, "cpu_seconds": 7.25},
    ]
    return report_of(rows, stages=stages)


def minimal() -> Json:
    """Return a report in which nothing was measured."""
    names = ("accuracy", "num_params", "num_nonzero", "flops", "bytes", "latency_ms", "seconds")
    report = report_of([{"name": "dense", **dict.fromkeys(names)}])
    return report | {"config": {}, "environment": report["environment"] | {"commit": None}}


def numbers_of(value: Json) -> set[float]:
    """Return all numbers that a report holds."""
    if isinstance(value, dict):
        return set().union(*map(numbers_of, value.values())) if value else set()
    if isinstance(value, list):
        return set().union(*map(numbers_of, value)) if value else set()
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return {float(value)} if is_number else set()


class Seen(NamedTuple):
    """What a parser sees: each element's name and attributes, and the text by element."""

    elements: list[tuple[str, dict[str, str | None]]]
    texts: list[tuple[str, str]]

    def named(self, *tags: str) -> list[dict[str, str | None]]:
        """Return the attributes of all elements of these names."""
        return [attributes for tag, attributes in self.elements if tag in tags]

    def texts_of(self, tag: str) -> list[str]:
        """Return the texts that stand in elements of a name."""
        return [text for name, text in self.texts if name == tag]


class _Parser(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen, self.open = Seen([], []), list[str]()

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        assert len({name for name, _ in attributes}) == len(attributes), (tag, attributes)
        self.seen.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: Any) -> None:
        self.seen.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"{tag} ends out of order"

    def handle_data(self, data: str) -> None:
        self.seen.texts.append((self.open[-1] if self.open else "", data))


def seen(page: str) -> Seen:
    """Parse a page; every element must be closed in order."""
    parser = _Parser()
    parser.feed(page)
    parser.close()
    assert not parser.open, parser.open
    return parser.seen
