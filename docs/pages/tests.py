"""What the tests run of the library."""

from __future__ import annotations

from docs.markdown import command, load, percent, source, table

__all__ = ["page", "sentence"]

COVERAGE = "benchmarks/results/coverage.json"


def sentence() -> str:
    """Return the README's line."""
    total = load(COVERAGE)["total"]
    share = percent(total["covered"] / total["lines"], 1)
    return f"They run {share} of the library's lines: [by package](docs/results/tests.md)."


def page() -> str:
    """Return the page."""
    result = load(COVERAGE)
    rows = [("all", result["total"]), *result["packages"].items()]
    shares = [
        [name, counts["lines"], percent(counts["covered"] / counts["lines"], 1)]
        for name, counts in rows
        if counts["lines"]
    ]
    least = [[f"`{path}`", len(entry["missing"])] for path, entry in result["least"].items()]
    return "\n\n".join(
        [
            "# What the tests run",
            "Lines of the library that the whole suite runs, in its own processes and in those "
            "that it starts.",
            command(
                "python -m pytest -n 2 --dist worksteal",
                "--cov=jaxcompress --cov-report=json",
            ),
            command("python -m benchmarks.coverage"),
            table(["part", "lines", "run by a test"], shares),
            "The files with the most lines that no test runs:",
            table(["file", "lines"], least),
            source(COVERAGE) + "\n",
        ]
    )
