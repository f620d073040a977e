"""`trace`: what it reads, what it freezes and why, and what its options say."""

from __future__ import annotations

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from jaxcompress.graph import Graph, internal_groups, streams, trace
from jaxcompress.models import build, evaluation_function, initialize, training_function
from jaxcompress.prune import shrink
from tests.laws import graph_of

ROWS = jnp.ones((3, 4))
VARIABLES = {"first": jnp.ones((4, 6)), "second": jnp.ones((6, 5)), "third": jnp.ones((5, 2))}


def perceptron(variables: Any, rows: jax.Array) -> jax.Array:
    hidden = jnp.tanh(rows @ variables["first"])
    return jnp.tanh(hidden @ variables["second"]) @ variables["third"]


def widths(graph: Graph) -> dict[str, int]:
    return {name: group.width for name, group in graph.groups.items()}


@pytest.fixture(scope="module")
def resnet56() -> Graph:
    module, shape = build("resnet56"), (2, 32, 32, 3)
    variables = jax.eval_shape(lambda key: initialize(module, key, shape), jax.random.key(0))
    return trace(evaluation_function(module), variables, jax.ShapeDtypeStruct(shape, jnp.float32))


def test_resnet56_has_30_groups(resnet56: Graph) -> None:
    streams = [g for g in resnet56.groups.values() if len(g.consumers) > 1]
    assert len(resnet56.groups) == 30
    assert sorted(group.width for group in streams) == [16, 16, 32]
    assert resnet56.params == 853_018
    # He et al. 2016 count 125 million multiply-accumulates.
    assert resnet56.flops == pytest.approx(2 * 125.5e6, rel=0.005)


def test_printing_explains(resnet56: Graph) -> None:
    text = str(resnet56)
    assert "30 groups of channels" in text and "853,018 parameters" in text
    assert "frozen, because" in text and "it reaches an output" in text
    assert "16 channels" in str(resnet56.groups["params/stage1_block0/conv2/kernel[3]"])


@pytest.mark.parametrize(
    ("network", "kernels"),
    [
        ("squeeze_excite", {"expand[3]": "producer", "depthwise[3]": "passing"}),
        ("channel_multiplier", {"stem[3]": "producer", "depthwise[3]": "passing"}),
        ("grouped_shuffle", {"first[3]": "producer", "depthwise[3]": "passing"}),
        ("grouped", {"grouped[3]": "producer", "project[2]": "consumer"}),
    ],
)
def test_a_depthwise_kernel_passes_channels_on(network: str, kernels: dict[str, str]) -> None:
    (group,) = (g for g in graph_of(network).groups.values() if g.name in kernels)
    roles = {f"{member.path}[{member.axis}]": member.role for member in group.members}
    assert {name: roles[name] for name in kernels} == kernels


def test_the_batch_axis_of_a_dot_passes_channels_on() -> None:
    def apply(variables: Any, x: jax.Array) -> jax.Array:
        heads = jnp.einsum("bi,ihd->bhd", x, variables["in"])
        heads = jnp.tanh(jnp.einsum("bhd,hde->bhe", heads, variables["per_head"]))
        return jnp.einsum("bhe,heo->bo", heads, variables["out"])

    shapes = {"in": (3, 4, 5), "per_head": (4, 5, 6), "out": (4, 6, 2)}
    variables = {name: jnp.ones(shape) for name, shape in shapes.items()}
    graph = trace(apply, variables, jnp.ones((2, 3)))
    assert graph.groups["in[1]"].member("per_head", 0).role == "passing"
    assert internal_groups(graph) == list(graph.groups) and not streams(graph)


def test_training_mode_gives_the_same_groups(resnet56: Graph) -> None:
    module, shape = build("resnet56"), (2, 32, 32, 3)
    variables = jax.eval_shape(lambda key: initialize(module, key, shape), jax.random.key(0))
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    assert widths(trace(training_function(module), variables, images)) == widths(resnet56)


def test_shapes_alone_are_enough() -> None:
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), (VARIABLES, ROWS))
    graph = trace(perceptron, *shapes)
    assert (
        widths(graph)
        == widths(trace(perceptron, VARIABLES, ROWS))
        == {
            "first[1]": 6,
            "second[1]": 5,
        }
    )
    prune = shrink(graph, {"first[1]": np.arange(6) < 2})
    assert prune.variables(shapes[0])["second"].shape == (2, 5)


def test_only_chosen_outputs_are_frozen() -> None:
    def apply(variables: Any, rows: jax.Array) -> Any:
        features = jnp.tanh(rows @ variables["first"])
        return {"logits": features @ variables["third"], "features": features}

    variables = {"first": jnp.ones((4, 5)), "third": jnp.ones((5, 2))}
    assert widths(trace(apply, variables, ROWS)) == {}
    chosen = trace(apply, variables, ROWS, output=lambda result: result["logits"])
    assert widths(chosen) == {"first[1]": 5}
    prune = shrink(chosen, {"first[1]": np.arange(5) < 3})
    assert prune.function(apply)(prune.variables(variables), ROWS)["features"].shape == (3, 3)


def test_a_new_state_is_tied_to_the_leaf_that_it_replaces() -> None:
    def apply(variables: Any, rows: jax.Array) -> Any:
        hidden = rows @ variables["params"]["first"]
        state = {"statistics": {"mean": 0.9 * variables["statistics"]["mean"] + hidden.mean(0)}}
        return jnp.tanh(hidden) @ variables["params"]["third"], state

    params = {"first": jnp.ones((4, 5)), "third": jnp.ones((5, 2))}
    variables = {"params": params, "statistics": {"mean": jnp.zeros(5)}}
    graph = trace(apply, variables, ROWS)
    assert widths(graph) == {"params/first[1]": 5}
    prune = shrink(graph, {"params/first[1]": np.arange(5) < 3})
    small = prune.variables(variables)
    assert small["statistics"]["mean"].shape == (3,)
    assert prune.function(apply)(small, ROWS)[1]["statistics"]["mean"].shape == (3,)


def test_without_an_axis_of_examples() -> None:
    graph = trace(perceptron, VARIABLES, ROWS, batch_axis=None)
    assert widths(graph) == {"first[1]": 6, "second[1]": 5}
    assert graph.flops == 3 * trace(perceptron, VARIABLES, ROWS).flops


def test_frozen_reasons_point_at_the_line_that_froze() -> None:
    def apply(variables: Any, rows: jax.Array) -> jax.Array:
        hidden = rows @ variables["first"]
        hidden = lax.cumsum(hidden, axis=1)
        hidden = jnp.roll(hidden @ variables["second"], 1, axis=1)
        return hidden @ variables["third"]

    lines, start = inspect.getsourcelines(apply)
    frozen = {(f.path, f.axis): f for f in trace(apply, VARIABLES, ROWS).frozen}
    assert frozen["first", 1].reason == "cumsum runs along it"
    assert frozen["second", 1].reason == "it is picked out by its index"
    for place, word in ((("first", 1), "cumsum"), (("second", 1), "roll")):
        number = start + next(i for i, line in enumerate(lines) if word in line)
        assert f"{__file__}:{number} " in frozen[place].source


def test_sites_and_consumers_of_library_calls_point_at_user_code() -> None:
    def apply(variables: Any, rows: jax.Array) -> jax.Array:
        return jnp.einsum("bi,io->bo", rows, variables["first"]) @ variables["head"]

    graph = trace(apply, {"first": jnp.ones((4, 6)), "head": jnp.ones((6, 2))}, ROWS)
    assert all(term.source.startswith(__file__) for term in graph.cost.flop_terms)


def test_every_leaf_and_output_must_be_an_array() -> None:
    with pytest.raises(TypeError, match="first: str"):
        trace(perceptron, {**VARIABLES, "first": "kernel"}, ROWS)
    with pytest.raises(TypeError, match="every output must be an array"):
        trace(lambda variables, rows: (rows @ variables["first"], "name"), VARIABLES, ROWS)


def test_static_and_keyword_inputs_stay_python_values() -> None:
    def apply(variables: Any, rows: jax.Array, train: bool, mode: str) -> jax.Array:
        assert train is False and mode == "mean"
        return perceptron(variables, rows)

    graph = trace(apply, VARIABLES, ROWS, False, "mean")
    prune = shrink(graph, {"first[1]": np.arange(6) < 2})
    small = prune.function(apply)
    assert small(prune.variables(VARIABLES), ROWS, False, mode="mean").shape == (3, 2)


def test_a_dense_block_of_another_library_keeps_its_own_lines() -> None:
    module = nn.Dense(3)
    variables = module.init(jax.random.key(0), ROWS)
    (frozen,) = [f for f in trace(module.apply, variables, ROWS).frozen if "fixed" in f.reason]
    assert frozen.path == "params/kernel"
