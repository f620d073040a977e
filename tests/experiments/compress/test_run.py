"""One's own models, of every framework, are compressed, saved, reported, and not made twice."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import jaxcompress as jc
from experiments.common import report
from experiments.compress import run
from experiments.compress.model import given_model
from experiments.compress.settings import Config
from jaxcompress.paths import flatten_with_paths
from tests.experiments.compress.conftest import HERE, quick

needs_torch = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("torch", "torchax"))), reason="needs the extra `torch`"
)


def reference(file: str, function: str = "make") -> str:
    return f"{HERE / file}:{function}"


def written(config: Config) -> Any:
    content = json.loads((config.workdir / "report.json").read_text())
    report.validate(content)
    return content


def stages_of(config: Config) -> dict[str, bytes]:
    return {file.stem: file.read_bytes() for file in config.workdir.glob("stage-*.json")}


@pytest.mark.parametrize(
    "file",
    ["own_nnx.py", "own_equinox.py", pytest.param("own_torch.py", marks=needs_torch)],
)
def test_models_of_every_framework_are_compressed(file: str, digits: Path, tmp_path: Path) -> None:
    config = quick(tmp_path, model=reference(file), data=str(digits))
    rows = run.main(config)
    assert [row.name for row in rows] == ["whole", "after prune", "taught"]
    assert (rows[2].flops or 0) <= 0.5 * (rows[0].flops or 0)
    assert rows[2].accuracy is not None and written(config)["config"]["met"]["flops"]["met"]
    distances = [row.extra["distance"] for row in rows]
    assert distances[0] == 0 < distances[1] != distances[2]
    whole = given_model(config.model)
    function, variables = jc.load(tmp_path / "artifact", whole.apply, like=whole.variables)
    shape = (20, 8, 8, 1) if file == "own_nnx.py" else (20, 1, 8, 8)
    images = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    expected = np.asarray(function(variables, images))
    program, by_path = jc.load(tmp_path / "artifact")  # needs no code of the model
    np.testing.assert_allclose(program(by_path, images), expected, rtol=1e-4, atol=1e-5)
    (export,) = written(config)["config"]["exports"]
    assert export["format"] == "stablehlo" and export["relative_error"] < 1e-4
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) < sum(
        leaf.size for leaf in jax.tree.leaves(whole.variables)
    )


@pytest.mark.skipif(not importlib.util.find_spec("qwix"), reason="needs the extra `quantize`")
def test_integers_are_taught_as_rounded_floats(digits: Path, tmp_path: Path) -> None:
    stages: Any = ("prune", "quantize", "distil")
    config = quick(tmp_path, model=reference("own_linen.py"), data=str(digits), stages=stages)
    rows = run.main(config)
    assert [row.name for row in rows] == ["whole", "after prune", "in integers", "taught"]
    floats, integers, taught = rows[1:]
    assert floats.num_params == integers.num_params == taught.num_params
    assert integers.extra["distance"] != taught.extra["distance"]
    program, codes = jc.load(tmp_path / "artifact")
    assert np.isfinite(program(codes, np.zeros((2, 8, 8, 1), np.float32))).all()
    dtypes = {leaf.dtype.name for leaf in jax.tree.leaves(codes)}
    assert "int8" in dtypes


def test_a_split_is_searched_and_a_changed_budget_reruns_what_depends_on_it(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.compress.split.PARTS", (0.5, 1.0))
    config = quick(
        tmp_path,
        model=reference("own_linen.py"),
        data=str(digits),
        stages=("prune", "low_rank", "distil"),
        budget=("flops=0.6",),
    )
    rows = run.main(config)
    assert (rows[-1].flops or 0) <= 0.6 * (rows[0].flops or 0)
    tried = written(config)["config"]["split"]
    assert [candidate["part"] for candidate in tried] == [0.5, 1.0]
    assert all("distance" in candidate or "refused" in candidate for candidate in tried)
    first = stages_of(config)
    again = run.main(config)
    assert stages_of(config) == first
    assert [row.to_json() for row in again] == [row.to_json() for row in rows]
    other = quick(tmp_path, model=config.model, data=config.data, budget=("flops=0.5",))
    run.main(other)
    new = {name.split("-")[1] for name in stages_of(other).keys() - first.keys()}
    assert new == {"prune", "distil", "measure", "exports"}
    assert {name: stages_of(other)[name] for name in first} == first


def leaves_after(config: Config, stage: str) -> tuple[Any, Any]:
    """Return the leaves of the whole network, and of what a stage has left."""
    model = given_model(config.model)
    (folder,) = config.workdir.glob(f"{stage}-*")
    _, left = jc.load(folder, model.apply, like=model.variables)
    return flatten_with_paths(model.variables)[0], flatten_with_paths(left)[0]


def test_protected_kernels_lose_no_channels(digits: Path, tmp_path: Path) -> None:
    """Of a kernel that loses some where it may."""
    kept, model = "params/Dense_0/kernel", reference("own_linen.py")
    settings = {
        "model": model,
        "data": str(digits),
        "stages": ("prune",),
        "budget": ("params=0.9",),
    }
    free = quick(tmp_path / "free", **settings)
    run.main(free)
    whole, small = leaves_after(free, "prune")
    assert small[kept].shape != whole[kept].shape
    config = quick(tmp_path / "protected", **settings, protect=(kept,))
    rows = run.main(config)
    whole, small = leaves_after(config, "prune")
    assert small[kept].shape == whole[kept].shape
    assert rows[1].num_params and rows[1].num_params <= 0.9 * (rows[0].num_params or 0)


def test_what_is_protected_stays_in_every_stage(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dense layer keeps its shape and all of its weights; others lose both."""
    monkeypatch.setattr("experiments.compress.split.PARTS", (0.5,))
    kept = "params/Dense_0/kernel"
    config = quick(
        tmp_path,
        model=reference("own_linen.py"),
        data=str(digits),
        stages=("prune", "low_rank", "sparse"),
        budget=("flops=0.8",),
        sparsity=0.5,
        protect=(kept,),
    )
    rows = run.main(config)
    assert (rows[-1].flops or 0) <= 0.8 * (rows[0].flops or 0)
    whole, small = leaves_after(config, "sparse")
    assert small[kept].shape == whole[kept].shape and (np.asarray(small[kept]) != 0).all()
    others = {path: leaf for path, leaf in small.items() if "kernel" in path and path != kept}
    assert any((np.asarray(leaf) == 0).any() for leaf in others.values())


def test_bytes_are_met_by_zeros_and_rounding_without_labels(tmp_path: Path) -> None:
    config = quick(
        tmp_path,
        model=reference("own_functions.py"),
        data=reference("own_functions.py", "batches"),
        stages=("sparse", "distil"),
        budget=("bytes=0.28",),
        outputs="values",
    )
    rows = run.main(config)
    assert rows[0].accuracy is None and rows[-1].num_nonzero is not None
    met = written(config)["config"]["met"]["bytes"]
    assert met["met"] and met["is"] <= 0.28 and rows[-1].bytes
    assert rows[-1].num_nonzero < (rows[0].num_nonzero or 0)


def test_a_lesson_that_takes_is_not_kept(digits: Path, tmp_path: Path) -> None:
    """At a rate at which nothing is learned: the network before it is delivered, and told of."""
    model = reference("own_linen.py")
    settings = {"model": model, "data": str(digits), "stages": ("prune", "distil"), "rate": 10.0}
    config = quick(tmp_path, **settings)
    pruned, taught = run.main(config)[1:]
    assert taught.extra["distance"] == pruned.extra["distance"]
    assert any("lesson was not kept" in note for note in written(config)["config"]["notes"])


def test_a_shipped_network_is_trained_first_and_loaded_by_name(
    tmp_path: Path, digits: Path
) -> None:
    arrays = np.load(digits)
    large = np.pad(arrays["images"], ((0, 0), (4, 4), (4, 4), (0, 0)))
    data = tmp_path / "large.npz"
    np.savez(data, images=large, labels=arrays["labels"])
    rows = run.main(quick(tmp_path, model="cnn_1k", data=str(data), teacher_epochs=1))
    function, variables = jc.load(tmp_path / "artifact")
    assert function(variables, np.ones((2, 16, 16, 1), np.float32)).shape == (2, 10)
    changes = {"stages": ("prune",), "weights": tmp_path / "artifact"}
    again = run.main(quick(tmp_path / "again", model="cnn_1k", data=str(data), **changes))
    assert again[0].num_params == rows[-1].num_params and again[0].accuracy == rows[-1].accuracy
    assert (again[1].flops or 0) <= 0.25 * (rows[0].flops or 0)
    jc.load(tmp_path / "again" / "artifact")
