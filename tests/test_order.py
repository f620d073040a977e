"""The law of names: renaming leaves, or giving dicts in another order, changes no decision."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxcompress import Budget, Graph, factorize, select, shrink, sparse, trace
from jaxcompress.low_rank import ranks, truncations
from jaxcompress.low_rank.statistics import input_roots, output_covariances
from jaxcompress.paths import flatten_with_paths
from jaxcompress.prune import importance
from jaxcompress.prune.learned.hard_masks import straight_through
from jaxcompress.prune.learned.learner import learn
from tests.laws import close
from tests.toys.record import initial, rows

COUNT = 12
KEY = jax.random.key(0)


class Convolutions(nn.Module):
    """Twelve convolutions that Linen names: Conv_10 is sorted before Conv_2."""

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        for _ in range(COUNT):
            images = nn.tanh(nn.Conv(8, (3, 3))(images))
        return nn.Dense(3, name="head")(images.mean((1, 2)))


class Attention(nn.Module):
    """Two blocks of attention and a feed-forward part, six layers each, that Linen names."""

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        for _ in range(2):
            query, key, value = (nn.Dense(8)(tokens) for _ in range(3))
            weights = jax.nn.softmax(query @ key.swapaxes(-1, -2))
            tokens = tokens + nn.Dense(8)(weights @ value)
            tokens = tokens + nn.Dense(8)(nn.tanh(nn.Dense(8)(tokens)))
        return nn.Dense(3, name="head")(tokens.mean(1))


class Case(NamedTuple):
    """One network under one set of names; `forms` says what may be factorized."""

    apply: Callable[..., Any]
    variables: Any
    inputs: jax.Array
    graph: Graph
    forms: dict[str, str]

    def loss(self, variables: Any, batch: jax.Array) -> jax.Array:
        """Return one number that depends on every output."""
        return jnp.square(self.apply(variables, batch) - 0.3).mean()


class Pair(NamedTuple):
    """A network, the same with other names, and the old path of every new one."""

    old: Case
    new: Case
    paths: dict[str, str]

    def translated(self, by_path: Mapping[str, Any]) -> dict[str, Any]:
        """Return what belongs to new paths under the old ones."""
        return {self.paths[path]: value for path, value in by_path.items()}

    def groups(self) -> dict[str, str]:
        """Return the old name of every new group: they have the same members."""
        old = {_members(group, lambda path: path): n for n, group in self.old.graph.groups.items()}
        named = self.new.graph.groups.items()
        return {n: old[_members(group, self.paths.__getitem__)] for n, group in named}


def _members(group: Any, old: Callable[[str], str]) -> frozenset[Any]:
    parts = [(old(m.path), m.axis, m.role, m.indices.tobytes()) for m in group.members]
    return frozenset(parts)


@functools.cache
def pair_of(name: str) -> Pair:
    """Build a network twice, under names that sort otherwise: w3, w8, w1, w6, ... in turn."""
    module, inputs, layer, form = {
        "convolutions": (Convolutions(), rows(4, 8, 8, 3), "Conv", "spatial"),
        "attention": (Attention(), rows(4, 5, 8), "Dense", "dense"),
    }[name]
    names = {f"{layer}_{i}": f"w{(5 * i + 3) % COUNT}" for i in range(COUNT)} | {"head": "last"}
    variables = _with_steep_spectra(initial(module, inputs), layer)
    back = {new: old for old, new in names.items()}
    renamed = {"params": {names[old]: own for old, own in variables["params"].items()}}

    def apply(own: Any, images: jax.Array) -> jax.Array:
        layers = {back[new]: leaf for new, leaf in own["params"].items()}
        return module.apply({"params": layers}, images)

    kernels = [f"{layer}_{i}" for i in range(COUNT) if layer == "Dense" or i]
    forms = {f"params/{own}/kernel": form for own in kernels}
    new_forms = {f"params/{names[own]}/kernel": form for own in kernels}
    old_case = Case(module.apply, variables, inputs, trace(module.apply, variables, inputs), forms)
    new_case = Case(apply, renamed, inputs, trace(apply, renamed, inputs), new_forms)
    paths = {
        f"params/{n}/{leaf}": f"params/{o}/{leaf}" for o, n in names.items() for leaf in LEAVES
    }
    return Pair(old_case, new_case, paths)


LEAVES = ("kernel", "bias")


def _with_steep_spectra(variables: Any, layer: str) -> Any:
    """Give every kernel a spectrum of its own, so that no two sites want the same rank."""
    layers = dict(variables["params"])
    for i in range(COUNT):
        kernel = np.asarray(layers[f"{layer}_{i}"]["kernel"])
        wide = kernel if layer == "Dense" else kernel.transpose(0, 2, 1, 3)
        left, values, right = np.linalg.svd(wide.reshape(-1, 8 if layer == "Dense" else 24), False)
        falling = values[0] * np.geomspace(1.0, 10.0 ** -(((7 * i) % COUNT) / 4), len(values))
        changed = ((left * falling) @ right).reshape(wide.shape)
        changed = changed if layer == "Dense" else changed.transpose(0, 2, 1, 3)
        layers[f"{layer}_{i}"] = {**layers[f"{layer}_{i}"], "kernel": jnp.asarray(changed)}
    return {"params": layers}


def reordered(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Give a dict in the opposite order."""
    return dict(reversed(list(tree.items())))


every_network = pytest.mark.parametrize("name", ["convolutions", "attention"])


@every_network
def test_groups_and_costs_have_no_names_in_them(name: str) -> None:
    pair = pair_of(name)
    groups = pair.groups()
    assert len(groups) == len(pair.old.graph.groups) > 3
    assert list(groups.values()) != list(pair.old.graph.groups)
    assert pair.new.graph.flops == pair.old.graph.flops
    assert pair.translated(pair.new.graph.uses) == pair.old.graph.uses


def _sites(case: Case, forms: dict[str, str]) -> ranks.Sites:
    return ranks.sites_of(case.graph, case.variables, forms)


def _at(case: Case, forms: dict[str, str], value: Callable[[Any], Any]) -> ranks.Evaluate:
    at, jitted = truncations(case.graph, case.variables, forms), jax.jit(value)
    return lambda chosen: float(jitted(at(chosen)))


def _error(case: Case) -> Callable[[Any], jax.Array]:
    whole = case.apply(case.variables, case.inputs)
    return lambda variables: jnp.square(case.apply(variables, case.inputs) - whole).mean()


def _measured(case: Case, forms: dict[str, str]) -> ranks.Ranks:
    error, other = _error(case), reordered(forms)
    evaluate = _at(case, other, lambda variables: jnp.exp(-error(variables)))
    metric = ranks.measure(_sites(case, other), evaluate)
    return ranks.enc_map(_sites(case, forms), BUDGET, metric=metric)


def _sensitivity(case: Case, forms: dict[str, str]) -> ranks.Ranks:
    given = case.graph, case.apply, case.variables, [case.inputs]
    metric = ranks.sensitivity(_sites(case, reordered(forms)), *given, key=KEY)
    return ranks.optimum(_sites(case, forms), BUDGET, metric=metric)


def _enc_inf(case: Case, forms: dict[str, str]) -> ranks.Ranks:
    error = _error(case)
    evaluate = _at(case, forms, lambda variables: -error(variables))
    return ranks.enc_inf(_sites(case, forms), BUDGET, evaluate=evaluate, count=4)


def _lossless(case: Case, forms: dict[str, str]) -> ranks.Ranks:
    sites = _sites(case, forms)
    enough = lambda chosen: float(sites.array(chosen).sum() >= 0.7 * sites.neutral.sum())  # noqa: E731
    smallest = ranks.lossless(sites, ranks.enc_map, enough, baseline=1.0, step=0.05).ranks
    assert smallest is not None
    return smallest


def _data_aware(case: Case, forms: dict[str, str]) -> ranks.Ranks:
    given = case.graph, case.apply, case.variables, [case.inputs]
    roots = reordered(input_roots(*given, reordered(forms)))
    return ranks.energy_threshold(ranks.sites_of(case.graph, case.variables, forms, roots), BUDGET)


def _plain(search: ranks.Search, case: Case, forms: dict[str, str]) -> ranks.Ranks:
    return search(_sites(case, forms), BUDGET)


BUDGET = Budget(flops=0.7)
PLAIN = ("enc_map", "enc_model", "optimum", "uniform", "energy_threshold", "evbmf_scaled")
SEARCHES: dict[str, Callable[[Case, dict[str, str]], ranks.Ranks]] = {
    **{name: functools.partial(_plain, getattr(ranks, name)) for name in PLAIN},
    "measured": _measured,
    "sensitivity": _sensitivity,
    "enc_inf": _enc_inf,
    "lossless": _lossless,
    "data_aware": _data_aware,
}


@every_network
@pytest.mark.parametrize("search", SEARCHES)
def test_ranks(name: str, search: str) -> None:
    old, new, _ = pair = pair_of(name)
    expected = SEARCHES[search](old, old.forms)
    assert search == "uniform" or len(set(expected.values())) > 1
    assert SEARCHES[search](old, reordered(old.forms)) == expected
    assert pair.translated(SEARCHES[search](new, new.forms)) == expected
    assert pair.translated(SEARCHES[search](new, dict(sorted(new.forms.items())))) == expected


@every_network
def test_sites_have_the_spectrum_of_each(name: str) -> None:
    case = pair_of(name).new
    sites = _sites(case, case.forms)
    for site, values in zip(sites.names, sites.spectra, strict=True):
        alone = ranks.spectra(case.graph, case.variables, {site: case.forms[site]})[site]
        np.testing.assert_allclose(values, alone, rtol=1e-6, err_msg=site)


def test_a_metric_of_other_sites_is_refused() -> None:
    case = pair_of("convolutions").old
    some = dict(list(case.forms.items())[:3])
    metric = ranks.energy_metric(_sites(case, some))
    with pytest.raises(ValueError, match="does not know params/Conv_4/kernel, .*same graph and"):
        ranks.enc_map(_sites(case, case.forms), BUDGET, metric=metric)


def _scores_of(case: Case, method: str) -> dict[str, Any]:
    graph, variables, batches = case.graph, case.variables, case.inputs[None].repeat(2, 0)
    if method == "magnitude":
        return importance.magnitude(graph, variables, coupled=True)
    if method == "taylor":
        return importance.taylor(graph, case.loss, variables, batches)
    if method == "fisher":
        return importance.fisher(graph, case.loss, variables, batches, KEY, keep=(1.0, 1.0))
    return importance.meta(graph, case.loss, variables, batches[:, None], batches)


@every_network
@pytest.mark.parametrize("method", ["magnitude", "taylor", "fisher", "meta"])
def test_scores(name: str, method: str) -> None:
    old, new, _ = pair = pair_of(name)
    expected = _scores_of(old, method)
    found = {pair.groups()[group]: own for group, own in _scores_of(new, method).items()}
    close(found, expected, 1e-4)


def _random_scores(case: Case) -> dict[str, jax.Array]:
    generator = np.random.default_rng(0)
    groups = case.graph.groups.items()
    return {name: jnp.asarray(generator.random(group.width)) for name, group in groups}


@every_network
def test_selected_channels_and_what_is_left_of_the_variables(name: str) -> None:
    old, new, _ = pair = pair_of(name)
    scores = _random_scores(old)
    renamed = {group: scores[own] for group, own in pair.groups().items()}
    expected = select(old.graph, scores, Budget(flops=0.5))
    for given in (renamed, reordered(renamed), dict(sorted(renamed.items()))):
        keep = select(new.graph, given, Budget(flops=0.5))
        assert {pair.groups()[group]: mask.tolist() for group, mask in keep.items()} == {
            group: mask.tolist() for group, mask in expected.items()
        }
    left = flatten_with_paths(shrink(new.graph, reordered(keep)).variables(new.variables))[0]
    small = flatten_with_paths(shrink(old.graph, expected).variables(old.variables))[0]
    close(dict(sorted(pair.translated(left).items())), small, 0.0)


@every_network
def test_factors(name: str) -> None:
    old, new, _ = pair = pair_of(name)
    chosen = {path: 1 + i % 3 for i, path in enumerate(old.forms)}
    renamed = reordered({path: chosen[pair.paths[path]] for path in new.forms})
    lowrank = factorize(new.graph, renamed, reordered(new.forms))
    small = factorize(old.graph, chosen, old.forms).variables(old.variables)
    found = flatten_with_paths(lowrank.variables(new.variables), whole=renamed)[0]
    expected = flatten_with_paths(small, whole=chosen)[0]
    close(dict(sorted(pair.translated(found).items())), expected, 1e-5)


def test_output_covariances() -> None:
    old, new, _ = pair = pair_of("attention")
    given = [(c.graph, c.apply, c.variables, [c.inputs], reordered(c.forms), KEY) for c in pair[:2]]
    expected, found = (output_covariances(*own) for own in given)
    close(dict(sorted(pair.translated(found).items())), expected, 1e-5)


@every_network
def test_straight_through_gates(name: str) -> None:
    case = pair_of(name).old
    scores, budget = _random_scores(case), BUDGET.of(case.graph)
    weights = {group: jnp.cos(1.0 + jnp.arange(len(own))) for group, own in scores.items()}

    def value(own: dict[str, jax.Array]) -> jax.Array:
        gates = straight_through(case.graph.cost, own, budget)
        return sum((weights[group] @ gate for group, gate in gates.items()), jnp.zeros(()))

    # Straight from `jax.grad` keys are sorted; inside an unsorted dict is seen as it is.
    found, slopes = jax.value_and_grad(lambda own: value(reordered(own)))(scores)
    expected, right = jax.value_and_grad(value)(dict(sorted(scores.items())))
    assert float(found) == pytest.approx(float(expected), rel=1e-6)
    close(slopes, right, 1e-5)


def test_learned_gates() -> None:
    case = pair_of("attention").old
    pair = learn(case.graph, case.loss, BUDGET, steps=2)
    scores = dict(sorted(_random_scores(case).items()))
    found = []
    for given in (scores, reordered(scores)):
        state, _ = pair.update(pair.init(given), case.variables, case.inputs)
        found.append(dict(sorted(pair.scores(state).items())))
    close(found[1], found[0], 1e-5)


@pytest.mark.parametrize("scope", ["uniform", "global"])
def test_masks(scope: Any) -> None:
    old, new, _ = pair = pair_of("convolutions")
    expected = sparse.make_masks(old.variables, 0.6, scope=scope)
    found = pair.translated(sparse.make_masks(new.variables, 0.6, scope=scope))
    assert {path: np.asarray(mask).tolist() for path, mask in found.items()} == {
        path: np.asarray(mask).tolist() for path, mask in expected.items()
    }
