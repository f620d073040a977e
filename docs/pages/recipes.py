"""What one function a method reaches with its defaults."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from docs.markdown import command, load, percent, source, table

__all__ = ["CALIBRATED", "DOORS", "calibrated", "page"]

DOORS = "benchmarks/results/front_doors_resnet20.json"
SPARSE = "benchmarks/results/sparse_defaults_digits.json"
CALIBRATED = "benchmarks/results/calibrated_masks_resnet20.json"


def _doors(rows: list[Mapping[str, Any]]) -> str:
    return table(
        ["recipe", "of the FLOPs", "non-zero parameters", "accuracy", "CPU seconds"],
        [
            [f"`{row['recipe']}`", percent(row.get("flops"), 1)]
            + [f"{row['nonzero']:,}" if "nonzero" in row else "", percent(row["accuracy"])]
            + [f"{row['cpu_seconds']:.0f}" if "cpu_seconds" in row else ""]
            for row in rows
        ],
    )


def _sparse(rows: list[Mapping[str, Any]]) -> str:
    accuracies: dict[tuple[str, str], dict[float, list[float]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for row in rows:
        if "sparsity" in row:
            accuracies[row["score"], row["scope"]][row["sparsity"]].append(row["reestimated"])
    sparsities = sorted({row["sparsity"] for row in rows if "sparsity" in row})
    return table(
        ["score", "scope", *(f"{percent(sparsity, 0)} zeros" for sparsity in sparsities)],
        [
            [score, scope, *(" / ".join(percent(v, 1) for v in by_sparsity[s]) for s in sparsities)]
            for (score, scope), by_sparsity in accuracies.items()
        ],
    )


def calibrated() -> str:
    """Return the table of masks by what kernels are given, beside magnitudes."""
    rows = load(CALIBRATED)["rows"]
    figures: dict[str, dict[str, str]] = defaultdict(dict)
    zeros: dict[str, None] = {}
    for row in rows:
        if "zeros" in row:
            share = row["zeros"]
            head = share if isinstance(share, str) else f"{percent(share, 0)} zeros"
            both = f"{percent(row['accuracy'])} / {percent(row['reestimated'])}"
            zeros[head] = None
            figures[row["method"]][head] = both
    return table(
        ["method", *zeros],
        [
            [method, *(by_zeros.get(head, "") for head in zeros)]
            for method, by_zeros in figures.items()
        ],
    )


def page() -> str:
    """Return the page."""
    doors, sparse, masks = load(DOORS), load(SPARSE), load(CALIBRATED)
    config, dense = doors["config"], masks["rows"][0]["accuracy"]
    given = masks["config"]
    return f"""# One function a method

ResNet-20 with public weights, each of `jaxcompress.recipes` with its defaults,
pruned networks compensated where nothing else is said, BatchNorm
re-estimated on {config["statistics_images"]:,} augmented training images, **no fine-tuning**,
{config["test_images"]:,} test images, seed {config["seed"]}. {source(DOORS)}

{_doors(doors["rows"])}

{command("python -m benchmarks.front_doors --data-dir .")}

`sparse` takes from the magnitudes of all kernels together how many weights each kernel keeps, and
reconstructs which. Seconds were taken beside other work on the same cores. Below, the scores and
scopes that it was chosen from, on the quickstart's network on digits: one-shot, BatchNorm
re-estimated, a column for each sparsity, one figure for each seed. {source(SPARSE)}

{_sparse(sparse["rows"])}

{command("python -m benchmarks.sparse_defaults")}

## Masks from what kernels are given

ResNet-20 with public weights ({percent(dense)}), no labels, no fine-tuning: `activation_masks`
(Wanda) and `reconstruct` (SparseGPT), by the covariances of {given["examples"]:,} training
images, beside magnitudes; "global" takes each kernel's share of zeros from magnitudes that compete
over all kernels. Accuracy as it is / after BatchNorm is re-estimated,
{given["test_images"]:,} test images, one seed. Wanda compares weights within an output, which
suits wide layers; this network has 16 to 64 channels. {source(CALIBRATED)}

{calibrated()}

{command("python -m benchmarks.calibrated_masks --data-dir .")}
"""
