"""Make a page of the reports of runs, one or several side by side.

python -m jaxcompress.report runs/quickstart
python -m jaxcompress.report runs/first runs/second --output both.html
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from jaxcompress.report.page import write_page

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page and say where it is."""
    parser = argparse.ArgumentParser(
        prog="python -m jaxcompress.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "workdirs", nargs="+", metavar="WORKDIR", type=Path, help="a folder with a report.json"
    )
    parser.add_argument(
        "--output", type=Path, help="the page; by default report.html in the first folder"
    )
    given = parser.parse_args(arguments)
    first: Path = given.workdirs[0]
    folder = first.parent if first.is_file() else first
    try:
        path = write_page(given.output or folder / "report.html", given.workdirs)
    except (OSError, ValueError) as error:
        parser.exit(2, f"{error}\n")
    print(f"page: {path}")


if __name__ == "__main__":
    main()
