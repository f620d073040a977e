"""Masks take from the graph which leaves are kernels, and along which axes they are contracted."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxcompress as jc
from jaxcompress import sparse
from jaxcompress.paths import flatten_with_paths
from jaxcompress.sparse import Block, NofM, nonzero_masks
from jaxcompress.sparse.schedule import one_shot


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x: Any, _: Any) -> Any:
        return x + nn.Dense(8)(nn.gelu(nn.Dense(16)(nn.LayerNorm()(x)))), None


class Transformer(nn.Module):
    @nn.compact
    def __call__(self, tokens: Any) -> Any:
        embed = nn.Embed(12, 8)
        x = embed(tokens) + self.param("positions", nn.initializers.normal(), (5, 8))
        x = nn.MultiHeadDotProductAttention(4, qkv_features=16)(x, x)
        scan = nn.scan(Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
        return embed.attend(scan(name="layers")(x, None)[0])


class Small(eqx.Module):
    conv: eqx.nn.Conv2d
    norm: eqx.nn.LayerNorm
    linear: eqx.nn.Linear

    def __call__(self, x: Any) -> Any:
        return self.linear(jnp.tanh(self.norm(self.conv(x))).mean((1, 2)))


class Case(NamedTuple):
    """A network, and how each kernel reads as (kernels, inputs, outputs) to a person."""

    variables: Any
    graph: jc.Graph
    kernels: dict[str, Any]


def transformer() -> Case:
    tokens = jnp.zeros((2, 5), int)
    variables = Transformer().init(jax.random.key(0), tokens)
    kernels = {
        "params/MultiHeadDotProductAttention_0/query/kernel": lambda w: w.reshape(1, 8, 16),
        "params/MultiHeadDotProductAttention_0/key/kernel": lambda w: w.reshape(1, 8, 16),
        "params/MultiHeadDotProductAttention_0/value/kernel": lambda w: w.reshape(1, 8, 16),
        "params/MultiHeadDotProductAttention_0/out/kernel": lambda w: w.reshape(1, 16, 8),
        "params/layers/Dense_0/kernel": lambda w: w,
        "params/layers/Dense_1/kernel": lambda w: w,
    }
    return Case(variables, jc.trace(Transformer().apply, variables, tokens), kernels)


def small() -> Case:
    first, second = jax.random.split(jax.random.key(0))
    module = Small(
        eqx.nn.Conv2d(4, 8, 3, key=first),
        eqx.nn.LayerNorm((8, 4, 4)),
        eqx.nn.Linear(8, 4, key=second),
    )
    variables, static = eqx.partition(module, eqx.is_array)
    apply = lambda tree, x: jax.vmap(eqx.combine(tree, static))(x)  # noqa: E731
    kernels = {
        "conv/weight": lambda w: w.transpose(2, 3, 1, 0).reshape(9, 4, 8),
        "linear/weight": lambda w: w.T[None],
    }
    return Case(variables, jc.trace(apply, variables, jnp.ones((2, 4, 6, 6))), kernels)


CASES = {"transformer": transformer, "equinox": small}


@pytest.fixture(scope="module", params=CASES)
def case(request: Any) -> Case:
    return CASES[request.param]()


def test_kernels_alone_are_pruned(case: Case) -> None:
    masks = sparse.make_masks(case.variables, 0.5, graph=case.graph)
    assert sorted(masks) == sorted(case.kernels)
    leaves, _ = flatten_with_paths(case.variables)
    for path, mask in masks.items():
        values = np.abs(np.asarray(leaves[path]))
        assert mask.shape == values.shape and mask.mean() == 0.5
        assert values[np.asarray(mask)].min() >= values[~np.asarray(mask)].max()
    state = sparse.sparse_optimizer(optax.sgd(0.1), one_shot(0.5), graph=case.graph).init(
        case.variables
    )
    assert sorted(sparse.masks_of(state)) == sorted(case.kernels)
    pruned = jc.sparsify(case.variables, masks).variables(case.variables)
    zeros = nonzero_masks(pruned, graph=case.graph)
    jax.tree.map(np.testing.assert_array_equal, zeros, dict(masks))


def test_two_of_four_lie_along_the_inputs(case: Case) -> None:
    pattern = NofM(2, 4)
    masks = sparse.make_masks(case.variables, 0.5, graph=case.graph, pattern=pattern)
    leaves, _ = flatten_with_paths(case.variables)
    for path, read in case.kernels.items():
        kept, values = (
            np.moveaxis(np.asarray(read(array)), 1, -1).reshape(-1, 4)
            for array in (masks[path], np.abs(leaves[path]))
        )
        assert (kept.sum(1) == 2).all(), path
        assert (np.where(kept, values, np.inf).min(1) >= np.where(kept, 0, values).max(1)).all()
    jc.sparsify(case.variables, masks, pattern=pattern, graph=case.graph)
    tx = sparse.sparse_optimizer(optax.sgd(0.1), one_shot(0.5), graph=case.graph, pattern=pattern)
    state = tx.init(case.variables)
    _, state = jax.jit(tx.update)(case.variables, state, case.variables)
    jax.tree.map(np.testing.assert_array_equal, sparse.masks_of(state), dict(masks))


def test_a_global_scope_keeps_a_weight_of_every_output(case: Case) -> None:
    leaves, treedef = flatten_with_paths(case.variables)
    path = next(reversed(case.kernels))
    leaves[path] = 1e-4 * leaves[path]
    uneven = jax.tree.unflatten(treedef, leaves.values())
    masks = sparse.make_masks(uneven, 0.8, graph=case.graph, scope="global")
    total = sum(leaves[path].size for path in case.kernels)
    assert sum(int(mask.sum()) for mask in masks.values()) == total - round(0.8 * total)
    for path, read in case.kernels.items():
        kept = np.asarray(read(masks[path]))
        axis = (0, 1) if path == "conv/weight" else 1  # a window is of one kernel, layers are not
        assert kept.any(axis).all(), path


def test_blocks_lie_over_inputs_and_outputs(case: Case) -> None:
    pattern = Block((4, 2))
    masks = sparse.make_masks(case.variables, 0.5, graph=case.graph, pattern=pattern)
    assert sorted(masks) == sorted(case.kernels)
    for path, read in case.kernels.items():
        assert pattern.holds(np.asarray(read(masks[path]))), path
        assert masks[path].mean() == 0.5


def test_embeddings_are_pruned_when_asked_for() -> None:
    case, table = transformer(), "params/Embed_0/embedding"
    for include in (["*/embedding"], ["*/positions"]):
        masks = sparse.make_masks(case.variables, 0.5, graph=case.graph, include=include)
        assert len(masks) == len(case.kernels) + 1
    assert table in sparse.make_masks(case.variables, 0.5, include=["*/embedding"])
    assert table not in sparse.make_masks(case.variables, 0.5)
    with pytest.raises(ValueError, match=r"include names leaves.*\['\*/bias_'\] match none"):
        sparse.make_masks(case.variables, 0.5, include=["*/bias_"])


def test_names_exempt_without_a_graph() -> None:
    case = transformer()
    masks = sparse.make_masks(case.variables, 0.5)
    # Nothing in its name says what this one is; a graph knows.
    assert sorted(masks) == sorted([*case.kernels, "params/positions"])


def test_parameters_alone_and_below_other_keys_are_found_in_the_graph() -> None:
    case = transformer()
    params = case.variables["params"]
    tails = sorted(path.removeprefix("params/") for path in case.kernels)
    assert sorted(sparse.make_masks(params, 0.5, graph=case.graph)) == tails
    below = sparse.make_masks({"student": case.variables}, 0.5, graph=case.graph)
    assert sorted(below) == sorted(f"student/{path}" for path in case.kernels)


def test_what_is_ambiguous_is_refused_by_name() -> None:
    case, linear = transformer(), {"w": jnp.ones((8, 16)), "v": jnp.ones((4, 4))}
    with pytest.raises(ValueError, match=r"query/kernel has 3 axes.*layers/Dense_0/kernel has 3"):
        sparse.make_masks(case.variables, 0.5, pattern=NofM(2, 4), protect=["*/positions"])
    with pytest.raises(ValueError, match=r"v may be \(inputs, outputs\) or.*; w may be.*axis=-1"):
        sparse.make_masks(linear, 0.5, pattern=NofM(2, 4))
    named = sparse.make_masks(linear, 0.5, pattern=NofM(2, 4, axis=-1))
    assert all((mask.reshape(-1, 4).sum(1) == 2).all() for mask in named.values())
    apply = lambda tree, x: jnp.sin(x @ tree["w"]) @ tree["w"].T  # noqa: E731
    twice = {"w": jnp.ones((8, 16))}
    graph = jc.trace(apply, twice, jnp.ones((2, 8)))
    assert list(sparse.make_masks(twice, 0.5, graph=graph)) == ["w"]
    with pytest.raises(ValueError, match="w is used 2 times, not all alike"):
        sparse.make_masks(twice, 0.5, graph=graph, pattern=NofM(2, 4))


def test_a_graph_of_other_variables_is_refused() -> None:
    case = small()
    with pytest.raises(ValueError, match="linear/weight is .5, 8., not .4, 8.; other is not in"):
        sparse.make_masks(
            {"linear": {"weight": jnp.ones((5, 8))}, "other": jnp.ones((2, 2))},
            0.5,
            graph=case.graph,
        )
