"""PyTorch weights: layouts, names, strictness, and published accuracy on real data."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress.annotations import Array
from jaxcompress.artifact import (
    akamaster_resnet_name,
    chengyangfu_vgg_name,
    from_torch,
    load_torch_weights,
)
from jaxcompress.models import VGG, ResNet, build, evaluation_function, initialize
from jaxcompress.paths import flatten_with_paths
from tests.trees import structure_of

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@pytest.fixture(scope="session")
def shared() -> Path:
    folder = os.environ.get("JAXCOMPRESS_SHARED")
    if not folder:
        pytest.skip("JAXCOMPRESS_SHARED names no folder with weights and data")
    return Path(folder)


def shapes(module: Any) -> Any:
    key = jax.random.key(0)
    return jax.eval_shape(lambda key: initialize(module, key, (1, 32, 32, 3)), key)


def like(**arrays: tuple[int, ...]) -> Any:
    return {
        "params": {k: {"kernel": jax.ShapeDtypeStruct(v, "float32")} for k, v in arrays.items()}
    }


def kernel_of(name: str) -> str:
    return f"params/{name.removesuffix('.weight')}/kernel"


@pytest.mark.parametrize("groups", [1, 4])
def test_kernels_compute_what_they_did_in_torch(groups: int) -> None:
    random = np.random.default_rng(0)
    kernel: Array = random.normal(size=(8, 4 // groups, 3, 2)).astype(np.float32)
    images: Array = random.normal(size=(2, 4, 5, 5)).astype(np.float32)
    expected = jax.lax.conv_general_dilated(
        images, kernel, (1, 1), "VALID", feature_group_count=groups
    )
    loaded = from_torch({"c.weight": kernel}, like(c=(3, 2, 4 // groups, 8)), kernel_of)
    result = jax.lax.conv_general_dilated(
        images.transpose(0, 2, 3, 1),
        loaded["params"]["c"]["kernel"],
        (1, 1),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )
    np.testing.assert_allclose(result.transpose(0, 3, 1, 2), expected, atol=1e-5)


def test_dense_kernels_are_transposed_and_cast() -> None:
    kernel = np.arange(6, dtype=np.float64).reshape(2, 3)
    loaded = from_torch({"d.weight": kernel}, like(d=(3, 2)), kernel_of)
    np.testing.assert_array_equal(loaded["params"]["d"]["kernel"], kernel.T)
    assert loaded["params"]["d"]["kernel"].dtype == jnp.float32


def test_every_problem_is_listed_at_once() -> None:
    state_dict = {
        "a.weight": np.zeros((2, 3)),
        "b.weight": np.zeros(5),
        "extra.weight": np.zeros((1, 2)),
        "odd": np.zeros(4),
        "bn.num_batches_tracked": np.zeros(()),
        "d.weight": np.zeros((1, 1)),
        "d": np.zeros((1, 1)),
    }
    rename = {"odd": None, "d": "params/d/kernel"}
    with pytest.raises(ValueError) as error:
        from_torch(
            state_dict,
            like(a=(2, 3), b=(5, 1), c=(7, 8), d=(1, 1)),
            lambda name: rename.get(name, kernel_of(name)),
        )
    message = str(error.value)
    for fact in (
        "torch a.weight (2, 3) becomes (3, 2), but params/a/kernel is (2, 3)",
        "torch b.weight (5,) becomes (5,), but params/b/kernel is (5, 1)",
        "unexpected: torch extra.weight (1, 2): there is no leaf params/extra/kernel",
        "unexpected: torch odd (4,): `rename` gives it no path",
        "missing: params/c/kernel (7, 8)",
        "ambiguous: params/d/kernel (1, 1): torch d.weight, d all become it",
    ):
        assert fact in message
    assert "num_batches_tracked" not in message


def torch_vgg(depth: int, batch_norm: bool) -> dict[str, np.ndarray]:
    """Lay out a state dict as torch does for the published list of layers, `M` a pooling."""
    plans = {
        16: "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M",
        19: "64 64 M 128 128 M 256 256 256 256 M 512 512 512 512 M 512 512 512 512 M",
    }
    state_dict: dict[str, np.ndarray] = {}
    number, channels = 0, 3
    for layer in plans[depth].split():
        if layer == "M":
            number += 1
            continue
        state_dict[f"features.{number}.weight"] = np.empty((int(layer), channels, 3, 3), "float32")
        state_dict[f"features.{number}.bias"] = np.empty(int(layer), "float32")
        channels = int(layer)
        if batch_norm:
            number += 1
            for field in ("weight", "bias", "running_mean", "running_var"):
                state_dict[f"features.{number}.{field}"] = np.empty(channels, "float32")
            state_dict[f"features.{number}.num_batches_tracked"] = np.zeros(())
        number += 2
    for number, classes in ((1, 512), (4, 512), (6, 10)):
        state_dict[f"classifier.{number}.weight"] = np.empty((classes, 512), "float32")
        state_dict[f"classifier.{number}.bias"] = np.empty(classes, "float32")
    return state_dict


@pytest.mark.parametrize(("depth", "batch_norm"), [(16, True), (19, False)])
def test_vgg_names_reach_every_leaf(depth: int, batch_norm: bool) -> None:
    variables_like = shapes(VGG(depth=depth, batch_norm=batch_norm))
    state_dict = torch_vgg(depth, batch_norm)
    variables = from_torch(state_dict, variables_like, chengyangfu_vgg_name(depth, batch_norm))
    assert structure_of(variables) == structure_of(variables_like)


def test_resnet_names_reach_every_leaf_of_both_shortcuts() -> None:
    state_dict = {}
    for path, leaf in flatten_with_paths(shapes(ResNet(depth=14, shortcut="B")))[0].items():
        torch_name = f"module.{torch_resnet_name(path)}"
        assert akamaster_resnet_name(torch_name) == path
        state_dict[torch_name] = leaf
    assert len(state_dict) == len(jax.tree.leaves(shapes(ResNet(depth=14, shortcut="B"))))


def torch_resnet_name(path: str) -> str:
    """Write a leaf path as torch names it: the inverse, by plain replacement."""
    _, *modules, field = path.split("/")
    name = ".".join(modules).replace("stage", "layer").replace("_block", ".")
    for ours, theirs in (
        ("stem_conv", "conv1"),
        ("stem_bn", "bn1"),
        ("classifier", "linear"),
        ("shortcut_conv", "shortcut.0"),
        ("shortcut_bn", "shortcut.1"),
    ):
        name = name.replace(ours, theirs)
    fields = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
    return f"{name}.{fields.get(field, field)}"


@pytest.mark.parametrize("name", ["resnet20", "resnet56"])
def test_published_weights_load_strictly(shared: Path, name: str) -> None:
    path = shared / "weights" / f"{name}_cifar10.safetensors"
    variables = load_torch_weights(path, shapes(build(name)), akamaster_resnet_name)
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(variables))
    with pytest.raises(ValueError, match="missing: params/stage2_block0/shortcut_conv/kernel"):
        load_torch_weights(path, shapes(build(name, shortcut="B")), akamaster_resnet_name)


def test_published_accuracy_on_a_thousand_images(shared: Path) -> None:
    datasets = pytest.importorskip("tensorflow_datasets")
    source = datasets.data_source(
        "cifar10", split="test", data_dir=str(shared / "tensorflow_datasets")
    )
    examples = [source[index] for index in range(1000)]
    pixels = np.stack([example["image"] for example in examples]).astype(np.float32)
    labels = np.array([example["label"] for example in examples])
    images = (pixels / 255 - np.array(MEAN, np.float32)) / np.array(STD, np.float32)

    module = build("resnet20")
    path = shared / "weights" / "resnet20_cifar10.safetensors"
    variables = load_torch_weights(path, shapes(module), akamaster_resnet_name)
    apply = jax.jit(evaluation_function(module))
    logits = [apply(variables, jnp.asarray(part)) for part in np.split(images, 4)]
    correct = int(np.sum(np.concatenate(logits).argmax(-1) == labels))
    assert correct == pytest.approx(931, abs=2)
