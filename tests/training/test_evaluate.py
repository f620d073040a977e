"""Evaluation counts every example once, whatever the batch size and number of devices."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jaxcompress import parallel
from jaxcompress.training import eval_step, evaluate

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (21, 2, 2, 1), dtype=np.uint8)
LABELS = RNG.integers(0, 3, 21)
VARIABLES = {"kernel": RNG.normal(size=(4, 3)).astype(np.float32)}


def preprocess(images: jax.Array) -> jax.Array:
    return images.astype(jnp.float32) / 255


def apply(variables: Any, images: jax.Array) -> jax.Array:
    return images.reshape(len(images), -1) @ variables["kernel"]


def desired() -> dict[str, float]:
    logits = (IMAGES.reshape(21, -1) / 255) @ VARIABLES["kernel"]
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(21), LABELS]
    accuracy = float((logits.argmax(1) == LABELS).mean())
    return {"accuracy": accuracy, "loss": float(losses.mean()), "count": 21}


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("batch_size", [1, 8, 21, 64])
def test_every_example_counts_once(devices: int, batch_size: int) -> None:
    mesh = parallel.mesh(jax.devices()[:devices])
    result = evaluate(
        apply, VARIABLES, IMAGES, LABELS, batch_size=batch_size, mesh=mesh, preprocess=preprocess
    )
    assert result["accuracy"] == desired()["accuracy"]
    assert result == pytest.approx(desired(), rel=1e-5)


def test_one_compilation_for_all_batches_and_calls() -> None:
    traces = []

    def counted(variables: Any, images: jax.Array) -> jax.Array:
        traces.append(images.shape)
        return apply(variables, images)

    for _ in range(2):
        evaluate(
            counted,
            VARIABLES,
            IMAGES,
            LABELS,
            batch_size=8,
            mesh=parallel.mesh(),
            preprocess=preprocess,
        )
    assert traces == [(8, 2, 2, 1)]


@pytest.mark.parametrize("wrap", ["shard_map", "pmap"])
def test_the_step_sums_over_an_axis(wrap: str) -> None:
    step = eval_step(apply, axis_name="data")
    batch, mask = parallel.pad_batch({"image": preprocess(jnp.array(IMAGES)), "label": LABELS}, 8)
    batch = {**batch, "mask": mask}
    if wrap == "shard_map":
        mesh = parallel.mesh()
        mapped = jax.shard_map(step, mesh=mesh, in_specs=(P(), P("data")), out_specs=P())
        sums = jax.jit(mapped)(VARIABLES, batch)
    else:
        split = jax.tree.map(lambda leaf: leaf.reshape(8, 3, *leaf.shape[1:]), batch)
        stacked = jax.pmap(step, axis_name="data", in_axes=(None, 0))(VARIABLES, split)
        sums = jax.tree.map(lambda leaf: leaf[0], stacked)
    assert int(sums["count"]) == 21
    assert int(sums["correct"]) == round(desired()["accuracy"] * 21)
    assert float(sums["loss"]) == pytest.approx(desired()["loss"] * 21, rel=1e-5)


def test_labels_must_belong_to_images() -> None:
    with pytest.raises(ValueError, match="21 images and 20 labels"):
        evaluate(apply, VARIABLES, IMAGES, LABELS[:20], batch_size=8, mesh=parallel.mesh())


@pytest.mark.parametrize("label", [-1, 3, 7])
def test_labels_that_are_no_class_are_refused(label: int) -> None:
    labels = LABELS.copy()
    labels[[4, 20]] = label
    message = rf"from 0 to 2.*2 of 21 are not: \[{label}\], first of example 4"
    with pytest.raises(ValueError, match=message):
        evaluate(apply, VARIABLES, IMAGES, labels, batch_size=8, mesh=parallel.mesh())
    step = eval_step(apply)
    batch = {"image": preprocess(jnp.array(IMAGES)), "label": labels, "mask": labels == label}
    sums = step(VARIABLES, batch)
    assert int(sums["not_finite"]) == 2 and int(sums["correct"]) == 0


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_network_with_nan_is_refused(devices: int, value: float) -> None:
    kernel = VARIABLES["kernel"].copy()
    kernel[0, 1] = value
    mesh = parallel.mesh(jax.devices()[:devices])
    with pytest.raises(ValueError, match=r"of 21 examples.*NaN or infinity: kernel;"):
        evaluate(apply, {"kernel": kernel}, IMAGES, LABELS, batch_size=8, mesh=mesh)


def test_one_image_with_nan_is_counted() -> None:
    images = IMAGES.astype(np.float32)
    images[20] = np.nan
    with pytest.raises(ValueError, match=r"those of 1 of 21 examples.*infinity: none;"):
        evaluate(apply, VARIABLES, images, LABELS, batch_size=8, mesh=parallel.mesh())


def test_classes_excluded_by_minus_infinity_are_measured() -> None:
    def masked(variables: Any, images: jax.Array) -> jax.Array:
        return jnp.where(
            jnp.arange(4) < 3, jnp.pad(apply(variables, images), ((0, 0), (0, 1))), -jnp.inf
        )

    mesh = parallel.mesh()
    metrics = [
        evaluate(f, VARIABLES, IMAGES, LABELS, batch_size=8, mesh=mesh) for f in (masked, apply)
    ]
    assert metrics[0] == pytest.approx(metrics[1], rel=1e-5)
