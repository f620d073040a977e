"""The rows of `benchmarks.importance`: kept in one file that several runs may add to."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxcompress.annotations import Array, Json
from jaxcompress.files import atomic_file, locked

__all__ = ["Row", "Rows", "table"]

FORMS = ("augmented", "plain", "recovered")


@dataclasses.dataclass(frozen=True)
class Row:
    """One method at one ratio with one seed.

    Attributes:
        library: whose.
        method: its name there.
        groups: what may be pruned, "internal" or "all".
        ratio: of the FLOPs, asked for.
        flops: of the FLOPs, kept.
        seed: of what is random.
        cpu_seconds: processor time of scoring and selecting, compilation included.
        validation: accuracy in percent on held-out training images, by form of re-estimation.
        test: the same on test images.
        commit: of the code.
    """

    library: str
    method: str
    groups: str
    ratio: float
    flops: float
    seed: int
    cpu_seconds: float
    validation: dict[str, float]
    test: dict[str, float]
    commit: str | None

    @property
    def key(self) -> tuple[Array, ...]:
        """What tells rows of one file apart."""
        return self.library, self.method, self.groups, self.ratio, self.seed


class Rows:
    """A JSON file of rows measured with the same settings; processes may add to it in turn."""

    def __init__(self, path: Path, settings: dict[str, Json]) -> None:
        self._path, self._settings = path, settings
        path.parent.mkdir(parents=True, exist_ok=True)
        self.read()

    def read(self) -> list[Row]:
        """Return the rows that are there.

        Raises:
            ValueError: if they were measured with other settings.
        """
        text = self._path.read_text() if self._path.exists() else ""
        return self._parse(text)

    def add(self, row: Row) -> None:
        """Add a row to those that are there by now, in place of one of the same key."""
        with locked(self._path.parent, wait=True):
            rows = {entry.key: entry for entry in self.read()}
            rows[row.key] = row
            ordered = sorted(
                rows.values(), key=lambda entry: (entry.key[:3], -entry.ratio, entry.seed)
            )
            content = {"settings": self._settings, "rows": [_as_json(entry) for entry in ordered]}
            with atomic_file(self._path) as stream:
                stream.write((json.dumps(content, indent=1) + "\n").encode())

    def _parse(self, text: str) -> list[Row]:
        if not text:
            return []
        content = json.loads(text)
        if content["settings"] != self._settings:
            raise ValueError(
                f"rows of one file share their settings, but {self._path} has "
                f"{content['settings']} and these are {self._settings}; choose another --output"
            )
        return [Row(**row) for row in content["rows"]]


def _as_json(row: Row) -> dict[str, Json]:
    return dataclasses.asdict(row)


def table(rows: Sequence[Row]) -> str:
    """Format test accuracies: mean (std over seeds) of every form, one line per method."""
    ratios = sorted({row.ratio for row in rows}, reverse=True)
    forms = [form for form in FORMS if any(form in row.test for row in rows)]
    heads = [*(f"{r:.0%}" for r in ratios), "seeds", "CPU seconds"]
    lines = [" / ".join(forms) + ", by FLOPs:", ""]
    lines += ["| library | method | groups | " + " | ".join(heads) + " |"]
    lines.append("|" + " --- |" * (len(ratios) + 5))
    for kind in dict.fromkeys(row.key[:3] for row in rows):
        matches = [row for row in rows if row.key[:3] == kind]
        cells = [_cell([row for row in matches if row.ratio == ratio], forms) for ratio in ratios]
        seconds = np.mean([row.cpu_seconds for row in matches])
        cells += [str(len({row.seed for row in matches})), f"{seconds:.0f}"]
        lines.append("| " + " | ".join([*kind, *cells]) + " |")
    return "\n".join(lines)


def _cell(rows: Sequence[Row], forms: Sequence[str]) -> str:
    """Format one ratio: a mean per form, with the deviation where there are several seeds."""
    if not rows:
        return "–"
    return " / ".join(_mean([row.test[form] for row in rows if form in row.test]) for form in forms)


def _mean(values: Sequence[float]) -> str:
    if not values:
        return "–"
    spread = f" ({np.std(values):.1f})" if len(values) > 1 else ""
    return f"{np.mean(values):.1f}{spread}"
