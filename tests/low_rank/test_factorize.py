"""Laws of `factorize`, on every kind of site: identity, monotone error, counted costs, records."""

from __future__ import annotations

import functools
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcompress.artifact import from_spec, save
from jaxcompress.compression import chain
from jaxcompress.graph import trace
from jaxcompress.low_rank import factorize, multiplied_out, refine, truncations
from jaxcompress.low_rank.statistics import input_covariances, input_roots
from jaxcompress.paths import flatten_with_paths
from jaxcompress.prune import shrink
from tests.toys.record import Toy, draw, rows

IMAGES, TOKENS = rows(3, 8, 8, 6), rows(2, 5, 6)
NHWC = ("NHWC", "HWIO", "NHWC")


def convolution(shape, numbers=NHWC, images=IMAGES, padding="SAME", **options):
    def apply(variables, x):
        return jax.lax.conv_general_dilated(
            jnp.tanh(x), variables["w"], padding=padding, dimension_numbers=numbers, **options
        )

    return Toy(apply, draw(0, {"w": shape}), (images,), {})


def function(apply, shapes, *inputs, tolerance=1e-5):
    return Toy(apply, draw(1, shapes), inputs, {}, tolerance=tolerance)


def attention(variables, x):
    query, key, value = jnp.einsum("btd,dnhk->nbthk", x, variables["qkv"])
    weights = jax.nn.softmax(jnp.einsum("bthk,bshk->bhts", query, key))
    return jnp.einsum("bhts,bshk,hkd->btd", weights, value, variables["out"])


def scanned(variables, x):
    step = lambda hidden, kernel: (jnp.tanh(hidden @ kernel), None)  # noqa: E731
    return jax.lax.scan(step, x, variables["stack"])[0]


def reshaped(variables, x):
    return x @ variables["w"].reshape(6, 8) + (x @ variables["v"].T.astype(jnp.float32)) * 2


def shared(variables, x):
    return jnp.tanh(x @ variables["w"]) @ variables["w"]


def rematerialised(variables, x):
    return jax.checkpoint(lambda w: jax.nn.relu(x @ w) @ variables["v"])(variables["w"])


TOYS = {
    "strided": lambda: convolution((3, 3, 6, 8), window_strides=(2, 2)),
    "unequal": lambda: convolution((5, 3, 6, 4), window_strides=(1, 2), padding=((2, 2), (0, 1))),
    "dilated": lambda: convolution((3, 3, 6, 8), window_strides=(1, 1), rhs_dilation=(2, 2)),
    "transposed": lambda: convolution(
        (3, 3, 6, 8), window_strides=(1, 1), lhs_dilation=(2, 2), padding=((1, 2), (2, 1))
    ),
    "grouped": lambda: convolution((3, 3, 3, 8), window_strides=(2, 1), feature_group_count=2),
    "pointwise": lambda: convolution((1, 1, 6, 8), window_strides=(2, 2)),
    "channels_first": lambda: convolution(
        (8, 6, 3, 3), ("NCHW", "OIHW", "NCHW"), rows(2, 6, 8, 8), window_strides=(2, 2)
    ),
    "one_dimensional": lambda: convolution(
        (3, 6, 8), ("NWC", "WIO", "NWC"), TOKENS, window_strides=(1,)
    ),
    "attention": lambda: function(attention, {"qkv": (6, 3, 2, 4), "out": (2, 4, 6)}, TOKENS),
    "left": lambda: function(
        lambda variables, x: (variables["w"] @ jnp.tanh(x.T)).T, {"w": (4, 6)}, rows(5, 6)
    ),
    "scanned": lambda: function(scanned, {"stack": (3, 6, 6)}, rows(5, 6)),
    "reshaped": lambda: function(reshaped, {"w": (2, 3, 8), "v": (8, 6)}, rows(5, 6)),
    "shared": lambda: function(shared, {"w": (6, 6)}, rows(5, 6)),
    "rematerialised": lambda: function(rematerialised, {"w": (6, 8), "v": (8, 4)}, rows(5, 6)),
}


@functools.cache
def traced(name):
    toy = TOYS[name]()
    return toy, trace(toy.apply, toy.variables, *toy.inputs)


def every_form(graph):
    """One choice of forms per kind of form that any site offers."""
    names = {form.name for site in graph.sites.values() for form in site.forms}
    for name in sorted(names):
        yield {
            path: name if any(form.name == name for form in site.forms) else site.forms[0].name
            for path, site in graph.sites.items()
        }


def ranks_of(graph, forms, share):
    return {
        path: max(1, round(share * graph.sites[path].form(form).full))
        for path, form in forms.items()
    }


def distance(left, right):
    return float(jnp.abs(left - right).max() / jnp.abs(right).max())


@pytest.mark.parametrize("name", TOYS)
def test_full_rank_is_the_identity_and_no_rank_too(name):
    toy, graph = traced(name)
    expected = toy.apply(toy.variables, *toy.inputs)
    assert graph.sites
    for forms in every_form(graph):
        lowrank = factorize(graph, ranks_of(graph, forms, 1.0), forms)
        outputs = lowrank.function(toy.apply)(lowrank.variables(toy.variables), *toy.inputs)
        assert outputs.shape == expected.shape and outputs.dtype == expected.dtype
        assert distance(outputs, expected) < toy.tolerance
    alone = factorize(graph, dict.fromkeys(graph.sites))
    assert alone.function(toy.apply) is toy.apply
    assert jax.tree.structure(alone.variables(toy.variables)) == jax.tree.structure(toy.variables)


@pytest.mark.parametrize("name", TOYS)
def test_counted_costs_are_those_of_the_result(name):
    toy, graph = traced(name)
    for forms in every_form(graph):
        ranks = ranks_of(graph, forms, 0.5)
        lowrank = factorize(graph, ranks, forms)
        small = trace(lowrank.function(toy.apply), lowrank.variables(toy.variables), *toy.inputs)
        sites = [(graph.sites[path], form, ranks[path]) for path, form in forms.items()]
        flops = sum(rank * site.form(form).flops - site.flops for site, form, rank in sites)
        params = sum(rank * site.form(form).params - site.params for site, form, rank in sites)
        assert small.flops == pytest.approx(graph.flops + flops)
        assert small.params == graph.params + params


@pytest.mark.parametrize("name", TOYS)
def test_kernels_err_less_at_every_higher_rank(name):
    toy, graph = traced(name)
    leaves, _ = flatten_with_paths(toy.variables)
    for forms in every_form(graph):
        at = truncations(graph, toy.variables, forms)
        for path, form in forms.items():
            full = graph.sites[path].form(form).full
            errors = [
                float(jnp.linalg.norm(flatten_with_paths(at({path: r}))[0][path] - leaves[path]))
                for r in range(1, full + 1)
            ]
            assert (np.diff(errors) < 1e-5).all()
            assert errors[-1] < 1e-4 * float(jnp.linalg.norm(leaves[path]))


@pytest.mark.parametrize("name", TOYS)
def test_truncated_kernels_give_the_factorized_function(name):
    toy, graph = traced(name)
    for forms in every_form(graph):
        ranks = ranks_of(graph, forms, 0.4)
        lowrank = factorize(graph, ranks, forms)
        expected = lowrank.function(toy.apply)(lowrank.variables(toy.variables), *toy.inputs)
        truncated = truncations(graph, toy.variables, forms)(ranks)
        assert distance(toy.apply(truncated, *toy.inputs), expected) < toy.tolerance


@pytest.mark.parametrize("name", TOYS)
def test_spec_survives_json_and_jit_changes_nothing(name):
    toy, graph = traced(name)
    forms = next(every_form(graph))
    lowrank = factorize(graph, ranks_of(graph, forms, 0.5), forms)
    again = from_spec(json.loads(json.dumps(dict(lowrank.spec))))
    assert dict(again.spec) == dict(lowrank.spec)
    small = lowrank.variables(toy.variables)
    jax.tree.map(np.testing.assert_array_equal, again.variables(toy.variables), small)
    f, g = lowrank.function(toy.apply), jax.jit(again.function(toy.apply))
    assert distance(g(small, *toy.inputs), f(small, *toy.inputs)) < toy.tolerance


@pytest.mark.parametrize("name", TOYS)
def test_gradients_reach_both_factors(name):
    toy, graph = traced(name)
    lowrank = factorize(graph, ranks_of(graph, next(every_form(graph)), 0.5))
    small = lowrank.variables(toy.variables)
    f = lowrank.function(toy.apply)
    gradients = jax.grad(lambda tree: (f(tree, *toy.inputs) ** 2).mean())(small)
    assert jax.tree.structure(gradients) == jax.tree.structure(small)
    assert all(jnp.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradients))


@pytest.mark.parametrize("name", [name for name in TOYS if name != "transposed"])
def test_roots_lower_the_error_on_their_data(name):
    toy, graph = traced(name)
    (inputs,) = toy.inputs
    skewed = (
        inputs * jnp.geomspace(1, 0.01, 6)[:, None, None]
        if name == "channels_first"
        else (inputs * jnp.geomspace(1, 0.01, 6))
    )
    for forms in every_form(graph):
        if len(forms) > 1:
            continue
        roots = input_roots(graph, toy.apply, toy.variables, [skewed], forms, ridge=1e-6)
        ranks = ranks_of(graph, forms, 0.4)
        expected = toy.apply(toy.variables, skewed)
        errors = [
            float(
                (
                    (
                        toy.apply(truncations(graph, toy.variables, forms, chosen)(ranks), skewed)
                        - expected
                    )
                    ** 2
                ).sum()
            )
            for chosen in (None, roots)
        ]
        assert errors[1] < errors[0]


def block():
    """Two convolutions with a nonlinearity: one group to shrink, two sites."""

    def apply(variables, x):
        options = {"padding": "SAME", "dimension_numbers": NHWC}
        hidden = jax.lax.conv_general_dilated(x, variables["net"]["a"], (1, 1), **options)
        hidden = jax.nn.relu(hidden + variables["net"]["bias"])
        return jax.lax.conv_general_dilated(hidden, variables["net"]["b"], (2, 2), **options)

    shapes = {"a": (3, 3, 6, 8), "b": (3, 3, 8, 4), "bias": (8,)}
    variables = {"net": draw(2, shapes)}
    return apply, variables, trace(apply, variables, IMAGES)


def test_works_after_shrinking_and_before():
    apply, variables, graph = block()
    keep = {"net/a[3]": np.arange(8) < 5}
    prune = shrink(graph, keep)
    small, small_apply = prune.variables(variables), prune.function(apply)
    middle = trace(small_apply, small, IMAGES)
    lowrank = factorize(middle, {"net/a": 15, "net/b": 12})
    both = chain(prune, lowrank)
    outputs = both.function(apply)(both.variables(variables), IMAGES)
    assert distance(outputs, small_apply(small, IMAGES)) < 1e-5

    first = factorize(graph, {"net/a": 18, "net/b": 12})
    wide, wide_apply = first.variables(variables), first.function(apply)
    after = trace(wide_apply, wide, IMAGES)
    assert "net/a/first[3]" in after.groups
    cut = {"net/a/first[3]": np.arange(18) < 4}
    second = shrink(after, cut)
    fewer = factorize(graph, {"net/a": 4, "net/b": 12})
    expected = fewer.function(apply)(fewer.variables(variables), IMAGES)
    outputs = second.function(wide_apply)(second.variables(wide), IMAGES)
    assert distance(outputs, expected) < 1e-5


@pytest.mark.parametrize("flat", [False, True], ids=["nested", "flat"])
def test_optimizer_state_fits_the_factors(flat):
    apply, variables, graph = block()
    lowrank = factorize(graph, {"net/a": 3})
    small = lowrank.variables(variables)
    view = (lambda tree: flatten_with_paths(tree)[0]) if flat else (lambda tree: tree)
    tx = optax.adam(1e-3)
    _, state = tx.update(view(variables), tx.init(view(variables)))
    small_state = lowrank.optimizer_state(tx, state)
    expected = jax.eval_shape(tx.init, view(small))
    assert jax.tree.structure(small_state) == jax.tree.structure(expected)
    shapes = [leaf.shape for leaf in jax.tree.leaves(small_state)]
    assert shapes == [leaf.shape for leaf in jax.tree.leaves(expected)]
    moments = flatten_with_paths(small_state[0].mu)[0]
    np.testing.assert_allclose(moments["net/b"], 0.1 * variables["net"]["b"], rtol=1e-6)
    assert not np.asarray(moments["net/a/first"]).any()
    tx.update(view(small), small_state)


FRESH = """
import sys, numpy
from jaxcompress.artifact import load
from tests.low_rank.test_factorize import IMAGES, block
function, variables = load(sys.argv[1], block()[0])
numpy.save(sys.argv[2], numpy.asarray(function(variables, IMAGES)))
"""


def test_save_then_load_in_a_fresh_process(tmp_path):
    apply, variables, graph = block()
    prune = shrink(graph, {"net/a[3]": np.arange(8) < 5})
    small = prune.variables(variables)
    middle = trace(prune.function(apply), small, IMAGES)
    both = chain(prune, factorize(middle, {"net/a": 3, "net/b": 4}))
    factored = both.variables(variables)
    save(tmp_path / "network", both, factored)
    output = tmp_path / "output.npy"
    subprocess.run([sys.executable, "-c", FRESH, tmp_path / "network", output], check=True)
    np.testing.assert_array_equal(np.load(output), both.function(apply)(factored, IMAGES))
    with pytest.raises(ValueError, match="net/b"):
        wrong = {"net": {**factored["net"], "b": factored["net"]["b"]["first"]}}
        save(tmp_path / "wrong", both, wrong)


def test_refine_lowers_the_error_of_spatial_factors():
    apply, variables, graph = block()
    lowrank = factorize(graph, {"net/a": 4, "net/b": 4})
    small = lowrank.variables(variables)
    full = dict.fromkeys(graph.sites, "channel")
    covariances = input_covariances(graph, apply, variables, [IMAGES], full)
    refined = refine(lowrank, variables, small, covariances)
    merged = multiplied_out(lowrank, refined)
    assert distance(apply(merged, IMAGES), lowrank.function(apply)(refined, IMAGES)) < 1e-5
    assert jax.tree.structure(refined) == jax.tree.structure(small)
    expected = apply(variables, IMAGES)
    before, after = (
        float(((lowrank.function(apply)(tree, IMAGES) - expected) ** 2).mean())
        for tree in (small, refined)
    )
    assert after < before


def test_covariances_need_data_and_a_known_number_of_runs():
    def apply(variables, x):
        return jax.lax.while_loop(lambda y: y.max() > 1, lambda y: jnp.tanh(y @ variables["w"]), x)

    variables, x = draw(3, {"w": (6, 6)}), rows(4, 6)
    graph = trace(apply, variables, x)
    with pytest.raises(ValueError, match="while holds one"):
        input_roots(graph, apply, variables, [x], {"w": "dense"})
    with pytest.raises(ValueError, match="no batch"):
        input_roots(graph, apply, variables, [], {"w": "dense"})


def test_errors_name_all_offenders():
    apply, variables, graph = block()
    with pytest.raises(ValueError, match=r"nowhere.*net/a"):
        factorize(graph, {"nowhere": 2})
    with pytest.raises(ValueError, match=r"net/a: rank 19 not in 1..18; net/b: rank 0 not in"):
        factorize(graph, {"net/a": 19, "net/b": 0})
    with pytest.raises(ValueError, match="net/a: no form 'dense'"):
        factorize(graph, {"net/a": 2}, {"net/a": "dense"})
    lowrank = factorize(graph, {"net/a": 2})
    with pytest.raises(ValueError, match="net/a.*missing"):
        lowrank.variables({"net": {"b": variables["net"]["b"]}})
    with pytest.raises(ValueError, match="pass the result of `variables`"):
        lowrank.function(apply)(variables, IMAGES)

    broken = {"net": {**variables["net"], "a": variables["net"]["a"].at[0, 0, 0, 0].set(jnp.nan)}}
    with pytest.raises(ValueError, match="finite to be factorized, but net/a hold"):
        lowrank.variables(broken)
    with pytest.raises(ValueError, match="finite to be factorized, but net/a hold"):
        truncations(graph, broken, {"net/a": "spatial", "net/b": "spatial"})

    def twice(tree, x):
        return x @ tree["w"] + tree["w"].sum()

    other = trace(twice, {"w": jnp.ones((6, 6))}, rows(2, 6))
    with pytest.raises(ValueError, match="w: read by 1 other"):
        factorize(other, {"w": 2})
