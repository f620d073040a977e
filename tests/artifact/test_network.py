"""The configuration of a named network: of the right types, and that of the leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import pytest

from jaxcompress.artifact import load, save
from jaxcompress.artifact.network import named_network
from jaxcompress.artifact.structure import _digest
from jaxcompress.compression import chain
from jaxcompress.models import NETWORKS, build, initialize
from jaxcompress.paths import flatten_with_paths

CASES: dict[str, dict[str, Any]] = {
    "resnet20": {"width": 6, "num_classes": 7, "shortcut": "B", "dtype": "bfloat16"},
    "vit_tiny": {"width": 12, "depth": 2, "mlp_ratio": 2, "class_token": True},
    "mobilenet_v2": {"width_multiplier": 0.35, "stem_stride": 1},
    "snn_1k": {},
    "minilm_l6": {"vocabulary": 50, "pooler": False, "num_classes": 3, "scan": True},
    "gpt2": {"vocabulary": 50},
}


def shapes_of(name: str, config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    module = build(name, **config)
    draw = lambda key: initialize(module, key, NETWORKS[name].inputs)  # noqa: E731
    leaves, _ = flatten_with_paths(jax.eval_shape(draw, jax.random.key(0)))
    return {path: leaf.shape for path, leaf in leaves.items()}


@pytest.mark.parametrize("name", CASES)
def test_a_right_configuration_is_built(name: str) -> None:
    config = CASES[name]
    module = named_network(name, config, shapes_of(name, config))
    assert all(getattr(module, key) == value for key, value in config.items())


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("resnet20", {"num_classes": 100}, "num_classes=100: no leaf"),
        ("resnet20", {"width": 17}, "width=17: no leaf"),
        ("resnet20", {"width": -1}, "width=-1: no whole number"),
        ("resnet20", {"width": True, "num_classes": 1.5}, "width=True.*; num_classes=1.5"),
        ("resnet20", {"width": "16"}, "width='16': no whole number"),
        ("resnet20", {"dtype": "float99"}, "dtype='float99': no dtype"),
        ("resnet20", {"axis_name": ["a"]}, "axis_name=.*no name"),
        ("resnet20", {"parent": None}, "no field 'parent'"),
        ("vit_tiny", {"heads": 0}, "heads=0: no whole number"),
        ("vit_tiny", {"depth": 10**9}, "depth=1000000000: there are"),
        ("vit_tiny", {"dropout": float("nan")}, "dropout=nan: no number"),
        ("vit_tiny", {"class_token": 1}, "class_token=1: no bool"),
        ("../resnet20", {}, "no network is called"),
    ],
)
def test_a_wrong_configuration_is_refused_by_field(
    name: str, config: dict[str, Any], message: str
) -> None:
    shapes = {"a": (3, 3, 3, 16), "b": (192, 10)}
    with pytest.raises(ValueError, match=message):
        named_network(name, config, shapes)


def test_a_network_that_is_not_that_of_the_leaves_is_neither_saved_nor_loaded(
    tmp_path: Path,
) -> None:
    module = build("resnet8", width=4)
    variables = initialize(module, jax.random.key(0), (1, 8, 8, 3))
    with pytest.raises(ValueError, match="width=64: no leaf has such an axis") as caught:
        save(tmp_path / "new", chain(), variables, network=("resnet8", {"width": 64}))
    assert not (tmp_path / "new").exists() and "resnet8" in str(caught.value)
    save(tmp_path, chain(), variables, network=("resnet8", {"width": 4}))
    assert load(tmp_path)[1].keys() == variables.keys()
    # Another's configuration, signed anew.
    (file,) = tmp_path.glob("structure.json")
    content = json.loads(file.read_text())
    del content["sha256"]
    content["network"]["config"]["width"] = 64
    content["sha256"] = _digest(content)
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="names no network that can be built.*width=64") as caught:
        load(tmp_path)
    assert str(tmp_path) in str(caught.value)
