"""ENC's rank searches against its released ResNet-56, and their times there and on VGG-16.

    JAXCOMPRESS_SHARED=... python -m benchmarks.enc_fixture

The first part needs the folder's `enc_resnet56/reference.json`; the second draws random kernels of
VGG-16 at 224x224 with falling spectra. Times are of one run, after the singular values unless they
say so.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.command import Command
from experiments.common.environment import prepare
from experiments.common.timing import Stopwatch
from jaxcompress.graph import Budget
from jaxcompress.low_rank import ranks
from jaxcompress.low_rank.ranks import Metric, Ranks, Sites
from jaxcompress.low_rank.ranks.spectrum import singular_values

__all__ = ["COMMAND", "load_fixture", "main", "vgg16_sites"]

# Channels in and out, and height of the output, of VGG-16's convolutions at 224x224.
VGG16 = [(3, 64, 224), (64, 64, 224), (64, 128, 112), (128, 128, 112), (128, 256, 56)]
VGG16 += [(256, 256, 56)] * 2 + [(256, 512, 28)] + [(512, 512, 28)] * 2 + [(512, 512, 14)] * 3


def load_fixture(file: Path) -> tuple[Sites, list[np.ndarray], dict[str, np.ndarray]]:
    """Return ENC's ResNet-56: its sites, accuracies at their knots, and released ranks.

    Costs are the paper's: r_max costs what the whole site does, and strided sites count as in its
    code. Singular values end at r_max, so EVBMF ranks are read from the knots.
    """
    reference = json.loads(file.read_text())
    layers = reference["layers"]
    r_max = np.asarray([layer["r_max"] for layer in layers])
    knots = tuple(np.asarray(layer["rank_knots"]) for layer in layers)
    dense = {
        "flops": np.asarray([2.0 * layer["macs_at_r_max"] for layer in layers]),
        "params": np.asarray([1.0 * layer["params_at_r_max"] for layer in layers]),
    }
    sites = Sites(
        names=tuple(layer["name"] for layer in layers),
        r_max=r_max,
        lowest=np.maximum(1, np.round(r_max / 10)).astype(int),
        highest=r_max,
        slope={kind: values / r_max for kind, values in dense.items()},
        dense=dense,
        spectra=tuple(np.asarray(layer["singular_values"]) for layer in layers),
        evbmf=np.asarray([row[4] for row in knots]),
        knots=knots,
    )
    accuracies = [np.asarray(layer["accuracy_at_knots"]) for layer in layers]
    released = {name: np.asarray(r["ranks"]) for name, r in reference["released"].items()}
    # The paper does not search the first convolution: it stays at r_max.
    return sites.fix({"first_conv": 10}), accuracies, released


def vgg16_sites(seed: int = 0) -> Sites:
    """Return VGG-16's 13 convolutions at 224x224, from random kernels."""
    random = np.random.default_rng(seed)
    spectra, costs, shapes = [], [], []
    for index, (inputs, outputs, size) in enumerate(VGG16):
        # The first is split by channel, as in the paper: its matrix is I h w x O.
        shape = (3 * inputs, 3 * outputs) if index else (9 * inputs, outputs)
        kernel = random.normal(size=shape) * np.geomspace(1, 0.02, shape[1])
        spectra.append(singular_values(kernel))
        form = ranks.spatial_cost if index else ranks.channel_cost
        costs.append(form(inputs, outputs, (3, 3), size * size))
        shapes.append(shape)
    names = [f"conv{i + 1}" for i in range(len(VGG16))]
    return ranks.sites_from_costs(names, costs, spectra, shapes)


def timed(label: str, call: Callable[[], Any]) -> Any:
    """Return what `call` returns and print how long it took."""
    watch = Stopwatch()
    result = call()
    print(f"  {label:34} {watch.seconds:9.4f} s")
    return result


def describe(sites: Sites, chosen: Ranks, energy: Metric, measured: Metric) -> str:
    """Return cost and network metrics of one configuration."""
    array = sites.array(chosen)
    logs = [float(ranks.network_accuracy(sites, array, m)) for m in (energy, measured)]
    shares = [float(sites.cost(k, array)) / sites.total[k] for k in ("flops", "params")]
    return (
        f"FLOPs {shares[0]:.4f}  params {shares[1]:.4f}  log A_p {logs[0]:8.3f}  "
        f"log A_m {logs[1]:7.4f}"
    )


def compare_with_released(file: Path) -> None:
    """Print agreement with the released ranks, and every search at their cost."""
    sites, accuracies, released = load_fixture(file)
    energy = ranks.energy_metric(sites)
    measured = ranks.measured_metric(sites, accuracies, full=0.985)
    print("ENC's ResNet-56, FLOPs and parameters of its 55 convolutions")
    for name in ("map_50", "map_55"):
        share = float(sites.cost("flops", released[name])) / sites.total["flops"]
        chosen = ranks.enc_map(sites, Budget(flops=share), metric=energy)
        away = np.abs(sites.array(chosen) - released[name])
        print(f"  {name} at {share:.4f}: {(away == 0).sum()} of 55 equal, at most {away.max()} off")
    for name, array in released.items():
        print(f"  released {name:12} {describe(sites, sites.named(array), energy, measured)}")
    share = float(sites.cost("flops", released["model_50"])) / sites.total["flops"]
    for name, chosen in searches(sites, Budget(flops=share), energy).items():
        print(f"  ours     {name:12} {describe(sites, chosen, energy, measured)}")


def searches(sites: Sites, budget: Budget, energy: Metric) -> dict[str, Ranks]:
    """Return the ranks of every search, printing their times and the optimum's bound."""
    chosen = {
        "uniform": timed("uniform", lambda: ranks.uniform(sites, budget)),
        "energy": timed("energy threshold", lambda: ranks.energy_threshold(sites, budget)),
        "evbmf": timed("EVBMF, scaled", lambda: ranks.evbmf_scaled(sites, budget)),
        "map": timed("enc_map", lambda: ranks.enc_map(sites, budget, metric=energy)),
        "model": timed("enc_model", lambda: ranks.enc_model(sites, budget, metric=energy)),
    }
    best = timed("optimum", lambda: ranks.bounded_optimum(sites, budget, metric=energy))
    print(f"  optimum: log A {best.value:.4f}, no configuration exceeds {best.bound:.4f}")
    return {**chosen, "optimum": best.ranks}


def time_vgg16(seed: int) -> None:
    """Print the search times of VGG-16 at 224x224, at a quarter of its FLOPs."""
    print("VGG-16 at 224x224, 13 convolutions, 25 % FLOPs")
    sites = timed("singular values and EVBMF", lambda: vgg16_sites(seed))
    sites = sites.fix({"conv1": int(sites.r_max[0]) // 2})
    energy = timed("energy metric", lambda: ranks.energy_metric(sites))
    accuracies = [np.interp(knots, [0, knots[-1]], [0.5, 0.7]) for knots in sites.knots]
    measured = ranks.measured_metric(sites, accuracies, full=0.7)
    budget, metrics = Budget(flops=0.25), (energy, measured)
    for name, chosen in searches(sites, budget, energy).items():
        print(f"  ours     {name:12} {describe(sites, chosen, energy, measured)}")
    for density in (0.096, 0.165):
        space = ranks.CandidateSpace(density=density)
        timed(
            f"40 candidates of A_c, density {density}",
            functools.partial(
                ranks.best_configurations, sites, budget, count=40, metric=metrics, space=space
            ),
        )


@dataclasses.dataclass(frozen=True)
class Config:
    """What is drawn.

    Attributes:
        seed: of the random kernels.
    """

    seed: int = 0


def main(config: Config) -> None:
    """Print everything."""
    prepare()
    shared = os.environ.get("JAXCOMPRESS_SHARED")
    if shared:
        compare_with_released(Path(shared) / "enc_resnet56" / "reference.json")
    else:
        print("JAXCOMPRESS_SHARED is not set: skipping the released ResNet-56")
    time_vgg16(config.seed)


COMMAND = Command("benchmarks.enc_fixture", __doc__, main, Config)

if __name__ == "__main__":
    COMMAND()
