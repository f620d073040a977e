"""Output covariances: the error of the outputs that they predict is the one that is measured."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress.annotations import Array, Function, PyTree
from jaxcompress.graph import trace
from jaxcompress.low_rank import factorize, multiplied_out, ranks, refine, truncations
from jaxcompress.low_rank.statistics import (
    input_covariances,
    input_roots,
    output_covariances,
    output_roots,
    output_sensitivities,
)
from tests.low_rank.sites import NHWC, TOYS, every_form
from tests.toys.record import draw, rows

KEY = jax.random.key(0)


def weighed(apply: Function, columns: int) -> Function:
    """The function, its last axis scaled very unequally: not all its errors matter alike."""
    scales = jnp.geomspace(1, 0.02, columns)
    return lambda variables, x: apply(variables, x) * scales


LINEAR = ("strided", "unequal", "dilated", "grouped", "pointwise", "one_dimensional")


@pytest.mark.parametrize("name", [*LINEAR, "attention", "scanned", "reshaped", "shared"])
def test_output_roots_lower_the_error_of_the_outputs(name: str) -> None:
    toy = TOYS[name]()
    (x,) = toy.inputs
    apply = weighed(toy.apply, toy.apply(toy.variables, x).shape[-1])
    graph, expected = trace(apply, toy.variables, x), apply(toy.variables, x)
    batches = [x] * 16
    covariances = output_covariances(
        graph, apply, toy.variables, batches, list(graph.sites), key=KEY
    )
    for forms in every_form(graph):
        weights = output_roots(graph, covariances, forms, ridge=1e-6)
        ranks_ = {p: max(1, round(0.4 * graph.sites[p].form(f).full)) for p, f in forms.items()}
        errors = [
            float(
                (
                    (
                        apply(truncations(graph, toy.variables, forms, None, chosen)(ranks_), x)
                        - expected
                    )
                    ** 2
                ).sum()
            )
            for chosen in (None, weights)
        ]
        assert errors[1] < errors[0]


def test_spectra_with_both_roots_are_errors_of_the_outputs() -> None:
    """A convolution to one position, then a matrix: every assumption holds."""

    def apply(variables: PyTree, x: Array) -> Array:
        y = jax.lax.conv_general_dilated(x, variables["w"], (1, 1), "VALID", dimension_numbers=NHWC)
        return y[:, 0, 0] @ variables["last"]

    variables, x = draw(0, {"w": (3, 3, 4, 6), "last": (6, 5)}), rows(256, 3, 3, 4)
    graph, forms = trace(apply, variables, x), {"w": "channel"}
    covariances = output_covariances(graph, apply, variables, [x] * 200, ["w"], key=KEY)
    last = np.asarray(variables["last"])
    np.testing.assert_allclose(covariances["w"][0], last @ last.T, rtol=0.2, atol=0.2)
    assert output_sensitivities(covariances)["w"] == pytest.approx((last**2).sum() / 6, rel=0.1)

    exact = output_roots(graph, {"w": (last @ last.T)[None]}, forms, ridge=1e-6)
    roots = input_roots(graph, apply, variables, [x], forms, ridge=1e-6)
    (values,) = ranks.spectra(graph, variables, forms, roots, exact).values()
    at = truncations(graph, variables, forms, roots, exact)
    for rank in (1, 3):
        error = ((apply(at({"w": rank}), x) - apply(variables, x)) ** 2).sum(-1).mean()
        assert float(error) == pytest.approx((values[rank:] ** 2).sum(), rel=1e-2)


def test_refine_lowers_the_weighed_error() -> None:
    def apply(variables: PyTree, x: Array) -> Array:
        return jax.lax.conv_general_dilated(
            x, variables["w"], (1, 1), "SAME", dimension_numbers=NHWC
        )

    variables, x = draw(2, {"w": (3, 3, 4, 6)}), rows(8, 6, 6, 4)
    scales = np.geomspace(1, 0.01, 6)
    graph, forms = trace(apply, variables, x), {"w": "spatial"}
    outputs = {"w": np.diag(scales**2)[None]}
    weights = output_roots(graph, outputs, forms, ridge=0.0)
    lowrank = factorize(graph, {"w": 3}, forms, None, weights)
    small = lowrank.variables(variables)
    patches = input_covariances(graph, apply, variables, [x], {"w": "channel"})

    def error(factors: PyTree) -> float:
        whole = multiplied_out(lowrank, factors)
        return float((((apply(whole, x) - apply(variables, x)) * scales) ** 2).sum())

    plain = refine(lowrank, variables, small, patches, rounds=4)
    refined = refine(lowrank, variables, small, patches, outputs, rounds=4)
    assert error(refined) < error(small) and error(refined) < error(plain)


def test_centred_covariances_leave_the_mean_out() -> None:
    variables, x = draw(3, {"w": (4, 6)}), 2 + rows(64, 4)
    graph = trace(lambda v, inputs: inputs @ v["w"], variables, x)
    covariances = input_covariances(
        graph, lambda v, inputs: inputs @ v["w"], variables, [x[:32], x[32:]], {"w": "dense"}, True
    )
    np.testing.assert_allclose(covariances["w"][0], np.cov(x.T, ddof=0), atol=1e-4)


def test_gradients_need_data_and_sites() -> None:
    variables, x = draw(3, {"w": (4, 6)}), rows(8, 4)
    apply = lambda v, inputs: inputs @ v["w"]  # noqa: E731
    graph = trace(apply, variables, x)
    with pytest.raises(ValueError, match="no batch"):
        output_covariances(graph, apply, variables, [], ["w"], key=KEY)
    with pytest.raises(ValueError, match="nowhere"):
        output_covariances(graph, apply, variables, [x], ["nowhere"], key=KEY)


def test_a_scanned_kernel_that_is_used_twice_is_refused() -> None:
    variables, x = draw(3, {"w": (2, 4, 4)}), rows(8, 4)

    def apply(v: PyTree, inputs: Array) -> Array:
        step = lambda y, w: (jnp.tanh(jnp.tanh(y @ w) @ w), None)  # noqa: E731
        return jax.lax.scan(step, inputs, v["w"])[0]

    graph = trace(apply, variables, x)
    with pytest.raises(ValueError, match="w is used 2 times"):
        output_covariances(graph, apply, variables, [x], ["w"], key=KEY)
    with pytest.raises(ValueError, match="w is used 2 times"):
        input_covariances(graph, apply, variables, [x], {"w": "dense"})
