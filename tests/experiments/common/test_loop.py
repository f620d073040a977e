"""The loop: deterministic, the same on any number of devices, and able to continue."""

from __future__ import annotations

import dataclasses
import os
import signal
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.common import loop, stopping
from experiments.common import steps as loop_steps
from experiments.common.data import Dataset, load
from jaxcompress import parallel
from jaxcompress.knowledge import Views, cross_entropy, view
from jaxcompress.training import checkpoint_steps

KEY = jax.random.key(0)
TX = optax.sgd(0.05, momentum=0.9)
VARIABLES = {"params": {"kernel": jnp.zeros((64, 10))}}


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    digits = load("digits")
    return dataclasses.replace(
        digits, train_images=digits.train_images[:100], train_labels=digits.train_labels[:100]
    )


def loss(variables: Any, batch: Any, key: jax.Array) -> Any:
    logits = batch["image"].reshape(len(batch["image"]), -1) @ variables["params"]["kernel"]
    return cross_entropy(logits, batch["label"]).mean(), ({}, {})


def run(dataset: Dataset, devices: int = 8, epochs: int = 3, **options: Any) -> loop.Trained:
    settings = {"views": Views(pad=1), "progress": False, **options}
    mesh = parallel.mesh(jax.devices()[:devices])
    return loop.train(
        settings.pop("loss", loss),
        TX,
        settings.pop("variables", VARIABLES),
        dataset,
        epochs=epochs,
        batch_size=16,
        key=KEY,
        mesh=mesh,
        **settings,
    )


@pytest.fixture(scope="module")
def reference(dataset: Dataset) -> loop.Trained:
    return run(dataset, on_epoch=lambda state: {"steps": int(state.step)})


def kernel(trained: loop.Trained) -> np.ndarray:
    return np.asarray(trained.state.variables["params"]["kernel"])


def test_it_learns_and_keeps_a_history(reference: loop.Trained) -> None:
    losses = [epoch["train_loss"] for epoch in reference.history]
    assert len(losses) == 3 and losses[0] > losses[1] > losses[2]
    assert int(reference.state.step) == 3 * 6
    # What is measured after an epoch joins it.
    assert [epoch["steps"] for epoch in reference.history] == [6, 12, 18]
    assert not VARIABLES["params"]["kernel"].is_deleted()


def test_the_number_of_devices_does_not_matter(dataset: Dataset, reference: loop.Trained) -> None:
    np.testing.assert_allclose(kernel(run(dataset, 1)), kernel(reference), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("on_device", [False, True])
def test_batches_in_parts_are_the_same_batches(
    dataset: Dataset, reference: loop.Trained, monkeypatch: pytest.MonkeyPatch, on_device: bool
) -> None:
    monkeypatch.setattr(loop_steps, "on_cpu", lambda mesh: not on_device)
    trained = run(dataset, devices=4, accumulate_steps=4)
    np.testing.assert_allclose(kernel(trained), kernel(reference), rtol=1e-5, atol=1e-6)
    assert int(trained.state.step) == 4 * 3 * 6
    losses = [[epoch["train_loss"] for epoch in one.history] for one in (trained, reference)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


@pytest.mark.parametrize(("steps", "left"), [(6, [2, 3]), (8, [2, 3]), (18, [])])
def test_an_interrupted_run_continues_as_if_it_had_not_been(
    dataset: Dataset,
    reference: loop.Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    steps: int,
    left: list[int],
) -> None:
    """After an epoch, within one, and where only the end was missing."""
    monkeypatch.setattr(loop_steps, "STEPS_PER_LOOK", 2)
    monkeypatch.setattr(stopping, "SECONDS", 0.0)

    def killed(kept: stopping.Kept, state: Any) -> None:
        kept.now(state)
        if int(state.step) == steps:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(stopping.Kept, "at_times", killed)
        run(dataset, folder=tmp_path)
    continued = run(dataset, folder=tmp_path)
    assert [epoch["epoch"] for epoch in continued.history] == left
    np.testing.assert_array_equal(kernel(continued), kernel(reference))


def test_who_is_asked_to_stop_keeps_the_state_and_ends(
    dataset: Dataset, reference: loop.Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_steps, "STEPS_PER_LOOK", 4)
    before = signal.getsignal(signal.SIGTERM)

    def on_epoch(_: Any) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGTERM)
        return {}

    with pytest.raises(SystemExit) as ended:
        run(dataset, folder=tmp_path, on_epoch=on_epoch)
    assert ended.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before
    assert max(checkpoint_steps(tmp_path)) == 10
    continued = run(dataset, folder=tmp_path)
    np.testing.assert_array_equal(kernel(continued), kernel(reference))


def test_steps_may_be_a_loop_on_the_device(
    dataset: Dataset, reference: loop.Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What runs where there is an accelerator; the platform is all that decides."""
    monkeypatch.setattr(loop_steps, "on_cpu", lambda mesh: False)
    monkeypatch.setattr(loop_steps, "STEPS_PER_CALL", 4)
    np.testing.assert_allclose(kernel(run(dataset)), kernel(reference), rtol=1e-5, atol=1e-7)


def test_batches_hold_the_view_and_the_extra_rows_of_each_example(dataset: Dataset) -> None:
    key, number = jax.random.key(9), np.arange(100)
    small = dataclasses.replace(dataset, mean=(0.0,), std=(1 / 255,))
    images = jnp.asarray(dataset.train_images)

    def check(variables: Any, batch: Any, _: jax.Array) -> Any:
        def one(example: jax.Array, index: jax.Array) -> jax.Array:
            return view(key, example, index, images[example], settings=Views(pad=1))

        desired = jax.vmap(one)(batch["example"], batch["view"]).astype(jnp.float32)
        wrong = jnp.sum(jnp.abs(batch["image"] - desired) > 1e-3)
        wrong += jnp.sum(batch["number"] != batch["example"])
        metrics = {"wrong": wrong, "view": batch["view"].mean()}
        return jnp.sum(variables["params"]["kernel"]), ({}, metrics)

    trained = run(
        small,
        loss=check,
        extra={"number": number},
        view_key=key,
        view_of=lambda i, epoch: jnp.full_like(i, epoch % 2),
    )
    assert [epoch["train_wrong"] for epoch in trained.history] == [0, 0, 0]
    assert [epoch["train_view"] for epoch in trained.history] == [0, 1, 0]


def test_wrong_arguments_are_refused(dataset: Dataset) -> None:
    with pytest.raises(ValueError, match="'logits': 3"):
        run(dataset, extra={"logits": np.ones((3, 10))})
    with pytest.raises(ValueError, match="a batch has .'view'"):
        run(dataset, extra={"view": np.ones(100)})
    with pytest.raises(ValueError, match="over 6 devices, but batch_size=16 does not divide by 6"):
        run(dataset, devices=6)
    with pytest.raises(ValueError, match="accumulate_steps=3 parts, .* does not divide by 12"):
        run(dataset, devices=4, accumulate_steps=3)


@pytest.mark.parametrize("on_device", [False, True])
def test_training_stops_at_the_first_step_that_is_not_finite(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, on_device: bool
) -> None:
    """Both kinds of loop; later steps are NaN as well, and the epoch's state is not kept."""
    monkeypatch.setattr(loop_steps, "on_cpu", lambda mesh: not on_device)
    monkeypatch.setattr(loop_steps, "STEPS_PER_CALL", 2)
    monkeypatch.setattr(loop_steps, "STEPS_PER_LOOK", 2)
    variables = {**VARIABLES, "count": jnp.int32(0)}

    def breaks(variables: Any, batch: Any, key: jax.Array) -> Any:
        value, _ = loss(variables, batch, key)
        count = variables["count"] + 1
        metrics = {"late": jnp.where(count == 9, jnp.inf, 0.0), "fine": jnp.float32(1)}
        value = jnp.where(count == 8, jnp.nan, 1) * value
        return value, ({"count": count}, metrics)

    kept: list[int] = []

    def on_epoch(state: Any) -> dict[str, float]:
        kept.append(int(state.step))
        return {}

    message = "in epoch 2 these .*: loss at step 8; "
    with pytest.raises(FloatingPointError, match=message):
        run(dataset, devices=1, loss=breaks, variables=variables, on_epoch=on_epoch)
    assert kept == [6]
    monkeypatch.setattr(loop_steps, "STEPS_PER_CALL", 50)
    monkeypatch.setattr(loop_steps, "STEPS_PER_LOOK", 50)
    with pytest.raises(FloatingPointError, match="loss at step 8, late at step 9; "):
        run(dataset, devices=1, loss=breaks, variables=variables)
