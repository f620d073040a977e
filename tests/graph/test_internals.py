"""What JAX does not export, held to the installed version."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress.graph.internals import (
    abstract,
    bind,
    closed,
    inner_jaxprs,
    is_key,
    is_literal,
    located,
    scan_counts,
    source_line,
    without_source_lines,
)

ROWS = jnp.arange(6.0).reshape(2, 3)


def equations(function: Any, *inputs: Any) -> Any:
    return jax.make_jaxpr(function)(*inputs).jaxpr.eqns


def test_bind_applies_an_equation() -> None:
    (equation,) = equations(lambda rows: jax.lax.transpose(rows, (1, 0)), ROWS)
    np.testing.assert_array_equal(bind(equation, [ROWS])[0], ROWS.T)
    np.testing.assert_array_equal(bind(equation, [ROWS], {"permutation": (0, 1)})[0], ROWS)


@pytest.mark.parametrize(
    "function",
    [
        jax.nn.relu,
        jax.jit(jnp.tanh),
        jax.checkpoint(jnp.sin),
        jax.nn.standardize,
        lambda rows: jax.lax.scan(lambda c, row: (c + row, c), rows[0], rows)[1],
        lambda rows: jax.lax.cond(rows[0, 0] > 0, jnp.sin, jnp.cos, rows),
        lambda rows: jax.lax.while_loop(lambda r: r.sum() < 99, lambda r: 2 * r, rows),
        lambda rows: jnp.sort(rows, axis=1),
    ],
)
def test_bind_runs_every_kind_of_equation(function: Any) -> None:
    jaxpr = jax.make_jaxpr(function)(ROWS)
    values: dict[Any, Any] = dict(zip(jaxpr.jaxpr.constvars, jaxpr.consts, strict=True))
    values[jaxpr.jaxpr.invars[0]] = ROWS
    for equation in jaxpr.jaxpr.eqns:
        inputs = [atom.val if is_literal(atom) else values[atom] for atom in equation.invars]
        values.update(zip(equation.outvars, bind(equation, inputs), strict=True))
    np.testing.assert_allclose(values[jaxpr.jaxpr.outvars[0]], function(ROWS), rtol=1e-6)


def test_bind_keeps_the_precision_and_the_derivative() -> None:
    with jax.default_matmul_precision("float32"):
        (equation,) = equations(jnp.dot, ROWS, ROWS.T)
    (again,) = equations(lambda a, b: bind(equation, [a, b])[0], ROWS, ROWS.T)
    assert again.params["precision"] == equation.params["precision"]
    (relu,) = equations(jax.nn.relu, ROWS)
    assert jax.grad(lambda x: bind(relu, [x])[0].sum())(jnp.zeros((2, 3))).sum() == 0


def test_the_source_is_the_line_that_the_user_wrote() -> None:
    (equation,) = equations(lambda rows: jnp.tanh(rows), ROWS)
    assert source_line(equation).startswith(f"{__file__}:")
    assert "<lambda>" in source_line(equation)


def test_an_equation_of_a_library_is_found_where_it_is_called() -> None:
    (call,) = equations(lambda rows: jnp.roll(rows, 1, axis=1), ROWS)
    inner = inner_jaxprs(call)[0].jaxpr.eqns[0]
    assert source_line(located(inner, call)).startswith(f"{__file__}:")
    assert located(call, None) is call


def test_abstract_keeps_the_type() -> None:
    aval = abstract(jnp.ones((2, 3), jnp.bfloat16), (2, 1))
    assert aval.shape == (2, 1) and aval.dtype == jnp.bfloat16
    assert abstract(jax.ShapeDtypeStruct((2,), jnp.int32)).dtype == jnp.int32
    assert abstract(2.0).weak_type


def test_jaxprs_are_found_in_parameters() -> None:
    branches = functools.partial(jax.lax.switch, 0, [jnp.sin, jnp.cos])
    jaxprs = [inner_jaxprs(e) for e in equations(branches, ROWS) if e.primitive.name == "cond"]
    assert not jaxprs or len(jaxprs[0]) == 2
    (relu,) = equations(jax.nn.relu, ROWS)
    (inner,) = inner_jaxprs(relu)
    assert closed(inner) is inner and len(inner.jaxpr.eqns) >= 1


def test_the_operands_of_a_scan_are_counted() -> None:
    def function(rows: jax.Array, one: jax.Array, two: jax.Array) -> Any:
        step = lambda c, row: ((c[0] * one + two, c[1]), row)  # noqa: E731
        return jax.lax.scan(step, (rows[0], rows[1]), rows)

    (scan,) = [e for e in equations(function, ROWS, 1.0, 2.0) if e.primitive.name == "scan"]
    constants, carry = scan_counts(scan)
    # JAX makes a constant of the part of the carry that never changes.
    assert constants in (2, 3) and constants + carry + 1 == len(scan.invars)


def test_keys_are_told_apart() -> None:
    assert is_key(jax.random.key(0).dtype) and not is_key(jnp.uint32)


def test_programs_are_lowered_without_source_lines() -> None:
    def named(rows: jax.Array) -> jax.Array:
        return jnp.sin(rows)

    limit = "jax_traceback_in_locations_limit"
    ours = getattr(jax.config, limit)
    jax.config.update(limit, 10)  # as users have it; the tests themselves do without
    try:
        text = jax.jit(named).lower(ROWS).as_text(debug_info=True)
        with without_source_lines():
            without = jax.jit(lambda rows: named(rows)).lower(ROWS).as_text(debug_info=True)
    finally:
        jax.config.update(limit, ours)
    assert "test_internals.py" in text and "test_internals.py" not in without
    assert "stablehlo.sine" in without
