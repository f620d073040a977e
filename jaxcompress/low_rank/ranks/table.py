"""The sites of a network as arrays: what the rank searches know, and all that they know.

A site of rank r costs `slope * r`; where two factors would cost as much as the original or more,
the site is left alone (rank None) and costs `dense`. Costs are kept by kind, as in `Budget`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from jaxcompress.graph.budget import Budget
from jaxcompress.low_rank.ranks.evbmf import evbmf_rank
from jaxcompress.low_rank.ranks.forms import FactorCost

__all__ = ["SiteTable", "rank_knots", "site_table"]


@dataclass(frozen=True, eq=False)
class SiteTable:
    """What can be factorized: one entry per site in every field.

    Attributes:
        names: of the sites, `[sites]`.
        r_max: `int[sites]`, the rank at which two factors have as many parameters as one kernel.
        lowest: `int[sites]`, the smallest rank a search may give; the paper's is r_max / 10.
        highest: `int[sites]`, the largest; above it, or at r_max, a site may still be left alone.
        slope: by kind (flops, params), `float[sites]`: cost per rank, c_l and w_l.
        dense: by kind, `float[sites]`: cost of the site as it is.
        spectra: singular values in falling order, `float[min(rows, columns)]` per site.
        evbmf: `int[sites]`, the rank that a variational Bayesian analysis sees.
        knots: ranks at which accuracy is measured, rising `int[knots]` per site.
        rest: by kind, the cost of everything outside the sites.
    """

    names: tuple[str, ...]
    r_max: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray
    slope: Mapping[str, np.ndarray]
    dense: Mapping[str, np.ndarray]
    spectra: tuple[np.ndarray, ...]
    evbmf: np.ndarray
    knots: tuple[np.ndarray, ...]
    rest: Mapping[str, float] = field(default_factory=dict)

    @property
    def neutral(self) -> np.ndarray:
        """`int[sites]`: from this rank on two factors save nothing of some kind, so None is meant.

        Larger than r_max where even r_max saves, which rounding can make happen.
        """
        kinds = [np.ceil(self.dense[k] / self.slope[k] - 1e-9) for k in self.slope]
        return np.maximum(np.min(kinds, axis=0).astype(np.int64), 1)

    @property
    def total(self) -> dict[str, float]:
        """Cost by kind of the network as it is."""
        return {k: float(v.sum()) + self.rest.get(k, 0.0) for k, v in self.dense.items()}

    def clip(self, ranks: np.ndarray) -> np.ndarray:
        """Return the nearest allowed ranks, `int[..., sites]`."""
        highest = np.minimum(self.highest, self.neutral)
        return np.clip(ranks, np.minimum(self.lowest, highest), highest).astype(np.int64)

    def site_costs(self, kind: str, ranks: np.ndarray) -> np.ndarray:
        """Return `float[..., sites]`: slope * rank, or dense from the neutral rank on."""
        return np.where(ranks >= self.neutral, self.dense[kind], self.slope[kind] * ranks)

    def cost(self, kind: str, ranks: np.ndarray) -> np.ndarray:
        """Return `float[...]`, the cost of the network at `ranks`, `int[..., sites]`."""
        return self.site_costs(kind, ranks).sum(-1) + self.rest.get(kind, 0.0)

    def fits(self, ranks: np.ndarray, ceilings: Mapping[str, float]) -> np.ndarray:
        """Return `bool[...]`: no ceiling is exceeded (by more than float rounding)."""
        slack = {kind: 1e-9 * self.total[kind] for kind in ceilings}
        fit = [self.cost(k, ranks) <= limit + slack[k] for k, limit in ceilings.items()]
        return np.all(fit, axis=0)

    def ceilings(self, budget: Budget) -> dict[str, float]:
        """Return the budget's ceilings as absolute numbers; fractions are of `total`.

        Raises:
            ValueError: if the table has no costs of a kind.
        """
        unknown = sorted(set(budget.ceilings()) - set(self.slope))
        if unknown:
            raise ValueError(
                f"a budget may bound what the table counts, {sorted(self.slope)}, but bounds "
                f"{unknown}; add slope and dense of that kind or drop the ceiling"
            )
        total = self.total
        return {k: v * total[k] if v <= 1 else float(v) for k, v in budget.ceilings().items()}

    def fix(self, ranks: Mapping[str, int | None]) -> SiteTable:
        """Return the table with some sites held at a given rank, as the paper holds the first conv.

        Raises:
            ValueError: if a site does not exist.
        """
        unknown = sorted(set(ranks) - set(self.names))
        if unknown:
            raise ValueError(f"no site is called {unknown}; the sites are {', '.join(self.names)}")
        lowest, highest = self.lowest.copy(), self.highest.copy()
        for name, rank in ranks.items():
            i = self.names.index(name)
            lowest[i] = highest[i] = self.neutral[i] if rank is None else rank
        return replace(self, lowest=lowest, highest=highest)

    def named(self, ranks: np.ndarray) -> dict[str, int | None]:
        """Return `{site: rank}` of `int[sites]`, None where two factors save nothing."""
        whole = np.asarray(ranks) >= self.neutral
        return {name: None if whole[i] else int(ranks[i]) for i, name in enumerate(self.names)}


def rank_knots(r_max: int, evbmf: int) -> np.ndarray:
    """Return the ranks at which a site's accuracy is measured, `int[7]`, rising with repeats.

    `[a, (a + e/4) / 2, e/4, e/2, e, (e + r_max) / 2, r_max]` with a = r_max / 10 and e the EVBMF
    rank, rounded to even and none below a or above r_max. The paper's text names five of them; its
    ResNet-56 has these seven, and this rounding gives all 55 rows of it.

    Args:
        r_max: largest rank.
        evbmf: rank that EVBMF sees.

    Example:
        >>> rank_knots(24, 21).tolist()
        [2, 4, 5, 10, 21, 23, 24]
    """
    tenth, quarter = round(r_max / 10), round(evbmf / 4)
    above = evbmf + round((r_max - evbmf) / 2)
    knots = [tenth, round((tenth + quarter) / 2), quarter, round(evbmf / 2), evbmf, above, r_max]
    return np.sort(np.clip(knots, max(1, tenth), r_max)).astype(np.int64)


def site_table(
    names: Sequence[str],
    costs: Sequence[FactorCost],
    spectra: Sequence[np.ndarray],
    shapes: Sequence[tuple[int, int]],
    rest: Mapping[str, float] | None = None,
) -> SiteTable:
    """Collect sites into a table, with their EVBMF ranks and knots.

    Args:
        names: of the sites, usually the leaf paths of their kernels.
        costs: of each, see `spatial_cost`, `channel_cost`, `dense_cost`.
        spectra: singular values of each site's matrix, falling, `float[min(rows, columns)]`; of a
            grouped convolution the mean over groups, as the paper does.
        shapes: (rows, columns) of each site's matrix (of one group).
        rest: cost by kind of everything outside the sites, so that fractions of a budget are of the
            whole network; 0 by default, as in the paper, which counts convolutions only.

    Raises:
        ValueError: if a singular value is not finite, or a spectrum ends before r_max.

    Example:
        >>> from jaxcompress.low_rank.ranks.arrays import dense_cost
        >>> cost = dense_cost(inputs=8, outputs=8)
        >>> table = site_table(["a"], [cost], [np.geomspace(1, 0.01, 8)], [(8, 8)])
        >>> table.r_max.tolist(), table.named(np.array([3])), table.named(np.array([4]))
        ([4], {'a': 3}, {'a': None})
    """
    arrays = [np.asarray(values, np.float64) for values in spectra]
    _check_spectra(names, costs, arrays)
    r_max = np.asarray([cost.r_max for cost in costs], np.int64)
    pairs = zip(arrays, shapes, r_max, strict=True)
    evbmf = [int(np.clip(evbmf_rank(s, *shape), 1, top)) for s, shape, top in pairs]
    kinds = costs[0].slope.keys() if costs else ()
    return SiteTable(
        names=tuple(names),
        r_max=r_max,
        lowest=np.maximum(1, np.round(r_max / 10)).astype(np.int64),
        highest=r_max,
        slope={k: np.asarray([cost.slope[k] for cost in costs], np.float64) for k in kinds},
        dense={k: np.asarray([cost.dense[k] for cost in costs], np.float64) for k in kinds},
        spectra=tuple(arrays),
        evbmf=np.asarray(evbmf, np.int64),
        knots=tuple(rank_knots(int(t), e) for t, e in zip(r_max, evbmf, strict=True)),
        rest=dict(rest or {}),
    )


def _check_spectra(
    names: Sequence[str], costs: Sequence[FactorCost], spectra: Sequence[np.ndarray]
) -> None:
    rows = list(zip(names, costs, spectra, strict=True))
    wrong = [name for name, _, values in rows if not np.isfinite(values).all()]
    if wrong:
        raise ValueError(
            f"singular values must be finite, but those of {', '.join(wrong)} are not; "
            "look for NaN or infinity in these kernels"
        )
    short = [f"{n}: {len(s)} < {c.r_max}" for n, c, s in rows if len(s) < c.r_max]
    if short:
        raise ValueError(
            f"a spectrum must reach r_max, but these end before: {', '.join(short)}; "
            "pass all min(rows, columns) singular values"
        )
