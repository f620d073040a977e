"""What `quantize` gives on a network of two layers, and what it refuses."""

from __future__ import annotations

import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxcompress as jc
from jaxcompress.quantization.codes import packed, unpacked
from tests.toys.record import draw, rows

X = rows(8, 6)
VARIABLES = draw(0, {"a": (6, 5), "b": (5, 3)})


def apply(variables: Any, x: jax.Array) -> jax.Array:
    return jnp.tanh(x @ variables["a"]) @ variables["b"]


GRAPH = jc.trace(apply, VARIABLES, X)


@pytest.fixture
def qwix() -> None:
    pytest.importorskip("qwix", reason="the extra `quantize` is not installed")


def test_without_qwix_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "qwix", None)
    with pytest.raises(ImportError, match=r"install the extra `quantize`: pip install"):
        jc.quantize(GRAPH)


@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 4)])
def test_half_bytes_hold_what_was_put_in(shape: tuple[int, ...]) -> None:
    codes = jnp.asarray(np.random.default_rng(0).integers(-7, 8, shape), jnp.int8)
    for scanned in (0, 1):
        stored = packed(codes, scanned)
        assert stored.dtype == jnp.uint8
        np.testing.assert_array_equal(unpacked(stored, shape, scanned), codes)


@pytest.mark.usefixtures("qwix")
def test_dots_are_summed_in_integers() -> None:
    integers = jc.quantize(GRAPH, activations="dynamic")
    jaxpr = jax.make_jaxpr(integers.function(apply))(integers.variables(VARIABLES), X)
    dots = [e for e in jaxpr.jaxpr.eqns if e.primitive.name == "dot_general"]
    assert [[v.aval.dtype.name for v in (*e.invars, *e.outvars)] for e in dots] == [
        ["int8", "int8", "int32"]
    ] * 2


@pytest.mark.usefixtures("qwix")
def test_tiles_of_inputs_have_scales_of_their_own() -> None:
    integers = jc.quantize(GRAPH, {"a": 4, "b": None}, tile=2)
    small = integers.variables(VARIABLES)
    assert small["a"]["scales"].shape == (3, 5) and small["a"]["codes"].shape == (15,)
    assert small["b"] is VARIABLES["b"]
    coarse = jc.quantize(GRAPH, {"a": 4}).variables(VARIABLES)
    back = [
        jc.quantization.dequantized_variables(jc.quantize(GRAPH, {"a": 4}, tile=tile), made)["a"]
        for tile, made in ((2, small), (None, coarse))
    ]
    fine_error, coarse_error = (float(jnp.square(one - VARIABLES["a"]).sum()) for one in back)
    assert fine_error < coarse_error


@pytest.mark.usefixtures("qwix")
def test_a_range_of_least_error_cuts_off_what_is_rare() -> None:
    x = rows(512, 6).at[0, 0].set(20.0)
    highest = jc.quantization.input_ranges(GRAPH, apply, VARIABLES, [x], candidates=1)
    chosen = jc.quantization.input_ranges(GRAPH, apply, VARIABLES, [x[:256], x[256:]])
    assert highest["a"] == 20.0 and 8 <= chosen["a"] <= 20.0
    assert chosen["b"] <= highest["b"]


@pytest.mark.usefixtures("qwix")
def test_inputs_that_are_cut_off_have_no_gradient() -> None:
    integers = jc.quantize(GRAPH, activations="static", ranges={"a": 0.5, "b": 1.0})
    faked = jc.quantization.fake_quantized(integers, apply)
    gradient = jax.grad(lambda x: faked(VARIABLES, x).sum())(X)
    np.testing.assert_array_equal(gradient != 0, jnp.abs(X) < 0.5)


@pytest.mark.usefixtures("qwix")
def test_training_rounded_floats_lowers_the_loss_of_the_integers() -> None:
    integers = jc.quantize(GRAPH, 4, activations="dynamic")
    target = apply(draw(7, {"a": (6, 5), "b": (5, 3)}), X)
    distance = lambda y: jnp.square(y - target).mean()  # noqa: E731
    faked = jc.quantization.fake_quantized(integers, apply)
    tx = optax.adam(3e-2)

    @jax.jit
    def trained(variables: Any) -> Any:
        def step(state: Any, _: Any) -> Any:
            tree, moments = state
            gradient = jax.grad(lambda v: distance(faked(v, X)))(tree)
            updates, moments = tx.update(gradient, moments)
            return (optax.apply_updates(tree, updates), moments), None

        return jax.lax.scan(step, (variables, tx.init(variables)), None, 100)[0][0]

    def loss(variables: Any) -> float:
        return float(distance(integers.function(apply)(integers.variables(variables), X)))

    assert loss(trained(VARIABLES)) < 0.3 * loss(VARIABLES)


@pytest.mark.usefixtures("qwix")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bits": {"c": 8, "b": 3}}, "c: there is no such leaf; b: 3 bits"),
        ({"bits": 2}, "a: 2 bits; b: 2 bits"),
        ({"protect": ["head"]}, r"\['head'\] match none of \['a', 'b'\]"),
        ({"protect": ["*"]}, "none can be quantized: a: protected; b: protected"),
        ({"tile": 4}, "tiles of 4 inputs .* a has 6; b has 5"),
        ({"tile": 0}, "tile must be"),
        ({"activations": "static"}, "a: none; b: none"),
        (
            {"activations": "static", "ranges": {"a": 0.0, "b": np.nan}},
            "above 0, .*: a: 0.0; b: nan",
        ),
        ({"activations": "static", "ranges": {"a": [1.0], "b": 1.0}}, r"a: of shape \(1,\)"),
        ({"ranges": {"a": 1.0}}, "only static activations have ranges"),
        ({"activations": "int8"}, "activations are one of"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        jc.quantize(GRAPH, **arguments)


@pytest.mark.usefixtures("qwix")
def test_a_kernel_that_is_read_otherwise_is_refused_by_name() -> None:
    def tied(variables: Any, x: jax.Array) -> jax.Array:
        return (x + variables["a"].sum()) @ variables["a"]

    graph = jc.trace(tied, VARIABLES, X)
    with pytest.raises(ValueError, match="a: it is read by 1 other operations.*; b: no conv"):
        jc.quantize(graph, {"a": 8, "b": 8})
    with pytest.raises(ValueError, match="none can be quantized: a: it is read by 1"):
        jc.quantize(graph)


@pytest.mark.usefixtures("qwix")
def test_variables_that_do_not_fit_are_refused() -> None:
    integers = jc.quantize(GRAPH)
    with pytest.raises(ValueError, match="the kernels to quantize must be finite, .*: a;"):
        integers.variables({**VARIABLES, "a": VARIABLES["a"].at[0, 0].set(jnp.nan)})
    with pytest.raises(ValueError, match=r"a: \(6,\), expected \(6, 5\); b: missing"):
        integers.variables({"a": jnp.ones(6)})
    with pytest.raises(ValueError, match="a: of int32"):
        integers.variables({**VARIABLES, "a": jnp.ones((6, 5), jnp.int32)})
    with pytest.raises(ValueError, match=r"these are not: \['a', 'b'\]"):
        integers.function(apply)(VARIABLES, X)
    with pytest.raises(ValueError, match="codes are no numbers to be trained"):
        integers.optimizer_state(optax.sgd(0.1), optax.sgd(0.1).init(VARIABLES))
    with pytest.raises(ValueError, match="the last step of a compression .* 'chain'"):
        jc.quantization.fake_quantized(jc.chain(), apply)


@pytest.mark.usefixtures("qwix")
def test_ranges_need_finite_batches() -> None:
    ranges = jc.quantization.input_ranges
    with pytest.raises(ValueError, match="there is no batch"):
        ranges(GRAPH, apply, VARIABLES, [])
    with pytest.raises(ValueError, match="number of ranges must be finite, .*: a, b; .*batches"):
        ranges(GRAPH, apply, VARIABLES, [X.at[0, 0].set(jnp.nan)])
    with pytest.raises(ValueError, match="batches holds none"):
        jc.recipes.quantize(apply, VARIABLES, [])
    with pytest.raises(TypeError, match="this is one"):
        jc.recipes.quantize(apply, VARIABLES, X)
