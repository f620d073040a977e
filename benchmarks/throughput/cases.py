"""What `benchmarks.throughput` measures, and the files that both frameworks start from.

`export` draws weights and BatchNorm statistics at random, shrinks to half of the FLOPs where the
case says so, and writes weights with PyTorch's names and layout, images, labels, and the logits of
the network and of its teacher. Needs JAX; PyTorch's side reads the files.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from safetensors.numpy import save_file

import jaxcompress as jc
from jaxcompress import models
from jaxcompress.annotations import Array, Function, PyTree
from jaxcompress.artifact import (
    akamaster_resnet_name,
    chengyangfu_vgg_name,
    from_torch,
    torchvision_resnet_name,
)
from jaxcompress.paths import flatten_with_paths
from jaxcompress.prune import importance

__all__ = ["CLASSES", "SIZES", "Case", "Network", "export", "network", "torch_names", "torch_state"]

SIZES = {"resnet20": 32, "resnet56": 32, "vgg16": 32, "resnet50": 224}
CLASSES = {"resnet20": 10, "resnet56": 10, "vgg16": 10, "resnet50": 1000}
RENAMES = {
    "resnet20": akamaster_resnet_name,
    "resnet56": akamaster_resnet_name,
    "vgg16": chengyangfu_vgg_name(16),
    "resnet50": torchvision_resnet_name,
}
# Streams stay whole: PyTorch's option-A shortcut pads evenly, which a thinned stream is not.
STREAMS = ("params/stem_bn/*", "params/*/bn2/*"), ("params/stem_bn/*", "params/*/bn3/*")
PROTECT = {"resnet20": STREAMS[0], "resnet56": STREAMS[0], "vgg16": (), "resnet50": STREAMS[1]}


@dataclasses.dataclass(frozen=True)
class Case:
    """One network doing one thing.

    Attributes:
        name: of the network, one of `SIZES`.
        half: shrunk to half of the FLOPs; streams of residual networks stay whole.
        task: "train", "eval", "stored" (fine-tuning with stored logits of the dense network) or
            "live" (with the dense network running in every step).
        batch: images per step.
    """

    name: str
    half: bool
    task: str
    batch: int

    @property
    def size(self) -> str:
        """Say which of the two it is."""
        return "half" if self.half else "dense"


@dataclasses.dataclass(frozen=True)
class Network:
    """A network as pure functions of its variables, dense or shrunk.

    Attributes:
        variables: with random BatchNorm statistics.
        apply: evaluation mode, `(variables, images) -> logits`.
        train: training mode, `(variables, images, key) -> (logits, state)`.
        flops: of one image.
    """

    variables: PyTree
    apply: Function
    train: Callable[..., Any]
    flops: float


def network(name: str, half: bool, dtype: DTypeLike | None = None) -> Network:
    """Build a network from seed 0; its weights and what is kept do not depend on `dtype`."""
    shape = (1, SIZES[name], SIZES[name], 3)
    plain = models.build(name, num_classes=CLASSES[name])
    variables = _randomised(models.initialize(plain, jax.random.key(0), shape))
    module = plain if dtype is None else models.build(name, num_classes=CLASSES[name], dtype=dtype)
    graph = jc.trace(
        models.evaluation_function(plain), variables, jax.ShapeDtypeStruct(shape, jnp.float32)
    )
    apply, train = models.evaluation_function(module), models.training_function(module)
    if not half:
        return Network(variables, apply, train, float(graph.flops))
    # As they are: the published widths were chosen so.
    scores, budget = dict(importance.magnitude(graph, variables)), jc.Budget(flops=0.5)
    keep = jc.select(graph, scores, budget, multiple_of=8, protect=PROTECT[name])
    flops = float(graph.cost.flops(graph.cost.widths(keep)))
    prune = jc.shrink(graph, keep)
    return Network(prune.variables(variables), prune.function(apply), prune.function(train), flops)


def _randomised(variables: PyTree) -> Any:
    """Draw the BatchNorm statistics at random: those of a new network hide mistakes."""
    generator = np.random.default_rng(0)

    def draw(path: Any, leaf: Array) -> PyTree:
        name = jax.tree_util.keystr(path)
        if "mean" in name:
            return jnp.asarray(generator.normal(0, 0.1, leaf.shape), leaf.dtype)
        return jnp.asarray(generator.uniform(0.5, 1.5, leaf.shape), leaf.dtype)

    drawn = dict(variables)
    if "batch_stats" in drawn:
        drawn["batch_stats"] = jax.tree_util.tree_map_with_path(draw, drawn["batch_stats"])
    return drawn


def torch_names(name: str) -> dict[str, str]:
    """Map our leaf paths to PyTorch's names, by asking the rename about every name there could be.

    Example:
        >>> torch_names("resnet20")["params/stage1_block0/conv1/kernel"]
        'layer1.0.conv1.weight'
    """
    rename = RENAMES[name]
    return {path: torch for torch in _candidates() if (path := rename(torch)) is not None}


def _candidates() -> Iterator[str]:
    layers = [f"{kind}{number}" for kind in ("conv", "bn") for number in (1, 2, 3)]
    layers += ["downsample.0", "downsample.1"]
    blocks = [f"layer{s}.{b}.{m}" for s, b in itertools.product((1, 2, 3, 4), range(9))
              for m in layers]  # fmt: skip
    numbered = [f"{part}.{n}" for part in ("features", "classifier") for n in range(60)]
    fields = ("weight", "bias", "running_mean", "running_var")
    for module in ["conv1", "bn1", "linear", "fc", *blocks, *numbered]:
        yield from (f"{module}.{field}" for field in fields)


def torch_state(name: str, variables: PyTree) -> dict[str, np.ndarray]:
    """Return a PyTorch state dict of the variables, which `from_torch` reads back unchanged."""
    names = torch_names(name)
    state = {}
    for path, leaf in flatten_with_paths(variables)[0].items():
        array = np.asarray(leaf)
        if path.endswith("/kernel"):
            array = np.moveaxis(array, (-1, -2), (0, 1))
        state[names[path]] = np.ascontiguousarray(array)
    back = from_torch(state, variables, RENAMES[name])
    if not jax.tree.all(jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), back, variables)):
        raise AssertionError(f"{name}: the weights written for PyTorch are not read back alike")
    return state


def export(case: Case, folder: Path) -> Mapping[str, Network]:
    """Write what both frameworks start from; return the network, and its teacher's if it has one.

    Images are normal, labels uniform, from seed 0.
    """
    generator = np.random.default_rng(0)
    shape = (case.batch, SIZES[case.name], SIZES[case.name], 3)
    images = generator.normal(size=shape).astype(np.float32)
    np.save(folder / "images.npy", images)
    np.save(folder / "labels.npy", generator.integers(0, CLASSES[case.name], case.batch))
    networks = {"student": network(case.name, case.half)}
    if case.task in ("stored", "live"):
        networks["teacher"] = network(case.name, False)
    for role, exported in networks.items():
        save_file(torch_state(case.name, exported.variables), folder / f"{role}.safetensors")
        with jax.default_matmul_precision("highest"):
            logits = jax.jit(exported.apply)(exported.variables, images)
        np.save(folder / f"{role}_logits.npy", np.asarray(logits))
    flops = {"dense": network(case.name, False).flops, "own": networks["student"].flops}
    (folder / "flops.json").write_text(json.dumps(flops))
    return networks
