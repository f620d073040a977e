"""Tables and pictures of results; matplotlib is imported only when a picture is drawn."""

from __future__ import annotations

from jaxcompress.report.plots import plot_compression, plot_rows, plot_widths

__all__ = ["plot_compression", "plot_rows", "plot_widths"]
