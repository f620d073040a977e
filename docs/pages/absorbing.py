"""What the constants of removed channels are worth: a section on pruning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from docs.markdown import command, load, percent, source, table

__all__ = ["section"]

ABSORB = "benchmarks/results/absorb.json"
ABSORB_REST = "benchmarks/results/absorb_rest.json"


def _absorb_rows(result: Mapping[str, Any]) -> list[list[str]]:
    columns = ("plain", "absorb", "reestimate", "both")
    return [
        [row["network"], percent(row["dense"]), row["score"], percent(row["flops"], 0)]
        + [percent(row[column]) for column in columns]
        for row in result["rows"]
    ]


def section() -> str:
    """Return what the constants of removed channels are worth in the biases behind them."""
    result, rest = load(ABSORB), load(ABSORB_REST)
    config, rows = result["config"], _absorb_rows(result)
    head = ["network", "dense", "score", "of the FLOPs", "plain", "absorb", "re-estimated", "both"]
    return f"""## The constant of what goes

A removed channel counts as 0; what it carried on average can stay, in the bias or BatchNorm mean
behind its consumer: `prune.absorb`. No training, no augmentation, seed {config["seed"]}.
CIFAR-10: {config["test_images"]:,} test images, statistics of {config["statistics_images"]:,}
training images. EfficientNet-Lite0: of 500 ImageNet images that its training saw, 200 for
statistics and scores, 300 classified; its rows by Fisher were not run. Rows were made by several
states of the code on the way to the one that is named. {source(ABSORB)}

{table(head, rows)}

{command("python -m benchmarks.absorb --data-dir .")}

On some of these test images, for ResNet-20, averaging over all positions was compared with the
interior's mean before it was chosen. On the other {rest["config"]["test_images"]:,}:
{source(ABSORB_REST)}

{table(head, _absorb_rows(rest))}

{
        command(
            "python -m benchmarks.absorb --data-dir . --networks resnet20",
            "--which last --test-images 8000 --output benchmarks/results/absorb_rest.json",
        )
    }

It needs forward passes only, no training mode, and is for networks that are not re-estimated or
have no BatchNorm. Re-estimated means take the place of absorbed ones, so that both together are
re-estimation alone where a BatchNorm follows every consumer; `recipes.prune`, after which BatchNorm
is re-estimated, leaves it out. What goes is measured in the whole network: the more goes before a
layer, the less its means are still right, and where accuracy is lost already it may do harm."""
