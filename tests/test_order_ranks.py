"""The law of names, of ranks: renaming leaves, or giving dicts in another order, changes none."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress import ranks
from jaxcompress.low_rank import input_roots, truncations
from tests.toys.order import BUDGET, Case, every_network, pair_of, reordered

KEY = jax.random.key(0)


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
    assert pair.translated(SEARCHES[search](new, dict(sorted(new.forms.items())))) == expected
    if search in PLAIN:
        assert SEARCHES[search](old, reordered(old.forms)) == expected
        assert pair.translated(SEARCHES[search](new, new.forms)) == expected


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
