"""Programs compiled for TPUs that are not there: steps, and latency as a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from docs.markdown import command, load, source, table

__all__ = ["BUDGET", "budgets", "page"]

STEPS = "benchmarks/results/tpu_aot.json"
BUDGET = "benchmarks/results/latency_budget.json"
NETWORKS = {
    "resnet56": "ResNet-56, 128 images of 32 x 32 a chip, float32",
    "resnet50": "ResNet-50, 64 images of 224 x 224 a chip, bfloat16",
    "resnet50_256": "ResNet-50, 256 images of 224 x 224 a chip, bfloat16",
    "decoder": "2 layers of LLaMA's width, 4 x 512 tokens a chip, bfloat16",
}
COLLECTIVES = ("all_reduces", "all_gathers", "reduce_scatters", "all_to_alls", "permutes")
SHORT = {"all_reduces": "reduce", "all_gathers": "gather", "reduce_scatters": "scatter"}
INTRODUCTION = """FLOPs are not time. XLA compiles for a TPU that is only described, and its text
says how many cycles it expects of every operation; nothing below has run on a TPU. Estimates are
what the compiler chooses layouts and tilings by. Transfers between chips and from memory in the
background are not in them. Bodies of loops count as often as they run: `candidates` are eight, one
after the other, `reestimate` is two batches and two probes of the momentum."""
BUDGETS = """The same drawn magnitudes select channels under each budget; the residual streams of
ResNet-50 stay whole, those of ResNet-56 shrink as well. `table` is what the sites alone say is left
of the latency: each conv and dot compiled by itself at a grid of widths, summed. `whole program` is
the cycles of the shrunk network, compiled as one, beside those of the whole one."""

Row = Mapping[str, Any]


def page() -> str:
    """Return the page."""
    steps, budget = load(STEPS), load(BUDGET)
    topologies = list(dict.fromkeys(row["topology"] for row in steps["rows"]))
    sections = [
        "# Time on a TPU, as its compiler sees it",
        INTRODUCTION,
        "## Half of the FLOPs, half of the latency",
        BUDGETS,
        budgets(),
        _warnings(budget["rows"]),
        source(BUDGET),
        command("python -m benchmarks.latency_budget"),
    ]
    for topology in topologies:
        rows = [row for row in steps["rows"] if row["topology"] == topology]
        sections += [f"## Steps on {topology}", _steps(rows)]
    sections += [
        _refused(steps["rows"]),
        source(STEPS),
        command(f"python -m benchmarks.tpu_aot --topologies {' '.join(topologies)}"),
    ]
    return "\n\n".join(section for section in sections if section)


def budgets() -> str:
    """Return the table of networks under budgets of FLOPs and of latency."""
    rows = load(BUDGET)["rows"]
    whole = {row["network"]: row["cycles"] for row in rows if row["way"] == "whole"}
    head = ["network", "budget", "FLOPs", "table", "whole program", "cycles", "times faster"]
    return table(
        head,
        [
            [
                NETWORKS[row["network"]].split(",")[0],
                row["way"],
                f"{row['flops']:.1%}",
                f"{row['table']:.1%}",
                f"{row['cycles'] / whole[row['network']]:.1%}",
                f"{row['cycles']:,}",
                f"{whole[row['network']] / row['cycles']:.2f}",
            ]
            for row in rows
        ],
    )


def _warnings(rows: Sequence[Row]) -> str:
    said = [
        f"- {NETWORKS[row['network']].split(',')[0]}, {row['way']}: {text}"
        for row in rows
        for text in row["warnings"]
    ]
    return "\n".join(["What `latency_changes` warns of:", "", *said]) if said else ""


def _steps(rows: Sequence[Row]) -> str:
    head = ["network", "step", "cycles", "ms", "peak MB", "collectives", "loops"]
    return table(
        head,
        [
            [
                NETWORKS[row["network"]].split(",")[0]
                + (", 256 a chip" if row["network"].endswith("_256") else ""),
                row["step"],
                f"{row['cycles']:,}",
                f"{row['milliseconds']:.2f}",
                f"{row['peak_bytes'] / 1e6:,.0f}",
                _collectives(row),
                row["whiles"] or "",
            ]
            for row in rows
            if "error" not in row
        ],
    )


def _collectives(row: Row) -> str:
    named = [
        f"{row[name]} {SHORT.get(name, name.rstrip('s').replace('_', '-'))}"
        for name in COLLECTIVES
        if row[name]
    ]
    calls = [f"{row['host_calls']} calls to the host"] if row["host_calls"] else []
    return ", ".join([*named, *calls])


def _refused(rows: Sequence[Row]) -> str:
    said = [
        f"- {row['topology']}, {row['network']}, {row['step']}: {row['error'].splitlines()[0]}"
        for row in rows
        if "error" in row
    ]
    return "\n".join(["What does not compile:", "", *said]) if said else ""
