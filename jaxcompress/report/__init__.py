"""Tables, pictures and pages of results; matplotlib is imported only when a picture is drawn.

`python -m jaxcompress.report WORKDIR...` makes a page of the `report.json` of one or several runs.
"""

from __future__ import annotations

from jaxcompress.report.details import curves, details
from jaxcompress.report.page import page, write_page
from jaxcompress.report.plots import plot_compression, plot_rows, plot_widths

__all__ = [
    "curves",
    "details",
    "page",
    "plot_compression",
    "plot_rows",
    "plot_widths",
    "write_page",
]
