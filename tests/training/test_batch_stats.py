"""Re-estimated BatchNorm statistics are those of the batches, whatever the momentum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxcompress import parallel
from jaxcompress.backend import compiling
from jaxcompress.training import reestimate

KEY = jax.random.key(0)


class Net(nn.Module):
    momentum: float = 0.99

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = True) -> jax.Array:
        x = nn.Conv(4, (3, 3), name="first")(images)
        x = nn.BatchNorm(use_running_average=not train, momentum=self.momentum)(x)
        x = nn.Conv(3, (3, 3))(nn.relu(x))
        return nn.BatchNorm(use_running_average=not train, momentum=self.momentum)(x)


def train_apply(momentum: float) -> Callable[..., Any]:
    net = Net(momentum)
    return lambda variables, images, key: net.apply(variables, images, mutable=["batch_stats"])


@pytest.fixture(scope="module")
def batches() -> jax.Array:
    """Five batches far from each other, so that only exact averaging is right."""
    noise = jax.random.normal(jax.random.key(1), (5, 8, 6, 6, 2))
    return noise * jnp.arange(1.0, 6.0)[:, None, None, None, None] + 30


@pytest.fixture(scope="module")
def variables() -> Any:
    variables = Net().init(KEY, jnp.zeros((1, 6, 6, 2)))
    stats = jax.tree.map(lambda leaf: leaf + 7, variables["batch_stats"])
    return {**variables, "batch_stats": stats}


def test_fast_convolutions_change_nothing(
    variables: Any, batches: jax.Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of stacked batches, and of batches one by one."""
    expected = reestimate(train_apply(0.9), variables, batches, key=KEY)
    rewritten: list[Any] = []
    fast = compiling.fast_convolutions

    def watched(function: Any) -> Any:
        rewritten.append(function)
        return fast(function)

    monkeypatch.setattr(compiling, "LARGE", 0)
    monkeypatch.setattr(compiling, "fast_convolutions", watched)
    for given in (batches, list(batches)):
        rewritten.clear()
        actual = reestimate(train_apply(0.9), variables, given, key=KEY)
        assert rewritten
        jax.tree.map(lambda a, d: np.testing.assert_allclose(a, d, rtol=1e-4), actual, expected)


def first_layer(variables: Any, batches: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance over all examples at once, in float64."""
    images = batches.reshape(-1, *batches.shape[2:])
    outputs = nn.Conv(4, (3, 3)).apply({"params": variables["params"]["first"]}, images)
    outputs = np.asarray(outputs, np.float64)
    return outputs.mean((0, 1, 2)), outputs.var((0, 1, 2))


@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.99])
def test_statistics_are_those_of_all_examples(
    variables: Any, batches: jax.Array, momentum: float
) -> None:
    new = reestimate(train_apply(momentum), variables, batches, key=KEY)
    mean, var = first_layer(variables, batches)
    statistics = new["batch_stats"]["BatchNorm_0"]
    np.testing.assert_allclose(statistics["mean"], mean, rtol=1e-5)
    # Flax itself computes var as E[x^2] - E[x]^2 in float32, with mean^2 / var up to 1e3 here.
    np.testing.assert_allclose(statistics["var"], var, rtol=1e-3)
    jax.tree.map(np.testing.assert_array_equal, new["params"], variables["params"])


def test_momentum_does_not_matter(variables: Any, batches: jax.Array) -> None:
    exact = reestimate(train_apply(0.0), variables, batches, key=KEY)
    for momentum in (0.9, 0.999):
        new = reestimate(train_apply(momentum), variables, batches, key=KEY)
        # 1 - m is known to about 6e-8, which is 6e-5 of 0.001.
        jax.tree.map(
            lambda a, b, m=momentum: np.testing.assert_allclose(a, b, rtol=1e-7 / (1 - m) + 1e-6),
            new["batch_stats"],
            exact["batch_stats"],
        )


def test_momentum_one_keeps_its_statistics(variables: Any, batches: jax.Array) -> None:
    new = reestimate(train_apply(1.0), variables, batches, key=KEY)
    jax.tree.map(np.testing.assert_array_equal, new, variables)


def test_sharded_batches_give_the_same_with_one_compilation(
    variables: Any, batches: jax.Array
) -> None:
    mesh, plain = parallel.mesh(), train_apply(0.9)
    traces = []

    def counted(*args: Any) -> Any:
        traces.append(1)
        return plain(*args)

    sharded = jax.device_put(batches, NamedSharding(mesh, P(None, "data")))
    first = reestimate(counted, parallel.replicate(variables, mesh), sharded, key=KEY)
    count = len(traces)
    reestimate(counted, parallel.replicate(variables, mesh), sharded + 1, key=KEY)
    assert len(traces) == count
    desired = reestimate(plain, variables, batches, key=KEY)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), first, desired)


def test_nnx_batch_norm(batches: jax.Array) -> None:
    graph, variables = nnx.split(nnx.BatchNorm(2, momentum=0.9, rngs=nnx.Rngs(0)))

    def apply(variables: Any, images: jax.Array, key: jax.Array) -> Any:
        model = nnx.merge(graph, variables)
        model.train()
        return model(images), nnx.state(model, nnx.BatchStat)

    new = reestimate(apply, variables, batches, key=KEY)
    desired = np.asarray(batches, np.float64)
    np.testing.assert_allclose(new["mean"][...], desired.mean((0, 1, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(new["var"][...], desired.var((0, 1, 2, 3)), rtol=1e-3)


@pytest.mark.parametrize("new_state", [{}, {"other": 1.0}, {"layer": {"var": jnp.ones(2)}}])
def test_state_without_statistics_is_refused(new_state: Any) -> None:
    variables = {"other": jnp.ones(()), "layer": {"var": jnp.ones(2)}}
    with pytest.raises(ValueError, match="side by side"):
        reestimate(lambda *_: (None, new_state), variables, jnp.ones((2, 3)), key=KEY)


@pytest.mark.parametrize("wrong", [[0], [3], [0, 2, 4]])
def test_batches_with_nan_are_refused_by_number(
    variables: Any, batches: jax.Array, wrong: list[int]
) -> None:
    function, broken = train_apply(0.9), batches.at[jnp.array(wrong), 0, 0, 0, 0].set(jnp.nan)
    message = rf"the batches \{str(wrong)[:-1]}\] are NaN or infinite in .*BatchNorm_0/mean"
    with pytest.raises(ValueError, match=message):
        reestimate(function, variables, broken, key=KEY)
    new = jax.jit(lambda given: reestimate(function, variables, given, key=KEY))(broken)
    assert all(jnp.isnan(leaf).all() for leaf in jax.tree.leaves(new["batch_stats"]))


def test_statistics_with_nan_are_renewed(variables: Any, batches: jax.Array) -> None:
    stats = jax.tree.map(lambda leaf: leaf * jnp.nan, variables["batch_stats"])
    function = train_apply(0.9)
    new = reestimate(function, {**variables, "batch_stats": stats}, batches, key=KEY)
    desired = reestimate(function, variables, batches, key=KEY)
    jax.tree.map(np.testing.assert_array_equal, new, desired)


def test_the_network_is_compiled_once() -> None:
    """Probes of the momentum and batches share a loop; two would hold the network twice."""

    def train_apply(variables: Any, images: jax.Array, key: jax.Array) -> Any:
        # Not `@`, which is lowered as a function that several callers share.
        outputs = jnp.tanh(jax.lax.dot(images, variables["kernel"]))
        return outputs, {"mean": 0.9 * variables["mean"] + 0.1 * outputs.mean()}

    variables = {"kernel": jnp.ones((3, 2)), "mean": jnp.float32(0)}
    run = jax.jit(lambda *arguments: reestimate(train_apply, *arguments, key=jax.random.key(0)))
    text = run.lower(variables, jnp.ones((4, 5, 3))).as_text()
    assert text.count("stablehlo.dot_general") == 1
