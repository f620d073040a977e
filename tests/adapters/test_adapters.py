"""NNX and Equinox models obey the same laws: masked equals shrunk, and they can be put back."""

from __future__ import annotations

import equinox as eqx
import jax
import numpy as np
from flax import nnx

from jaxcompress.adapters import (
    equinox_trainable,
    nnx_trainable,
)
from jaxcompress.graph import trace
from jaxcompress.paths import flatten_with_paths
from jaxcompress.prune import gated
from jaxcompress.training import replace_leaves
from tests.adapters.networks import (
    IMAGES,
    STATISTICS,
    Adapted,
    NnxNet,
    assert_close,
    changed,
    masks,
)


def test_groups_are_found(nnx_net: Adapted, equinox_net: Adapted) -> None:
    assert {n: g.width for n, g in nnx_net.graph.groups.items()} == {
        "block/kernel[3]": 6,
        "hidden/kernel[1]": 8,
    }
    assert {n: g.width for n, g in equinox_net.graph.groups.items()} == {
        "0/block/weight[0]": 5,
        "0/stem/weight[0]": 6,
    }


def test_masked_equals_shrunk_in_evaluation(net: Adapted) -> None:
    masked = gated(net.graph, net.apply)(net.variables, masks(net), IMAGES)
    shrunk = net.prune.function(net.apply)(net.prune.variables(net.variables), IMAGES)
    assert_close(shrunk, masked)
    assert not np.allclose(masked, net.apply(net.variables, IMAGES), atol=1e-3)


def test_masked_equals_shrunk_in_training(net: Adapted) -> None:
    key, small = jax.random.key(7), net.prune.variables(net.variables)
    masked, state = gated(net.graph, net.train)(net.variables, masks(net), IMAGES, key)
    shrunk, small_state = net.prune.function(net.train)(small, IMAGES, key)
    assert_close(shrunk, masked)
    stepped = replace_leaves(net.variables, state)
    assert_close(replace_leaves(small, small_state), net.prune.variables(stepped))
    assert changed(replace_leaves(small, small_state), small) == STATISTICS[type(stepped)]


def test_dropout_goes_by_the_key(net: Adapted) -> None:
    once, again, other = (
        net.train(net.variables, IMAGES, jax.random.key(seed))[0] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(once, again)
    assert not np.allclose(once, other, atol=1e-3)


def test_evaluation_mode_is_deterministic_and_leaves_the_model_alone(net: Adapted) -> None:
    once, again = (net.apply(net.variables, IMAGES) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    if isinstance(net.model, tuple):
        assert not net.model[0].norm.inference and not net.model[0].dropout.inference
    else:
        assert not net.model.norm.use_running_average and not net.model.dropout.deterministic


def test_smaller_variables_go_back_into_an_nnx_model(nnx_net: Adapted) -> None:
    small = nnx_net.prune.variables(nnx_net.variables)
    expected = nnx_net.prune.function(nnx_net.apply)(small, IMAGES)
    merged = nnx.merge(nnx.graphdef(nnx_net.model), small)
    merged.eval()
    assert_close(merged(IMAGES), expected)
    updated = NnxNet(nnx.Rngs(0))
    nnx.update(updated, small)
    updated.eval()
    assert_close(updated(IMAGES), expected)


def test_smaller_variables_go_back_into_an_equinox_model(equinox_net: Adapted) -> None:
    small = equinox_net.prune.variables(equinox_net.variables)
    expected = equinox_net.prune.function(equinox_net.apply)(small, IMAGES)
    module, state = eqx.nn.inference_mode(eqx.combine(small, equinox_net.model))
    outputs, _ = jax.vmap(module, in_axes=(0, None), out_axes=(0, None), axis_name="batch")(
        IMAGES, state
    )
    assert_close(outputs, expected)


def test_trainable_leaves_are_parameters(nnx_net: Adapted, equinox_net: Adapted) -> None:
    for net, make in ((nnx_net, nnx_trainable), (equinox_net, equinox_trainable)):
        trainable = make(net.model)
        leaves, _ = flatten_with_paths(net.variables)
        chosen = [path for path, leaf in leaves.items() if trainable(path, leaf)]
        parts = {path.split("/")[-1] for path in chosen}
        assert parts in ({"kernel", "bias", "scale"}, {"weight", "bias"})
        assert len(chosen) == 10 - 2 * (net is equinox_net)
        assert trace(net.apply, net.variables, IMAGES, trainable=trainable).params == sum(
            leaves[path].size for path in chosen
        )
