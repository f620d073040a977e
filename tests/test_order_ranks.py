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
from jaxcompress.low_rank import input_roots
from jaxcompress.low_rank.ranks import arrays
from tests.toys.order import BUDGET, Case, every_network, pair_of, reordered

KEY = jax.random.key(0)


def _measured(case: Case, forms: dict[str, str]) -> Any:
    whole = case.apply(case.variables, case.inputs)
    own = jax.jit(lambda v: jnp.exp(-jnp.square(case.apply(v, case.inputs) - whole).mean()))
    return ranks.measure(case.graph, case.variables, lambda v: float(own(v)), reordered(forms))


def _sensitivity(case: Case, forms: dict[str, str]) -> Any:
    return ranks.sensitivity(
        case.graph, case.apply, case.variables, [case.inputs], KEY, reordered(forms)
    )


def _enc_inf(case: Case, forms: dict[str, str]) -> dict[str, int | None]:
    whole = case.apply(case.variables, case.inputs)
    own = jax.jit(lambda v: -jnp.square(case.apply(v, case.inputs) - whole).mean())
    evaluate = lambda v: float(own(v))  # noqa: E731
    return ranks.enc_inf(case.graph, case.variables, BUDGET, evaluate, forms, count=4)


def _lossless(case: Case, forms: dict[str, str]) -> dict[str, int | None]:
    table = ranks.network_table(case.graph, case.variables, forms)
    metric = arrays.energy_metric(table)
    full = dict(zip(table.names, table.neutral.tolist(), strict=True))
    enough = lambda own: float(sum(own[p] or full[p] for p in own) >= 0.7 * sum(full.values()))  # noqa: E731
    search = functools.partial(arrays.enc_map, table, metric)
    found = ranks.lossless(table, search, enough, 1.0, 0.05).ranks
    assert found is not None
    return table.named(found)


def _data_aware(case: Case, forms: dict[str, str]) -> dict[str, int | None]:
    given = case.graph, case.apply, case.variables, [case.inputs]
    roots = reordered(input_roots(*given, reordered(forms)))
    return ranks.energy_threshold(case.graph, case.variables, BUDGET, forms, roots)


def _plain(
    search: Callable[..., dict[str, int | None]], case: Case, forms: dict[str, str]
) -> dict[str, int | None]:
    return search(case.graph, case.variables, BUDGET, forms)


PLAIN = ("enc_map", "enc_model", "optimum", "uniform", "energy_threshold", "evbmf_scaled")
SEARCHES: dict[str, Callable[[Case, dict[str, str]], dict[str, int | None]]] = {
    **{name: functools.partial(_plain, getattr(ranks, name)) for name in PLAIN},
    "measured": lambda case, forms: ranks.enc_map(
        case.graph, case.variables, BUDGET, forms, metric=_measured(case, forms)
    ),
    "sensitivity": lambda case, forms: ranks.optimum(
        case.graph, case.variables, BUDGET, forms, metric=_sensitivity(case, forms)
    ),
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
def test_the_table_has_the_spectrum_of_each_site(name: str) -> None:
    case = pair_of(name).new
    table = ranks.network_table(case.graph, case.variables, case.forms)
    for site, values in zip(table.names, table.spectra, strict=True):
        alone = ranks.spectra(case.graph, case.variables, {site: case.forms[site]})[site]
        np.testing.assert_allclose(values, alone, rtol=1e-6, err_msg=site)


def test_a_metric_of_other_sites_is_refused() -> None:
    case = pair_of("convolutions").old
    some = dict(list(case.forms.items())[:3])
    metric = ranks.energy_metric(ranks.network_table(case.graph, case.variables, some))
    with pytest.raises(ValueError, match="does not know params/Conv_4/kernel, .*same graph and"):
        ranks.enc_map(case.graph, case.variables, BUDGET, case.forms, metric=metric)
