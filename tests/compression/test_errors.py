"""What the transforms refuse: every message names the rule, the offenders and a remedy."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress.artifact import from_spec
from jaxcompress.graph import trace
from jaxcompress.prune import gate, gated, shrink

ROWS = jnp.ones((3, 4))
VARIABLES = {"first": jnp.ones((4, 6)), "second": jnp.ones((6, 5)), "third": jnp.ones((5, 2))}


def apply(variables: Any, rows: jax.Array) -> jax.Array:
    hidden = jnp.tanh(rows @ variables["first"])
    return jnp.tanh(hidden @ variables["second"]) @ variables["third"]


GRAPH = trace(apply, VARIABLES, ROWS)
KEEP = {"first[1]": np.arange(6) < 3}


def test_an_unknown_group_is_named_with_the_known_ones() -> None:
    keep = {"frist[1]": np.ones(6, bool), "last[0]": np.ones(6, bool)}
    message = r"\['frist\[1\]', 'last\[0\]'\] are none of them; its groups are first\[1\], second"
    with pytest.raises(ValueError, match=message):
        shrink(GRAPH, keep)
    with pytest.raises(ValueError, match=message):
        gated(GRAPH, apply)(VARIABLES, keep, ROWS)


def test_all_wrong_widths_are_named() -> None:
    keep = {"first[1]": np.ones(5, bool), "second[1]": np.ones((5, 5), bool)}
    with pytest.raises(ValueError, match=r"first\[1\]: \(5,\) instead.*second\[1\]: \(5, 5\)"):
        shrink(GRAPH, keep)
    with pytest.raises(ValueError, match=r"or \[examples, width\].*first\[1\]: \(\) instead"):
        gated(GRAPH, apply)(VARIABLES, {"first[1]": 1.0}, ROWS)


def test_a_traced_keep_is_sent_to_gates() -> None:
    with pytest.raises(TypeError, match=r"\['first\[1\]'\] are traced.*gated"):
        jax.jit(lambda mask: shrink(GRAPH, {"first[1]": mask}).spec)(jnp.ones(6, bool))


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_a_keep_is_boolean(dtype: Any) -> None:
    with pytest.raises(TypeError, match=rf"first\[1\]: {np.dtype(dtype)}"):
        shrink(GRAPH, {"first[1]": np.ones(6, dtype)})


def test_something_of_every_group_is_kept() -> None:
    keep = {"first[1]": np.zeros(6, bool), "second[1]": np.zeros(5, bool)}
    with pytest.raises(ValueError, match=r"\['first\[1\]', 'second\[1\]'\] keep none"):
        shrink(GRAPH, keep)


def test_an_output_that_is_no_array_is_named() -> None:
    small = shrink(GRAPH, KEEP)
    function = small.function(lambda variables, rows: {"loss": 0.0, "name": "relu"})
    with pytest.raises(TypeError, match="every output must be an array, but found name: str"):
        function(small.variables(VARIABLES), ROWS)


def test_unshrunk_variables_are_refused() -> None:
    small = shrink(GRAPH, KEEP)
    with pytest.raises(ValueError, match=r"first: \(4, 6\), expected \(4, 3\); second: \(6, 5\)"):
        small.function(apply)(VARIABLES, ROWS)
    with pytest.raises(
        ValueError, match=r"variables to shrink.*first: \(4, 3\), expected \(4, 6\)"
    ):
        small.variables(small.variables(VARIABLES))
    with pytest.raises(ValueError, match="first: missing"):
        small.variables({"second": VARIABLES["second"]})


def test_a_function_that_ties_otherwise_is_refused_by_leaf() -> None:
    def residual(variables: Any, rows: jax.Array) -> jax.Array:
        hidden = jnp.tanh(rows @ variables["first"])
        return (hidden + variables["skip"]) @ variables["second"]

    variables = {**VARIABLES, "skip": jnp.ones(6)}
    small = shrink(trace(apply, variables, ROWS), KEEP)
    message = r"connects .*\[.\] index 3 \((kept|removed)\) with .* \((kept|removed)\)"
    with pytest.raises(ValueError, match=message) as error:
        small.function(residual)(small.variables(variables), ROWS)
    assert "skip[0] index 3 (kept)" in str(error.value)


def test_a_function_that_cannot_shrink_is_refused_with_its_line() -> None:
    def summed(variables: Any, rows: jax.Array) -> jax.Array:
        return jnp.sort(rows @ variables["first"], axis=1) @ variables["second"]

    small = shrink(GRAPH, KEEP)
    message = (
        r"first\[1\] index 3.* cannot shrink at .*test_errors.py:\d+ \(.*summed\): it is sorted"
    )
    with pytest.raises(ValueError, match=message):
        small.function(summed)(small.variables(VARIABLES), ROWS)


def test_gates_on_variables_need_a_kernel_used_once() -> None:
    def twice(variables: Any, rows: jax.Array) -> jax.Array:
        hidden = jnp.tanh(rows @ variables["first"])
        return (hidden @ variables["second"]) + jnp.sin(hidden) @ variables["second"]

    def computed(variables: Any, rows: jax.Array) -> jax.Array:
        return jnp.tanh(rows @ variables["first"]) @ jnp.exp(variables["second"])

    variables = {"first": VARIABLES["first"], "second": VARIABLES["second"]}
    gates = {"first[1]": jnp.ones(6)}
    with pytest.raises(ValueError, match="by second, used twice.*use gated"):
        gate(trace(twice, variables, ROWS), variables, gates)
    with pytest.raises(ValueError, match="without a leaf kernel.*use gated"):
        gate(trace(computed, variables, ROWS), variables, gates)


def test_gates_of_examples_agree_on_their_number() -> None:
    gates = {"first[1]": jnp.ones((3, 6)), "second[1]": jnp.ones((2, 5))}
    with pytest.raises(ValueError, match="must agree on their number"):
        gated(GRAPH, apply)(VARIABLES, gates, ROWS)


def test_an_unknown_kind_of_spec_is_refused() -> None:
    with pytest.raises(ValueError, match="'bend'"):
        from_spec({"kind": "bend"})
