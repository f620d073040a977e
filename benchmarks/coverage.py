"""How much of the library the tests run: lines, by package and by file.

    python -m pytest -n 2 --dist worksteal --cov=jaxcompress --cov-report=json
    python -m benchmarks.coverage --report coverage.json

Reads what pytest-cov wrote of the whole suite, and writes `benchmarks/results/coverage.json`:
lines and covered lines of each package, and the files with the most lines that no test runs.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from experiments.common.command import Command
from experiments.common.environment import describe
from jaxcompress.annotations import Json
from jaxcompress.files import write_json

__all__ = ["COMMAND", "Config", "by_package", "main", "summary"]

ROOT = Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Config:
    """What is summed up.

    Attributes:
        report: of `--cov-report=json`.
        output: the result file.
        files: how many files are named.
    """

    report: Path = ROOT / "coverage.json"
    output: Path = ROOT / "benchmarks/results/coverage.json"
    files: int = 12


def by_package(lines: Mapping[str, tuple[int, int]]) -> dict[str, dict[str, int]]:
    """Sum `{file: (lines, covered)}` up by the part of the library, as `docs/architecture.md` has.

    Example:
        >>> by_package(
        ...     {"jaxcompress/paths.py": (9, 9), "jaxcompress/graph/rules/linear.py": (5, 4)}
        ... )
        {'paths.py': {'lines': 9, 'covered': 9}, 'graph': {'lines': 5, 'covered': 4}}
    """
    packages: dict[str, dict[str, int]] = {}
    for file, (count, covered) in lines.items():
        package = packages.setdefault(PurePosixPath(file).parts[1], {"lines": 0, "covered": 0})
        package["lines"] += count
        package["covered"] += covered
    return packages


def summary(report: Mapping[str, Json], files: int) -> dict[str, Json]:
    """Return the totals of a report, whole and by package, and its least covered files."""
    counts = {path: entry["summary"] for path, entry in sorted(report["files"].items())}
    lines = {path: (s["num_statements"], s["covered_lines"]) for path, s in counts.items()}
    missing = sorted(lines, key=lambda path: lines[path][1] - lines[path][0])[:files]
    whole = {
        "lines": sum(count for count, _ in lines.values()),
        "covered": sum(covered for _, covered in lines.values()),
    }
    least = {path: {"missing": report["files"][path]["missing_lines"]} for path in missing}
    return {"total": whole, "packages": by_package(lines), "least": least}


def main(config: Config) -> None:
    """Write the result file."""
    report = json.loads(config.report.read_text())
    result = {**summary(report, config.files), "environment": describe()}
    write_json(config.output, result)
    total = result["total"]
    print(f"{total['covered']} of {total['lines']} lines: {total['covered'] / total['lines']:.2%}")


COMMAND = Command("benchmarks.coverage", __doc__, main, Config)

if __name__ == "__main__":
    COMMAND()
